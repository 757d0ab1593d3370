// SPDX-License-Identifier: MPL-2.0

//! Shared by the outer tests: real servers, real cores, waits, and relays between them.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, reason = "examples are no tests to clippy")]

pub mod aurora;
pub mod cli;
pub mod fault_point;
pub mod grpc;
pub mod iam;
pub mod moto;
pub mod pg_dump;
pub mod postgres;
pub mod relay;
pub mod seen;
pub mod tools;
pub mod wait;
