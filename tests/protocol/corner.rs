// SPDX-License-Identifier: MPL-2.0

//! The server of the protocol with a provider of corner cases, for behavior that no request to the real one can show.

mod actions;
mod ephemeral;
mod lists;
mod provider;
mod values;
mod verbs;

use neonrepl::tf_provider::plugin::Lifecycle;
use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::schema::Type;
use neonrepl::tf_provider::server;
use neonrepl::tf_provider::value::Value;
use pb::provider_client::ProviderClient;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Server};

use self::provider::Corner;
use crate::common::grpc::within_deadline;
use crate::session::CAPABLE;
use crate::wire::{Shape, check_fine, decode};

/// The answer of one RPC, within the deadline.
macro_rules! call {
    ($served:expr, $rpc:ident, $request:expr) => {
        within_deadline(stringify!($rpc), async { $served.client().$rpc($request).await }).await.unwrap().into_inner()
    };
}
use call;

const THING: &str = "corner_thing";

/// The provider, served in this process over plain HTTP/2.
struct Served {
    address: String,
    channel: Channel,
    schemas: pb::get_provider_schema::Response,
    thing: Shape,
    server: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Served {
    /// Served, and configured with that gate.
    async fn start(gate: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = server::routes::<Corner>(Lifecycle::default());
        let serve = Server::builder().add_routes(routes).serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        let channel = connect(&address).await;
        let request = pb::get_provider_schema::Request {};
        let schemas = ProviderClient::new(channel.clone()).get_schema(request).await.unwrap().into_inner();
        let served = Self { address, channel, thing: Shape::new(&schemas.resource_schemas[THING]), schemas, server };
        let ty = Type::object([("gate", Type::String)]);
        let config = crate::wire::encode(&ty, &crate::wire::map(&[("gate", gate.into())]));
        check_fine(&call!(served, configure, pb::configure::Request { config, ..Default::default() }).diagnostics);
        served
    }

    fn client(&self) -> ProviderClient<Channel> {
        ProviderClient::new(self.channel.clone())
    }

    fn identity(&self, identity: Option<&pb::ResourceIdentityData>) -> Value {
        let data = identity.and_then(|identity| identity.identity_data.as_ref());
        decode(&Type::object([("id", Type::String)]), data)
    }

    async fn validate(&self, config: &Value) -> Vec<pb::Diagnostic> {
        let request = pb::validate_resource_type_config::Request {
            type_name: THING.to_owned(),
            config: self.thing.encode(config),
            client_capabilities: Some(CAPABLE),
        };
        call!(self, validate_resource_type_config, request).diagnostics
    }

    async fn plan(&self, prior: &Value, proposed: &Value, config: &Value) -> pb::plan_resource_change::Response {
        let request = pb::plan_resource_change::Request {
            type_name: THING.to_owned(),
            prior_state: self.thing.encode(prior),
            proposed_new_state: self.thing.encode(proposed),
            config: self.thing.encode(config),
            client_capabilities: Some(CAPABLE),
            ..Default::default()
        };
        call!(self, plan_resource_change, request)
    }

    /// The plan of a new thing, for which a core proposes the configuration.
    async fn planned(&self, config: &Value) -> Value {
        let plan = self.plan(&Value::Null, config, config).await;
        check_fine(&plan.diagnostics);
        self.thing.decode(plan.planned_state.as_ref())
    }

    fn change(&self, prior: &Value, planned: &Value, config: &Value) -> pb::apply_resource_change::Request {
        pb::apply_resource_change::Request {
            type_name: THING.to_owned(),
            prior_state: self.thing.encode(prior),
            planned_state: self.thing.encode(planned),
            config: self.thing.encode(config),
            ..Default::default()
        }
    }

    async fn apply(&self, prior: &Value, planned: &Value, config: &Value) -> Applied {
        let answer = call!(self, apply_resource_change, self.change(prior, planned, config));
        Applied { state: self.thing.decode(answer.new_state.as_ref()), answer }
    }

    /// Plans and makes a new thing.
    async fn create(&self, config: &Value) -> Applied {
        self.apply(&Value::Null, &self.planned(config).await, config).await
    }

    async fn read(&self, state: &Value, private: &[u8]) -> pb::read_resource::Response {
        let request = pb::read_resource::Request {
            type_name: THING.to_owned(),
            current_state: self.thing.encode(state),
            private: private.to_vec(),
            ..Default::default()
        };
        call!(self, read_resource, request)
    }
}

/// The result of an apply.
struct Applied {
    state: Value,
    answer: pb::apply_resource_change::Response,
}

async fn connect(address: &str) -> Channel {
    tonic::transport::Endpoint::from_shared(address.to_owned()).unwrap().connect().await.unwrap()
}
