//! Drives the built binary over gRPC as Terraform's core does. Needs nothing installed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../common/mod.rs"]
mod common;
mod descriptors;
mod process;
