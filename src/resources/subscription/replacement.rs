// SPDX-License-Identifier: MPL-2.0

//! The plan of a subscription that is created a second time: because of `-replace`, a taint, or another database.
//!
//! Terraform and OpenTofu request this plan like that of a new object: only the existing subscription shows the
//! difference.

use std::collections::BTreeSet;

use super::model::{Model, is_set};
use super::{ObjectId, ident};
use crate::config::Context;
use crate::postgres::subscription::{self, Subscription};
use crate::postgres::{Database, QualifiedName, catalog};
use crate::replication::{names, units};
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// Checks the replacement of an existing subscription. A copy into tables with rows does harm, so it is refused and not
/// only a warning: with `-replace`, Terraform and OpenTofu show no warnings.
///
/// # Errors
/// When a person asks to stop. A failed query is not an error: the server may not exist yet.
pub(super) async fn preview(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    database: &Database,
) -> Result<()> {
    let Some(planned) = change.planned().cloned().filter(|planned| !planned.name.is_unknown()) else { return Ok(()) };
    let name = match change.prior() {
        Some(_) if !change.replaces() => return Ok(()),
        prior => ident(prior.map_or(&planned.name, |prior| &prior.name))?,
    };
    let Ok(Some(found)) = call.unless_stopped(subscription::fetch(database, &name)).await else { return call.go_on() };
    let tables = subscribed(database, &found).await;
    let Ok(bytes) = call.unless_stopped(catalog::bytes(database, &tables)).await else { return call.go_on() };
    let Ok(sizes) = call.unless_stopped(catalog::sizes(database, &tables)).await else { return call.go_on() };
    let rows: u64 = sizes.values().filter_map(|size| size.rows).sum();
    let what = format!(
        "Tables: {}, with about {} and {} on the subscriber.",
        tables.len(),
        units::counted(usize::try_from(rows).unwrap_or(usize::MAX), "row"),
        units::bytes(u64::try_from(bytes).unwrap_or_default())
    );
    if change.prior().is_some() {
        change.warn(elsewhere(&found, &planned).detail(what));
        return Ok(());
    }
    let copies = is_set(&planned.copy_data) && planned.enabled.known() != Some(&false);
    match call.unless_stopped(catalog::with_rows(database, &tables)).await {
        Ok(held) if copies && !held.is_empty() => {
            change.error(refused(&found, database, &held, &what).detail(ObjectId::import_hint(&planned.id)));
        }
        Ok(_) => change.warn(again(&found, copies).detail(what).detail(ObjectId::import_hint(&planned.id))),
        Err(_) => return call.go_on(),
    }
    Ok(())
}

async fn subscribed(database: &Database, found: &Subscription) -> BTreeSet<QualifiedName> {
    let tables = subscription::tables(database, &found.name).await.unwrap_or_default();
    tables.into_iter().map(|(table, _)| table).collect()
}

const KEEP: &str =
    "To keep the subscription instead, leave out -replace, or untaint it (`terraform untaint` or `tofu untaint`).";

fn refused(found: &Subscription, database: &Database, held: &BTreeSet<QualifiedName>, what: &str) -> Error {
    let truncate = names::list(held.iter().map(ToString::to_string));
    Error::new(format!(
        "planning subscription {}: it already exists, and every row would be copied again into \
         tables that hold rows",
        found.name
    ))
    .detail(format!(
        "{what} A row that is there already violates a primary key or another unique index, and its table is \
             not replicated then."
    ))
    .detail(format!(
        "If it really is to be made again, stop it and empty its tables on the subscriber, in database {:?}, \
             then plan again: ALTER SUBSCRIPTION {} DISABLE; TRUNCATE {truncate};",
        database.name(),
        found.name
    ))
    .detail(
        "To keep the rows, set copy_data = false. But the slot is dropped with the subscription, so rows \
             written on the publisher until the new slot exists never arrive.",
    )
    .detail(KEEP)
}

fn again(found: &Subscription, copies: bool) -> Error {
    let error = Error::new(format!(
        "planning subscription {}: it already exists; if this plan replaces it, it is dropped with its slot and \
         created again",
        found.name
    ));
    let error = error.detail(if copies {
        "Every row is copied again."
    } else {
        "Nothing is copied: rows written on the publisher until the new slot exists never arrive."
    });
    error.detail(KEEP)
}

fn elsewhere(found: &Subscription, planned: &Model) -> Error {
    let database = planned.database.known().map_or_else(String::new, |name| format!(" {name:?}"));
    Error::new(format!(
        "planning subscription {}: it is dropped with its slot, and created again in another database",
        found.name
    ))
    .detail(format!(
        "Every row is copied into database{database}. The tables of the old database keep their \
             rows, and receive no more changes."
    ))
}
