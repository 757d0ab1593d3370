//! Drives the built binary over gRPC as Terraform's core does. Needs nothing installed.

#[path = "../common/mod.rs"]
mod common;
mod descriptors;
mod process;
