//! The data sources, one file each.

mod neon_nat_addresses;

use crate::provider::Context;
use crate::tf_provider::data_source::AnyDataSource;

/// All of them, in the order of the docs.
pub const ALL: &[&dyn AnyDataSource<Context>] = &[&neon_nat_addresses::NeonNatAddresses];
