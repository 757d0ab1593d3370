// SPDX-License-Identifier: MPL-2.0

//! The other RPCs of managed resources.

use std::sync::Arc;

use super::registry::{ResourceEntry, unknown};
use super::{Inner, identity_of, known, wire};
use crate::tf_provider::call::Private;
use crate::tf_provider::codec;
use crate::tf_provider::diagnostics::{Diagnostics, Error, Result};
use crate::tf_provider::plan::{self, Plan};
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;
use crate::tf_provider::resource::{ErasedChange, ImportId, MoveSource};
use crate::tf_provider::validate;
use crate::tf_provider::value::Value;

pub(super) fn validate<P: Provider>(
    inner: &Inner<P>,
    request: &pb::validate_resource_type_config::Request,
) -> Result<Diagnostics> {
    let entry = inner.registry().resource(&request.type_name)?;
    let config = wire::decode(&entry.ty, request.config.as_ref())?;
    let mut diagnostics = Diagnostics::default();
    validate::validate(&entry.schema.block, &config, &mut diagnostics);
    if request.client_capabilities.is_some_and(|core| !core.write_only_attributes_allowed) {
        validate::refuse_write_only(&entry.schema.block, &config, &mut diagnostics);
    }
    entry.resource.validate(config, &mut diagnostics);
    Ok(diagnostics)
}

pub(super) fn upgrade<P: Provider>(
    inner: &Inner<P>,
    request: &pb::upgrade_resource_state::Request,
) -> Result<pb::DynamicValue> {
    let entry = inner.registry().resource(&request.type_name)?;
    let json = raw_json(request.raw_state.as_ref())?;
    let mut state = match u64::try_from(request.version) {
        Ok(version) if version == entry.schema.version => codec::from_json(&entry.ty, json)?,
        Ok(version) if version < entry.schema.version => {
            entry.resource.upgrade(version, codec::from_untyped_json(json)?)?
        }
        _ => {
            return Err(Error::new(format!("the state has version {} of the schema", request.version))
                .detail("A newer version of the provider wrote it. Use that version or a later one."));
        }
    };
    plan::without_write_only(&entry.schema.block, &mut state);
    wire::encode(&entry.ty, &state)
}

fn raw_json(state: Option<&pb::RawState>) -> Result<&[u8]> {
    match state {
        Some(state) if !state.json.is_empty() => Ok(&state.json),
        Some(state) if !state.flatmap.is_empty() => {
            Err(Error::new("the state was written by Terraform 0.11 or older").detail("Import the object instead."))
        }
        _ => Err(Error::new("there is no state to read")),
    }
}

pub(super) fn upgrade_identity<P: Provider>(
    inner: &Inner<P>,
    request: &pb::upgrade_resource_identity::Request,
) -> Result<Option<pb::ResourceIdentityData>> {
    let entry = inner.registry().resource(&request.type_name)?;
    let no_identity = || unknown("identity of resource type", &request.type_name);
    let identity = entry.identity.as_ref().ok_or_else(no_identity)?;
    let json = raw_json(request.raw_identity.as_ref())?;
    let value = match u64::try_from(request.version) {
        Ok(version) if version == identity.version => codec::from_json(&identity.implied_type(), json)?,
        Ok(version) if version < identity.version => {
            let older = codec::from_untyped_json(json)?;
            entry.resource.upgrade_identity(inner.context().as_deref(), version, older)?
        }
        _ => {
            return Err(Error::new(format!("the identity has version {} of its schema", request.version)).detail(
                "Another version of the provider wrote it. Refresh the state with that version, or import the object.",
            ));
        }
    };
    wire::encode_identity(identity, &value)
}

pub(super) async fn read<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::read_resource::Request,
) -> Result<pb::read_resource::Response, Diagnostics> {
    let entry = inner.registry().resource(&request.type_name)?;
    let state = wire::decode(&entry.ty, request.current_state.as_ref())?;
    let call = inner.call(Private::from_bytes(&request.private))?;
    let read = call.unless_stopped(entry.resource.read(call.clone(), state)).await;
    let found = read.and_then(|found| known(found.unwrap_or(Value::Null)));
    let mut found = found.map_err(|error| call.failed(error))?;
    plan::without_write_only(&entry.schema.block, &mut found);
    Ok(pb::read_resource::Response {
        new_state: Some(wire::encode(&entry.ty, &found)?),
        diagnostics: wire::diagnostics(call.take_diagnostics()),
        private: call.private().to_bytes(),
        deferred: None,
        new_identity: identity_of(entry, Some(call.context()), &found, request.current_identity.as_ref())?,
    })
}

