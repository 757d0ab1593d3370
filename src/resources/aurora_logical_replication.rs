//! `neonrepl_aurora_logical_replication`: the writer of an Aurora cluster runs with a logical WAL.

use std::collections::BTreeMap;

use super::logical_replication::model::{Common, further, parameters, shape};
use super::logical_replication::{self as shared, Shape, model};
use crate::config::Context;
use crate::rds::Rds;
use crate::rds::api::Deployment;
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::convert::{Attr, FromValue};
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{Attribute, IdentityAttribute, IdentitySchema, Schema, Type};
use crate::tf_provider::timeouts::Timeouts;
use crate::tf_provider::value::Value;

/// The resource.
pub(super) struct AuroraLogicalReplication;

crate::model! {
    /// The identity.
    struct Identity {
        /// The cluster.
        cluster_identifier: Attr<String>,
    }
}

crate::model! {
    /// Logical replication on an Aurora cluster.
    pub(super) struct Model {
        /// The cluster.
        cluster_identifier: Attr<String>,
        /// Whether the parameter group is ours to change.
        manage_parameter_group: Attr<bool>,
        /// The cluster parameter group.
        parameter_group_name: Attr<String>,
        /// Further cluster parameters.
        parameters: Attr<BTreeMap<String, String>>,
        /// Which instances may be rebooted.
        reboot: Attr<String>,
        /// Whether the writer is asked over SQL.
        verify: Attr<bool>,
        /// Whether a destroy leaves everything as it is.
        skip_destroy: Attr<bool>,
        /// Whether a destroy reboots.
        reboot_on_destroy: Attr<bool>,
        /// Tags of the parameter group.
        tags: Attr<BTreeMap<String, String>>,
        /// The cluster identifier.
        id: Attr<String>,
        /// The family of the parameter group.
        parameter_group_family: Attr<String>,
        /// Whether the parameter group was made here.
        parameter_group_created: Attr<bool>,
        /// The parameter group that the cluster had before.
        previous_parameter_group_name: Attr<String>,
        /// The writer.
        writer_instance_identifier: Attr<String>,
        /// The writer endpoint.
        endpoint: Attr<String>,
        /// Its port.
        port: Attr<i64>,
        /// The engine's version.
        engine_version: Attr<String>,
        /// Whether the writer waits for a reboot.
        pending_reboot: Attr<bool>,
        /// The writer's `wal_level`.
        wal_level: Attr<String>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

impl Resource for AuroraLogicalReplication {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_aurora_logical_replication";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        let attribute = IdentityAttribute {
            name: "cluster_identifier",
            description: "The cluster's identifier.",
            required_for_import: true,
        };
        Some(IdentitySchema { version: 0, attributes: vec![attribute] })
    }

    fn identify(state: &Model) -> Value {
        let identifier = state.cluster_identifier.known().map_or(Value::UNKNOWN, |name| Value::from(name.as_str()));
        Value::Map([("cluster_identifier".to_owned(), identifier)].into())
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        model::validate(&config.common(), diagnostics);
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        shared::preview(call, change).await
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        shared::read(call, state).await
    }

    async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        shared::create(call, plan, saved).await
    }

    async fn update(call: &Call<Context>, _prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        shared::update(call, plan, saved).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        shared::delete(call, prior).await
    }

    async fn import(_call: &Call<Context>, id: ImportId) -> Result<Model> {
        let identifier = match id {
            ImportId::Id(text) => text,
            ImportId::Identity(value) => {
                Identity::from_value(value)?.cluster_identifier.required("cluster_identifier")?.clone()
            }
        };
        Ok(shared::imported(identifier))
    }
}

impl Shape for Model {
    type Api = Rds;
    const DEPLOYMENT: Deployment = Deployment::AuroraCluster;
    const IDENTIFIER: &'static str = "cluster_identifier";
    const REBOOT: &'static str = "writer";

    fn api(context: &Context) -> Result<&Rds> {
        context.cluster_api()
    }

    shape!(cluster_identifier, has [writer_instance_identifier], lacks []);
}

fn schema() -> Schema {
    let schema = Schema::new(
        "Sees to it that the writer of an Aurora PostgreSQL cluster runs with a logical WAL: a cluster parameter group with \
         `rds.logical_replication = 1`, attached, the writer rebooted, and the result proven over SQL. The plan shows every \
         step, the instance that is rebooted among them. Destroying gives the cluster its old parameters back.",
    )
    .attribute(
        Attribute::required("cluster_identifier", Type::String, "The DB cluster's identifier. A change makes a new resource.")
            .replaces(),
    )
    .attribute(
        Attribute::optional(
            "manage_parameter_group",
            Type::Bool,
            "Whether the parameter group is made, edited and attached here. With `false`, for a group that another provider \
             owns, the writer is only rebooted and verified. Default: `true`.",
        )
        .default(true),
    )
    .attribute(Attribute::optional_computed(
        "parameter_group_name",
        Type::String,
        "The cluster parameter group. Default: `<cluster>-logical-replication` where the cluster has a default group, else \
         the custom group that it has.",
    ))
    .attribute(parameters("Further cluster parameters, such as `max_replication_slots`."))
    .attribute(
        Attribute::optional(
            "reboot",
            Type::String,
            "Which instances may be rebooted: `writer`; `all`, the readers one by one and the writer last, each waited for, so \
             that a failover stays logical; or `never`, which leaves `pending_reboot = true` for your own maintenance. Up to \
             Aurora PostgreSQL 12.13, 13.9 and 14.6, readers restart together with the writer, whatever this says. \
             Default: `writer`.",
        )
        .default("writer")
        .one_of(&["writer", "all", "never"]),
    )
    .attribute(Attribute::computed("writer_instance_identifier", Type::String, "The writer instance."));
    further(schema)
}
