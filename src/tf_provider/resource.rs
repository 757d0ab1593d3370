// SPDX-License-Identifier: MPL-2.0

//! Resources: the trait that a resource implements, and its type-erased form, which the server calls.

use std::future::Future;

use futures_util::future::{BoxFuture, FutureExt};

use super::call::{Call, Saved, SavedValue};
use super::convert::{Model, ToValue};
use super::diagnostics::{Diagnostics, Error, Result};
use super::path::AttributePath;
use super::plan::Plan;
use super::schema::{IdentitySchema, Schema};
use super::value::Value;

/// One kind of managed object. Stateless: a verb gets everything that it needs in its [`Call`].
///
/// The verbs run in tasks of their own: if Terraform goes away, they are not interrupted, and a panic becomes
/// a diagnostic. Write-only attributes are set in the plan that `create` and `update` get, and are removed
/// from their results.
pub trait Resource: Send + Sync + 'static {
    /// Configuration, plan and state of one object.
    type Model: Model;
    /// The result of the provider's configuration.
    type Context: Send + Sync + 'static;
    /// The name of the resource type in a configuration.
    const TYPE_NAME: &'static str;

    /// The schema. Everything that follows from it is checked and planned before the resource is called.
    fn schema() -> Schema;

    /// The schema of the identity, which names an object across configurations, if the resource has one.
    fn identity() -> Option<IdentitySchema> {
        None
    }

    /// The identity of this object, with the attributes of [`Resource::identity`]; null if it has none. `stored` is its
    /// previous identity, null if there is none: older versions of Terraform accept no other for the same object. The
    /// context is absent before the provider is configured.
    fn identify(_context: Option<&Self::Context>, _state: &Self::Model, _stored: &Value) -> Value {
        Value::Null
    }

    /// The identity of this version of its schema from one of an older version.
    ///
    /// # Errors
    /// When there never was such a version.
    fn upgrade_identity(_context: Option<&Self::Context>, version: u64, _identity: Value) -> Result<Value> {
        Err(Error::new(format!("{} has no identities of version {version}", Self::TYPE_NAME)))
    }

    /// Checks a configuration across its attributes. Must skip unknown values.
    fn validate(_config: &Self::Model, _diagnostics: &mut Diagnostics) {}

    /// Adds rules across attributes to the plan. Pure.
    ///
    /// # Errors
    /// When the change cannot be made.
    fn plan(_change: &mut PlannedChange<Self::Model>) -> Result<()> {
        Ok(())
    }

    /// Checks the real objects for the plan: warns of what apply will do, refuses what it could not do. Not
    /// called before the provider is configured. Must change nothing, and must succeed for a new object whose
    /// server does not exist yet.
    fn preview(
        _call: &Call<Self::Context>,
        _change: &mut PlannedChange<Self::Model>,
    ) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Reads the object; `None` if it is gone.
    fn read(call: &Call<Self::Context>, state: Self::Model)
    -> impl Future<Output = Result<Option<Self::Model>>> + Send;

    /// Creates the object and returns it, completely known.
    fn create(
        call: &Call<Self::Context>,
        plan: Self::Model,
        saved: &Saved<Self::Model>,
    ) -> impl Future<Output = Result<Self::Model>> + Send;

    /// Changes the object and returns it, completely known.
    fn update(
        call: &Call<Self::Context>,
        prior: Self::Model,
        plan: Self::Model,
        saved: &Saved<Self::Model>,
    ) -> impl Future<Output = Result<Self::Model>> + Send;

    /// Removes the object. Succeeds if it is already gone.
    fn delete(
        call: &Call<Self::Context>,
        prior: Self::Model,
        saved: &Saved<Self::Model>,
    ) -> impl Future<Output = Result<()>> + Send;

    /// The initial state of an existing object, which is then read.
    fn import(_call: &Call<Self::Context>, _id: ImportId) -> impl Future<Output = Result<Self::Model>> + Send {
        async { Err(Error::new(format!("{} cannot be imported", Self::TYPE_NAME))) }
    }

    /// The state of this version of the schema from one of an older version.
    ///
    /// # Errors
    /// When there never was such a version.
    fn upgrade(version: u64, _state: Value) -> Result<Self::Model> {
        Err(Error::new(format!("{} has no states of version {version}", Self::TYPE_NAME)))
    }

    /// The state from one of another resource type, for a `moved` block; `None` if that type is not supported.
    fn move_from(_source: &MoveSource) -> Option<Result<Self::Model>> {
        None
    }
}

/// The input of an import.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportId {
    /// The text of an `id`.
    Id(String),
    /// An identity object, with null for missing parts.
    Identity(Value),
}

