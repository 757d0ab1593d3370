//! The provider functions, one file each.

mod neon_nat_cidrs;

use crate::tf_provider::function::Function;

/// All of them, in the order of the docs.
pub const ALL: &[&dyn Function] = &[&neon_nat_cidrs::NeonNatCidrs];
