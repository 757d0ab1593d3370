//! The configuration, plan and state of the resource.

use std::collections::BTreeMap;

use super::{Attr, Diagnostics, Error, PlannedChange, Result, Schema, Timeouts};
use crate::aurora::logical_replication::{Current, LogicalReplication, OnDestroy, PARAMETER, Reboot, Record, Step};
use crate::tf_provider::schema::{Attribute, Type};
use crate::tf_provider::timeouts::timeouts_block;

crate::model! {
    /// Logical replication on an Aurora cluster.
    pub(in crate::resources) struct Model {
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

pub(super) fn schema() -> Schema {
    let strings = || Type::map(Type::String);
    Schema::new(
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
    .attribute(
        Attribute::optional(
            "parameters",
            strings(),
            "Further cluster parameters, such as `max_replication_slots`. Only these, and `rds.logical_replication`, are \
             ever touched. Values are compared as the server means them: `on` is `1`, and `5min` is `300000` where the \
             parameter is in milliseconds. A formula, such as `{DBInstanceVCPU*2}`, is kept as it is.",
        )
        .validator(|value| match value.get(PARAMETER) {
            Some(_) => Err(format!("{PARAMETER} is always set to 1. Leave it out.")),
            None => Ok(()),
        }),
    )
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
    .attribute(
        Attribute::optional(
            "verify",
            Type::Bool,
            "Whether the writer is asked over the provider's publisher connection what it runs with, and rebooted once more \
             if that is not logical. Default: `true`.",
        )
        .default(true),
    )
    .attribute(
        Attribute::optional(
            "skip_destroy",
            Type::Bool,
            "Whether destroying only forgets, and leaves the cluster as it is. Default: `false`.",
        )
        .default(false),
    )
    .attribute(
        Attribute::optional(
            "reboot_on_destroy",
            Type::Bool,
            "Whether destroying also reboots, so that the old parameters take effect. Default: `false`.",
        )
        .default(false),
    )
    .attribute(Attribute::optional("tags", strings(), "Tags of a parameter group that is made here."))
    .attribute(Attribute::computed("id", Type::String, "The cluster's identifier, by which it is imported.").stable())
    .attribute(
        Attribute::computed("parameter_group_family", Type::String, "The family, such as `aurora-postgresql16`.").stable(),
    )
    .attribute(Attribute::computed(
        "parameter_group_created",
        Type::Bool,
        "Whether the parameter group was made here; only then is it ever deleted.",
    ))
    .attribute(Attribute::computed(
        "previous_parameter_group_name",
        Type::String,
        "The parameter group that the cluster had before, and gets back when this is destroyed.",
    ))
    .attribute(Attribute::computed("writer_instance_identifier", Type::String, "The writer instance."))
    .attribute(Attribute::computed("endpoint", Type::String, "The cluster's writer endpoint.").stable())
    .attribute(Attribute::computed("port", Type::Number, "Its port.").stable())
    .attribute(Attribute::computed("engine_version", Type::String, "The version of Aurora PostgreSQL."))
    .attribute(Attribute::computed(
        "pending_reboot",
        Type::Bool,
        "Whether the writer still has to be rebooted before its parameters take effect.",
    ))
    .attribute(Attribute::computed(
        "wal_level",
        Type::String,
        "The writer's `wal_level`, as it says itself; null where it was not asked.",
    ))
    .block(timeouts_block("60m", "60m", "60m"))
}

pub(super) fn validate(config: &Model, diagnostics: &mut Diagnostics) {
    if config.manage_parameter_group.known() != Some(&false) {
        return;
    }
    let given = [
        ("parameter_group_name", config.parameter_group_name.is_null()),
        ("parameters", config.parameters.is_null()),
        ("tags", config.tags.is_null()),
    ];
    for (attribute, _) in given.into_iter().filter(|(_, is_null)| !is_null) {
        let error = Error::new(format!("{attribute} has no effect with manage_parameter_group = false"))
            .detail("Another provider owns the group then. Leave one of the two out.");
        diagnostics.error(error.attribute(attribute));
    }
}

/// The same with defaults where an import left nothing.
pub(super) fn with_defaults(mut model: Model) -> Model {
    fn or<T>(attribute: &mut Attr<T>, default: T) {
        if attribute.is_null() {
            *attribute = Attr::Known(default);
        }
    }
    or(&mut model.manage_parameter_group, true);
    or(&mut model.reboot, "writer".to_owned());
    or(&mut model.verify, true);
    or(&mut model.skip_destroy, false);
    or(&mut model.reboot_on_destroy, false);
    model
}

/// What a model asks for. `group` is the parameter group that the user asked for, if any: a state says which one the
/// cluster has, which is no wish.
pub(super) fn to_desired(model: &Model, group: &Attr<String>) -> Result<LogicalReplication> {
    let flag = |attribute: &Attr<bool>, name| attribute.optional(name).map(|flag| flag.copied().unwrap_or(true));
    let map = |attribute: &Attr<BTreeMap<String, String>>, name| {
        attribute.optional(name).map(|map| map.cloned().unwrap_or_default())
    };
    Ok(LogicalReplication {
        cluster: model.cluster_identifier.required("cluster_identifier")?.clone(),
        manage_parameter_group: flag(&model.manage_parameter_group, "manage_parameter_group")?,
        parameter_group_name: group.known().cloned(),
        parameters: map(&model.parameters, "parameters")?,
        reboot: match model.reboot.optional("reboot")?.map(String::as_str) {
            Some("all") => Reboot::All,
            Some("never") => Reboot::Never,
            _ => Reboot::Writer,
        },
        verify: flag(&model.verify, "verify")?,
        tags: map(&model.tags, "tags")?,
    })
}

/// The state: what the user wrote, and what is.
pub(super) fn to_model(written: &Model, current: &Current, record: &Record) -> Model {
    let named = written.parameters.known();
    let port = current.cluster.port.map(i64::from);
    Model {
        id: written.cluster_identifier.clone(),
        parameter_group_name: spelled(&written.parameter_group_name, &current.cluster.parameter_group).into(),
        parameters: named.map(|named| current.parameter_values(named)).into(),
        parameter_group_family: current.family().into(),
        parameter_group_created: record.group_created.into(),
        previous_parameter_group_name: record.previous_group.clone().into(),
        writer_instance_identifier: current.writer().map(str::to_owned).into(),
        endpoint: current.cluster.endpoint.clone().into(),
        port: port.into(),
        engine_version: current.cluster.engine_version.as_str().into(),
        pending_reboot: current.is_reboot_pending().into(),
        wal_level: current.settings.as_ref().map(|settings| settings.wal_level.clone()).into(),
        ..written.clone()
    }
}

/// The state of an object whose making was cut short: what the plan says, and nothing of what only the end shows. The
/// next read fills it in.
pub(super) fn interrupted(plan: &Model, record: &Record) -> Model {
    fn so_far<T: Clone>(attribute: &Attr<T>) -> Attr<T> {
        attribute.known().cloned().into()
    }
    Model {
        id: plan.cluster_identifier.clone(),
        parameter_group_name: plan.parameter_group_name.known().or(record.group.as_ref()).cloned().into(),
        parameters: so_far(&plan.parameters),
        parameter_group_family: so_far(&plan.parameter_group_family),
        parameter_group_created: record.group_created.into(),
        previous_parameter_group_name: record.previous_group.clone().into(),
        writer_instance_identifier: Attr::Null,
        endpoint: so_far(&plan.endpoint),
        port: so_far(&plan.port),
        engine_version: so_far(&plan.engine_version),
        pending_reboot: true.into(),
        wal_level: Attr::Null,
        ..plan.clone()
    }
}

/// What a destroy is to do. Rebooting for it follows `reboot`, and takes the writer where that says never.
pub(super) fn on_destroy(model: &Model, reboot: Reboot) -> OnDestroy {
    match (model.skip_destroy.known(), model.reboot_on_destroy.known()) {
        (Some(true), _) => OnDestroy::Leave,
        (_, Some(true)) if reboot == Reboot::Never => OnDestroy::GiveBack(Reboot::Writer),
        (_, Some(true)) => OnDestroy::GiveBack(reboot),
        _ => OnDestroy::GiveBack(Reboot::Never),
    }
}

/// RDS keeps names in lower case; the user's spelling stays.
fn spelled(written: &Attr<String>, actual: &str) -> String {
    match written.known() {
        Some(name) if name.eq_ignore_ascii_case(actual) => name.clone(),
        _ => actual.to_owned(),
    }
}

/// What is known of the outcome already, and that the rest is not where steps are to be taken.
pub(super) fn planned_outcome(change: &mut PlannedChange<Model>, current: &Current, steps: &[Step]) -> Result<()> {
    if change.config().parameter_group_name.is_null() {
        let name = spelled(
            &change.prior().map(|prior| prior.parameter_group_name.clone()).unwrap_or_default(),
            &current.target_name,
        );
        change.set("parameter_group_name", name)?;
    }
    change.set("id", change.config().cluster_identifier.clone())?;
    change.set("parameter_group_family", current.family().to_owned())?;
    if steps.iter().any(Step::is_change) {
        for attribute in ["pending_reboot", "wal_level", "writer_instance_identifier"] {
            change.set_unknown(attribute)?;
        }
        for attribute in ["parameter_group_created", "previous_parameter_group_name"] {
            change.set_unknown(attribute)?;
        }
    }
    Ok(())
}