/// The object that a `moved` block moves from.
pub struct MoveSource {
    /// The provider that wrote the state, such as `registry.terraform.io/cyrilgdn/postgresql`.
    pub provider_address: String,
    /// The resource type.
    pub type_name: String,
    /// The version of its schema.
    pub schema_version: i64,
    /// Its state, read without a schema.
    pub state: Value,
}

/// A change while it is planned.
pub struct PlannedChange<M> {
    config: M,
    prior: Option<M>,
    planned: Option<M>,
    erased: ErasedChange,
}

/// The type-erased form, which the server passes in and gets back.
#[derive(Default)]
pub struct ErasedChange {
    /// The configuration; null for a destroy.
    pub config: Value,
    /// The current object; null for a create.
    pub prior: Value,
    /// The planned object; null for a destroy.
    pub planned: Value,
    /// The attributes whose change needs a new object.
    pub replace: Vec<AttributePath>,
    /// The messages.
    pub diagnostics: Diagnostics,
}

impl ErasedChange {
    /// A change with the plan that follows from the schema.
    pub fn new(config: Value, prior: Value, plan: Plan) -> Self {
        Self { config, prior, planned: plan.planned, replace: plan.replace, diagnostics: Diagnostics::default() }
    }
}

impl<M: Model> PlannedChange<M> {
    fn new(erased: ErasedChange) -> Result<Self> {
        let model = |value: &Value| if value.is_null() { Ok(None) } else { M::from_value(value.clone()).map(Some) };
        let config = model(&erased.config)?.unwrap_or_default();
        Ok(Self { config, prior: model(&erased.prior)?, planned: model(&erased.planned)?, erased })
    }

    /// The change with its result, so that messages before a failure are not lost.
    fn into_erased(mut self, outcome: Result<()>) -> ErasedChange {
        self.erased.diagnostics.take(outcome);
        self.erased
    }

    /// The configuration; all null for a destroy.
    pub fn config(&self) -> &M {
        &self.config
    }

    /// The current object; `None` for a create.
    pub fn prior(&self) -> Option<&M> {
        self.prior.as_ref()
    }

    /// The planned object; `None` for a destroy.
    pub fn planned(&self) -> Option<&M> {
        self.planned.as_ref()
    }

    /// Whether the plan differs from the current object.
    pub fn changes(&self) -> bool {
        self.erased.planned != self.erased.prior
    }

    /// Whether the change needs a new object.
    pub fn replaces(&self) -> bool {
        !self.erased.replace.is_empty()
    }

    /// Plans a value for a computed attribute, or the prior value for one that means the same.
    ///
    /// # Errors
    /// When the value is not of the attribute's kind.
    pub fn set(&mut self, name: &str, value: impl ToValue) -> Result<()> {
        self.erased.planned.set(name, value.to_value());
        self.planned = Some(M::from_value(self.erased.planned.clone())?);
        Ok(())
    }

    /// Plans a computed attribute to be known only after apply.
    ///
    /// # Errors
    /// When the attribute cannot be unknown.
    pub fn set_unknown(&mut self, name: &str) -> Result<()> {
        self.set(name, Value::UNKNOWN)
    }

    /// Keeps the state's value of an attribute whose configured value means the same.
    ///
    /// # Errors
    /// When the prior value is not of the attribute's kind.
    pub fn keep(&mut self, name: &str) -> Result<()> {
        let prior = self.erased.prior.get(name).cloned().unwrap_or(Value::Null);
        self.set(name, prior)
    }

    /// Plans a new object, because of this attribute.
    pub fn replace(&mut self, name: &str) {
        self.erased.replace.push(AttributePath::of(name));
    }

    /// Warns of what apply will do.
    pub fn warn(&mut self, warning: Error) {
        self.erased.diagnostics.warning(warning);
    }

    /// Refuses the plan, but continues to find other errors.
    pub fn error(&mut self, error: Error) {
        self.erased.diagnostics.error(error);
    }
}

