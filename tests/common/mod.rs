//! What several test binaries share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod cli;
pub mod grpc;
pub mod postgres;
pub mod relay;
pub mod tools;
pub mod wait;
