// SPDX-License-Identifier: MPL-2.0

//! How each response reports that its request failed.

use super::wire;
use crate::tf_provider::diagnostics::Diagnostics;
use crate::tf_provider::proto::tfplugin5 as pb;

/// A response that can report a failure, which Terraform shows. It would report a gRPC error only as a fault of
/// the plugin.
pub(super) trait Answer: Default + Send + 'static {
    /// The response of a request that failed.
    fn failed(diagnostics: Diagnostics) -> Self;
}

macro_rules! answers_with_diagnostics {
    ($($response:path),* $(,)?) => {
        $(impl Answer for $response {
            fn failed(diagnostics: Diagnostics) -> Self {
                let mut answer = Self::default();
                answer.diagnostics = wire::diagnostics(diagnostics);
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
    fn failed(diagnostics: Diagnostics) -> Self {
        Self { diagnostic: wire::diagnostics(diagnostics), ..Self::default() }
    }
}

impl Answer for pb::invoke_action::Event {
    fn failed(diagnostics: Diagnostics) -> Self {
        let completed = pb::invoke_action::event::Completed { diagnostics: wire::diagnostics(diagnostics) };
        Self { r#type: Some(pb::invoke_action::event::Type::Completed(completed)) }
    }
}

impl Answer for pb::call_function::Response {
    fn failed(diagnostics: Diagnostics) -> Self {
        let text: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        let error = pb::FunctionError { text: text.join("\n"), function_argument: None };
        Self { result: None, error: Some(error) }
    }
}
