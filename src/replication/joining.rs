// SPDX-License-Identifier: MPL-2.0

//! Publications that join a slot that may still have older changes to send.
//!
//! The publisher decodes each change with the catalog of its time. A change that is older than a publication stops a
//! subscription to it for good (Postgres 14 to 17), or is lost (18).

use std::collections::BTreeSet;

use super::catch_up::catch_up;
use super::error::{Error, Result};
use super::names;
use super::operation::Operation;
use super::slot_health::wrong_slot;
use crate::postgres::subscription::Subscription;
use crate::postgres::{Database, Ident, publication};

const WHAT_HAPPENS: &str = "Before Postgres 18, a change that is older than a publication stops a subscription to \
    it for good; since 18 it is lost.";

/// Makes sure that publications can join a subscription. Waits until a running one has applied all older writes. A
/// disabled one applies nothing, so it must have no older changes left.
///
/// # Errors
/// When the wait is too long, or an older change may be left. If the publisher cannot be queried, there is a warning.
pub async fn prepare(
    operation: &Operation<'_>,
    publisher: &Database,
    current: &Subscription,
    desired: &Subscription,
) -> Result<()> {
    let Some(slot) = current.slot_name() else { return Ok(()) };
    if !current.enabled {
        let joining = desired.publications.difference(&current.publications).cloned().collect();
        return refuse_younger(operation, publisher, slot, &joining).await;
    }
    let existing = match operation.unless_stopped(publication::fetch_all(publisher)).await {
        Ok(existing) => existing,
        Err(cause) => return unknown(operation, &cause),
    };
    if let Some(wrong) = wrong_slot(publisher, current).await {
        return Err(wrong.detail("The publication that is added could not be replicated."));
    }
    let whole = current.publications.iter().all(|name| existing.contains_key(name));
    catch_up(operation, publisher, slot, whole).await
}

async fn refuse_younger(
    operation: &Operation<'_>,
    publisher: &Database,
    slot: &Ident,
    joining: &BTreeSet<Ident>,
) -> Result<()> {
    let younger = match operation.unless_stopped(publication::younger_than_slot(publisher, slot, joining)).await {
        Ok(younger) if younger.is_empty() => return Ok(()),
        Ok(younger) => younger,
        Err(cause) => return unknown(operation, &cause),
    };
    let listed = listed(&younger);
    Err(operation
        .error(format!("it is disabled, and has changes to apply that may be older than publication {listed}"))
        .detail(format!("Nothing was changed. {WHAT_HAPPENS}"))
        .detail(
            "Set enabled = true before or in the same apply: then the publication is added once everything \
             older has been applied.",
        )
        .about("publications"))
}

/// Warns if an existing slot will be used that may still send changes older than a publication.
///
/// # Errors
/// When a person asks to stop. A publisher that cannot be queried from here is not an error: only the subscriber must
/// reach it.
pub async fn warn_of_younger(operation: &Operation<'_>, publisher: &Database, desired: &Subscription) -> Result<()> {
    let Some(slot) = desired.slot_name() else { return Ok(()) };
    let asked = operation.unless_stopped(publication::younger_than_slot(publisher, slot, &desired.publications)).await;
    let Ok(younger) = asked else { return operation.go_on() };
    if !younger.is_empty() {
        let what = format!("replication slot {slot} may be older than publication {}", listed(&younger));
        operation.warn(operation.error(what).detail(WHAT_HAPPENS).detail(
            "If tables were written to in between, recreate the slot. If this configuration creates both, put the \
             slot after the publication (depends_on).",
        ));
    }
    Ok(())
}

fn listed(publications: &[Ident]) -> String {
    names::list(publications.iter().map(ToString::to_string))
}

/// Warns of what cannot be checked if it is not known which server the publisher is.
///
/// # Errors
/// When a person asks to stop.
pub fn warn_of_unknown(operation: &Operation<'_>) -> Result<()> {
    unknown(operation, &Error::new("It is not known from here which server its publisher is."))
}

/// Warns of what cannot be checked if the publisher cannot be queried.
fn unknown(operation: &Operation<'_>, cause: &Error) -> Result<()> {
    operation.go_on()?;
    let warning = operation.error("it is not known whether it has caught up with its publisher");
    operation.warn(warning.detail(WHAT_HAPPENS).detail(cause.to_string()));
    Ok(())
}
