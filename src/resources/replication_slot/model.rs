// SPDX-License-Identifier: MPL-2.0

//! The configuration, plan and state of the resource.

use crate::config::Context;
use crate::postgres::Ident;
use crate::postgres::slot::{self, Slot};
use crate::resources::object_id::{ObjectId, check_name, in_database};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::schema::{Attribute, Schema, Type};
use crate::tf_provider::timeouts::{Timeouts, timeouts_block};

crate::model! {
    /// A replication slot.
    pub(in crate::resources) struct Model {
        /// `database/name`.
        id: Attr<String>,
        /// Its name.
        name: Attr<String>,
        /// Its database.
        database: Attr<String>,
        /// Its output plugin.
        plugin: Attr<String>,
        /// Whether it decodes prepared transactions.
        two_phase: Attr<bool>,
        /// Whether it is copied to standbys.
        failover: Attr<bool>,
        /// Whether something reads from it.
        active: Attr<bool>,
        /// Whether its WAL is kept.
        wal_status: Attr<String>,
        /// The oldest position that it keeps.
        restart_lsn: Attr<String>,
        /// Whether to drop it even if it is in use.
        force_destroy: Attr<bool>,
        /// How long operations may take.
        timeouts: Attr<Timeouts>,
    }
}

in_database!(Model, Context::publisher);

pub(super) fn schema() -> Schema {
    Schema::new(
        "A logical replication slot on the publisher, for a reader that does not create its own slot: a \
         subscription with `create_slot = false`, or another consumer. A slot keeps the WAL since its creation \
         until it has been read, so a slot that nobody reads fills the disk. A new slot begins at the present. So, \
         unless `force_destroy` is set, a plan refuses to replace a slot that a subscription names or that has been \
         read from, and a destroy refuses to drop a slot that a subscription names. A destroy waits until nothing \
         reads from the slot.",
    )
    .attribute(
        Attribute::required(
            "name",
            Type::String,
            "The name: lower-case letters, digits and underscores, unique on the whole server. A change makes a new \
             slot.",
        )
        .text(slot::check_name)
        .replaces(),
    )
    .attribute(
        Attribute::optional_computed(
            "database",
            Type::String,
            "The database whose changes it keeps. Default: the provider's publisher database. A change makes a new slot.",
        )
        .text(check_name)
        .replaces(),
    )
    .attribute(
        Attribute::optional(
            "plugin",
            Type::String,
            "The output plugin. Subscriptions need `pgoutput`. A change makes a new slot. Default: `pgoutput`.",
        )
        .default("pgoutput")
        .text(check_name)
        .replaces(),
    )
    .attribute(
        Attribute::optional_computed(
            "two_phase",
            Type::Bool,
            "Whether prepared transactions are decoded when they are prepared, rather than when they are committed. \
             A change makes a new slot. Default: `false` for a new slot; later changes by a subscription are then \
             accepted and not shown.",
        )
        .replaces()
        .unpinned(),
    )
    .attribute(
        Attribute::optional_computed(
            "failover",
            Type::Bool,
            "Whether it is copied to the publisher's standbys (Postgres 17). Changed in place: through the \
             subscription on the provider's subscriber that reads from it, which is disabled for a moment, or, if \
             nothing reads from the slot, over a replication connection. Default: `false` for a new slot; later \
             changes by a subscription are then accepted and not shown.",
        )
        .unpinned(),
    )
    .attribute(
        Attribute::optional(
            "force_destroy",
            Type::Bool,
            "Whether it may be replaced or dropped although a subscription names it or it has been read from. Its \
             reader then loses what it has not read yet. Apply this before the change that needs it. An active \
             reader is not ended: the apply waits for it. Default: `false`.",
        )
        .default(false),
    )
    .attribute(Attribute::computed("id", Type::String, "`database/name`, by which it is imported.").stable())
    .attribute(Attribute::computed("active", Type::Bool, "Whether a reader is connected to it now."))
    .attribute(Attribute::computed(
        "wal_status",
        Type::String,
        "Whether the WAL that it needs is available: `reserved`, `extended` (more than `max_wal_size`), \
         `unreserved` (may be removed soon) or `lost`.",
    ))
    .attribute(Attribute::computed("restart_lsn", Type::String, "The oldest WAL position that it keeps."))
    .block(timeouts_block("5m", "5m", "5m"))
}

pub(super) fn ident(model: &Model) -> Result<Ident> {
    let name = model.name.required("name")?;
    Ident::new(name.as_str()).map_err(|error| Error::new(error.to_string()).attribute("name"))
}

/// The slot that a model describes. The server chooses unknown options.
pub(super) fn desired(model: &Model) -> Result<Slot> {
    let mut slot = Slot::new(ident(model)?);
    if let Some(plugin) = model.plugin.optional("plugin")? {
        slot.plugin.clone_from(plugin);
    }
    slot.two_phase = model.two_phase.known() == Some(&true);
    slot.failover = model.failover.known() == Some(&true);
    Ok(slot)
}

/// The state of a slot that was found.
pub(super) fn to_model(database: &str, found: &Slot, before: &Model) -> Model {
    let name = found.name.as_str();
    Model {
        id: ObjectId::new(database, name).to_string().into(),
        name: name.into(),
        database: database.into(),
        plugin: found.plugin.clone().into(),
        two_phase: found.two_phase.into(),
        failover: found.failover.into(),
        active: found.active.into(),
        wal_status: found.wal_status.clone().into(),
        restart_lsn: found.restart_lsn.clone().into(),
        force_destroy: before.force_destroy.known().copied().unwrap_or(false).into(),
        timeouts: before.timeouts.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str) -> Model {
        Model { name: name.into(), plugin: "pgoutput".into(), ..Model::default() }
    }

    #[test]
    fn what_is_left_out_is_the_servers() {
        let slot = |model: Model| desired(&model).unwrap();
        assert_eq!(slot(model("s")), Slot::new(Ident::new("s").unwrap()));
        let unknown = Model { two_phase: Attr::Unknown, failover: Attr::Unknown, ..model("s") };
        assert_eq!(slot(unknown), slot(model("s")));
        let all = slot(Model { plugin: "p".into(), two_phase: true.into(), failover: true.into(), ..model("s") });
        assert_eq!((all.plugin.as_str(), all.two_phase, all.failover), ("p", true, true));
        assert!(desired(&Model { name: Attr::Unknown, ..Model::default() }).is_err());
    }

    #[test]
    fn a_state_is_what_was_found_and_the_timeouts_that_were_written() {
        let timeouts = Timeouts { delete: "10s".into(), ..Timeouts::default() };
        let before = Model { timeouts: timeouts.into(), ..model("s") };
        let found = Slot { active: true, wal_status: Some("lost".to_owned()), ..Slot::new(Ident::new("s").unwrap()) };
        let state = to_model("a/b", &found, &before);
        assert_eq!(state.id.known().map(String::as_str), Some("a%2Fb/s"));
        assert_eq!(state.active, true.into());
        assert_eq!(state.wal_status, "lost".into());
        assert!(state.restart_lsn.is_null());
        assert!(state.timeouts == before.timeouts);
    }
}
