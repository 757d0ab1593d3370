// SPDX-License-Identifier: MPL-2.0

//! What is only read: the trait a data source is written with, and its erased twin.

use std::future::Future;

use futures_util::future::{BoxFuture, FutureExt};

use super::call::Call;
use super::convert::{FromValue, Model, ToValue};
use super::diagnostics::{Diagnostics, Result};
use super::schema::Schema;
use super::value::Value;

/// One kind of thing that a configuration can ask about.
pub trait DataSource: Send + Sync + 'static {
    /// Question and answer.
    type Model: Model;
    /// What the provider's configuration makes.
    type Context: Send + Sync + 'static;
    /// The name of the data source's type in a configuration.
    const TYPE_NAME: &'static str;

    /// The schema.
    fn schema() -> Schema;

    /// Checks a configuration across its attributes. Unknown values must be passed over.
    fn validate(_config: &Self::Model, _diagnostics: &mut Diagnostics) {}

    /// Answers. The configuration is wholly known.
    fn read(call: &Call<Self::Context>, config: Self::Model) -> impl Future<Output = Result<Self::Model>> + Send;
}

/// A data source behind a pointer: values instead of models.
pub trait AnyDataSource<C>: Send + Sync {
    /// See [`DataSource::TYPE_NAME`].
    fn type_name(&self) -> &'static str;
    /// See [`DataSource::schema`].
    fn schema(&self) -> Schema;
    /// See [`DataSource::validate`].
    fn validate(&self, config: Value, diagnostics: &mut Diagnostics);
    /// See [`DataSource::read`].
    fn read(&self, call: Call<C>, config: Value) -> BoxFuture<'static, Result<Value>>;
    /// Reads a value as the model and writes it again: what the tests over the registry compare.
    fn round_trip(&self, value: Value) -> Result<Value>;
}

impl<D: DataSource> AnyDataSource<D::Context> for D {
    fn type_name(&self) -> &'static str {
        D::TYPE_NAME
    }

    fn schema(&self) -> Schema {
        D::schema()
    }

    fn validate(&self, config: Value, diagnostics: &mut Diagnostics) {
        if let Some(model) = diagnostics.take(D::Model::from_value(config)) {
            D::validate(&model, diagnostics);
        }
    }

    fn read(&self, call: Call<D::Context>, config: Value) -> BoxFuture<'static, Result<Value>> {
        async move { Ok(D::read(&call, D::Model::from_value(config)?).await?.to_value()) }.boxed()
    }

    fn round_trip(&self, value: Value) -> Result<Value> {
        Ok(D::Model::from_value(value)?.to_value())
    }
}
