// SPDX-License-Identifier: MPL-2.0

//! The RPCs of actions.

use std::sync::Arc;

use futures_util::stream::{BoxStream, StreamExt, once};
use pb::invoke_action::event::{Progress as Line, Type};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use super::answer::Answer;
use super::{Inner, joined, wire};
use crate::tf_provider::action::{AnyAction, Progress};
use crate::tf_provider::call::Private;
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;

pub(super) fn validate<P: Provider>(
    inner: &Inner<P>,
    request: &pb::validate_action_config::Request,
) -> Result<Diagnostics> {
    let entry = inner.registry().action(&request.type_name)?;
    entry.validate(request.config.as_ref(), AnyAction::validate)
}

pub(super) async fn plan<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::plan_action::Request,
) -> Result<pb::plan_action::Response, Diagnostics> {
    let entry = inner.registry().action(&request.action_type)?;
    let config = wire::decode(&entry.ty, request.config.as_ref())?;
    if !inner.is_configured() {
        return Ok(pb::plan_action::Response::default());
    }
    let call = inner.call(Private::default())?;
    let planned = call.unless_stopped(entry.verbs.plan(call.clone(), config)).await;
    planned.map_err(|error| call.failed(error))?;
    Ok(pb::plan_action::Response { diagnostics: wire::diagnostics(call.take_diagnostics()), deferred: None })
}

/// The lines of an action as they come, and its end. The action continues even if nobody listens any more.
pub(super) fn invoke<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::invoke_action::Request,
) -> BoxStream<'static, Result<pb::invoke_action::Event, Status>> {
    let (said, lines) = mpsc::unbounded_channel();
    let lifecycle = inner.lifecycle.clone();
    let task = lifecycle.spawn(perform(inner, request, Progress::new(said)));
    let line = |message| pb::invoke_action::Event { r#type: Some(Type::Progress(Line { message })) };
    let end = async { completed(joined(task).await.unwrap_or_else(|panicked| Err(panicked.into()))) };
    // The lines end with the action.
    UnboundedReceiverStream::new(lines).map(line).chain(once(end)).map(Ok).boxed()
}

async fn perform<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::invoke_action::Request,
    progress: Progress,
) -> Result<Diagnostics, Diagnostics> {
    let entry = inner.registry().action(&request.action_type)?;
    let config = wire::decode(&entry.ty, request.config.as_ref())?;
    let call = inner.call(Private::default())?;
    call.go_on().map_err(|cancelled| cancelled.detail("Nothing was begun."))?;
    entry.verbs.invoke(call.clone(), config, progress).await.map_err(|error| call.failed(error))?;
    Ok(call.take_diagnostics())
}

fn completed(outcome: Result<Diagnostics, Diagnostics>) -> pb::invoke_action::Event {
    // Warnings and errors end an action in the same message.
    Answer::failed(outcome.unwrap_or_else(|failure| failure))
}
