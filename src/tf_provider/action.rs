// SPDX-License-Identifier: MPL-2.0

//! Actions: the trait that an action implements, and its type-erased form.

use std::future::Future;

use futures_util::future::{BoxFuture, FutureExt};
use tokio::sync::mpsc::UnboundedSender;

use super::call::Call;
use super::convert::{FromValue, Model, ToValue};
use super::diagnostics::{Diagnostics, Result};
use super::schema::Schema;
use super::value::Value;

/// One kind of action, which a configuration or a person on the command line can invoke.
pub trait Action: Send + Sync + 'static {
    /// Its configuration.
    type Model: Model;
    /// The result of the provider's configuration.
    type Context: Send + Sync + 'static;
    /// The name of the action's type in a configuration.
    const TYPE_NAME: &'static str;

    /// The schema. Nothing in it is computed.
    fn schema() -> Schema;

    /// Checks a configuration across its attributes. Must skip unknown values.
    fn validate(_config: &Self::Model, _diagnostics: &mut Diagnostics) {}

    /// Checks the real objects for the plan: warns of what the action will do, refuses what it could not do. Called
    /// again at apply; not called before the provider is configured. Values may be unknown. Changes nothing.
    fn plan(_call: &Call<Self::Context>, _config: Self::Model) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Runs the action. The configuration is completely known. It runs to its end even if nobody listens any
    /// more; an action that waits watches [`Call::stop`].
    fn invoke(
        call: &Call<Self::Context>,
        config: Self::Model,
        progress: &Progress,
    ) -> impl Future<Output = Result<()>> + Send;
}

/// The progress of an action: Terraform prints each line as it comes. The action has ended only when the last clone is
/// gone.
#[derive(Clone)]
pub struct Progress(UnboundedSender<String>);

impl Progress {
    /// Sends lines to this channel.
    pub fn new(lines: UnboundedSender<String>) -> Self {
        Self(lines)
    }

    /// Sends one line.
    pub fn say(&self, line: impl Into<String>) {
        // If Terraform is gone, nobody listens; the action still finishes.
        let _ = self.0.send(line.into());
    }
}

/// An action behind a pointer: values instead of models.
pub trait AnyAction<C>: Send + Sync {
    /// See [`Action::TYPE_NAME`].
    fn type_name(&self) -> &'static str;
    /// See [`Action::schema`].
    fn schema(&self) -> Schema;
    /// See [`Action::validate`].
    fn validate(&self, config: Value, diagnostics: &mut Diagnostics);
    /// See [`Action::plan`].
    fn plan(&self, call: Call<C>, config: Value) -> BoxFuture<'static, Result<()>>;
    /// See [`Action::invoke`].
    fn invoke(&self, call: Call<C>, config: Value, progress: Progress) -> BoxFuture<'static, Result<()>>;
    /// Reads a value as the model and writes it again, for the tests over the registry.
    fn round_trip(&self, value: Value) -> Result<Value>;
}

impl<A: Action> AnyAction<A::Context> for A {
    fn type_name(&self) -> &'static str {
        A::TYPE_NAME
    }

    fn schema(&self) -> Schema {
        A::schema()
    }

    fn validate(&self, config: Value, diagnostics: &mut Diagnostics) {
        if let Some(model) = diagnostics.take(A::Model::from_value(config)) {
            A::validate(&model, diagnostics);
        }
    }

    fn plan(&self, call: Call<A::Context>, config: Value) -> BoxFuture<'static, Result<()>> {
        async move { A::plan(&call, A::Model::from_value(config)?).await }.boxed()
    }

    fn invoke(&self, call: Call<A::Context>, config: Value, progress: Progress) -> BoxFuture<'static, Result<()>> {
        async move { A::invoke(&call, A::Model::from_value(config)?, &progress).await }.boxed()
    }

    fn round_trip(&self, value: Value) -> Result<Value> {
        Ok(A::Model::from_value(value)?.to_value())
    }
}
