// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_cutover`: which of two sides takes writes.

mod lifecycle;
mod meant;
mod model;
mod outlook;
mod schema;
mod seen;

use std::time::Duration;

use self::model::Model;
use self::schema::schema;
use super::object_id;
use crate::config::Context;
use crate::tf_provider::call::{Call, Saved};
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::resource::{ImportId, PlannedChange, Resource};
use crate::tf_provider::schema::{IdentitySchema, Schema};
use crate::tf_provider::timeouts::timeout;
use crate::tf_provider::value::Value;

/// How long operations may take by default.
const CREATE_TIME: Duration = Duration::from_secs(10 * 60);
const UPDATE_TIME: Duration = Duration::from_secs(5 * 60);
const DELETE_TIME: Duration = UPDATE_TIME;

/// The resource.
pub(super) struct Cutover;

impl Resource for Cutover {
    type Model = Model;
    type Context = Context;
    const TYPE_NAME: &'static str = "neonrepl_cutover";

    fn schema() -> Schema {
        schema()
    }

    fn identity() -> Option<IdentitySchema> {
        Some(object_id::identity_schema("The names of its subscriptions, joined by commas."))
    }

    fn identify(context: Option<&Context>, state: &Model, stored: &Value) -> Value {
        object_id::identify(context, state, stored)
    }

    fn upgrade_identity(context: Option<&Context>, version: u64, identity: Value) -> Result<Value> {
        object_id::upgrade_identity::<Model>(context, version, identity)
    }

    fn validate(config: &Model, diagnostics: &mut Diagnostics) {
        model::validate(config, diagnostics);
    }

    fn plan(change: &mut PlannedChange<Model>) -> Result<()> {
        model::plan_computed(change)
    }

    async fn preview(call: &Call<Context>, change: &mut PlannedChange<Model>) -> Result<()> {
        Box::pin(outlook::preview(call, change)).await
    }

    async fn read(call: &Call<Context>, state: Model) -> Result<Option<Model>> {
        Box::pin(lifecycle::read(call, state)).await
    }

    async fn create(call: &Call<Context>, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.create, CREATE_TIME);
        Box::pin(lifecycle::create(call, plan, saved, time)).await
    }

    async fn update(call: &Call<Context>, prior: Model, plan: Model, saved: &Saved<Model>) -> Result<Model> {
        let time = timeout(&plan.timeouts, |timeouts| &timeouts.update, UPDATE_TIME);
        Box::pin(lifecycle::update(call, &prior, plan, saved, time)).await
    }

    async fn delete(call: &Call<Context>, prior: Model, _saved: &Saved<Model>) -> Result<()> {
        let time = timeout(&prior.timeouts, |timeouts| &timeouts.delete, DELETE_TIME);
        Box::pin(lifecycle::delete(call, &prior, time)).await
    }

    async fn import(call: &Call<Context>, id: ImportId) -> Result<Model> {
        object_id::imported(call.context(), id).map(model::with_defaults)
    }
}
