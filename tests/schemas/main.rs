// SPDX-License-Identifier: MPL-2.0

//! Random schemas, and schemas of the shape of real applications, copied, and compared by code that is independent of
//! the provider.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../common/mod.rs"]
mod common;

#[path = "../protocol/session.rs"]
#[allow(dead_code, reason = "it is shared with the tests of the protocol")]
mod session;
#[path = "../protocol/wire.rs"]
#[allow(dead_code, reason = "it is shared with the tests of the protocol")]
mod wire;

mod applications;
mod chance;
mod copied;
mod damage;
mod dumped;
mod functions;
mod indexes;
mod kinds;
mod maker;
mod names;
mod printed;
mod provider;
mod random;
mod rows;
mod tables;
mod trees;
