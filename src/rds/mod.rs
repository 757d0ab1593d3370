// SPDX-License-Identifier: MPL-2.0

//! Logical replication on an Aurora PostgreSQL cluster, or a DB instance of RDS for PostgreSQL: read its state, decide
//! on steps, do them, undo them.
//!
//! * [`api`] is the interface to AWS: the few used RDS calls, with plain types. [`client`] makes them with the AWS SDK,
//!   configured by [`config`]; for single instances, [`RdsInstances`] does.
//! * [`parameters`] decides which cluster parameters change, and how. It is pure.
//! * [`auth_token`] signs tokens that RDS accepts as passwords.
//! * [`wait`] polls until a state or a deadline, and retries calls that AWS refuses only temporarily.
//! * [`logical_replication`] puts these together. Deciding (`steps`, `undo_steps`) is pure; doing is a loop over steps.
//!
//! Nothing here uses SQL: the server's own settings come through a [`logical_replication::Probe`].

pub mod api;
pub mod auth_token;
mod blue_green;
pub mod client;
pub mod config;
mod conversion;
mod error;
mod instances;
pub mod logical_replication;
pub mod parameters;
pub mod wait;

pub use client::RdsClusters;
pub use config::AwsConfig;
pub use error::{Error, Kind, Result};
pub use instances::RdsInstances;
