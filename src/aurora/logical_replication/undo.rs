//! Taking it back: the previous group or the previous values.

use super::apply::{OnStep, Phase, Progress, unreachable};
use super::current::{Current, fetch};
use super::steps::{Step, reboot_steps};
use super::{LogicalReplication, Operation, Reboot, Record};
use crate::aurora::api::ClusterApi;
use crate::aurora::parameters::{self, Change};
use crate::aurora::{Error, Kind, Result};

/// What has to be done to give the cluster back as it was. `reboot` says which instances may be rebooted for it; without
/// that the old values come into force at the next restart. Refused while logical slots exist: a server that
/// starts with `wal_level` below logical and a logical slot does not start.
pub fn undo_steps(current: &Current, record: &Record, reboot: Reboot) -> Result<Vec<Step>> {
    let Some(group) = record.group.as_ref() else {
        return Ok(Vec::new());
    };
    refuse_slots(current)?;
    let cluster = &current.cluster.identifier;
    let mut steps = Vec::new();
    let is_attached = current.cluster.parameter_group == *group;
    let previous = record.previous_group.as_ref().filter(|previous| *previous != group);
    if is_attached && (previous.is_some() || record.group_created) {
        let default = format!("default.{}", current.family());
        let group = previous.unwrap_or(&default).clone();
        steps.push(Step::Attach { cluster: cluster.clone(), group, otherwise: Some(default) });
    }
    let mut needs_reboot = !steps.is_empty();
    if let Some(step) = restoring(current, record) {
        needs_reboot |= is_attached
            && matches!(&step, Step::SetParameters { changes, .. } if changes.iter().any(Change::needs_reboot));
        steps.push(step);
    }
    if !steps.is_empty() {
        let until_reboot_is_pending = needs_reboot && reboot != Reboot::Never;
        steps.push(Step::WaitUntilAvailable { cluster: cluster.clone(), until_reboot_is_pending });
    }
    if record.group_created {
        steps.push(Step::DeleteGroup { group: group.clone() });
    }
    steps.extend(obsolete(record));
    if needs_reboot {
        steps.extend(reboot_steps(&current.cluster, reboot));
    }
    Ok(steps)
}

/// The old values of a group that stays. One that goes needs none.
fn restoring(current: &Current, record: &Record) -> Option<Step> {
    let target = current.target.as_ref().filter(|target| record.group.as_ref() == Some(&target.group.name))?;
    let changes = parameters::restoring(&target.parameters, &record.previous_values);
    let group = target.group.name.clone();
    (!record.group_created && !changes.is_empty()).then_some(Step::SetParameters { group, changes })
}

fn refuse_slots(current: &Current) -> Result<()> {
    let slots = current.settings.as_ref().map(|settings| settings.logical_slots.as_slice()).unwrap_or_default();
    if slots.is_empty() {
        return Ok(());
    }
    let doing = format!("disabling logical replication on DB cluster \"{}\"", current.cluster.identifier);
    let what = format!("logical replication slots exist: {}", slots.join(", "));
    Err(Error::new(Kind::Refused, doing, what)
        .hint("Drop the subscriptions that use them, or set skip_destroy = true to leave the cluster as it is"))
}

/// Gives the cluster back as it was, as far as `record` knows. A cluster that is gone takes nothing but its group's
/// deletion. `reboot` is [`Reboot::Never`] unless the user asked for it.
pub async fn destroy<A: ClusterApi>(
    operation: &Operation<'_, A>,
    desired: &LogicalReplication,
    record: &Record,
    reboot: Reboot,
    on_step: &mut OnStep<'_>,
) -> Result<Vec<Step>> {
    let steps = match Box::pin(fetch_at_rest(operation, desired, record)).await? {
        Some(current) => {
            let mut record = record.clone();
            if desired.manage_parameter_group {
                record.adopt(&current);
            }
            undo_steps(&current, &record, reboot)?
        }
        None => leftover(record),
    };
    for step in &steps {
        on_step(Progress { step, phase: Phase::Started, record });
        Box::pin(operation.take(step)).await?;
        on_step(Progress { step, phase: Phase::Done, record });
    }
    Ok(steps)
}

async fn fetch_at_rest<A: ClusterApi>(
    operation: &Operation<'_, A>,
    desired: &LogicalReplication,
    record: &Record,
) -> Result<Option<Current>> {
    match operation.at_rest(&desired.cluster).await {
        Err(error) if error.kind == Kind::NotFound => return Ok(None),
        available => available?,
    };
    let Some(mut current) = fetch(operation.api, desired, record).await? else {
        return Ok(None);
    };
    if let Some(probe) = operation.probe {
        let doing = format!("looking for logical replication slots on DB cluster \"{}\"", desired.cluster);
        current.settings = Some(probe.settings().await.map_err(|error| unreachable(error, &doing))?);
    }
    Ok(Some(current))
}

