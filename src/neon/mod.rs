// SPDX-License-Identifier: MPL-2.0

//! Facts about Neon: the addresses of its connections, and its host names.

pub mod endpoint;
pub mod nat_addresses;
