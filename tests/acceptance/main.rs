//! Tests against real servers.
#![allow(clippy::unwrap_used)] // a test fails by panicking

#[path = "../common/mod.rs"]
mod common;

mod catalog;
mod connections;
mod tls;
