// SPDX-License-Identifier: MPL-2.0

//! Everything that the provider offers, with each schema built once.

use std::collections::BTreeMap;

use super::wire;
use crate::tf_provider::action::AnyAction;
use crate::tf_provider::data_source::AnyDataSource;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::ephemeral_resource::AnyEphemeralResource;
use crate::tf_provider::function::{Function, Signature};
use crate::tf_provider::list_resource::AnyListResource;
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;
use crate::tf_provider::resource::AnyResource;
use crate::tf_provider::schema::{IdentitySchema, Schema, Type};
use crate::tf_provider::validate;
use crate::tf_provider::value::Value;

/// A resource with its schema.
pub(super) struct ResourceEntry<C: 'static> {
    pub(super) resource: &'static dyn AnyResource<C>,
    pub(super) schema: Schema,
    pub(super) ty: Type,
    pub(super) identity: Option<IdentitySchema>,
}

/// A data source, an ephemeral resource, a list or an action, with its schema.
pub(super) struct Entry<T: ?Sized + 'static> {
    pub(super) verbs: &'static T,
    pub(super) schema: Schema,
    pub(super) ty: Type,
}

impl<T: ?Sized> Entry<T> {
    fn new(verbs: &'static T, schema: Schema) -> Self {
        Self { verbs, ty: schema.implied_type(), schema }
    }

    /// Checks a configuration: by the schema, and then by rules that the schema cannot express.
    pub(super) fn validate(
        &self,
        config: Option<&pb::DynamicValue>,
        rules: impl FnOnce(&T, Value, &mut Diagnostics),
    ) -> Result<Diagnostics> {
        let config = wire::decode(&self.ty, config)?;
        let mut diagnostics = Diagnostics::default();
        validate::validate(&self.schema.block, &config, &mut diagnostics);
        rules(self.verbs, config, &mut diagnostics);
        Ok(diagnostics)
    }
}

type Entries<T> = BTreeMap<&'static str, Entry<T>>;

/// A function with its signature.
pub(super) struct FunctionEntry {
    pub(super) function: &'static dyn Function,
    pub(super) signature: Signature,
}

/// Everything by name.
pub(super) struct Registry<P: Provider> {
    pub(super) provider: Schema,
    pub(super) provider_ty: Type,
    pub(super) resources: BTreeMap<&'static str, ResourceEntry<P::Context>>,
    pub(super) data_sources: Entries<dyn AnyDataSource<P::Context>>,
    pub(super) ephemeral_resources: Entries<dyn AnyEphemeralResource<P::Context>>,
    pub(super) list_resources: Entries<dyn AnyListResource<P::Context>>,
    pub(super) actions: Entries<dyn AnyAction<P::Context>>,
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
        let data_sources = P::data_sources().iter().map(|one| (one.type_name(), Entry::new(*one, one.schema())));
        let ephemeral = P::ephemeral_resources().iter().map(|one| (one.type_name(), Entry::new(*one, one.schema())));
        let lists = P::list_resources().iter().map(|one| (one.type_name(), Entry::new(*one, one.schema())));
        let actions = P::actions().iter().map(|one| (one.type_name(), Entry::new(*one, one.schema())));
        let functions = P::functions()
            .iter()
            .map(|function| (function.name(), FunctionEntry { function: *function, signature: function.signature() }));
        Self {
            provider,
            provider_ty,
            resources: resources.collect(),
            data_sources: data_sources.collect(),
            ephemeral_resources: ephemeral.collect(),
            list_resources: lists.collect(),
            actions: actions.collect(),
            functions: functions.collect(),
        }
    }

    pub(super) fn resource(&self, name: &str) -> Result<&ResourceEntry<P::Context>> {
        self.resources.get(name).ok_or_else(|| unknown("resource type", name))
    }

    pub(super) fn data_source(&self, name: &str) -> Result<&Entry<dyn AnyDataSource<P::Context>>> {
        self.data_sources.get(name).ok_or_else(|| unknown("data source type", name))
    }

    pub(super) fn ephemeral_resource(&self, name: &str) -> Result<&Entry<dyn AnyEphemeralResource<P::Context>>> {
        self.ephemeral_resources.get(name).ok_or_else(|| unknown("ephemeral resource type", name))
    }

    pub(super) fn list_resource(&self, name: &str) -> Result<&Entry<dyn AnyListResource<P::Context>>> {
        self.list_resources.get(name).ok_or_else(|| unknown("list resource type", name))
    }

    pub(super) fn action(&self, name: &str) -> Result<&Entry<dyn AnyAction<P::Context>>> {
        self.actions.get(name).ok_or_else(|| unknown("action type", name))
    }

    pub(super) fn function(&self, name: &str) -> Result<&FunctionEntry> {
        self.functions.get(name).ok_or_else(|| unknown("function", name))
    }
}

/// The error about a name that this provider does not have.
pub(super) fn unknown(kind: &str, name: &str) -> Error {
    Error::new(format!("this provider has no {kind} {name:?}"))
}
