// SPDX-License-Identifier: MPL-2.0

//! The provider service of the protocol: one short method for each RPC, decode -> call -> encode.
//!
//! A failure is a diagnostic, never a gRPC error. The work of each request runs in a task of its own, so that
//! neither a panic nor the end of Terraform leaves it half done.

mod actions;
mod answer;
mod apply;
mod data_sources;
mod ephemeral_resources;
mod functions;
mod list_resources;
mod registry;
mod resources;
mod schemas;
mod wire;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use futures_util::stream::BoxStream;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

use self::answer::Answer;
use self::registry::{Registry, ResourceEntry};
use super::call::{Call, Private};
use super::convert::FromValue;
use super::diagnostics::{Diagnostics, Error, Result};
use super::plugin::Lifecycle;
use super::proto::tfplugin5 as pb;
use super::proto::tfplugin5::provider_server::ProviderServer;
use super::provider::Provider;
use super::validate;
use super::value::Value;

/// The largest accepted request, in bytes: a state with ten thousand tables is far smaller.
const MAX_REQUEST: usize = 256 << 20;

/// The services of a provider, for [`plugin::main`](super::plugin::main) to serve.
pub fn routes<P: Provider>(lifecycle: Lifecycle) -> tonic::service::Routes {
    let inner = Inner { registry: OnceLock::new(), context: RwLock::default(), lifecycle };
    let service = ProviderServer::new(Server::<P> { inner: Arc::new(inner) })
        .max_decoding_message_size(MAX_REQUEST)
        .max_encoding_message_size(usize::MAX);
    tonic::service::Routes::new(service)
}

struct Server<P: Provider> {
    inner: Arc<Inner<P>>,
}

struct Inner<P: Provider> {
    registry: OnceLock<Registry<P>>,
    context: RwLock<Option<Arc<P::Context>>>,
    lifecycle: Lifecycle,
}

impl<P: Provider> Inner<P> {
    fn registry(&self) -> &Registry<P> {
        self.registry.get_or_init(Registry::new)
    }

    fn context(&self) -> Option<Arc<P::Context>> {
        self.context.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_configured(&self) -> bool {
        self.context().is_some()
    }

    fn call(&self, private: Private) -> Result<Call<P::Context>> {
        let context = self.context().ok_or_else(|| Error::new("the provider is not configured"))?;
        Ok(Call::new(context, self.lifecycle.stop_token(), private))
    }

    /// The same for work that only reads.
    fn reading_call(&self) -> Result<Call<P::Context>> {
        let context = self.context().ok_or_else(|| Error::new("the provider is not configured"))?;
        Ok(Call::new(context, self.lifecycle.reading_stop_token(), Private::default()))
    }

    /// Runs work to its end, even if nobody waits for it any more.
    async fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T> {
        joined(self.lifecycle.spawn(work)).await
    }
}

/// The result of spawned work.
async fn joined<T>(task: JoinHandle<T>) -> Result<T> {
    task.await.map_err(|_| {
        Error::new("the provider panicked")
            .detail("This is a bug in the provider; the line that begins with `panic:` in its log says where.")
    })
}

impl<P: Provider> Server<P> {
    async fn answer<T: Answer, E: Into<Diagnostics> + Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        Ok(Response::new(match self.inner.run(work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(failure)) => T::failed(failure.into()),
            Err(panicked) => T::failed(panicked.into()),
        }))
    }

    /// The same for work that only computes.
    async fn compute<T: Answer>(
        &self,
        work: impl FnOnce(&Inner<P>) -> Result<T> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let inner = Arc::clone(&self.inner);
        self.answer(async move { work(&inner) }).await
    }
}

