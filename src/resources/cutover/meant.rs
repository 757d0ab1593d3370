// SPDX-License-Identifier: MPL-2.0

//! The meaning of a model: both databases, and the cutover between them.

use super::model::{Model, subscriptions};
use crate::config::Context;
use crate::postgres::{Conninfo, QualifiedName};
use crate::replication::comparison::Mode;
use crate::replication::cutover::{Cutover, Desired, Forward, Terms, Unpublished, WayBack, Writes};
use crate::replication::{Pair, Place};
use crate::resources::reaching::{self, Way, block_changes};
use crate::tf_provider::call::{Call, Private};
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::timeouts::parse_duration;

/// Both databases. Does not connect.
///
/// # Errors
/// When a side is not configured, or its values are not known yet.
pub(super) fn pair(call: &Call<Context>, model: &Model) -> Result<Pair> {
    call.context().pair(&model.publisher_database, &model.subscriber_database)
}

/// The active side of a model.
pub(super) fn active(model: &Model) -> Place {
    match model.active.known().map(String::as_str) {
        Some("subscriber") => Place::Subscriber,
        _ => Place::Publisher,
    }
}

/// One of the two databases.
pub(super) fn side(pair: &Pair, place: Place) -> &crate::postgres::Database {
    if place == Place::Subscriber { &pair.subscriber } else { &pair.publisher }
}

/// The cutover of a model. `resend` sets the connection of the way back again.
///
/// # Errors
/// When the connection of the way back lacks a host, or a name is not valid.
pub(super) async fn cutover(call: &Call<Context>, pair: &Pair, model: &Model, resend: bool) -> Result<Cutover> {
    let way_back = match &model.reverse {
        Attr::Null => None,
        _ => Some(WayBack { connection: connection(call, pair, model).await?, resend }),
    };
    let desired =
        Desired { active: active(model), reverse: way_back.is_some(), guard: model.guard.known() != Some(&false) };
    Ok(Cutover { subscriptions: subscriptions(model)?, desired, way_back, terms: terms(pair, model)? })
}

/// How the publisher's server reaches the subscriber.
///
/// # Errors
/// When neither block has a host, or a value is not known.
pub(super) async fn connection(call: &Call<Context>, pair: &Pair, model: &Model) -> Result<Conninfo> {
    let version = match Way::BACK.needs_version(call.context(), &model.reverse) {
        true => pair.publisher.version().await.ok(),
        false => None,
    };
    Way::BACK.conninfo(call.context(), &model.reverse, Some(pair.subscriber.name()), version)
}

fn terms(pair: &Pair, model: &Model) -> Result<Terms> {
    let default = Terms::default();
    let is = |attribute: &Attr<String>, text: &str| attribute.known().is_some_and(|known| known == text);
    let number = |attribute: &Attr<i64>, otherwise: u64| {
        attribute.known().and_then(|known| u64::try_from(*known).ok()).unwrap_or(otherwise)
    };
    Ok(Terms {
        writes: if is(&model.writes, "external") { Writes::External } else { Writes::Fence },
        forward: if is(&model.forward, "disable") { Forward::Disable } else { Forward::Drop },
        unpublished_writes: if is(&model.unpublished_writes, "allow") {
            Unpublished::Allow
        } else {
            Unpublished::Block
        },
        max_lag_bytes: number(&model.max_lag_bytes, default.max_lag_bytes),
        end_blockers_after: model.end_blockers_after.known().and_then(|text| parse_duration(text)),
        compare: match model.compare.known().map(String::as_str) {
            Some("none") => None,
            Some("checksums") => Some(Mode::Checksums),
            _ => Some(Mode::Counts),
        },
        compare_max_rows: number(&model.compare_max_rows, default.compare_max_rows),
        sequence_margin: u32::try_from(number(&model.sequence_margin, 0)).unwrap_or(u32::MAX),
        sequences: crate::config::names("sequences", &model.sequences, QualifiedName::parse)?,
        message: message(pair, model),
    })
}

/// The message for an application that writes to the inactive side.
fn message(pair: &Pair, model: &Model) -> String {
    let host = || side(pair, active(model)).config().host.clone();
    model.message.known().cloned().unwrap_or_else(|| format!("writes have moved to {}", host()))
}

/// Whether an update sets the connection of the way back again.
pub(super) fn is_sent_again(private: &Private, prior: &Model, plan: &Model, wanted: &Conninfo) -> bool {
    prior.connection_version != plan.connection_version
        || !prior.reverse.is_null() && block_changes(&prior.reverse, &plan.reverse)
        || differs(private, wanted)
}

/// Whether the connection of the way back differs from the one that was last set. Passwords are not recorded, and not
/// compared.
pub(super) fn differs(private: &Private, wanted: &Conninfo) -> bool {
    let Some(sent) = reaching::sent(private) else { return false };
    let mut keywords = crate::postgres::conninfo_parts::differing(&sent, wanted);
    keywords.remove("password");
    // Keywords that may not be recorded cannot be compared.
    keywords.retain(|keyword| sent.get(keyword).is_some() || reaching::is_kept(keyword));
    !keywords.is_empty()
}
