// SPDX-License-Identifier: MPL-2.0

//! The ephemeral resources, one file each.

mod rds_auth_token;

use crate::config::Context;
use crate::tf_provider::ephemeral_resource::AnyEphemeralResource;

/// All ephemeral resources, in the order of the docs.
pub const ALL: &[&dyn AnyEphemeralResource<Context>] = &[&rds_auth_token::RdsAuthToken];
