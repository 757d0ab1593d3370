// SPDX-License-Identifier: MPL-2.0

//! The plan's messages about a change: for readers of the slot, a new one in its place means a gap.

use super::model::{self, Model};
use super::{database, made_at, subscriber};
use crate::config::Context;
use crate::postgres::Database;
use crate::postgres::slot;
use crate::replication::slot_use::{self, Users};
use crate::replication::{checks::Objection, slot_failover};
use crate::tf_provider::call::Call;
use crate::tf_provider::convert::Attr;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::resource::PlannedChange;

/// The effect of the change on users of the slot.
///
/// # Errors
/// When a query fails.
pub(super) async fn outlook(
    call: &Call<Context>,
    change: &PlannedChange<Model>,
    publisher: &Database,
) -> Result<Option<Objection>> {
    let Some(planned) = change.planned() else { return Ok(None) };
    match change.prior() {
        None => of_new(call, publisher, planned).await,
        Some(prior) if change.replaces() => {
            let name = model::ident(prior)?;
            let users = slot_use::users(&database(call, prior)?, subscriber(call), &name).await?;
            let doing = format!("replacing replication slot {name}");
            Ok(loss(&doing, &users, made_at(call).as_deref(), planned, replaced_by(prior, planned)))
        }
        Some(prior) if planned.failover.known().is_some() && planned.failover != prior.failover => {
            Ok(slot_failover::outlook(publisher, subscriber(call), &model::ident(prior)?).await?)
        }
        Some(_) => Ok(None),
    }
}

/// With `-replace` or a taint, a replacement is also planned as a new object.
async fn of_new(call: &Call<Context>, publisher: &Database, planned: &Model) -> Result<Option<Objection>> {
    let Ok(name) = model::ident(planned) else { return Ok(None) };
    let users = slot_use::users(publisher, subscriber(call), &name).await?;
    let doing = format!("replication slot {name} already exists: recreating it");
    Ok(loss(&doing, &users, None, planned, Some("name")).or_else(|| slot_use::late(&name, &users)))
}

/// How its server would answer the creation of the slot.
///
/// # Errors
/// When a query fails.
pub(super) async fn of_making(call: &Call<Context>, publisher: &Database, doing: &str) -> Result<Vec<Objection>> {
    let forbidden = slot::forbidden(publisher, doing).await?;
    let mut objections: Vec<_> = forbidden.map(|error| Objection::Refusal(error.into())).into_iter().collect();
    let is_logical = call.context().intended().makes_wal_logical();
    objections.extend(slot_use::room(publisher, doing, is_logical).await?);
    Ok(objections)
}

fn loss(
    doing: &str,
    users: &Users,
    made_at: Option<&str>,
    planned: &Model,
    attribute: Option<&'static str>,
) -> Option<Objection> {
    slot_use::loss(doing, users, made_at, planned.force_destroy == Attr::Known(true), attribute)
}

/// The attribute whose change makes a new slot.
fn replaced_by(prior: &Model, planned: &Model) -> Option<&'static str> {
    let differs = [
        ("two_phase", prior.two_phase != planned.two_phase),
        ("plugin", prior.plugin != planned.plugin),
        ("database", prior.database != planned.database),
        ("name", prior.name != planned.name),
    ];
    differs.into_iter().find(|(_, differs)| *differs).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_attribute_that_makes_a_new_one_is_named() {
        let model = || Model { name: "s".into(), plugin: "p".into(), two_phase: false.into(), ..Model::default() };
        assert_eq!(replaced_by(&model(), &model()), None);
        assert_eq!(replaced_by(&model(), &Model { two_phase: true.into(), ..model() }), Some("two_phase"));
        assert_eq!(replaced_by(&model(), &Model { name: "t".into(), ..model() }), Some("name"));
    }
}