pub(super) async fn plan<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::plan_resource_change::Request,
) -> Result<pb::plan_resource_change::Response, Diagnostics> {
    let entry = inner.registry().resource(&request.type_name)?;
    let mut change = from_schema(entry, &request)?;
    if !change.planned.is_null() {
        change = entry.resource.plan(change)?;
    }
    let private = Private::from_bytes(&request.prior_private);
    if inner.is_configured() && !change.diagnostics.has_error() {
        let call = inner.call(private.clone())?;
        change = call.unless_stopped(entry.resource.preview(call.clone(), change)).await?;
        change.diagnostics.extend(call.take_diagnostics());
    }
    if change.diagnostics.has_error() {
        return Err(change.diagnostics);
    }
    let context = inner.context();
    Ok(planned(entry, context.as_deref(), change, &private, request.prior_identity.as_ref())?)
}

/// The plan that follows from the schema.
fn from_schema<C>(entry: &ResourceEntry<C>, request: &pb::plan_resource_change::Request) -> Result<ErasedChange> {
    let prior = wire::decode(&entry.ty, request.prior_state.as_ref())?;
    let proposed = wire::decode(&entry.ty, request.proposed_new_state.as_ref())?;
    let config = wire::decode(&entry.ty, request.config.as_ref())?;
    let plan = if proposed.is_null() {
        Plan { planned: Value::Null, replace: Vec::new() }
    } else {
        plan::plan(&entry.schema.block, &prior, proposed, &config)
    };
    Ok(ErasedChange::new(config, prior, plan))
}

fn planned<C>(
    entry: &ResourceEntry<C>,
    context: Option<&C>,
    change: ErasedChange,
    private: &Private,
    stored: Option<&pb::ResourceIdentityData>,
) -> Result<pb::plan_resource_change::Response> {
    // An identity that is not known yet must be omitted: Terraform would try to store it.
    let keeps_identity = !change.prior.is_null() && change.replace.is_empty();
    let planned_identity = if keeps_identity { identity_of(entry, context, &change.planned, stored)? } else { None };
    Ok(pb::plan_resource_change::Response {
        planned_state: Some(wire::encode(&entry.ty, &change.planned)?),
        requires_replace: change.replace.iter().map(wire::attribute_path).collect(),
        planned_private: private.to_bytes(),
        diagnostics: wire::diagnostics(change.diagnostics),
        legacy_type_system: false,
        deferred: None,
        planned_identity,
    })
}

pub(super) async fn import<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::import_resource_state::Request,
) -> Result<pb::import_resource_state::Response, Diagnostics> {
    let entry = inner.registry().resource(&request.type_name)?;
    let id = import_id(entry, &request)?;
    let call = inner.call(Private::default())?;
    let imported = call.unless_stopped(entry.resource.import(call.clone(), id)).await;
    let mut state = imported.and_then(known).map_err(|error| call.failed(error))?;
    plan::without_write_only(&entry.schema.block, &mut state);
    let imported = pb::import_resource_state::ImportedResource {
        type_name: request.type_name,
        state: Some(wire::encode(&entry.ty, &state)?),
        private: call.private().to_bytes(),
        identity: identity_of(entry, Some(call.context()), &state, request.identity.as_ref())?,
    };
    Ok(pb::import_resource_state::Response {
        imported_resources: vec![imported],
        diagnostics: wire::diagnostics(call.take_diagnostics()),
        deferred: None,
    })
}

fn import_id<C>(entry: &ResourceEntry<C>, request: &pb::import_resource_state::Request) -> Result<ImportId> {
    let data = request.identity.as_ref().and_then(|identity| identity.identity_data.as_ref());
    match (&entry.identity, data) {
        (Some(identity), Some(data)) => wire::decode(&identity.implied_type(), Some(data)).map(ImportId::Identity),
        (None, Some(_)) => Err(unknown("identity of resource type", &request.type_name)),
        (_, None) => Ok(ImportId::Id(request.id.clone())),
    }
}

pub(super) fn move_state<P: Provider>(
    inner: &Inner<P>,
    request: &pb::move_resource_state::Request,
) -> Result<pb::move_resource_state::Response> {
    let entry = inner.registry().resource(&request.target_type_name)?;
    let source = MoveSource {
        provider_address: request.source_provider_address.clone(),
        type_name: request.source_type_name.clone(),
        schema_version: request.source_schema_version,
        state: codec::from_untyped_json(raw_json(request.source_state.as_ref())?)?,
    };
    let refused = || {
        Error::new(format!("{} cannot be moved to {}", source.type_name, request.target_type_name))
            .detail(format!("The source is of the provider {}.", source.provider_address))
    };
    let mut state = entry.resource.move_from(&source).ok_or_else(refused)??;
    plan::without_write_only(&entry.schema.block, &mut state);
    Ok(pb::move_resource_state::Response {
        target_state: Some(wire::encode(&entry.ty, &state)?),
        target_identity: identity_of(entry, inner.context().as_deref(), &state, None)?,
        ..Default::default()
    })
}

pub(super) fn generate_config<P: Provider>(
    inner: &Inner<P>,
    request: &pb::generate_resource_config::Request,
) -> Result<pb::DynamicValue> {
    let entry = inner.registry().resource(&request.type_name)?;
    let state = wire::decode(&entry.ty, request.state.as_ref())?;
    wire::encode(&entry.ty, &plan::config_of(&entry.schema.block, &state))
}
