// SPDX-License-Identifier: MPL-2.0

//! Ephemeral resources: the trait that an ephemeral resource implements, and its type-erased form.

use std::future::Future;
use std::time::SystemTime;

use futures_util::future::{BoxFuture, FutureExt};

use super::call::Call;
use super::convert::{FromValue, Model, ToValue};
use super::diagnostics::{Diagnostics, Result};
use super::schema::Schema;
use super::value::Value;

/// One kind of object that a run obtains, uses and gives back: a token, a lease. It is in no plan and no state.
///
/// Each verb finds what the previous one left in [`Call::private`]. The verbs run to their end, even if a person asks
/// to stop, because the object must be given back. A verb that waits watches [`Call::stop`] itself.
pub trait EphemeralResource: Send + Sync + 'static {
    /// Configuration and result.
    type Model: Model;
    /// The result of the provider's configuration.
    type Context: Send + Sync + 'static;
    /// The name of the ephemeral resource's type in a configuration.
    const TYPE_NAME: &'static str;

    /// The schema.
    fn schema() -> Schema;

    /// Checks a configuration across its attributes. Must skip unknown values.
    fn validate(_config: &Self::Model, _diagnostics: &mut Diagnostics) {}

    /// Obtains it. The configuration is completely known.
    fn open(
        call: &Call<Self::Context>,
        config: Self::Model,
    ) -> impl Future<Output = Result<Opened<Self::Model>>> + Send;

    /// Keeps it alive. Returns when to do so again, `None` for never.
    fn renew(_call: &Call<Self::Context>) -> impl Future<Output = Result<Option<SystemTime>>> + Send {
        async { Ok(None) }
    }

    /// Gives it back.
    fn close(_call: &Call<Self::Context>) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// The result of opening.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened<T> {
    /// The configuration with the obtained values.
    pub result: T,
    /// When to renew it; `None` for never.
    pub renew_at: Option<SystemTime>,
}

/// An ephemeral resource behind a pointer: values instead of models.
pub trait AnyEphemeralResource<C>: Send + Sync {
    /// See [`EphemeralResource::TYPE_NAME`].
    fn type_name(&self) -> &'static str;
    /// See [`EphemeralResource::schema`].
    fn schema(&self) -> Schema;
    /// See [`EphemeralResource::validate`].
    fn validate(&self, config: Value, diagnostics: &mut Diagnostics);
    /// See [`EphemeralResource::open`].
    fn open(&self, call: Call<C>, config: Value) -> BoxFuture<'static, Result<Opened<Value>>>;
    /// See [`EphemeralResource::renew`].
    fn renew(&self, call: Call<C>) -> BoxFuture<'static, Result<Option<SystemTime>>>;
    /// See [`EphemeralResource::close`].
    fn close(&self, call: Call<C>) -> BoxFuture<'static, Result<()>>;
    /// Reads a value as the model and writes it again, for the tests over the registry.
    fn round_trip(&self, value: Value) -> Result<Value>;
}

impl<E: EphemeralResource> AnyEphemeralResource<E::Context> for E {
    fn type_name(&self) -> &'static str {
        E::TYPE_NAME
    }

    fn schema(&self) -> Schema {
        E::schema()
    }

    fn validate(&self, config: Value, diagnostics: &mut Diagnostics) {
        if let Some(model) = diagnostics.take(E::Model::from_value(config)) {
            E::validate(&model, diagnostics);
        }
    }

    fn open(&self, call: Call<E::Context>, config: Value) -> BoxFuture<'static, Result<Opened<Value>>> {
        async move {
            let Opened { result, renew_at } = E::open(&call, E::Model::from_value(config)?).await?;
            Ok(Opened { result: result.to_value(), renew_at })
        }
        .boxed()
    }

    fn renew(&self, call: Call<E::Context>) -> BoxFuture<'static, Result<Option<SystemTime>>> {
        async move { E::renew(&call).await }.boxed()
    }

    fn close(&self, call: Call<E::Context>) -> BoxFuture<'static, Result<()>> {
        async move { E::close(&call).await }.boxed()
    }

    fn round_trip(&self, value: Value) -> Result<Value> {
        Ok(E::Model::from_value(value)?.to_value())
    }
}
