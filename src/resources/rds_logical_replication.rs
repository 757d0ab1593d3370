//! `neonrepl_rds_logical_replication`: a DB instance of RDS for PostgreSQL runs with a logical WAL.

use std::collections::BTreeMap;

use super::logical_replication::model::{Common, further, parameters, shape};
use super::logical_replication::{self as shared, Shape, model};
use crate::config::Context;
use crate::rds::RdsInstances;
use crate::rds::api::Deployment;
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::convert::{Attr, FromValue};
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{Attribute, IdentityAttribute, IdentitySchema, Schema, Type};
use crate::tf_provider::timeouts::Timeouts;
use crate::tf_provider::value::Value;

/// The resource.
pub(super) struct RdsLogicalReplication;

crate::model! {
    /// The identity.
    struct Identity {
        /// The instance.
        instance_identifier: Attr<String>,
    }
}

crate::model! {
    /// Logical replication on a DB instance.
    pub(super) struct Model {
        /// The DB instance.
        instance_identifier: Attr<String>,
        /// Whether the parameter group is ours to change.
        manage_parameter_group: Attr<bool>,
        /// The DB parameter group.
        parameter_group_name: Attr<String>,
        /// Further parameters.
        parameters: Attr<BTreeMap<String, String>>,
        /// Whether the instance may be rebooted.
        reboot: Attr<String>,
        /// Whether the server is asked over SQL.
        verify: Attr<bool>,
        /// Whether a destroy leaves everything as it is.
        skip_destroy: Attr<bool>,
        /// Whether a destroy reboots.
        reboot_on_destroy: Attr<bool>,
        /// Tags of the parameter group.
        tags: Attr<BTreeMap<String, String>>,
        /// The identifier.
        id: Attr<String>,
        /// The family of the parameter group.
        parameter_group_family: Attr<String>,
        /// Whether the parameter group was made here.
        parameter_group_created: Attr<bool>,
        /// The parameter group that the instance had before.
        previous_parameter_group_name: Attr<String>,
        /// Its host name.
        endpoint: Attr<String>,
        /// Its port.
        port: Attr<i64>,
        /// The engine's version.
        engine_version: Attr<String>,
        /// Whether it waits for a reboot.
        pending_reboot: Attr<bool>,
        /// The server's `wal_level`.
        wal_level: Attr<String>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

impl Resource for RdsLogicalReplication {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_rds_logical_replication";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        let attribute = IdentityAttribute {
            name: "instance_identifier",
            description: "The instance's identifier.",
            required_for_import: true,
        };
        Some(IdentitySchema { version: 0, attributes: vec![attribute] })
    }

    fn identify(state: &Model) -> Value {
        let identifier = state.instance_identifier.known().map_or(Value::UNKNOWN, |name| Value::from(name.as_str()));
        Value::Map([("instance_identifier".to_owned(), identifier)].into())
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
                Identity::from_value(value)?.instance_identifier.required("instance_identifier")?.clone()
            }
        };
        Ok(shared::imported(identifier))
    }
}

impl Shape for Model {
    type Api = RdsInstances;
    const DEPLOYMENT: Deployment = Deployment::RdsInstance;
    const IDENTIFIER: &'static str = "instance_identifier";
    const REBOOT: &'static str = "always";

    fn api(context: &Context) -> Result<&RdsInstances> {
        context.instance_api()
    }

    shape!(instance_identifier, has [], lacks [writer_instance_identifier]);
}

fn schema() -> Schema {
    let schema = Schema::new(
        "Sees to it that a DB instance of RDS for PostgreSQL runs with a logical WAL: a DB parameter group with \
         `rds.logical_replication = 1`, attached, the instance rebooted, and the result proven over SQL. The plan shows every \
         step. Destroying gives the instance its old parameters back. Of Multi-AZ, the instance is rebooted where it is, \
         without a failover. An instance of a cluster has its parameters in the cluster: \
         `neonrepl_aurora_logical_replication` is for those of Aurora.",
    )
    .attribute(
        Attribute::required("instance_identifier", Type::String, "The DB instance's identifier. A change makes a new resource.")
            .replaces(),
    )
    .attribute(
        Attribute::optional(
            "manage_parameter_group",
            Type::Bool,
            "Whether the parameter group is made, edited and attached here. With `false`, for a group that another provider \
             owns, the instance is only rebooted and verified. Default: `true`.",
        )
        .default(true),
    )
    .attribute(Attribute::optional_computed(
        "parameter_group_name",
        Type::String,
        "The DB parameter group. Default: `<instance>-logical-replication` where the instance has a default group, else the \
         custom group that it has.",
    ))
    .attribute(parameters("Further parameters of the instance, such as `max_replication_slots`."))
    .attribute(
        Attribute::optional(
            "reboot",
            Type::String,
            "Whether the instance may be rebooted: `always`, when it has to be, or `never`, which leaves \
             `pending_reboot = true` for your own maintenance. Default: `always`.",
        )
        .default("always")
        .one_of(&["always", "never"]),
    );
    further(schema)
}
