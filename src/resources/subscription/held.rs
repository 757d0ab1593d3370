// SPDX-License-Identifier: MPL-2.0

//! A subscription that a cutover has stopped: the writes have moved from its publisher to its subscriber. Only the
//! cutover may start it again, with its slot; otherwise it would send old changes to the side that has all new ones.

use super::ident;
use super::model::Model;
use crate::config::Context;
use crate::postgres::Database;
use crate::postgres::subscription::{SlotName, Subscription};
use crate::replication::cutover::{self, Stopped};
use crate::tf_provider::call::Call;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// How a cutover has changed a subscription; none if it has not.
///
/// # Errors
/// When a query fails.
pub(super) async fn found(database: &Database, found: &Subscription) -> Result<Option<Stopped>> {
    // A subscription that runs with its own options is not held by a cutover.
    let is_plain = found.enabled && found.options.synchronous_commit.as_deref() != Some("on");
    if is_plain {
        return Ok(None);
    }
    let stopped = Box::pin(cutover::stopped(database, &found.name)).await?;
    // If its cutover is gone, starting it was on purpose.
    Ok(stopped.filter(|stopped| !(stopped.is_left_behind && found.enabled)))
}

/// Warns that a subscription whose cutover is gone is no longer useful.
///
/// # Errors
/// When a query fails.
pub(super) async fn warn_of_left_behind(
    call: &Call<Context>,
    database: &Database,
    subscription: &Subscription,
) -> Result<()> {
    if found(database, subscription).await?.is_some_and(|stopped| stopped.is_left_behind) {
        let error = Error::new(format!("reading subscription {}: it cannot be used any more", subscription.name));
        call.warn(error.detail(LEFT_BEHIND).detail(DROP_IT));
    }
    Ok(())
}

/// The state of a subscription that a cutover has changed: as it will be after the cutover restores it.
pub(super) fn as_given_back(model: Model, stopped: Option<&Stopped>) -> Model {
    let Some(stopped) = stopped else { return model };
    let synchronous_commit = match &stopped.synchronous_commit {
        Some(before) => before.clone().into(),
        None => model.synchronous_commit.clone(),
    };
    if !stopped.is_disabled {
        return Model { synchronous_commit, ..model };
    }
    let slot_name = match &stopped.slot {
        Some(slot) => slot.as_str().to_owned().into(),
        None => model.slot_name.clone(),
    };
    Model { enabled: true.into(), slot_name, synchronous_commit, ..model }
}

/// The subscription for an update: the cutover's changes stay.
pub(super) fn kept(desired: Subscription, current: &Subscription, stopped: Option<&Stopped>) -> Subscription {
    let mut desired = desired;
    let Some(stopped) = stopped else { return desired };
    if stopped.synchronous_commit.is_some() {
        desired.options.synchronous_commit.clone_from(&current.options.synchronous_commit);
    }
    if stopped.is_disabled {
        desired.enabled = current.enabled;
        desired.slot = current.slot.clone().or(Some(SlotName::None));
    }
    desired
}

/// Refuses changes that would start it, or that need its old publisher. Returns whether a cutover has stopped it.
///
/// # Errors
/// When a query fails.
pub(super) async fn preview(
    call: &Call<Context>,
    change: &mut PlannedChange<Model>,
    database: &Database,
) -> Result<bool> {
    let Some(planned) = change.planned().cloned().filter(|planned| !planned.name.is_unknown()) else {
        return Ok(false);
    };
    let prior = change.prior().cloned();
    let name = ident(prior.as_ref().map_or(&planned.name, |prior| &prior.name))?;
    // A new one whose server cannot be reached yet is not held.
    let current = match call.unless_stopped(crate::postgres::subscription::fetch(database, &name)).await {
        Ok(Some(current)) => current,
        Ok(None) => return Ok(false),
        Err(error) if prior.is_some() => return Err(error),
        Err(_) => return call.go_on().map(|()| false),
    };
    let Some(stopped) = call.unless_stopped(found(database, &current)).await?.filter(|stopped| stopped.is_disabled)
    else {
        return Ok(false);
    };
    let doing = super::outlook::doing(&planned);
    match prior.filter(|_| !change.replaces()) {
        None => change.error(made_again(&doing)),
        Some(prior) => {
            for attribute in started_by(&prior, &planned) {
                change.error(refused(&doing, attribute, &stopped));
            }
        }
    }
    Ok(true)
}

