// SPDX-License-Identifier: MPL-2.0

//! Tests against real servers, and through real cores.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod actions;
mod alone;
mod aurora;
mod aurora_guide;
mod aurora_life;
mod aurora_states;
mod catalog;
mod causes;
mod cli;
mod comparison;
mod connections;
mod creation;
mod cutover;
mod cutover_resource;
mod destination;
mod destination_indexes;
mod errors;
mod examples;
mod fence;
mod functions;
mod guided;
mod iam;
mod identity;
mod in_use;
mod initial_sync;
mod interrupted;
mod least_privilege;
mod listing;
mod locks;
mod many_databases;
mod moto;
mod moved;
mod package;
mod plans;
mod preflight;
mod provider_config;
mod publication_checks;
mod publication_life;
mod publication_readers;
mod query;
mod rds_life;
mod replica_identity;
mod replication;
mod row_filters;
mod sequences;
mod server_logs;
mod sessions;
mod slot_life;
mod stand_in;
mod status;
mod subscription_connection;
mod subscription_life;
mod subscription_routes;
mod subscription_slot;
mod tls;
mod trouble;
