// SPDX-License-Identifier: MPL-2.0

//! Drives the built binary over gRPC like Terraform's core. Needs no other programs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod corner;
mod descriptors;
mod hostile;
mod in_flight;
mod process;
mod rpcs;
mod session;
mod states;
mod wire;
