// SPDX-License-Identifier: MPL-2.0

//! What is Neon's own: where its connections come from, and what its host names say.

pub mod endpoint;
pub mod nat_addresses;
