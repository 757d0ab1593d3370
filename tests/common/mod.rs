//! What several test binaries share.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary includes this as a module, and uses a part of it"
)]

pub mod grpc;
