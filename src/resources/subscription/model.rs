// SPDX-License-Identifier: MPL-2.0

//! The configuration, plan and state of the resource.

use std::collections::{BTreeMap, BTreeSet};

use super::ObjectId;
use crate::config::Context;
use crate::postgres::subscription::{Options, Origin, SlotName, Streaming, Subscription as Desired};
use crate::postgres::{Ident, publication};
use crate::resources::object_id::{check_name, in_database, plan_id};
use crate::resources::reaching::{self, Connection, Way, of_block};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::resource::PlannedChange;
use crate::tf_provider::schema::{Attribute, NestedBlock, Schema, Type};
use crate::tf_provider::timeouts::{Timeouts, timeouts_block};
use crate::tf_provider::value::Value;

crate::model! {
    /// A subscription.
    pub(in crate::resources) struct Model {
        /// `database/name`.
        id: Attr<String>,
        /// Its name.
        name: Attr<String>,
        /// Its database.
        database: Attr<String>,
        /// Its publications.
        publications: Attr<BTreeSet<String>>,
        /// A change of these triggers a refresh.
        refresh_triggers: Attr<BTreeMap<String, String>>,
        /// The subscriber's connection to the publisher.
        publisher: Attr<Connection>,
        /// A change of this number sets the connection again.
        connection_version: Attr<i64>,
        /// Whether it is enabled.
        enabled: Attr<bool>,
        /// Whether existing rows are copied.
        copy_data: Attr<bool>,
        /// Whether to create the slot.
        create_slot: Attr<bool>,
        /// Whether to connect to the publisher at creation.
        connect: Attr<bool>,
        /// The slot.
        slot_name: Attr<String>,
        /// Binary transfer.
        binary: Attr<bool>,
        /// Transactions in progress.
        streaming: Attr<String>,
        /// The worker's `synchronous_commit`.
        synchronous_commit: Attr<String>,
        /// Prepared transactions.
        two_phase: Attr<bool>,
        /// Whether an error disables it.
        disable_on_error: Attr<bool>,
        /// Whether the connection needs a password.
        password_required: Attr<bool>,
        /// Whether changes are applied with the rights of the subscription's owner.
        run_as_owner: Attr<bool>,
        /// Which changes are sent.
        origin: Attr<String>,
        /// Whether the slot is copied to standbys.
        failover: Attr<bool>,
        /// Its owner.
        owner: Attr<String>,
        /// Whether create waits for the copy.
        wait_for_initial_sync: Attr<bool>,
        /// Whether destroy works without the publisher.
        force_destroy: Attr<bool>,
        /// Published tables that it does not have yet.
        unsubscribed_tables: Attr<BTreeSet<String>>,
        /// Parts of the connection that differ from the configuration.
        connection_differs: Attr<BTreeSet<String>>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

in_database!(Model, Context::subscriber);

pub(super) fn schema() -> Schema {
    let strings = || Type::set(Type::String);
    let flag = |name: &str, description: &str, default: bool| {
        let description = format!("{description} Default: `{default}`.");
        Attribute::optional(name, Type::Bool, &description).default(default)
    };
    let option = |name: &str, ty: Type, description: &str| {
        let description = format!("{description} Default: the server's.");
        Attribute::optional_computed(name, ty, &description)
    };
    Schema::new(
        "A subscription: the subscriber copies the rows of the published tables, and then applies every change. Everything \
         but `database` is changed in place.",
    )
    .attribute(
        Attribute::required("name", Type::String, "The name. Renamed in place; the slot keeps its name.").text(check_name),
    )
    .attribute(
        Attribute::optional_computed(
            "database",
            Type::String,
            "The database that it belongs to. Default: the provider's subscriber database. A change makes a new subscription.",
        )
        .text(check_name)
        .replaces(),
    )
    .attribute(
        Attribute::required("publications", strings(), "The publications on the publisher.").text(check_publication).validator(
            |value| match value {
                Value::Set(items) if items.is_empty() => Err("It must not be empty. Name a publication.".to_owned()),
                _ => Ok(()),
            },
        ),
    )
    .attribute(Attribute::optional(
        "refresh_triggers",
        Type::map(Type::String),
        "A map of any strings. When a value changes, the subscription takes up tables that the publications have \
         gained, and drops those that they have lost. Use the `fingerprint` of each publication.",
    ))
    .attribute(Attribute::optional(
        "connection_version",
        Type::Number,
        "A change sends the connection again, password included: raise it to rotate the password. Apply then waits until the \
         subscription connects with it.",
    ))
    .attribute(flag("enabled", "Whether the subscription runs.", true))
    .attribute(flag("copy_data", "Whether existing rows are copied when a table is subscribed to.", true))
    .attribute(flag(
        "create_slot",
        "Whether to create the replication slot on the publisher. If `false`, a slot named `slot_name` must already \
         exist, and nothing may use it. A disabled subscription on another server that uses the slot cannot be \
         detected: give each subscription a slot of its own.",
        true,
    ))
    .attribute(flag(
        "connect",
        "Whether to connect to the publisher on creation. If `false`, set `enabled`, `create_slot` and `copy_data` \
         to `false` too.",
        true,
    ))
    .attribute(
        Attribute::optional_computed(
            "slot_name",
            Type::String,
            "The replication slot. Default: the name. It can be changed if nothing is lost by that. If the new slot \
             does not exist, it is created as a copy of the old one, which is then dropped. If it exists, the \
             subscription changes over once it has caught up with the new slot's position; the old slot stays, and \
             the plan names it.",
        )
        .text(check_slot_name),
    )
    .attribute(option("binary", Type::Bool, "Whether values are sent in binary form."))
    .attribute(
        option(
            "streaming",
            Type::String,
            "Whether transactions in progress are sent: `off`, `on`, or `parallel` (Postgres 16).",
        )
        .one_of(&["off", "on", "parallel"]),
    )
    .attribute(
        option("synchronous_commit", Type::String, "The worker's `synchronous_commit`.")
            .one_of(&["off", "local", "remote_write", "remote_apply", "on"]),
    )
    .attribute(option("two_phase", Type::Bool, "Whether prepared transactions are sent when they are prepared (Postgres 15)."))
    .attribute(option("disable_on_error", Type::Bool, "Whether an error disables the subscription (Postgres 15)."))
    .attribute(option(
        "password_required",
        Type::Bool,
        "Whether the connection needs a password if the owner is not a superuser (Postgres 16).",
    ))
    .attribute(option(
        "run_as_owner",
        Type::Bool,
        "Whether changes are applied with the rights of the subscription's owner instead of each table's owner \
         (Postgres 16).",
    ))
    .attribute(
        option(
            "origin",
            Type::String,
            "Which changes are sent: `any`, or `none` for those that were not replicated to the publisher themselves (Postgres 16).",
        )
        .one_of(&["any", "none"]),
    )
    .attribute(option("failover", Type::Bool, "Whether the slot is copied to the publisher's standbys (Postgres 17)."))
    .attribute(
        Attribute::optional_computed("owner", Type::String, "The role that owns it. Default: the role that creates it.")
            .text(check_name),
    )
    .attribute(flag(
        "wait_for_initial_sync",
        "Whether a create, and an update that subscribes to further tables, waits until every table is copied and \
         replicated. The log shows the progress of each table (`TF_LOG_PROVIDER=INFO`). The wait fails, with the \
         reason, as soon as a table cannot be copied. With `true`, obstacles that both servers show beforehand are \
         errors before anything is created; with `false` they are warnings.",
        false,
    ))
    .attribute(flag(
        "force_destroy",
        "Whether a destroy goes on if the publisher cannot be reached: the slot stays there, and a warning says how \
         to remove it.",
        false,
    ))
    .attribute(Attribute::computed("id", Type::String, "`database/name`, by which it is imported.").stable())
    .attribute(
        Attribute::computed(
            "unsubscribed_tables",
            strings(),
            "Tables that are published but not subscribed to yet, such as partitions that were attached to a \
             published table. If there are any, the next plan refreshes the subscription. With `copy_data`, all \
             their rows are copied then; without it, rows that were written until then never arrive.",
        )
        .stable(),
    )
    .attribute(
        Attribute::computed(
            "connection_differs",
            strings(),
            "The names of the parts of the connection that differ from the configuration, if the role may read it. \
             If there are any, the next plan sends the connection again.",
        )
        .stable(),
    )
    .block(publisher_block())
    .block(timeouts_block("20m", "20m", "5m"))
}

/// Not named `connection`: Terraform and OpenTofu reserve that name in resources, for provisioners.
fn publisher_block() -> NestedBlock {
    let description = "How the subscriber reaches the publisher. Every part defaults to the provider's `publisher` \
    block. The certificates of an `sslrootcert` there are not on the subscriber's server, so `verify-ca` and \
    `verify-full` become `require`, and the plan says so; a `verify-full` with the system's authorities stays, with \
    `sslrootcert = system`, if the subscriber runs Postgres 16 or newer. If the provider logs in with \
    `aws_iam_auth`, `username` and a password are required here; if `username` is another role than the provider's, \
    a password is required. A subscription that was imported or moved keeps its connection until this block asks \
    for another one, or `connection_version` is set. Keywords of its connection that the configuration does not \
    mention are kept, and the plan shows what is replaced by what.";
    of_block(Way::FORWARD, description)
}

fn check_publication(text: &str) -> std::result::Result<(), String> {
    check_name(text)?;
    match publication::can_be_subscribed_to(text) {
        true => Ok(()),
        false => Err(format!(
            "No subscription can read from publication {text:?}: Postgres cannot send a backslash in its name. Rename it."
        )),
    }
}

/// Slots have a stricter rule than other names.
fn check_slot_name(text: &str) -> std::result::Result<(), String> {
    let is_valid = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if text == "none" {
        return Err("\"none\" is not a valid slot name here: Postgres reads it as NONE, which means no slot, quoted \
             or not. Choose another name."
            .to_owned());
    }
    if is_valid {
        return Ok(());
    }
    Err(format!("{text:?} is not a valid slot name: use 1 to 63 lower-case letters, digits and underscores."))
}

pub(super) fn validate(config: &Model, diagnostics: &mut Diagnostics) {
    if config.connect.known() == Some(&false) {
        let needs =
            [("enabled", &config.enabled), ("create_slot", &config.create_slot), ("copy_data", &config.copy_data)];
        for (attribute, _) in needs.into_iter().filter(|(_, value)| matches!(value, Attr::Null | Attr::Known(true))) {
            let error = Error::new(format!("connect = false needs {attribute} = false"))
                .detail("All of these need a connection.");
            diagnostics.error(error.attribute(attribute));
        }
    }
    check_default_slot(config, diagnostics);
    reaching::validate(Way::FORWARD, &config.publisher, diagnostics);
}

/// The default slot has the subscription's name, but not every name is valid for a slot.
fn check_default_slot(config: &Model, diagnostics: &mut Diagnostics) {
    if let (Some(name), Attr::Null) = (config.name.known(), &config.slot_name)
        && check_name(name).is_ok()
        && let Err(wrong) = check_slot_name(name)
    {
        let error = Error::new("slot_name must be set")
            .detail(format!("By default it is the subscription's name. {wrong} Set slot_name."));
        diagnostics.error(error.attribute("slot_name"));
    }
}

/// Plans the attributes that follow from others, and repairs of problems that the last read found.
pub(super) fn plan_computed(change: &mut PlannedChange<Model>) -> Result<()> {
    plan_id(change)?;
    let Some(planned) = change.planned().cloned() else { return Ok(()) };
    if change.prior().is_none() {
        if change.config().slot_name.is_null() {
            change.set("slot_name", planned.name)?;
        }
        return Ok(());
    }
    if refreshes(change) {
        change.set_unknown("unsubscribed_tables")?;
    }
    if has_any(change.prior().map(|prior| &prior.connection_differs)) {
        change.set_unknown("connection_differs")?;
    }
    Ok(())
}

/// Whether this change refreshes: a table is missing, or a value that the tables depend on changes.
fn refreshes(change: &PlannedChange<Model>) -> bool {
    let (Some(prior), Some(planned)) = (change.prior(), change.planned()) else { return false };
    let enabled = planned.enabled.known() != Some(&false);
    let missing = has_any(Some(&prior.unsubscribed_tables)) && enabled;
    let follows = prior.refresh_triggers != planned.refresh_triggers || prior.publications != planned.publications;
    let resumes = prior.enabled != planned.enabled && enabled;
    missing || follows || resumes
}

fn has_any(set: Option<&Attr<BTreeSet<String>>>) -> bool {
    set.and_then(Attr::known).is_some_and(|set| !set.is_empty())
}

/// The state of an import with the defaults of all attributes that no catalog stores.
pub(super) fn with_defaults(imported: Model) -> Model {
    Model {
        copy_data: true.into(),
        create_slot: true.into(),
        connect: true.into(),
        wait_for_initial_sync: false.into(),
        force_destroy: false.into(),
        ..imported
    }
}

/// Whether a flag is known to be set.
pub(super) fn is_set(flag: &Attr<bool>) -> bool {
    flag.known() == Some(&true)
}

pub(super) fn to_ident(text: &str, attribute: &str) -> Result<Ident> {
    Ident::new(text).map_err(|error| Error::new(error.to_string()).attribute(attribute))
}

/// The subscription that a model describes, without its connection. The server chooses unknown options.
pub(super) fn to_desired(model: &Model) -> Result<Desired> {
    let name = to_ident(model.name.required("name")?, "name")?;
    let publications = model.publications.required("publications")?.iter();
    let publications = publications.map(|name| to_ident(name, "publications")).collect::<Result<_>>()?;
    let slot = model.slot_name.known().map(|slot| to_ident(slot, "slot_name")).transpose()?;
    Ok(Desired {
        name,
        owner: model.owner.known().map(|owner| to_ident(owner, "owner")).transpose()?,
        enabled: model.enabled.optional("enabled")?.copied().unwrap_or(true),
        publications,
        connection: None,
        slot: slot.map(SlotName::Named),
        options: Options {
            binary: model.binary.known().copied(),
            streaming: model.streaming.known().and_then(|name| Streaming::from_name(name)),
            synchronous_commit: model.synchronous_commit.known().cloned(),
            two_phase: model.two_phase.known().copied(),
            disable_on_error: model.disable_on_error.known().copied(),
            password_required: model.password_required.known().copied(),
            run_as_owner: model.run_as_owner.known().copied(),
            origin: model.origin.known().and_then(|name| Origin::from_name(name)),
            failover: model.failover.known().copied(),
        },
    })
}

/// The state of a subscription; values that no catalog stores stay as they were.
pub(super) fn to_model(database: &str, found: &Desired, before: &Model) -> Model {
    let name = found.name.as_str();
    let options = &found.options;
    let slot = match &found.slot {
        Some(SlotName::Named(slot)) => Attr::Known(slot.as_str().to_owned()),
        _ => Attr::Null,
    };
    Model {
        id: ObjectId::new(database, name).to_string().into(),
        name: name.into(),
        database: database.into(),
        publications: found.publications.iter().map(|name| name.as_str().to_owned()).collect::<BTreeSet<_>>().into(),
        enabled: found.enabled.into(),
        slot_name: slot,
        binary: options.binary.into(),
        streaming: options.streaming.map(|streaming| streaming.as_str().to_owned()).into(),
        synchronous_commit: options.synchronous_commit.clone().into(),
        two_phase: options.two_phase.into(),
        disable_on_error: options.disable_on_error.into(),
        password_required: options.password_required.into(),
        run_as_owner: options.run_as_owner.into(),
        origin: options.origin.map(|origin| origin.as_str().to_owned()).into(),
        failover: options.failover.into(),
        owner: found.owner.as_ref().map(|owner| owner.as_str().to_owned()).into(),
        ..before.clone()
    }
}