fn leftover(record: &Record) -> Vec<Step> {
    let own = record.group.iter().filter(|_| record.group_created);
    let own = own.map(|group| Step::DeleteGroup { group: group.clone() });
    own.chain(obsolete(record)).collect()
}

/// Groups that were made here, and that an apply which was cut off has not deleted.
fn obsolete(record: &Record) -> impl Iterator<Item = Step> {
    record.obsolete_groups.iter().map(|group| Step::DeleteGroup { group: group.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aurora::logical_replication::apply;
    use crate::aurora::logical_replication::fake::{DEFAULT, Fake, OWN};

    fn shop() -> LogicalReplication {
        LogicalReplication::new("shop")
    }

    async fn applied(fake: &Fake) -> Record {
        let operation = fake.operation(Some(fake), 60);
        let record = apply(&operation, &shop(), Record::default(), &mut |_| {}).await.unwrap().record;
        fake.world().log.clear();
        record
    }

    async fn undo(fake: &Fake, record: &Record, reboot: Reboot) -> Result<Vec<Step>> {
        destroy(&fake.operation(Some(fake), 60), &shop(), record, reboot, &mut |_| {}).await
    }

    #[tokio::test(start_paused = true)]
    async fn the_previous_group_comes_back_and_ours_goes() {
        let fake = Fake::new(0);
        let record = applied(&fake).await;
        undo(&fake, &record, Reboot::Never).await.unwrap();
        assert_eq!(fake.log(), [format!("attach {DEFAULT}"), format!("delete {OWN}")]);
        assert!(fake.world().is_logical, "nothing was rebooted");
    }

    #[tokio::test(start_paused = true)]
    async fn it_reboots_on_request() {
        let fake = Fake::new(0);
        let record = applied(&fake).await;
        undo(&fake, &record, Reboot::Writer).await.unwrap();
        assert_eq!(fake.log().last().map(String::as_str), Some("reboot shop-1"));
        assert!(!fake.world().is_logical);
    }

    #[tokio::test(start_paused = true)]
    async fn previous_values_come_back_in_a_group_of_others() {
        let fake = Fake::new(0).with_group("theirs");
        let record = applied(&fake).await;
        undo(&fake, &record, Reboot::Never).await.unwrap();
        assert_eq!(fake.log(), ["reset theirs (1)"]);
        assert_eq!(undo(&fake, &record, Reboot::Never).await.unwrap(), [], "a second time changes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_in_use_is_waited_for() {
        let fake = Fake::new(0);
        let record = applied(&fake).await;
        fake.fail("delete", Kind::InvalidState, "InvalidDBParameterGroupState");
        undo(&fake, &record, Reboot::Never).await.unwrap();
        assert_eq!(fake.log()[1..], [format!("delete {OWN}"), format!("delete {OWN}")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_previous_group_that_is_gone_is_the_default_one() {
        let fake = Fake::new(0);
        let mut record = applied(&fake).await;
        record.previous_group = Some("gone".to_owned());
        undo(&fake, &record, Reboot::Never).await.unwrap();
        assert_eq!(fake.world().cluster.parameter_group, DEFAULT);
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_elses_attachment_stays() {
        let fake = Fake::new(0);
        let record = applied(&fake).await;
        let other = crate::aurora::logical_replication::fake::group("other");
        fake.world().groups.insert("other".to_owned(), other);
        "other".clone_into(&mut fake.world().cluster.parameter_group);
        undo(&fake, &record, Reboot::Writer).await.unwrap();
        assert_eq!(fake.log(), [format!("delete {OWN}")]);
    }

    #[tokio::test(start_paused = true)]
    async fn slots_forbid_it() {
        let fake = Fake::new(0);
        let record = applied(&fake).await;
        let desired = shop();
        let mut current = fetch(&fake, &desired, &record).await.unwrap().unwrap();
        let slots = vec!["orders".to_owned(), "users".to_owned()];
        current.settings =
            Some(crate::aurora::logical_replication::ServerSettings { logical_slots: slots, ..Default::default() });
        let error = undo_steps(&current, &record, Reboot::Never).unwrap_err();
        assert!(error.to_string().contains("logical replication slots exist: orders, users"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_done_is_nothing_to_undo() {
        let fake = Fake::new(0);
        assert_eq!(undo(&fake, &Record::default(), Reboot::Writer).await.unwrap(), []);
        assert_eq!(fake.log(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_a_cluster_that_is_gone_only_the_group_is_left() {
        let fake = Fake::new(0);
        let record = applied(&fake).await;
        "gone".clone_into(&mut fake.world().cluster.identifier);
        undo(&fake, &record, Reboot::Never).await.unwrap();
        assert_eq!(fake.log(), [format!("delete {OWN}")]);
    }
}
