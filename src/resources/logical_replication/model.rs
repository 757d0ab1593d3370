// SPDX-License-Identifier: MPL-2.0

//! The values of both resources: configuration, plan and state.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use super::Product;
use crate::rds::logical_replication::{Current, LogicalReplication, OnDestroy, Reboot, Record, Step};
use crate::tf_provider::convert::{self, Attr, FromValue, ToValue};
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::PlannedChange;
use crate::tf_provider::timeouts::Timeouts;
use crate::tf_provider::value::Value;

/// The field that has another name in each product.
const IDENTIFIER: &str = "identifier";
/// The attribute that a product without readers does not have.
const WRITER: &str = "writer_instance_identifier";

crate::model! {
    /// The attributes of both resources: configuration, plan and state.
    pub(in crate::resources) struct Attributes {
        /// The identifier, named by [`Product::IDENTIFIER`].
        identifier: Attr<String>,
        /// Whether the provider may create, edit and attach the parameter group.
        manage_parameter_group: Attr<bool>,
        /// The parameter group.
        parameter_group_name: Attr<String>,
        /// Further parameters.
        parameters: Attr<BTreeMap<String, String>>,
        /// Which instances may be rebooted.
        reboot: Attr<String>,
        /// Whether the server is queried over SQL.
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
        /// Whether the provider created the parameter group.
        parameter_group_created: Attr<bool>,
        /// The parameter group that was attached before.
        previous_parameter_group_name: Attr<String>,
        /// The writer, for a product with readers.
        writer_instance_identifier: Attr<String>,
        /// The host name to connect to.
        endpoint: Attr<String>,
        /// Its port.
        port: Attr<i64>,
        /// The engine's version.
        engine_version: Attr<String>,
        /// Whether the server waits for a reboot.
        pending_reboot: Attr<bool>,
        /// The server's `wal_level`.
        wal_level: Attr<String>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

/// The attributes of one product's resource.
#[derive(Clone, Default)]
pub(in crate::resources) struct Model<P> {
    pub(super) attributes: Attributes,
    product: PhantomData<P>,
}

impl<P: Product> From<Attributes> for Model<P> {
    fn from(attributes: Attributes) -> Self {
        Self { attributes, product: PhantomData }
    }
}

impl<P: Product> FromValue for Model<P> {
    fn holds(value: &Value) -> bool {
        Attributes::holds(value)
    }

    fn from_value(value: Value) -> Result<Self> {
        let value = match value {
            Value::Map(mut items) => {
                let identifier = items.remove(P::IDENTIFIER).unwrap_or(Value::Null);
                items.insert(IDENTIFIER.to_owned(), identifier);
                Value::Map(items)
            }
            other => other,
        };
        Attributes::from_value(value).map(Self::from)
    }
}

impl<P: Product> ToValue for Model<P> {
    fn to_value(self) -> Value {
        let Value::Map(mut items) = self.attributes.to_value() else { return Value::Null };
        let identifier = items.remove(IDENTIFIER).unwrap_or(Value::Null);
        items.insert(P::IDENTIFIER.to_owned(), identifier);
        if !P::HAS_READERS {
            items.remove(WRITER);
        }
        Value::Map(items)
    }
}

impl<P: Product> convert::Model for Model<P> {}

pub(super) fn validate(config: &Attributes, diagnostics: &mut Diagnostics) {
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
            .detail("Another provider owns the group in that case. Leave one of the two out.");
        diagnostics.error(error.attribute(attribute));
    }
}

/// The same, with defaults for values that an import does not have.
pub(super) fn with_defaults(mut model: Attributes, reboot: &str) -> Attributes {
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

/// The desired state of a model. `group` is the configured parameter group, if any: the group in a state is the
/// cluster's, not the user's choice.
pub(super) fn to_desired(model: &Attributes, group: &Attr<String>, identifier: &str) -> Result<LogicalReplication> {
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
        planned_family: None,
    })
}

/// The state from the user's values and the current ones.
pub(super) fn to_state(written: &Attributes, current: &Current, record: &Record) -> Attributes {
    let named = written.parameters.known();
    let port = current.cluster.port.map(i64::from);
    Attributes {
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

/// The state after an interrupted create: the planned values, without those that are only known at the end. The next
/// read fills them in.
pub(super) fn interrupted(plan: &Attributes, record: &Record) -> Attributes {
    fn so_far<T: Clone>(attribute: &Attr<T>) -> Attr<T> {
        attribute.known().cloned().into()
    }
    Attributes {
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

/// What a destroy does. Its reboots follow `reboot`; if that is never, it reboots the writer.
pub(super) fn on_destroy(model: &Attributes, reboot: Reboot) -> OnDestroy {
    match (model.skip_destroy.known(), model.reboot_on_destroy.known()) {
        (Some(true), _) => OnDestroy::Leave,
        (_, Some(true)) if reboot == Reboot::Never => OnDestroy::GiveBack(Reboot::Writer),
        (_, Some(true)) => OnDestroy::GiveBack(reboot),
        _ => OnDestroy::GiveBack(Reboot::Never),
    }
}

/// RDS stores names in lower case; this keeps the user's spelling.
fn spelled(written: &Attr<String>, actual: &str) -> String {
    match written.known() {
        Some(name) if name.eq_ignore_ascii_case(actual) => name.clone(),
        _ => actual.to_owned(),
    }
}

/// Plans the known results, and marks the others as unknown if there are steps.
pub(super) fn planned_outcome<P: Product>(
    change: &mut PlannedChange<Model<P>>,
    current: &Current,
    steps: &[Step],
) -> Result<()> {
    let config = change.config().attributes.clone();
    if config.parameter_group_name.is_null() {
        let name = spelled(
            &change.prior().map(|prior| prior.attributes.parameter_group_name.clone()).unwrap_or_default(),
            &current.target_name,
        );
        change.set("parameter_group_name", name)?;
    }
    change.set("id", config.identifier)?;
    change.set("parameter_group_family", current.family().to_owned())?;
    if current.cluster.status != "available" {
        // An upgrade may be in progress, which brings another family.
        change.set_unknown("parameter_group_family")?;
        if config.parameter_group_name.is_null() {
            change.set_unknown("parameter_group_name")?;
        }
    }
    if steps.iter().any(Step::is_change) {
        for attribute in ["pending_reboot", "wal_level", "engine_version"] {
            change.set_unknown(attribute)?;
        }
        if P::HAS_READERS {
            change.set_unknown(WRITER)?;
        }
        for attribute in ["parameter_group_created", "previous_parameter_group_name"] {
            change.set_unknown(attribute)?;
        }
    }
    Ok(())
}