/// A resource behind a pointer: values instead of models.
pub trait AnyResource<C>: Send + Sync {
    /// See [`Resource::TYPE_NAME`].
    fn type_name(&self) -> &'static str;
    /// See [`Resource::schema`].
    fn schema(&self) -> Schema;
    /// See [`Resource::identity`].
    fn identity(&self) -> Option<IdentitySchema>;
    /// See [`Resource::identify`].
    fn identify(&self, context: Option<&C>, state: &Value, stored: &Value) -> Result<Value>;
    /// See [`Resource::upgrade_identity`].
    fn upgrade_identity(&self, context: Option<&C>, version: u64, identity: Value) -> Result<Value>;
    /// See [`Resource::validate`].
    fn validate(&self, config: Value, diagnostics: &mut Diagnostics);
    /// See [`Resource::plan`]; not called for a destroy. Its error is in the change's diagnostics.
    fn plan(&self, change: ErasedChange) -> Result<ErasedChange>;
    /// See [`Resource::preview`]. Its error is in the change's diagnostics.
    fn preview(&self, call: Call<C>, change: ErasedChange) -> BoxFuture<'static, Result<ErasedChange>>;
    /// See [`Resource::read`].
    fn read(&self, call: Call<C>, state: Value) -> BoxFuture<'static, Result<Option<Value>>>;
    /// See [`Resource::create`].
    fn create(&self, call: Call<C>, plan: Value, saved: SavedValue) -> BoxFuture<'static, Result<Value>>;
    /// See [`Resource::update`].
    fn update(&self, call: Call<C>, prior: Value, plan: Value, saved: SavedValue) -> BoxFuture<'static, Result<Value>>;
    /// See [`Resource::delete`].
    fn delete(&self, call: Call<C>, prior: Value, saved: SavedValue) -> BoxFuture<'static, Result<()>>;
    /// See [`Resource::import`].
    fn import(&self, call: Call<C>, id: ImportId) -> BoxFuture<'static, Result<Value>>;
    /// See [`Resource::upgrade`].
    fn upgrade(&self, version: u64, state: Value) -> Result<Value>;
    /// See [`Resource::move_from`].
    fn move_from(&self, source: &MoveSource) -> Option<Result<Value>>;
    /// Reads a value as the model and writes it again, for the tests over the registry.
    fn round_trip(&self, value: Value) -> Result<Value>;
}

impl<R: Resource> AnyResource<R::Context> for R {
    fn type_name(&self) -> &'static str {
        R::TYPE_NAME
    }

    fn schema(&self) -> Schema {
        R::schema()
    }

    fn identity(&self) -> Option<IdentitySchema> {
        R::identity()
    }

    fn identify(&self, context: Option<&R::Context>, state: &Value, stored: &Value) -> Result<Value> {
        Ok(R::identify(context, &model::<R>(state.clone())?, stored))
    }

    fn upgrade_identity(&self, context: Option<&R::Context>, version: u64, identity: Value) -> Result<Value> {
        R::upgrade_identity(context, version, identity)
    }

    fn validate(&self, config: Value, diagnostics: &mut Diagnostics) {
        if let Some(model) = diagnostics.take(model::<R>(config)) {
            R::validate(&model, diagnostics);
        }
    }

    fn plan(&self, change: ErasedChange) -> Result<ErasedChange> {
        let mut change = PlannedChange::new(change)?;
        let outcome = R::plan(&mut change);
        Ok(change.into_erased(outcome))
    }

    fn preview(&self, call: Call<R::Context>, change: ErasedChange) -> BoxFuture<'static, Result<ErasedChange>> {
        async move {
            let mut change = PlannedChange::new(change)?;
            let outcome = R::preview(&call, &mut change).await;
            Ok(change.into_erased(outcome))
        }
        .boxed()
    }

    fn read(&self, call: Call<R::Context>, state: Value) -> BoxFuture<'static, Result<Option<Value>>> {
        async move { Ok(R::read(&call, model::<R>(state)?).await?.map(ToValue::to_value)) }.boxed()
    }

    fn create(&self, call: Call<R::Context>, plan: Value, saved: SavedValue) -> BoxFuture<'static, Result<Value>> {
        async move { Ok(R::create(&call, model::<R>(plan)?, &Saved::new(saved)).await?.to_value()) }.boxed()
    }

    fn update(
        &self,
        call: Call<R::Context>,
        prior: Value,
        plan: Value,
        saved: SavedValue,
    ) -> BoxFuture<'static, Result<Value>> {
        async move {
            let (prior, plan) = (model::<R>(prior)?, model::<R>(plan)?);
            Ok(R::update(&call, prior, plan, &Saved::new(saved)).await?.to_value())
        }
        .boxed()
    }

    fn delete(&self, call: Call<R::Context>, prior: Value, saved: SavedValue) -> BoxFuture<'static, Result<()>> {
        async move { R::delete(&call, model::<R>(prior)?, &Saved::new(saved)).await }.boxed()
    }

    fn import(&self, call: Call<R::Context>, id: ImportId) -> BoxFuture<'static, Result<Value>> {
        async move { Ok(R::import(&call, id).await?.to_value()) }.boxed()
    }

    fn upgrade(&self, version: u64, state: Value) -> Result<Value> {
        Ok(R::upgrade(version, state)?.to_value())
    }

    fn move_from(&self, source: &MoveSource) -> Option<Result<Value>> {
        R::move_from(source).map(|moved| moved.map(ToValue::to_value))
    }

    fn round_trip(&self, value: Value) -> Result<Value> {
        Ok(model::<R>(value)?.to_value())
    }
}

fn model<R: Resource>(value: Value) -> Result<R::Model> {
    super::convert::FromValue::from_value(value)
}
