//! How each response says that its request failed.

use super::wire;
use crate::tf_provider::diagnostics::Error;
use crate::tf_provider::proto::tfplugin5 as pb;

/// A response that can carry a failure: the core shows it, where a gRPC error would only be called a plugin fault.
pub(super) trait Answer: Default + Send + 'static {
    /// The response when the request failed with nothing else to tell.
    fn failed(error: Error) -> Self;
}

macro_rules! answers_with_diagnostics {
    ($($response:path),* $(,)?) => {
        $(impl Answer for $response {
            fn failed(error: Error) -> Self {
                let mut answer = Self::default();
                answer.diagnostics = wire::error(error);
                answer
            }
        })*
    };
}

answers_with_diagnostics!(
    pb::get_metadata::Response,
    pb::get_provider_schema::Response,
    pb::prepare_provider_config::Response,
    pb::validate_resource_type_config::Response,
    pb::validate_data_source_config::Response,
    pb::upgrade_resource_state::Response,
    pb::get_resource_identity_schemas::Response,
    pb::upgrade_resource_identity::Response,
    pb::configure::Response,
    pb::read_resource::Response,
    pb::plan_resource_change::Response,
    pb::apply_resource_change::Response,
    pb::import_resource_state::Response,
    pb::move_resource_state::Response,
    pb::read_data_source::Response,
    pb::generate_resource_config::Response,
    pb::validate_ephemeral_resource_config::Response,
    pb::open_ephemeral_resource::Response,
    pb::renew_ephemeral_resource::Response,
    pb::close_ephemeral_resource::Response,
    pb::validate_list_resource_config::Response,
    pb::get_functions::Response,
    pb::plan_action::Response,
    pb::validate_action_config::Response,
);

impl Answer for pb::list_resource::Event {
    fn failed(error: Error) -> Self {
        Self { diagnostic: wire::error(error), ..Self::default() }
    }
}

impl Answer for pb::invoke_action::Event {
    fn failed(error: Error) -> Self {
        let completed = pb::invoke_action::event::Completed { diagnostics: wire::error(error) };
        Self { r#type: Some(pb::invoke_action::event::Type::Completed(completed)) }
    }
}

impl Answer for pb::call_function::Response {
    fn failed(error: Error) -> Self {
        let error = pb::FunctionError { text: error.to_string(), function_argument: None };
        Self { result: None, error: Some(error) }
    }
}
