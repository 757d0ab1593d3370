//! The managed resources, one file each.

mod aurora_logical_replication;
mod object_id;
mod publication;
mod server_check;
mod subscription;

use crate::provider::Context;
use crate::tf_provider::resource::AnyResource;

/// All of them, in the order of the docs.
pub const ALL: &[&dyn AnyResource<Context>] = &[
    &aurora_logical_replication::AuroraLogicalReplication,
    &publication::Publication,
    &subscription::Subscription,
];
