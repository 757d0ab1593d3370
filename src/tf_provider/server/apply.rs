// SPDX-License-Identifier: MPL-2.0

//! ApplyResourceChange: whatever happens, the response says what exists.

use std::future::ready;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt};

use super::Inner;
use super::registry::ResourceEntry;
use super::wire;
use crate::tf_provider::call::{Call, Private, SavedValue, lock};
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::plan;
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;
use crate::tf_provider::value::Value;

/// A decoded change.
struct Change {
    prior: Value,
    /// With the configuration's write-only values in it; null for a destroy.
    planned: Value,
}

pub(super) async fn apply<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::apply_resource_change::Request,
) -> Result<pb::apply_resource_change::Response> {
    let entry = inner.registry().resource(&request.type_name)?;
    let change = decode(entry, &request)?;
    let call = inner.call(Private::from_bytes(&request.planned_private))?;
    let saved = SavedValue::default();
    let prior = change.prior.clone();

    let result = match call.go_on() {
        Ok(()) => inner.run(perform(entry, call.clone(), change, Arc::clone(&saved))).await.and_then(|result| result),
        Err(cancelled) => Err(cancelled.detail("Nothing was begun.")),
    };

    let mut diagnostics = call.take_diagnostics();
    let result = result.and_then(|value| wire::encode(&entry.ty, &value).map(|_| value));
    let exists = match result {
        Ok(value) => value,
        Err(error) => {
            diagnostics.error(error);
            lock(&saved).take().unwrap_or(prior)
        }
    };
    answer(entry, exists, diagnostics, &call, request.planned_identity.as_ref())
}

fn decode<C>(entry: &ResourceEntry<C>, request: &pb::apply_resource_change::Request) -> Result<Change> {
    let prior = wire::decode(&entry.ty, request.prior_state.as_ref())?;
    let mut planned = wire::decode(&entry.ty, request.planned_state.as_ref())?;
    let config = wire::decode(&entry.ty, request.config.as_ref())?;
    plan::with_write_only(&entry.schema.block, &mut planned, &config);
    Ok(Change { prior, planned })
}

/// The answer to a change that failed before it began: the state must stay as it was.
pub(super) fn unchanged(request: &pb::apply_resource_change::Request) -> pb::apply_resource_change::Response {
    pb::apply_resource_change::Response {
        new_state: Some(request.prior_state.clone().unwrap_or_default()),
        private: request.planned_private.clone(),
        new_identity: request.planned_identity.clone(),
        ..Default::default()
    }
}

/// Runs the verb of the change.
fn perform<C>(
    entry: &ResourceEntry<C>,
    call: Call<C>,
    change: Change,
    saved: SavedValue,
) -> BoxFuture<'static, Result<Value>> {
    let Change { prior, planned } = change;
    match (prior.is_null(), planned.is_null()) {
        (true, true) => ready(Ok(Value::Null)).boxed(),
        (true, false) => entry.resource.create(call, planned, saved),
        (false, false) => entry.resource.update(call, prior, planned, saved),
        (false, true) => entry.resource.delete(call, prior, saved).map(|deleted| deleted.map(|()| Value::Null)).boxed(),
    }
}

/// A state may have neither write-only nor unknown values: the object would be lost, or the secret stored.
fn answer<C>(
    entry: &ResourceEntry<C>,
    mut exists: Value,
    mut diagnostics: Diagnostics,
    call: &Call<C>,
    planned: Option<&pb::ResourceIdentityData>,
) -> Result<pb::apply_resource_change::Response> {
    plan::without_write_only(&entry.schema.block, &mut exists);
    if !exists.is_wholly_known() {
        if !diagnostics.has_error() {
            diagnostics.error(super::left_unknown());
        }
        forget_unknown(&mut exists);
    }
    // Existing objects must be reported, whatever their identity is.
    let new_identity = diagnostics.take(super::identity_of(entry, Some(call.context()), &exists, planned)).flatten();
    Ok(pb::apply_resource_change::Response {
        new_state: Some(wire::encode(&entry.ty, &exists)?),
        private: call.private().to_bytes(),
        diagnostics: wire::diagnostics(diagnostics),
        legacy_type_system: false,
        new_identity,
    })
}

fn forget_unknown(value: &mut Value) {
    match value {
        Value::Unknown(_) => *value = Value::Null,
        Value::List(items) | Value::Set(items) => items.iter_mut().for_each(forget_unknown),
        Value::Map(items) => items.values_mut().for_each(forget_unknown),
        Value::Dynamic(_, inner) => forget_unknown(inner),
        _ => {}
    }
}