/// The identity of an existing object, if the resource has one and it is completely known. `stored` is its identity so
/// far.
fn identity_of<C>(
    entry: &ResourceEntry<C>,
    context: Option<&C>,
    state: &Value,
    stored: Option<&pb::ResourceIdentityData>,
) -> Result<Option<pb::ResourceIdentityData>> {
    let Some(identity) = entry.identity.as_ref().filter(|_| !state.is_null()) else {
        return Ok(None);
    };
    let stored = stored.and_then(|stored| stored.identity_data.as_ref());
    let stored = wire::decode(&identity.implied_type(), stored)?;
    let value = entry.resource.identify(context, state, &stored)?;
    if value.is_wholly_known() { wire::encode_identity(identity, &value) } else { Ok(None) }
}

/// Checks that a value to store is completely known.
fn known(value: Value) -> Result<Value> {
    if value.is_wholly_known() { Ok(value) } else { Err(left_unknown()) }
}

fn left_unknown() -> Error {
    Error::new("the provider left a value unknown").detail("This is a bug in the provider.")
}

fn configure<P: Provider>(inner: &Inner<P>, request: &pb::configure::Request) -> Result<Diagnostics> {
    let config = wire::decode(&inner.registry().provider_ty, request.config.as_ref())?;
    let mut diagnostics = Diagnostics::default();
    let config = P::Config::from_value(config)?;
    let context = P::configure(config, &mut diagnostics)?;
    *inner.context.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(context));
    Ok(diagnostics)
}

fn validate_provider<P: Provider>(
    inner: &Inner<P>,
    request: pb::prepare_provider_config::Request,
) -> Result<pb::prepare_provider_config::Response> {
    let registry = inner.registry();
    let config = wire::decode(&registry.provider_ty, request.config.as_ref())?;
    let mut diagnostics = Diagnostics::default();
    validate::validate(&registry.provider.block, &config, &mut diagnostics);
    // A value from a wrong part is wrong too, and would be reported twice.
    if !diagnostics.has_error()
        && let Some(config) = diagnostics.take(P::Config::from_value(config))
    {
        P::validate(&config, &mut diagnostics);
    }
    Ok(pb::prepare_provider_config::Response {
        prepared_config: request.config,
        diagnostics: wire::diagnostics(diagnostics),
    })
}

#[tonic::async_trait]
impl<P: Provider> pb::provider_server::Provider for Server<P> {
    async fn get_metadata(
        &self,
        _request: Request<pb::get_metadata::Request>,
    ) -> Result<Response<pb::get_metadata::Response>, Status> {
        self.compute(|inner| Ok(schemas::metadata(inner))).await
    }

    async fn get_schema(
        &self,
        _request: Request<pb::get_provider_schema::Request>,
    ) -> Result<Response<pb::get_provider_schema::Response>, Status> {
        self.compute(|inner| Ok(schemas::provider_schema(inner))).await
    }

    async fn prepare_provider_config(
        &self,
        request: Request<pb::prepare_provider_config::Request>,
    ) -> Result<Response<pb::prepare_provider_config::Response>, Status> {
        self.compute(|inner| validate_provider(inner, request.into_inner())).await
    }

    async fn validate_resource_type_config(
        &self,
        request: Request<pb::validate_resource_type_config::Request>,
    ) -> Result<Response<pb::validate_resource_type_config::Response>, Status> {
        self.compute(move |inner| {
            let diagnostics = wire::diagnostics(resources::validate(inner, request.get_ref())?);
            Ok(pb::validate_resource_type_config::Response { diagnostics })
        })
        .await
    }

    async fn validate_data_source_config(
        &self,
        request: Request<pb::validate_data_source_config::Request>,
    ) -> Result<Response<pb::validate_data_source_config::Response>, Status> {
        self.compute(move |inner| {
            let diagnostics = wire::diagnostics(data_sources::validate(inner, request.get_ref())?);
            Ok(pb::validate_data_source_config::Response { diagnostics })
        })
        .await
    }

