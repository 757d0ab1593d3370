//! The values that both resources have: configuration, plan and state.

use std::collections::BTreeMap;

use super::Shape;
use crate::rds::api::Deployment;
use crate::rds::logical_replication::{Current, LogicalReplication, OnDestroy, PARAMETER, Reboot, Record, Step};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::PlannedChange;
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{Timeouts, timeouts_block};

/// What a cluster and an instance have in common. The names are those of the attributes.
#[derive(Clone, Default)]
pub(in crate::resources) struct Common {
    /// `cluster_identifier` or `instance_identifier`.
    pub(in crate::resources) identifier: Attr<String>,
    pub(in crate::resources) manage_parameter_group: Attr<bool>,
    pub(in crate::resources) parameter_group_name: Attr<String>,
    pub(in crate::resources) parameters: Attr<BTreeMap<String, String>>,
    pub(in crate::resources) reboot: Attr<String>,
    pub(in crate::resources) verify: Attr<bool>,
    pub(in crate::resources) skip_destroy: Attr<bool>,
    pub(in crate::resources) reboot_on_destroy: Attr<bool>,
    pub(in crate::resources) tags: Attr<BTreeMap<String, String>>,
    pub(in crate::resources) id: Attr<String>,
    pub(in crate::resources) parameter_group_family: Attr<String>,
    pub(in crate::resources) parameter_group_created: Attr<bool>,
    pub(in crate::resources) previous_parameter_group_name: Attr<String>,
    /// Of a cluster only.
    pub(in crate::resources) writer_instance_identifier: Attr<String>,
    pub(in crate::resources) endpoint: Attr<String>,
    pub(in crate::resources) port: Attr<i64>,
    pub(in crate::resources) engine_version: Attr<String>,
    pub(in crate::resources) pending_reboot: Attr<bool>,
    pub(in crate::resources) wal_level: Attr<String>,
    pub(in crate::resources) timeouts: Attr<Timeouts>,
}

/// The two conversions between a model and [`Common`], for [`Shape`](super::Shape): `shape!(identifier, has [further, …], lacks [other, …])`.
macro_rules! shape {
    ($identifier:ident, has [$($further:ident),*], lacks [$($other:ident),*]) => {
        fn common(&self) -> Common {
            let model = self.clone();
            Common {
                identifier: model.$identifier,
                manage_parameter_group: model.manage_parameter_group,
                parameter_group_name: model.parameter_group_name,
                parameters: model.parameters,
                reboot: model.reboot,
                verify: model.verify,
                skip_destroy: model.skip_destroy,
                reboot_on_destroy: model.reboot_on_destroy,
                tags: model.tags,
                id: model.id,
                parameter_group_family: model.parameter_group_family,
                parameter_group_created: model.parameter_group_created,
                previous_parameter_group_name: model.previous_parameter_group_name,
                endpoint: model.endpoint,
                port: model.port,
                engine_version: model.engine_version,
                pending_reboot: model.pending_reboot,
                wal_level: model.wal_level,
                timeouts: model.timeouts,
                $($further: model.$further,)*
                $($other: Attr::Null,)*
            }
        }

        fn from_common(common: Common) -> Self {
            Self {
                $identifier: common.identifier,
                manage_parameter_group: common.manage_parameter_group,
                parameter_group_name: common.parameter_group_name,
                parameters: common.parameters,
                reboot: common.reboot,
                verify: common.verify,
                skip_destroy: common.skip_destroy,
                reboot_on_destroy: common.reboot_on_destroy,
                tags: common.tags,
                id: common.id,
                parameter_group_family: common.parameter_group_family,
                parameter_group_created: common.parameter_group_created,
                previous_parameter_group_name: common.previous_parameter_group_name,
                endpoint: common.endpoint,
                port: common.port,
                engine_version: common.engine_version,
                pending_reboot: common.pending_reboot,
                wal_level: common.wal_level,
                timeouts: common.timeouts,
                $($further: common.$further,)*
            }
        }
    };
}

pub(in crate::resources) use shape;

