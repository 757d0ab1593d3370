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

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn no_name_is_one_that_cores_keep_for_themselves() {
        let kept = [
            "connection", "count", "depends_on", "for_each", "lifecycle", "locals", "provider", "provisioner",
        ];
        for resource in ALL {
            let block = resource.schema().block;
            let attributes = block.attributes.iter().map(|attribute| &attribute.name);
            let names = attributes.chain(block.blocks.iter().map(|nested| &nested.name));
            let taken: Vec<_> = names.filter(|name| kept.contains(&name.as_str())).collect();
            assert!(taken.is_empty(), "{}: a core never passes on {taken:?}", resource.type_name());
        }
    }
}
