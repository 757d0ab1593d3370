// SPDX-License-Identifier: MPL-2.0

//! The RPCs that return the schemas of everything that the provider offers.

use std::collections::HashMap;

use super::Inner;
use super::registry::{Entry, Registry};
use super::wire;
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;
use crate::tf_provider::schema::Schema;

pub(super) fn provider_schema<P: Provider>(inner: &Inner<P>) -> pb::get_provider_schema::Response {
    let registry = inner.registry();
    let resources = registry.resources.iter().map(|(name, entry)| (*name, &entry.schema));
    let actions = registry
        .actions
        .iter()
        .map(|(name, entry)| ((*name).to_owned(), pb::ActionSchema { schema: Some(wire::schema(&entry.schema)) }));
    pb::get_provider_schema::Response {
        provider: Some(wire::schema(&registry.provider)),
        resource_schemas: named(resources),
        data_source_schemas: named(registry.data_sources.iter().map(schema_of)),
        ephemeral_resource_schemas: named(registry.ephemeral_resources.iter().map(schema_of)),
        list_resource_schemas: named(registry.list_resources.iter().map(schema_of)),
        action_schemas: actions.collect(),
        functions: functions(registry),
        server_capabilities: capabilities(),
        ..Default::default()
    }
}

fn schema_of<'a, T: ?Sized>((name, entry): (&&'static str, &'a Entry<T>)) -> (&'static str, &'a Schema) {
    (name, &entry.schema)
}

fn named<'a>(schemas: impl Iterator<Item = (&'static str, &'a Schema)>) -> HashMap<String, pb::Schema> {
    schemas.map(|(name, schema)| (name.to_owned(), wire::schema(schema))).collect()
}

pub(super) fn functions<P: Provider>(registry: &Registry<P>) -> HashMap<String, pb::Function> {
    let functions = registry.functions.iter();
    functions.map(|(name, entry)| ((*name).to_owned(), wire::function(&entry.signature))).collect()
}

pub(super) fn metadata<P: Provider>(inner: &Inner<P>) -> pb::get_metadata::Response {
    use pb::get_metadata::{
        ActionMetadata, DataSourceMetadata, EphemeralMetadata, FunctionMetadata, ListResourceMetadata, ResourceMetadata,
    };
    let registry = inner.registry();
    let resources = names(registry.resources.keys());
    let data_sources = names(registry.data_sources.keys());
    let ephemeral = names(registry.ephemeral_resources.keys());
    let lists = names(registry.list_resources.keys());
    let actions = names(registry.actions.keys());
    pb::get_metadata::Response {
        server_capabilities: capabilities(),
        resources: resources.map(|type_name| ResourceMetadata { type_name }).collect(),
        data_sources: data_sources.map(|type_name| DataSourceMetadata { type_name }).collect(),
        ephemeral_resources: ephemeral.map(|type_name| EphemeralMetadata { type_name }).collect(),
        list_resources: lists.map(|type_name| ListResourceMetadata { type_name }).collect(),
        actions: actions.map(|type_name| ActionMetadata { type_name }).collect(),
        functions: names(registry.functions.keys()).map(|name| FunctionMetadata { name }).collect(),
        ..Default::default()
    }
}

fn names<'a>(keys: impl Iterator<Item = &'a &'static str>) -> impl Iterator<Item = String> {
    keys.map(|name| (*name).to_owned())
}

pub(super) fn identity_schemas<P: Provider>(inner: &Inner<P>) -> pb::get_resource_identity_schemas::Response {
    let entries = inner.registry().resources.iter();
    let identities = entries.filter_map(|(name, entry)| {
        let identity = entry.identity.as_ref()?;
        Some(((*name).to_owned(), wire::identity_schema(identity)))
    });
    pb::get_resource_identity_schemas::Response { identity_schemas: identities.collect(), diagnostics: Vec::new() }
}

fn capabilities() -> Option<pb::ServerCapabilities> {
    Some(pb::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        move_resource_state: true,
        generate_resource_config: true,
    })
}
