// SPDX-License-Identifier: MPL-2.0

//! Work that needs both servers: the publisher and the subscriber.
//!
//! `postgres` handles one server at a time. This module decides what depends on both: whether tables can be copied and
//! whether the copy makes progress, when a publication may join a subscription, who uses a publication or a slot. An
//! [`Operation`] carries the limits and receives the warnings, so that a plan, an apply and a command at a terminal use
//! the same functions. Nothing here knows Terraform.

mod absent;
mod catch_up;
pub mod checks;
pub mod comparison;
pub mod connecting;
pub mod cutover;
pub mod destination;
mod draining;
mod error;
mod finding;
pub mod in_use;
pub mod initial_copy;
mod intended;
pub mod joining;
pub mod lost;
pub mod missed;
pub mod names;
mod operation;
mod pair;
pub mod preflight;
pub mod refreshing;
mod republishing;
pub mod routes;
pub mod sequences;
pub mod slot_change;
pub mod slot_failover;
pub mod slot_health;
pub mod slot_removal;
mod slot_taking;
pub mod slot_use;
pub mod status;
pub mod subscribing;
pub mod tables;
pub mod units;
pub mod users;
pub mod whereabouts;

pub use error::{Error, Result};
pub use finding::{Finding, Place, Severity};
pub use intended::Intended;
pub use operation::{Listener, Look, Operation};
pub use pair::Pair;
