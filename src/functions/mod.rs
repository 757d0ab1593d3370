// SPDX-License-Identifier: MPL-2.0

//! The provider functions, one file each.

mod conninfo;
mod neon_nat_cidrs;
mod parse_connection_uri;
mod quote_identifier;

use crate::tf_provider::function::Function;

/// All functions, in the order of the docs.
pub const ALL: &[&dyn Function] = &[
    &conninfo::Conninfo,
    &neon_nat_cidrs::NeonNatCidrs,
    &parse_connection_uri::ParseConnectionUri,
    &quote_identifier::QuoteIdentifier,
];
