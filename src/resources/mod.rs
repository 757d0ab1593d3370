// SPDX-License-Identifier: MPL-2.0

//! The managed resources, one file each.

mod aurora_logical_replication;
mod cutover;
mod destination_indexes;
mod destination_schema;
mod destination_tables;
mod logical_replication;
mod moved;
mod object_id;
mod publication;
mod rds_logical_replication;
mod reaching;
mod replica_identity;
mod replication_slot;
mod server_check;
mod subscription;

use crate::config::Context;
use crate::tf_provider::resource::AnyResource;

/// All resources, in the order of the docs.
pub const ALL: &[&dyn AnyResource<Context>] = &[
    aurora_logical_replication::AURORA_LOGICAL_REPLICATION,
    &cutover::Cutover,
    &destination_indexes::DestinationIndexes,
    &destination_schema::DestinationSchema,
    &publication::Publication,
    rds_logical_replication::RDS_LOGICAL_REPLICATION,
    &replica_identity::ReplicaIdentity,
    &replication_slot::ReplicationSlot,
    &subscription::Subscription,
];

/// Rules for all blocks that the provider offers, and for its own block.
#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use crate::config::Config;
    use crate::provider::NeonRepl;
    use crate::tf_provider::convert::{FromValue, ToValue};
    use crate::tf_provider::diagnostics::Result;
    use crate::tf_provider::provider::Provider;
    use crate::tf_provider::schema::{Attribute, Block, Origin, Schema, Type};
    use crate::tf_provider::value::Value;

    /// A block that a configuration can hold, with its model behind a function.
    struct Entry {
        /// Its kind in a configuration.
        kind: &'static str,
        name: &'static str,
        schema: Schema,
        round_trip: Box<dyn Fn(Value) -> Result<Value>>,
    }

    fn entries() -> Vec<Entry> {
        let provider = Entry {
            kind: "provider",
            name: "provider",
            schema: NeonRepl::schema(),
            round_trip: Box::new(|value| Config::from_value(value).map(ToValue::to_value)),
        };
        macro_rules! entries {
            ($kind:literal, $list:expr) => {
                $list.iter().map(|one| Entry {
                    kind: $kind,
                    name: one.type_name(),
                    schema: one.schema(),
                    round_trip: Box::new(|value| one.round_trip(value)),
                })
            };
        }
        let managed = entries!("resource", NeonRepl::resources());
        let read = entries!("data", NeonRepl::data_sources());
        let ephemeral = entries!("ephemeral", NeonRepl::ephemeral_resources());
        let lists = entries!("list", NeonRepl::list_resources());
        let actions = entries!("action", NeonRepl::actions());
        let all = std::iter::once(provider).chain(managed).chain(read);
        all.chain(ephemeral).chain(lists).chain(actions).collect()
    }

    /// Calls for every attribute of every block, at any depth, with its address.
    fn each_attribute(check: &mut dyn FnMut(&str, &Attribute)) {
        fn visit(at: &str, block: &Block, check: &mut dyn FnMut(&str, &Attribute)) {
            for attribute in &block.attributes {
                check(&format!("{at}.{}", attribute.name), attribute);
            }
            for nested in &block.blocks {
                visit(&format!("{at}.{}", nested.name), &nested.block, check);
            }
        }
        for entry in entries() {
            visit(entry.name, &entry.schema.block, check);
        }
    }

    /// A value of the type whose every part is made by `leaf`.
    fn filled(ty: &Type, leaf: &dyn Fn(&Type) -> Value) -> Value {
        match ty {
            Type::List(of) => Value::List(vec![filled(of, leaf)]),
            Type::Set(of) => Value::Set(vec![filled(of, leaf)]),
            Type::Map(of) => Value::Map([("key".to_owned(), filled(of, leaf))].into()),
            Type::Tuple(of) => Value::List(of.iter().map(|ty| filled(ty, leaf)).collect()),
            Type::Object(of, _) => object(of, |ty| filled(ty, leaf)),
            plain => leaf(plain),
        }
    }

    /// A value with every block, all empty.
    fn hollow(ty: &Type) -> Value {
        match ty {
            Type::List(of) if matches!(**of, Type::Object(..)) => Value::List(vec![hollow(of)]),
            Type::Object(of, _) => object(of, hollow),
            _ => Value::Null,
        }
    }

    fn object(attributes: &BTreeMap<String, Type>, value: impl Fn(&Type) -> Value) -> Value {
        Value::Map(attributes.iter().map(|(name, ty)| (name.clone(), value(ty))).collect())
    }

    fn sample(ty: &Type) -> Value {
        match ty {
            Type::Bool => Value::from(true),
            Type::Number => Value::from(1),
            _ => Value::from("text"),
        }
    }

    #[test]
    fn a_model_is_its_schema() {
        for Entry { name, schema, round_trip, .. } in entries() {
            let Type::Object(attributes, _) = schema.implied_type() else { panic!("{name} is no object") };
            let empty = |ty: &Type| if matches!(ty, Type::List(_)) { Value::List(Vec::new()) } else { Value::Null };
            for value in [
                object(&attributes, |_| Value::Null),
                object(&attributes, |_| Value::UNKNOWN),
                object(&attributes, empty),
                filled(&schema.implied_type(), &sample),
                hollow(&schema.implied_type()),
            ] {
                let again = round_trip(value.clone());
                assert_eq!(again.as_ref().ok(), Some(&value), "{name}: {:?}", again.as_ref().err());
            }
        }
    }

    #[test]
    fn names_are_snake_case_and_unique() {
        let is_snake = |name: &str| {
            name.starts_with(|first: char| first.is_ascii_lowercase())
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        };
        let mut seen = BTreeSet::new();
        for Entry { kind, name, schema, .. } in entries() {
            assert!(name == "provider" || name.starts_with("neonrepl_"), "{name}");
            let attributes = schema.block.attributes.iter().map(|attribute| &attribute.name);
            for member in attributes.chain(schema.block.blocks.iter().map(|block| &block.name)) {
                assert!(seen.insert(format!("{kind} {name}.{member}")), "{kind} {name}.{member} is there twice");
            }
        }
        each_attribute(&mut |at, attribute| assert!(is_snake(&attribute.name), "{at}"));
    }

    #[test]
    fn no_name_is_one_that_cores_keep_for_themselves() {
        let kept = [
            "config",
            "connection",
            "count",
            "depends_on",
            "for_each",
            "lifecycle",
            "locals",
            "provider",
            "provisioner",
        ];
        for Entry { name, schema, .. } in entries() {
            let attributes = schema.block.attributes.iter().map(|attribute| &attribute.name);
            let names = attributes.chain(schema.block.blocks.iter().map(|nested| &nested.name));
            let taken: Vec<_> = names.filter(|name| kept.contains(&name.as_str())).collect();
            assert!(taken.is_empty(), "{name}: a core never passes on {taken:?}");
        }
    }

    #[test]
    fn defaults_are_optional_and_valid() {
        each_attribute(&mut |at, attribute| {
            let Some(default) = &attribute.default else { return };
            assert_eq!(attribute.origin, Origin::OptionalComputed, "{at}");
            let wrong = attribute.validators.iter().find_map(|check| check(default).err());
            assert_eq!(wrong, None, "{at}");
            assert!(attribute.description.contains("Default: "), "{at} does not tell its default");
        });
    }

    #[test]
    fn a_replacement_is_announced() {
        each_attribute(&mut |at, attribute| {
            let told = attribute.description.contains("A change makes a new ");
            assert_eq!(told, attribute.replaces, "{at}: {}", attribute.description);
        });
    }

    #[test]
    fn secrets_are_hidden() {
        // The id of an AWS access key is not a secret: AWS's own logs have it.
        let public = ["provider.aws.access_key"];
        each_attribute(&mut |at, attribute| {
            let words = ["password", "secret", "token"];
            let is_secret = words.iter().any(|word| attribute.name.contains(word)) || attribute.name.ends_with("key");
            if is_secret && attribute.ty == Type::String && !public.contains(&at) {
                assert!(attribute.sensitive || attribute.write_only, "{at}");
            }
        });
    }

    #[test]
    fn what_only_asks_or_acts_computes_nothing() {
        fn visit(at: &str, block: &Block) {
            for attribute in &block.attributes {
                assert!(!attribute.is_computed() && !attribute.replaces, "{at}.{}", attribute.name);
            }
            block.blocks.iter().for_each(|nested| visit(&format!("{at}.{}", nested.name), &nested.block));
        }
        let asks_or_acts = |entry: &Entry| ["action", "list"].contains(&entry.kind);
        entries().iter().filter(|entry| asks_or_acts(entry)).for_each(|one| visit(one.name, &one.schema.block));
    }

    #[test]
    fn what_can_be_listed_is_a_resource() {
        for list in NeonRepl::list_resources() {
            let name = list.type_name();
            let resource = super::ALL.iter().find(|resource| resource.type_name() == name);
            assert!(resource.is_some_and(|resource| resource.identity().is_some()), "{name}");
        }
    }

    #[test]
    fn every_resource_has_an_id_and_an_identity() {
        for resource in super::ALL {
            let (name, schema) = (resource.type_name(), resource.schema());
            let id = schema.block.find("id").unwrap_or_else(|| panic!("{name} has no id"));
            assert_eq!((id.origin, &id.ty), (Origin::Computed, &Type::String), "{name}.id");

            let identity = resource.identity().unwrap_or_else(|| panic!("{name} has no identity"));
            let state = filled(&schema.implied_type(), &sample);
            let Ok(Value::Map(found)) = resource.identify(None, &state, &Value::Null) else {
                panic!("{name} is not identified")
            };
            let named: BTreeSet<_> = identity.attributes.iter().map(|attribute| attribute.name).collect();
            assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), named, "{name}");
            assert!(found.values().all(Value::is_wholly_known), "{name}");
        }
    }
}
