// SPDX-License-Identifier: MPL-2.0

//! The RPCs of ephemeral resources. None is abandoned once it has begun: each opened one is closed.

use std::sync::Arc;
use std::time::SystemTime;

use super::{Inner, known, wire};
use crate::tf_provider::call::Private;
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::ephemeral_resource::AnyEphemeralResource;
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;

pub(super) fn validate<P: Provider>(
    inner: &Inner<P>,
    request: &pb::validate_ephemeral_resource_config::Request,
) -> Result<Diagnostics> {
    let entry = inner.registry().ephemeral_resource(&request.type_name)?;
    entry.validate(request.config.as_ref(), AnyEphemeralResource::validate)
}

pub(super) async fn open<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::open_ephemeral_resource::Request,
) -> Result<pb::open_ephemeral_resource::Response, Diagnostics> {
    let entry = inner.registry().ephemeral_resource(&request.type_name)?;
    let config = wire::decode(&entry.ty, request.config.as_ref())?;
    let call = inner.call(Private::default())?;
    call.go_on()?;
    let opened = entry.verbs.open(call.clone(), config).await;
    let opened = opened.map_err(|error| call.failed(error))?;
    Ok(pb::open_ephemeral_resource::Response {
        renew_at: opened.renew_at.map(Into::into),
        result: Some(wire::encode(&entry.ty, &known(opened.result)?)?),
        private: Some(call.private().to_bytes()),
        diagnostics: wire::diagnostics(call.take_diagnostics()),
        deferred: None,
    })
}

pub(super) async fn renew<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::renew_ephemeral_resource::Request,
) -> Result<pb::renew_ephemeral_resource::Response, Diagnostics> {
    let entry = inner.registry().ephemeral_resource(&request.type_name)?;
    let call = inner.call(Private::from_bytes(request.private()))?;
    let renewed: Result<Option<SystemTime>> = entry.verbs.renew(call.clone()).await;
    let renew_at = renewed.map_err(|error| call.failed(error))?;
    Ok(pb::renew_ephemeral_resource::Response {
        renew_at: renew_at.map(Into::into),
        private: Some(call.private().to_bytes()),
        diagnostics: wire::diagnostics(call.take_diagnostics()),
    })
}

pub(super) async fn close<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::close_ephemeral_resource::Request,
) -> Result<pb::close_ephemeral_resource::Response, Diagnostics> {
    let entry = inner.registry().ephemeral_resource(&request.type_name)?;
    let call = inner.call(Private::from_bytes(request.private()))?;
    entry.verbs.close(call.clone()).await.map_err(|error| call.failed(error))?;
    Ok(pb::close_ephemeral_resource::Response { diagnostics: wire::diagnostics(call.take_diagnostics()) })
}
