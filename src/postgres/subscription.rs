// SPDX-License-Identifier: MPL-2.0

//! Subscriptions: their values, how they are read, and the statements between two of them.
//!
//! Source: `CREATE SUBSCRIPTION`, `ALTER SUBSCRIPTION` and the catalogs `pg_subscription*` in the Postgres documentation.

mod activity;
mod blocked;
mod catalog;
mod changes;
mod half_made;
mod neighbours;
mod progress;
mod provisional;
mod trial;
pub mod turning;
mod worker;

use std::collections::{BTreeMap, BTreeSet};

pub use activity::{Activity, ApplyWorker, TableActivity, activity};
pub use blocked::{Blocked, blocked};
pub use catalog::{apply, fetch, fetch_all, fetch_all_now, fetch_now, reading_from, sync_slots, tables, taken_up};
pub use changes::{How, diff, drop_detached, drop_with_slot, rename_publications};
pub use half_made::{Claim, HalfMade, Token, begin, finish, half_made, take_away, take_over};
pub use neighbours::{Neighbour, neighbours, rivals, sharer};
pub use progress::{Progress, SyncState, Verdict, Watch, progress};
pub use provisional::{begin_provisional, drop_provisional, finish_provisional, provisional_name, provisionals};
pub use trial::{refused, refused_owner};
pub use worker::{Worker, reads_from, system_identifier, worker};

use super::conninfo::Conninfo;
use super::sql::Ident;
use super::version::{self, ServerVersion, Unsupported};

/// All subscriptions of one database, by name.
pub type Subscriptions = BTreeMap<Ident, Subscription>;

/// A subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its name.
    pub name: Ident,
    /// Its owner. Always known when read; absent in a desired value if any owner is right.
    pub owner: Option<Ident>,
    /// Whether it is enabled.
    pub enabled: bool,
    /// Its publications; at least one.
    pub publications: BTreeSet<Ident>,
    /// The connection to the publisher. Absent when read if the role may not see it; absent in a desired value:
    /// unchanged.
    pub connection: Option<Conninfo>,
    /// The slot. Always known when read; absent in a desired value: the subscription's name, or unchanged.
    pub slot: Option<SlotName>,
    /// All other options.
    pub options: Options,
}

/// The slot that a subscription reads from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotName {
    /// This one.
    Named(Ident),
    /// None: the subscription is detached from its publisher.
    None,
}

/// Options of a subscription. Absent when read if the version lacks them; absent in a desired value: the server's
/// default, or unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Whether values are sent in binary form.
    pub binary: Option<bool>,
    /// Whether transactions in progress are sent.
    pub streaming: Option<Streaming>,
    /// `synchronous_commit` of the worker: `off`, `local`, `remote_write`, `remote_apply` or `on`.
    pub synchronous_commit: Option<String>,
    /// Whether prepared transactions are sent when they are prepared (Postgres 15).
    pub two_phase: Option<bool>,
    /// Whether an error disables the subscription (Postgres 15).
    pub disable_on_error: Option<bool>,
    /// Whether the connection needs a password if the owner is not a superuser (Postgres 16).
    pub password_required: Option<bool>,
    /// Whether changes are applied as the subscription's owner, not the table's (Postgres 16).
    pub run_as_owner: Option<bool>,
    /// Which changes are sent (Postgres 16).
    pub origin: Option<Origin>,
    /// Whether the slot is copied to the publisher's standbys (Postgres 17).
    pub failover: Option<bool>,
}

/// Whether transactions in progress are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streaming {
    /// Only when they are committed.
    Off,
    /// While they grow; kept in files until they are committed.
    On,
    /// While they grow, applied by parallel workers (Postgres 16).
    Parallel,
}

impl Streaming {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Off, Self::On, Self::Parallel];

    /// Its name in `streaming`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Parallel => "parallel",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|choice| choice.as_str() == name)
    }
}

/// Which changes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// All.
    Any,
    /// Those that were not replicated to the publisher themselves.
    None,
}

impl Origin {
    /// Its name in `origin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::None => "none",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Any, Self::None].into_iter().find(|choice| choice.as_str() == name)
    }
}

impl Subscription {
    /// An enabled subscription with the server's defaults for everything else.
    pub fn new(name: Ident, connection: Conninfo, publications: impl IntoIterator<Item = Ident>) -> Self {
        Self {
            name,
            owner: None,
            enabled: true,
            publications: publications.into_iter().collect(),
            connection: Some(connection),
            slot: None,
            options: Options::default(),
        }
    }

    /// The slot that creating it would create or use: its own name, unless another or none is given.
    pub fn slot_name(&self) -> Option<&Ident> {
        match &self.slot {
            None => Some(&self.name),
            Some(SlotName::Named(slot)) => Some(slot),
            Some(SlotName::None) => None,
        }
    }
}

impl Options {
    /// Fails if the server's version lacks a given option, and names the attribute.
    pub fn check_supported(&self, server: ServerVersion) -> Result<(), Unsupported> {
        let given = [
            (self.streaming == Some(Streaming::Parallel), version::PARALLEL_STREAMING),
            (self.two_phase.is_some(), version::TWO_PHASE),
            (self.disable_on_error.is_some(), version::DISABLE_ON_ERROR),
            (self.password_required.is_some(), version::PASSWORD_REQUIRED),
            (self.run_as_owner.is_some(), version::RUN_AS_OWNER),
            (self.origin.is_some(), version::ORIGIN),
            (self.failover.is_some(), version::FAILOVER),
        ];
        given.into_iter().filter(|(given, _)| *given).try_for_each(|(_, feature)| server.require(feature))
    }
}
