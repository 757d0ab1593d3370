//! Against real servers.
#[path = "../common/mod.rs"]
mod common;

mod aurora;
