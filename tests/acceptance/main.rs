//! Tests against real servers, and through real cores.

#[path = "../common/mod.rs"]
mod common;

mod aurora;
mod aurora_life;
mod catalog;
mod connections;
