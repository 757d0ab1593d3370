//! Tests against real servers, and through real cores.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

mod aurora;
mod catalog;
mod connections;
