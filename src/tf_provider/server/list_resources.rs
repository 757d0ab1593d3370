// SPDX-License-Identifier: MPL-2.0

//! The RPCs of lists: each found object is imported and read, as Terraform would do.

use std::future::ready;
use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt, once};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::answer::Answer;
use super::registry::ResourceEntry;
use super::{Inner, identity_of, joined, known, wire};
use crate::tf_provider::call::{Call, Private};
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::list_resource::{AnyListResource, Listed};
use crate::tf_provider::plan;
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;
use crate::tf_provider::resource::ImportId;

pub(super) fn validate<P: Provider>(
    inner: &Inner<P>,
    request: &pb::validate_list_resource_config::Request,
) -> Result<Diagnostics> {
    let entry = inner.registry().list_resource(&request.type_name)?;
    entry.validate(request.config.as_ref(), AnyListResource::validate)
}

/// The objects while they are read, and errors. Reading ends when nobody listens any more.
pub(super) fn list<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::list_resource::Request,
) -> BoxStream<'static, Result<pb::list_resource::Event, Status>> {
    let (found, events) = mpsc::channel(1);
    let lifecycle = inner.lifecycle.clone();
    let task = lifecycle.spawn(find(inner, request, found));
    let failure = async {
        let outcome = joined(task).await.unwrap_or_else(|panicked| Err(panicked.into()));
        outcome.err().map(Answer::failed)
    };
    ReceiverStream::new(events).chain(once(failure).filter_map(ready)).map(Ok).boxed()
}

async fn find<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::list_resource::Request,
    found: mpsc::Sender<pb::list_resource::Event>,
) -> Result<(), Diagnostics> {
    let entry = inner.registry().list_resource(&request.type_name)?;
    let resource = inner.registry().resource(&request.type_name)?;
    let config = wire::decode(&entry.ty, request.config.as_ref())?;
    let call = inner.call(Private::default())?;
    let listed = call.unless_stopped(entry.verbs.list(call.clone(), config)).await;
    let listed = listed.map_err(|error| call.failed(error))?;
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
    for one in listed.into_iter().take(limit) {
        // Each object has its own private state.
        let call = inner.call(Private::default())?;
        let event = describe(resource, &call, one, request.include_resource_object).await;
        if let Some(event) = event
            && found.send(event).await.is_err()
        {
            break;
        }
    }
    Ok(())
}

/// One object; `None` if it no longer exists.
async fn describe<C>(
    resource: &ResourceEntry<C>,
    call: &Call<C>,
    listed: Listed,
    wants_object: bool,
) -> Option<pb::list_resource::Event> {
    let Listed { display_name, id } = listed;
    match call.unless_stopped(look(resource, call, id, wants_object)).await {
        Ok(None) => None,
        Ok(Some(event)) => {
            let diagnostic = wire::diagnostics(call.take_diagnostics());
            Some(pb::list_resource::Event { display_name, diagnostic, ..event })
        }
        Err(error) => Some(pb::list_resource::Event { display_name, ..Answer::failed(call.failed(error)) }),
    }
}

async fn look<C>(
    resource: &ResourceEntry<C>,
    call: &Call<C>,
    id: ImportId,
    wants_object: bool,
) -> Result<Option<pb::list_resource::Event>> {
    let imported = known(resource.resource.import(call.clone(), id).await?)?;
    let identity = identity_of(resource, Some(call.context()), &imported, None)?;
    if !wants_object {
        return Ok(Some(pb::list_resource::Event { identity, ..Default::default() }));
    }
    let Some(object) = resource.resource.read(call.clone(), imported).await? else { return Ok(None) };
    let mut object = known(object)?;
    plan::without_write_only(&resource.schema.block, &mut object);
    let resource_object = Some(wire::encode(&resource.ty, &object)?);
    Ok(Some(pb::list_resource::Event { identity, resource_object, ..Default::default() }))
}
