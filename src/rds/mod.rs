// SPDX-License-Identifier: MPL-2.0

//! Logical replication on an Aurora PostgreSQL cluster, or a DB instance of RDS for PostgreSQL: read its state, decide on
//! steps, take them, take them back.
//!
//! * [`api`] is the seam to AWS: the few RDS calls used, in plain types. [`client`] makes them with the AWS SDK,
//!   configured by [`config`]; for instances by themselves, [`RdsInstances`] does.
//! * [`parameters`] decides which cluster parameters change, and how. It is pure.
//! * [`auth_token`] signs what RDS takes for a password.
//! * [`wait`] polls until a state or a deadline, and retries what AWS refuses only for now.
//! * [`logical_replication`] puts these together. Deciding (`steps`, `undo_steps`) is pure; doing is a loop over steps.
//!
//! Nothing here speaks SQL: what the server itself says comes in through a [`logical_replication::Probe`].

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