/// The attribute `parameters`; `what` is the first sentence of its description.
pub(in crate::resources) fn parameters(what: &str) -> Attribute {
    let description = format!(
        "{what} Only these, and `rds.logical_replication`, are ever touched. Values are compared as the server means them: \
         `on` is `1`, and `5min` is `300000` where the parameter is in milliseconds. A formula, such as \
         `{{DBInstanceVCPU*2}}`, is kept as it is.",
    );
    Attribute::optional("parameters", Type::map(Type::String), &description).validator(|value| {
        match value.get(PARAMETER) {
            Some(_) => Err(format!("{PARAMETER} is always set to 1. Leave it out.")),
            None => Ok(()),
        }
    })
}

/// The attributes that mean the same for both, after those that `schema` has already.
pub(in crate::resources) fn further(schema: Schema) -> Schema {
    let strings = || Type::map(Type::String);
    schema
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
    .attribute(Attribute::computed("id", Type::String, "The identifier, by which it is imported.").stable())
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
        "The parameter group that was attached before, and is again when this is destroyed.",
    ))
    .attribute(Attribute::computed("endpoint", Type::String, "The host name to connect to: of a cluster, the writer endpoint.").stable())
    .attribute(Attribute::computed("port", Type::Number, "Its port.").stable())
    .attribute(Attribute::computed("engine_version", Type::String, "The engine's version."))
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

pub(in crate::resources) fn validate(config: &Common, diagnostics: &mut Diagnostics) {
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
pub(super) fn with_defaults(mut model: Common, reboot: &str) -> Common {
    fn or<T>(attribute: &mut Attr<T>, default: T) {
        if attribute.is_null() {
            *attribute = Attr::Known(default);
        }
    }
    or(&mut model.manage_parameter_group, true);
    or(&mut model.reboot, reboot.to_owned());
    or(&mut model.verify, true);
    or(&mut model.skip_destroy, false);
    or(&mut model.reboot_on_destroy, false);
    model
}

/// What a model asks for. `group` is the parameter group that the user asked for, if any: a state says which one the
/// cluster has, which is no wish.
pub(super) fn to_desired(model: &Common, group: &Attr<String>, identifier: &str) -> Result<LogicalReplication> {
    let flag = |attribute: &Attr<bool>, name| attribute.optional(name).map(|flag| flag.copied().unwrap_or(true));
    let map = |attribute: &Attr<BTreeMap<String, String>>, name| {
        attribute.optional(name).map(|map| map.cloned().unwrap_or_default())
    };
    Ok(LogicalReplication {
        cluster: model.identifier.required(identifier)?.clone(),
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
pub(super) fn to_common(written: &Common, current: &Current, record: &Record) -> Common {
    let named = written.parameters.known();
    let port = current.cluster.port.map(i64::from);
    Common {
        id: written.identifier.clone(),
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
pub(super) fn interrupted(plan: &Common, record: &Record) -> Common {
    fn so_far<T: Clone>(attribute: &Attr<T>) -> Attr<T> {
        attribute.known().cloned().into()
    }
    Common {
        id: plan.identifier.clone(),
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
pub(super) fn on_destroy(model: &Common, reboot: Reboot) -> OnDestroy {
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
pub(super) fn planned_outcome<M: Shape>(
    change: &mut PlannedChange<M>,
    current: &Current,
    steps: &[Step],
) -> Result<()> {
    let config = change.config().common();
    if config.parameter_group_name.is_null() {
        let name = spelled(
            &change.prior().map(|prior| prior.common().parameter_group_name).unwrap_or_default(),
            &current.target_name,
        );
        change.set("parameter_group_name", name)?;
    }
    change.set("id", config.identifier)?;
    change.set("parameter_group_family", current.family().to_owned())?;
    if steps.iter().any(Step::is_change) {
        for attribute in ["pending_reboot", "wal_level"] {
            change.set_unknown(attribute)?;
        }
        if current.cluster.deployment == Deployment::AuroraCluster {
            change.set_unknown("writer_instance_identifier")?;
        }
        for attribute in ["parameter_group_created", "previous_parameter_group_name"] {
            change.set_unknown(attribute)?;
        }
    }
    Ok(())
}