    async fn upgrade_resource_state(
        &self,
        request: Request<pb::upgrade_resource_state::Request>,
    ) -> Result<Response<pb::upgrade_resource_state::Response>, Status> {
        self.compute(move |inner| {
            let upgraded_state = Some(resources::upgrade(inner, request.get_ref())?);
            Ok(pb::upgrade_resource_state::Response { upgraded_state, diagnostics: Vec::new() })
        })
        .await
    }

    async fn get_resource_identity_schemas(
        &self,
        _request: Request<pb::get_resource_identity_schemas::Request>,
    ) -> Result<Response<pb::get_resource_identity_schemas::Response>, Status> {
        self.compute(|inner| Ok(schemas::identity_schemas(inner))).await
    }

    async fn upgrade_resource_identity(
        &self,
        request: Request<pb::upgrade_resource_identity::Request>,
    ) -> Result<Response<pb::upgrade_resource_identity::Response>, Status> {
        self.compute(move |inner| {
            let upgraded_identity = resources::upgrade_identity(inner, request.get_ref())?;
            Ok(pb::upgrade_resource_identity::Response { upgraded_identity, diagnostics: Vec::new() })
        })
        .await
    }

    async fn configure(
        &self,
        request: Request<pb::configure::Request>,
    ) -> Result<Response<pb::configure::Response>, Status> {
        self.compute(move |inner| {
            let diagnostics = wire::diagnostics(configure(inner, request.get_ref())?);
            Ok(pb::configure::Response { diagnostics })
        })
        .await
    }

    async fn read_resource(
        &self,
        request: Request<pb::read_resource::Request>,
    ) -> Result<Response<pb::read_resource::Response>, Status> {
        self.answer(resources::read(Arc::clone(&self.inner), request.into_inner())).await
    }

    async fn plan_resource_change(
        &self,
        request: Request<pb::plan_resource_change::Request>,
    ) -> Result<Response<pb::plan_resource_change::Response>, Status> {
        self.answer(resources::plan(Arc::clone(&self.inner), request.into_inner())).await
    }

    async fn apply_resource_change(
        &self,
        request: Request<pb::apply_resource_change::Request>,
    ) -> Result<Response<pb::apply_resource_change::Response>, Status> {
        let request = request.into_inner();
        let unchanged = apply::unchanged(&request);
        let mut response = self.answer(apply::apply(Arc::clone(&self.inner), request)).await?;
        if response.get_ref().new_state.is_none() {
            let diagnostics = std::mem::take(&mut response.get_mut().diagnostics);
            *response.get_mut() = pb::apply_resource_change::Response { diagnostics, ..unchanged };
        }
        Ok(response)
    }

    async fn import_resource_state(
        &self,
        request: Request<pb::import_resource_state::Request>,
    ) -> Result<Response<pb::import_resource_state::Response>, Status> {
        self.answer(resources::import(Arc::clone(&self.inner), request.into_inner())).await
    }

    async fn move_resource_state(
        &self,
        request: Request<pb::move_resource_state::Request>,
    ) -> Result<Response<pb::move_resource_state::Response>, Status> {
        self.compute(move |inner| resources::move_state(inner, request.get_ref())).await
    }

    async fn read_data_source(
        &self,
        request: Request<pb::read_data_source::Request>,
    ) -> Result<Response<pb::read_data_source::Response>, Status> {
        self.answer(data_sources::read(Arc::clone(&self.inner), request.into_inner())).await
    }

    async fn generate_resource_config(
        &self,
        request: Request<pb::generate_resource_config::Request>,
    ) -> Result<Response<pb::generate_resource_config::Response>, Status> {
        self.compute(move |inner| {
            let config = Some(resources::generate_config(inner, request.get_ref())?);
            Ok(pb::generate_resource_config::Response { config, diagnostics: Vec::new() })
        })
        .await
    }

