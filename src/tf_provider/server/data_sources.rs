// SPDX-License-Identifier: MPL-2.0

//! The RPCs of data sources.

use std::sync::Arc;

use super::{Inner, known, wire};
use crate::tf_provider::data_source::AnyDataSource;
use crate::tf_provider::diagnostics::{Diagnostics, Result};
use crate::tf_provider::proto::tfplugin5 as pb;
use crate::tf_provider::provider::Provider;

pub(super) fn validate<P: Provider>(
    inner: &Inner<P>,
    request: &pb::validate_data_source_config::Request,
) -> Result<Diagnostics> {
    let entry = inner.registry().data_source(&request.type_name)?;
    entry.validate(request.config.as_ref(), AnyDataSource::validate)
}

pub(super) async fn read<P: Provider>(
    inner: Arc<Inner<P>>,
    request: pb::read_data_source::Request,
) -> Result<pb::read_data_source::Response, Diagnostics> {
    let entry = inner.registry().data_source(&request.type_name)?;
    let config = wire::decode(&entry.ty, request.config.as_ref())?;
    let call = inner.reading_call()?;
    let read = call.unless_stopped(entry.verbs.read(call.clone(), config));
    let state = read.await.and_then(known).map_err(|error| call.failed(error))?;
    Ok(pb::read_data_source::Response {
        state: Some(wire::encode(&entry.ty, &state)?),
        diagnostics: wire::diagnostics(call.take_diagnostics()),
        deferred: None,
    })
}
