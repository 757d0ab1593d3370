// SPDX-License-Identifier: MPL-2.0

//! One run of a core against the built provider: its schemas, and a core's requests.

use neonrepl::tf_provider::proto::tfplugin5 as pb;
use neonrepl::tf_provider::value::Value;
use pb::provider_client::ProviderClient;
use tonic::transport::Channel;

use crate::common::grpc::{Core, Launch, within_deadline};
use crate::wire::{Shape, check_fine, check_not_asked};

pub(crate) const PUBLICATION: &str = "neonrepl_publication";
pub(crate) const SUBSCRIPTION: &str = "neonrepl_subscription";
pub(crate) const AURORA: &str = "neonrepl_aurora_logical_replication";
pub(crate) const NAT_ADDRESSES: &str = "neonrepl_neon_nat_addresses";
pub(crate) const TOKEN: &str = "neonrepl_rds_auth_token";
pub(crate) const REBOOT: &str = "neonrepl_reboot_writer";
/// The text that no output may contain.
pub(crate) const PASSWORD: &str = "hunter2-correct-horse";

/// The capabilities that every current core reports.
pub(crate) const CAPABLE: pb::ClientCapabilities =
    pb::ClientCapabilities { deferral_allowed: false, write_only_attributes_allowed: true };

pub(crate) struct Session {
    pub(crate) core: Core,
    pub(crate) schemas: pb::get_provider_schema::Response,
}

impl Session {
    pub(crate) async fn start() -> Self {
        Self::launch(Launch::by_core()).await
    }

    pub(crate) async fn launch(launch: Launch) -> Self {
        let core = Core::launch(launch).await;
        let mut provider = core.provider();
        let request = pb::get_provider_schema::Request::default();
        let schemas = within_deadline("GetSchema", provider.get_schema(request)).await.unwrap().into_inner();
        Self { core, schemas }
    }

    /// A started session, configured with a publisher at that port, where nobody need listen.
    pub(crate) async fn configured(port: u16) -> Self {
        let session = Self::start().await;
        check_fine(&session.configure(&[("publisher", session.server(port, 10))]).await);
        session
    }

    pub(crate) fn client(&self) -> ProviderClient<Channel> {
        self.core.provider()
    }

    pub(crate) fn provider(&self) -> Shape {
        Shape::new(self.schemas.provider.as_ref().unwrap())
    }

    pub(crate) fn resource(&self, name: &str) -> Shape {
        Shape::new(&self.schemas.resource_schemas[name])
    }

    /// The block of a subscription with its connection to the publisher.
    pub(crate) fn connection_block(&self) -> String {
        let blocks = self.resource(SUBSCRIPTION).schema.block_types;
        let holds_password = |block: &pb::schema::Block| block.attributes.iter().any(|a| a.name == "password_wo");
        let found = blocks.into_iter().find(|nested| nested.block.as_ref().is_some_and(holds_password));
        found.unwrap().type_name
    }

    pub(crate) fn data_source(&self, name: &str) -> Shape {
        Shape::new(&self.schemas.data_source_schemas[name])
    }

    /// A `publisher` block with [`PASSWORD`].
    pub(crate) fn server(&self, port: u16, connect_timeout: i64) -> Value {
        self.provider().nested(
            "publisher",
            &[
                ("host", "127.0.0.1".into()),
                ("port", i64::from(port).into()),
                ("database", "shop".into()),
                ("username", "replicator".into()),
                ("password", PASSWORD.into()),
                ("sslmode", "disable".into()),
                ("connect_timeout", connect_timeout.into()),
            ],
        )
    }

    pub(crate) async fn configure(&self, blocks: &[(&str, Value)]) -> Vec<pb::Diagnostic> {
        let request = pb::configure::Request {
            terraform_version: "1.15.5".to_owned(),
            config: self.provider().wire(blocks),
            client_capabilities: Some(CAPABLE),
        };
        let answer = within_deadline("Configure", async { self.client().configure(request).await }).await;
        answer.unwrap().into_inner().diagnostics
    }

    /// Plans the creation of an object like a core: it proposes the configuration with null for computed attributes.
    pub(crate) async fn plan_create(&self, name: &str, config: &Value) -> pb::plan_resource_change::Response {
        let shape = self.resource(name);
        self.plan(name, shape.encode(&Value::Null), shape.encode(config), shape.encode(config)).await
    }

    pub(crate) async fn plan(
        &self,
        name: &str,
        prior_state: Option<pb::DynamicValue>,
        proposed_new_state: Option<pb::DynamicValue>,
        config: Option<pb::DynamicValue>,
    ) -> pb::plan_resource_change::Response {
        let request = pb::plan_resource_change::Request {
            type_name: name.to_owned(),
            prior_state,
            proposed_new_state,
            config,
            client_capabilities: Some(CAPABLE),
            ..Default::default()
        };
        let answer = within_deadline("Plan", async { self.client().plan_resource_change(request).await }).await;
        answer.unwrap().into_inner()
    }

    pub(crate) async fn apply(
        &self,
        request: pb::apply_resource_change::Request,
    ) -> pb::apply_resource_change::Response {
        let answer = within_deadline("Apply", async { self.client().apply_resource_change(request).await }).await;
        answer.unwrap().into_inner()
    }

    /// The request that creates a publication.
    pub(crate) async fn creation(&self) -> pb::apply_resource_change::Request {
        let shape = self.resource(PUBLICATION);
        let config = shape.object(&[("name", "orders".into()), ("tables", crate::wire::set(&["public.orders"]))]);
        // Planned with a closed port: a server that sends nothing would delay the plan too.
        let plan = Self::configured(closed_port()).await.plan_create(PUBLICATION, &config).await;
        check_not_asked(&plan.diagnostics);
        pb::apply_resource_change::Request {
            type_name: PUBLICATION.to_owned(),
            prior_state: shape.encode(&Value::Null),
            planned_state: plan.planned_state,
            config: shape.encode(&config),
            planned_private: plan.planned_private,
            ..Default::default()
        }
    }
}

/// A port without a listener.
pub(crate) fn closed_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
