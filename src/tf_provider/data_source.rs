// SPDX-License-Identifier: MPL-2.0

//! Data sources: the trait that a data source implements, and its type-erased form.

use std::future::Future;

use futures_util::future::{BoxFuture, FutureExt};

use super::call::Call;
use super::convert::{FromValue, Model, ToValue};
use super::diagnostics::{Diagnostics, Result};
use super::schema::Schema;
use super::value::Value;

/// One kind of data that a configuration can read.
pub trait DataSource: Send + Sync + 'static {
    /// Question and answer.
    type Model: Model;
    /// The result of the provider's configuration.
    type Context: Send + Sync + 'static;
    /// The name of the data source's type in a configuration.
    const TYPE_NAME: &'static str;

    /// The schema.
    fn schema() -> Schema;

    /// Checks a configuration across its attributes. Must skip unknown values.
    fn validate(_config: &Self::Model, _diagnostics: &mut Diagnostics) {}

    /// Reads the data. The configuration is completely known.
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
    /// Reads a value as the model and writes it again, for the tests over the registry.
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
