// SPDX-License-Identifier: MPL-2.0

//! List resources: the trait that a list implements, and its type-erased form.

use std::future::Future;

use futures_util::future::{BoxFuture, FutureExt};

use super::call::Call;
use super::convert::{FromValue, Model, ToValue};
use super::diagnostics::{Diagnostics, Result};
use super::resource::ImportId;
use super::schema::Schema;
use super::value::Value;

/// Finds the existing objects of one managed resource for a query. Each is then imported and read by the resource
/// itself.
pub trait ListResource: Send + Sync + 'static {
    /// The `config` block, which selects objects.
    type Model: Model;
    /// The result of the provider's configuration.
    type Context: Send + Sync + 'static;
    /// The name of the managed resource's type, which has an identity.
    const TYPE_NAME: &'static str;

    /// The schema of the `config` block. Nothing in it is computed.
    fn schema() -> Schema;

    /// Checks a configuration across its attributes. Must skip unknown values.
    fn validate(_config: &Self::Model, _diagnostics: &mut Diagnostics) {}

    /// Finds the existing objects. The configuration is completely known.
    fn list(call: &Call<Self::Context>, config: Self::Model) -> impl Future<Output = Result<Vec<Listed>>> + Send;
}

/// One object that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its name in output.
    pub display_name: String,
    /// Its import id.
    pub id: ImportId,
}

/// A list behind a pointer: values instead of models.
pub trait AnyListResource<C>: Send + Sync {
    /// See [`ListResource::TYPE_NAME`].
    fn type_name(&self) -> &'static str;
    /// See [`ListResource::schema`].
    fn schema(&self) -> Schema;
    /// See [`ListResource::validate`].
    fn validate(&self, config: Value, diagnostics: &mut Diagnostics);
    /// See [`ListResource::list`].
    fn list(&self, call: Call<C>, config: Value) -> BoxFuture<'static, Result<Vec<Listed>>>;
    /// Reads a value as the model and writes it again, for the tests over the registry.
    fn round_trip(&self, value: Value) -> Result<Value>;
}

impl<L: ListResource> AnyListResource<L::Context> for L {
    fn type_name(&self) -> &'static str {
        L::TYPE_NAME
    }

    fn schema(&self) -> Schema {
        L::schema()
    }

    fn validate(&self, config: Value, diagnostics: &mut Diagnostics) {
        if let Some(model) = diagnostics.take(L::Model::from_value(config)) {
            L::validate(&model, diagnostics);
        }
    }

    fn list(&self, call: Call<L::Context>, config: Value) -> BoxFuture<'static, Result<Vec<Listed>>> {
        async move { L::list(&call, L::Model::from_value(config)?).await }.boxed()
    }

    fn round_trip(&self, value: Value) -> Result<Value> {
        Ok(L::Model::from_value(value)?.to_value())
    }
}
