//! Tests against real servers.

#[path = "../common/mod.rs"]
mod common;

mod catalog;
mod connections;
