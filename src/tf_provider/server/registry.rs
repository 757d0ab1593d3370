//! What the provider offers, with each schema built once.

use std::collections::BTreeMap;

use crate::tf_provider::data_source::AnyDataSource;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::function::{Function, Signature};
use crate::tf_provider::provider::Provider;
use crate::tf_provider::resource::AnyResource;
use crate::tf_provider::schema::{IdentitySchema, Schema, Type};

/// A resource with its schema.
pub(super) struct ResourceEntry<C: 'static> {
    pub(super) resource: &'static dyn AnyResource<C>,
    pub(super) schema: Schema,
    pub(super) ty: Type,
    pub(super) identity: Option<IdentitySchema>,
}

/// A data source with its schema.
pub(super) struct DataSourceEntry<C: 'static> {
    pub(super) data_source: &'static dyn AnyDataSource<C>,
    pub(super) schema: Schema,
    pub(super) ty: Type,
}

/// A function with its signature.
pub(super) struct FunctionEntry {
    pub(super) function: &'static dyn Function,
    pub(super) signature: Signature,
}

/// All of them, by name.
pub(super) struct Registry<P: Provider> {
    pub(super) provider: Schema,
    pub(super) provider_ty: Type,
    pub(super) resources: BTreeMap<&'static str, ResourceEntry<P::Context>>,
    pub(super) data_sources: BTreeMap<&'static str, DataSourceEntry<P::Context>>,
    pub(super) functions: BTreeMap<&'static str, FunctionEntry>,
}

impl<P: Provider> Registry<P> {
    pub(super) fn new() -> Self {
        let provider = P::schema();
        let provider_ty = provider.implied_type();
        let resources = P::resources().iter().map(|resource| {
            let schema = resource.schema();
            let ty = schema.implied_type();
            (resource.type_name(), ResourceEntry { resource: *resource, schema, ty, identity: resource.identity() })
        });
        let data_sources = P::data_sources().iter().map(|data_source| {
            let schema = data_source.schema();
            let ty = schema.implied_type();
            (data_source.type_name(), DataSourceEntry { data_source: *data_source, schema, ty })
        });
        let functions = P::functions()
            .iter()
            .map(|function| (function.name(), FunctionEntry { function: *function, signature: function.signature() }));
        Self {
            provider,
            provider_ty,
            resources: resources.collect(),
            data_sources: data_sources.collect(),
            functions: functions.collect(),
        }
    }

    pub(super) fn resource(&self, name: &str) -> Result<&ResourceEntry<P::Context>> {
        self.resources.get(name).ok_or_else(|| unknown("resource type", name))
    }

    pub(super) fn data_source(&self, name: &str) -> Result<&DataSourceEntry<P::Context>> {
        self.data_sources.get(name).ok_or_else(|| unknown("data source type", name))
    }

    pub(super) fn function(&self, name: &str) -> Result<&FunctionEntry> {
        self.functions.get(name).ok_or_else(|| unknown("function", name))
    }
}

/// There is no such thing in this provider.
pub(super) fn unknown(kind: &str, name: &str) -> Error {
    Error::new(format!("this provider has no {kind} {name:?}"))
}