    async fn validate_ephemeral_resource_config(
        &self,
        request: Request<pb::validate_ephemeral_resource_config::Request>,
    ) -> Result<Response<pb::validate_ephemeral_resource_config::Response>, Status> {
        self.compute(move |inner| {
            let diagnostics = wire::diagnostics(ephemeral_resources::validate(inner, request.get_ref())?);
            Ok(pb::validate_ephemeral_resource_config::Response { diagnostics })
        })
        .await
    }

    async fn open_ephemeral_resource(
        &self,
        request: Request<pb::open_ephemeral_resource::Request>,
    ) -> Result<Response<pb::open_ephemeral_resource::Response>, Status> {
        self.answer(ephemeral_resources::open(Arc::clone(&self.inner), request.into_inner())).await
    }

    async fn renew_ephemeral_resource(
        &self,
        request: Request<pb::renew_ephemeral_resource::Request>,
    ) -> Result<Response<pb::renew_ephemeral_resource::Response>, Status> {
        self.answer(ephemeral_resources::renew(Arc::clone(&self.inner), request.into_inner())).await
    }

    async fn close_ephemeral_resource(
        &self,
        request: Request<pb::close_ephemeral_resource::Request>,
    ) -> Result<Response<pb::close_ephemeral_resource::Response>, Status> {
        self.answer(ephemeral_resources::close(Arc::clone(&self.inner), request.into_inner())).await
    }

    type ListResourceStream = BoxStream<'static, Result<pb::list_resource::Event, Status>>;

    async fn list_resource(
        &self,
        request: Request<pb::list_resource::Request>,
    ) -> Result<Response<Self::ListResourceStream>, Status> {
        Ok(Response::new(list_resources::list(Arc::clone(&self.inner), request.into_inner())))
    }

    async fn validate_list_resource_config(
        &self,
        request: Request<pb::validate_list_resource_config::Request>,
    ) -> Result<Response<pb::validate_list_resource_config::Response>, Status> {
        self.compute(move |inner| {
            let diagnostics = wire::diagnostics(list_resources::validate(inner, request.get_ref())?);
            Ok(pb::validate_list_resource_config::Response { diagnostics })
        })
        .await
    }

    async fn get_functions(
        &self,
        _request: Request<pb::get_functions::Request>,
    ) -> Result<Response<pb::get_functions::Response>, Status> {
        self.compute(|inner| {
            let functions = schemas::functions(inner.registry());
            Ok(pb::get_functions::Response { functions, diagnostics: Vec::new() })
        })
        .await
    }

    async fn call_function(
        &self,
        request: Request<pb::call_function::Request>,
    ) -> Result<Response<pb::call_function::Response>, Status> {
        self.compute(move |inner| functions::call(inner, request.get_ref())).await
    }

    async fn plan_action(
        &self,
        request: Request<pb::plan_action::Request>,
    ) -> Result<Response<pb::plan_action::Response>, Status> {
        self.answer(actions::plan(Arc::clone(&self.inner), request.into_inner())).await
    }

    type InvokeActionStream = BoxStream<'static, Result<pb::invoke_action::Event, Status>>;

    async fn invoke_action(
        &self,
        request: Request<pb::invoke_action::Request>,
    ) -> Result<Response<Self::InvokeActionStream>, Status> {
        Ok(Response::new(actions::invoke(Arc::clone(&self.inner), request.into_inner())))
    }

    async fn validate_action_config(
        &self,
        request: Request<pb::validate_action_config::Request>,
    ) -> Result<Response<pb::validate_action_config::Response>, Status> {
        self.compute(move |inner| {
            let diagnostics = wire::diagnostics(actions::validate(inner, request.get_ref())?);
            Ok(pb::validate_action_config::Response { diagnostics })
        })
        .await
    }

    async fn stop(&self, _request: Request<pb::stop::Request>) -> Result<Response<pb::stop::Response>, Status> {
        self.inner.lifecycle.stop_token().cancel();
        Ok(Response::new(pb::stop::Response::default()))
    }
}