/// The attributes whose change would start it, or needs its publisher.
fn started_by(prior: &Model, planned: &Model) -> Vec<&'static str> {
    let changes = [
        ("enabled", prior.enabled != planned.enabled),
        ("slot_name", prior.slot_name != planned.slot_name),
        ("publications", prior.publications != planned.publications),
        ("synchronous_commit", prior.synchronous_commit != planned.synchronous_commit),
        ("two_phase", prior.two_phase != planned.two_phase),
        ("failover", prior.failover != planned.failover),
    ];
    changes.into_iter().filter(|(_, changes)| *changes).map(|(attribute, _)| attribute).collect()
}

fn refused(doing: &str, attribute: &str, stopped: &Stopped) -> Error {
    let error = Error::new(format!("{doing}: {attribute} cannot be changed while the subscriber is active"));
    let error = match stopped.is_left_behind {
        true => error.detail(LEFT_BEHIND).detail(DROP_IT),
        false => error.detail(starts_again(stopped)).detail(
            "Leave it as it is. Or remove this block and that of the cutover from the configuration: that drops the \
             subscription, and nothing is replicated from the publisher to the subscriber any more.",
        ),
    };
    error.attribute(attribute)
}

fn starts_again(stopped: &Stopped) -> String {
    let slot = stopped.slot.as_ref().map(|slot| format!(", with its slot {slot}")).unwrap_or_default();
    format!(
        "A cutover has stopped it: writes go to the subscriber now. The cutover starts it again{slot} when it moves \
         back to the publisher."
    )
}

/// The text about a subscription whose cutover is gone.
const LEFT_BEHIND: &str = "A cutover has stopped it and has been destroyed since: writes go to the subscriber now. \
     Nothing starts it again, because it would write old rows over new ones.";

/// What to do about it.
const DROP_IT: &str = "Remove its block from the configuration, which drops it. To replicate the publisher again \
     from the beginning, add the block again after that.";

fn made_again(doing: &str) -> Error {
    Error::new(format!("{doing}: it exists, and cannot be replaced while the subscriber is active"))
        .detail(
            "A cutover has stopped it: writes go to the subscriber now. A new subscription would write old rows \
             over new ones.",
        )
        .detail("Leave -replace out, or untaint it (`terraform untaint` or `tofu untaint`).")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::{Conninfo, Ident};

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn stopped() -> Stopped {
        Stopped {
            slot: Some(ident("slot")),
            synchronous_commit: Some("off".to_owned()),
            is_disabled: true,
            is_left_behind: false,
        }
    }

    #[test]
    fn a_state_shows_it_as_it_will_be_given_back() {
        let found =
            Model { enabled: false.into(), synchronous_commit: "on".into(), name: "shop".into(), ..Model::default() };
        let shown = as_given_back(found.clone(), Some(&stopped()));
        assert_eq!(shown.enabled.known(), Some(&true));
        assert_eq!(shown.slot_name.known().map(String::as_str), Some("slot"));
        assert_eq!(shown.synchronous_commit.known().map(String::as_str), Some("off"));
        assert_eq!(as_given_back(found.clone(), None), found);
        let hastened = Stopped { is_disabled: false, ..stopped() };
        assert_eq!(as_given_back(found.clone(), Some(&hastened)).enabled, found.enabled);
    }

    #[test]
    fn an_update_leaves_what_the_cutover_has_changed() {
        let wanted = Subscription::new(ident("shop"), Conninfo::new(), [ident("p")]);
        let current = Subscription { enabled: false, slot: Some(SlotName::None), ..wanted.clone() };
        let kept = kept(wanted.clone(), &current, Some(&stopped()));
        assert_eq!((kept.enabled, kept.slot.clone()), (false, Some(SlotName::None)));
        assert_eq!(super::kept(wanted.clone(), &current, None), wanted);
    }

    #[test]
    fn what_would_start_it_is_named() {
        let prior = Model { enabled: false.into(), ..Model::default() };
        let planned = Model { enabled: true.into(), slot_name: "other".into(), binary: true.into(), ..prior.clone() };
        assert_eq!(started_by(&prior, &planned), ["enabled", "slot_name"]);
        assert!(refused("planning", "enabled", &stopped()).to_string().contains("with its slot \"slot\""));
        let left = Stopped { is_left_behind: true, ..stopped() };
        assert!(refused("planning", "enabled", &left).to_string().contains("Remove its block"));
    }
}
