// SPDX-License-Identifier: MPL-2.0

//! Terraform/OpenTofu provider for logical replication from Aurora PostgreSQL, or any Postgres, to Neon.
//!
//! | module | is | uses of this crate |
//! |---|---|---|
//! | [`tf_provider`] | what any provider needs: the plugin process, the protocol, values, schemas, plans | nothing |
//! | [`postgres`] | replication objects as values, the statements between them, connections | nothing |
//! | [`replication`] | what needs both servers: checks, the initial copy, joining | [`postgres`] |
//! | [`rds`] | logical replication on an Aurora cluster or a DB instance, through the RDS API | nothing |
//! | [`neon`] | Neon's addresses and host names | nothing |
//! | [`report`] | what both servers were found to be, as text for a person | [`replication`], [`postgres`] |
//! | [`config`] | the provider block, and the [`Context`](config::Context) that it makes | all of the above |
//! | [`resources`], [`data_sources`], [`ephemeral_resources`], [`list_resources`], [`actions`], [`functions`] | what a configuration is written with, a file each | all of the above |
//! | [`cli`] | the commands of the binary, for a person at a terminal and for pipelines | [`config`], [`report`], [`replication`], [`postgres`], [`tf_provider`] |
//! | [`provider`] | the provider: what a configuration can hold, in lists | all of it |
//!
//! What always holds:
//!
//! - SQL is made in [`postgres`] and nowhere else, AWS is called in [`rds`] and nowhere else, and only [`tf_provider`]
//!   knows the wire protocol.
//! - Deciding is pure and returns a value: a diff, steps, a plan. Doing is a short loop over it.
//! - Nothing is connected, resolved or loaded before a request needs it.
//! - A verb that fails half way has recorded what exists.
//! - No error, log line or `Debug` holds a secret.
//!
//! `docs/architecture.md` is the long form; `tests/layering.rs` holds the arrows.

pub mod actions;
pub mod cli;
pub mod config;
pub mod data_sources;
pub mod ephemeral_resources;
pub mod functions;
pub mod list_resources;
pub mod neon;
pub mod postgres;
pub mod provider;
pub mod rds;
pub mod replication;
pub mod report;
pub mod resources;
pub mod tf_provider;
