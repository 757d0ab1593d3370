// SPDX-License-Identifier: MPL-2.0

//! Undoes logical replication: restores the previous group or the previous values.

use super::apply::{OnStep, Phase, StepEvent, objecting, unreachable};
use super::checks::is_fatal;
use super::current::{Current, fetch, found};
use super::steps::{left_groups, reboot_steps};
use super::{Answerer, LogicalReplication, Operation, Reboot, Record, ServerSettings, Step, remedy};
use crate::rds::api::{Cluster, Instance, RdsApi};
use crate::rds::parameters::{self, ParameterChange};
use crate::rds::wait::Seen;
use crate::rds::{Error, Kind, Result};

/// The steps that restore the cluster. `reboot` says which instances may be rebooted for it; otherwise the old values
/// take effect at the next restart.
///
/// Fails while logical slots exist, because a server with a logical slot does not start with `wal_level` below
/// logical; before a reboot if slots cannot be checked; and while other clusters use the group that must be deleted.
pub fn undo_steps(current: &Current, record: &Record, reboot: Reboot) -> Result<Vec<Step>> {
    let Some(group) = record.group.as_ref() else {
        return Ok(Vec::new());
    };
    let steps = giving_back(current, record, group, reboot);
    refuse_slots(current)?;
    refuse_sharing(current, record, group)?;
    refuse_unproven(current, &steps)?;
    refuse_blind_reboot(current, &steps)?;
    Ok(steps)
}

/// The same steps without these checks, for a plan: an obstacle may be gone by then, for example the slot of a
/// subscription that is destroyed first.
#[must_use]
pub fn undo_outlook(current: &Current, record: &Record, reboot: Reboot) -> Vec<Step> {
    record.group.as_ref().map(|group| giving_back(current, record, group, reboot)).unwrap_or_default()
}

fn giving_back(current: &Current, record: &Record, group: &str, reboot: Reboot) -> Vec<Step> {
    let cluster = &current.cluster.identifier;
    let mut steps: Vec<Step> = attach_previous(current, record, group).into_iter().collect();
    let mut needs_reboot = !steps.is_empty();
    if let Some((step, is_static)) = restoring(current, record) {
        needs_reboot |= current.cluster.parameter_group == *group && is_static;
        steps.push(step);
    }
    steps.extend(left_groups(current, record));
    // A reboot that an earlier destroy did not do is needed too.
    needs_reboot |= current.is_reboot_pending();
    if !steps.is_empty() {
        let until_reboot_is_pending = needs_reboot && reboot != Reboot::Never && !current.is_reboot_pending();
        steps.push(Step::WaitUntilAvailable { cluster: cluster.clone(), until_reboot_is_pending });
    }
    if record.group_created {
        steps.push(Step::DeleteGroup { group: group.to_owned() });
    }
    steps.extend(obsolete(record));
    let reboots = if needs_reboot { reboot_steps(current, reboot, |_| true) } else { Vec::new() };
    if !reboots.is_empty() {
        let start = current.settings.as_ref().and_then(|settings| settings.started_at);
        steps.push(Step::RefuseSlots { cluster: cluster.clone(), start });
    }
    steps.extend(reboots);
    steps
}

/// The note about a previous group that the cluster cannot use any more.
pub(super) fn outgrown_note(current: &Current, record: &Record) -> Option<String> {
    let previous = record.previous_group.as_ref().filter(|previous| !current.fits(previous))?;
    let attaches = record.group.as_ref().and_then(|group| attach_previous(current, record, group)).is_some();
    let (family, cluster) = (current.family(), &current.cluster.identifier);
    attaches.then(|| {
        format!(
            "{previous}, which was attached before, does not fit the family {family} that {cluster} was upgraded \
             to: default.{family} is attached instead."
        )
    })
}

/// Attaches the previous group, or the family's default if there is none.
fn attach_previous(current: &Current, record: &Record, group: &str) -> Option<Step> {
    let previous = record.previous_group.as_ref().filter(|previous| *previous != group);
    if current.cluster.parameter_group != *group || (previous.is_none() && !record.group_created) {
        return None;
    }
    let default = format!("default.{}", current.family());
    let fitting = previous.filter(|previous| current.fits(previous));
    Some(Step::Attach {
        cluster: current.cluster.identifier.clone(),
        group: fitting.unwrap_or(&default).clone(),
        instead_of: group.to_owned(),
        otherwise: Some(default),
    })
}

/// The step that restores the values of a group that stays, and whether any needs a reboot. A deleted group needs none.
fn restoring(current: &Current, record: &Record) -> Option<(Step, bool)> {
    let target = current.target.as_ref().filter(|target| record.group.as_ref() == Some(&target.group.name))?;
    let changes = parameters::restoring(&target.parameters, &record.previous_values);
    let is_static = changes.iter().any(ParameterChange::needs_reboot);
    let group = target.group.name.clone();
    (!record.group_created && !changes.is_empty()).then_some((Step::SetParameters { group, changes }, is_static))
}

fn refused(cluster: &Cluster, what: String) -> Error {
    let doing = format!("disabling logical replication on {} \"{}\"", cluster.deployment, cluster.identifier);
    Error::new(Kind::Refused, doing, what)
}

fn refuse_slots(current: &Current) -> Result<()> {
    let slots = current.settings.as_ref().map(|settings| settings.logical_slots.as_slice()).unwrap_or_default();
    if slots.is_empty() {
        return Ok(());
    }
    let whole = current.cluster.deployment.whole();
    Err(refused(&current.cluster, format!("logical replication slots exist: {}", slots.join(", "))).hint(format!(
        "Drop the subscriptions that use them, or set skip_destroy = true to leave the {whole} as it is"
    )))
}

fn refuse_sharing(current: &Current, record: &Record, group: &str) -> Result<()> {
    // If the policy forbids the check, AWS itself refuses to delete a group in use.
    let others = current.sharing.as_deref().unwrap_or_default();
    let is_shared = record.group_created && !others.is_empty() && current.target_name == group;
    let target = is_shared.then_some((group, others));
    let earlier = current.still_used.iter().map(|(group, others)| (group.as_str(), others.as_slice()));
    let Some((group, others)) = target.into_iter().chain(earlier).next() else { return Ok(()) };
    let others = others.join(", ");
    let what = format!("parameter group \"{group}\", which is to be deleted, is also attached to {others}");
    Err(refused(&current.cluster, what)
        .hint("Attach another group there first, or set skip_destroy = true to leave everything as it is"))
}

/// Whether a server with logical slots could not start after these steps, now or later.
fn endangers_slots(current: &Current, steps: &[Step]) -> bool {
    steps.iter().any(|step| match step {
        Step::Attach { .. } => true,
        Step::SetParameters { group, .. } => *group == current.cluster.parameter_group,
        step => step.reboots().is_some(),
    })
}

/// If slots were checked on another server, this one may still have some.
fn refuse_unproven(current: &Current, steps: &[Step]) -> Result<()> {
    let Some(objection) = current.objection().filter(|_| endangers_slots(current, steps)) else { return Ok(()) };
    let server = current.cluster.deployment.server();
    let what = format!(
        "its logical replication slots could not be listed: the provider's publisher connection {objection}. If \
         there is one, the {server} will not start again"
    );
    let leave = "or set skip_destroy = true to leave the parameters as they are";
    Err(refused(&current.cluster, what).hint(format!("{}, {leave}", remedy(&current.cluster))))
}

/// With `verify`, slots must be checked too.
fn refuse_blind(current: &Current, steps: &[Step]) -> Result<()> {
    if current.answerer.is_some() || !endangers_slots(current, steps) {
        return Ok(());
    }
    Err(blind(
        &current.cluster,
        "skip_destroy = true. With verify = false and reboot_on_destroy = false, they are not looked for",
    ))
}

fn refuse_blind_reboot(current: &Current, steps: &[Step]) -> Result<()> {
    if current.settings.is_some() || !steps.iter().any(|step| step.reboots().is_some()) {
        return Ok(());
    }
    Err(blind(&current.cluster, "reboot_on_destroy = false"))
}

/// The error if slots cannot be checked. `otherwise` is what to set instead of a connection.
fn blind(cluster: &Cluster, otherwise: &str) -> Error {
    let server = cluster.deployment.server();
    refused(cluster, "without a connection it is not known whether logical replication slots exist".to_owned()).hint(
        format!(
            "If there is one, the {server} will not start again. Configure the provider's publisher, or set \
             {otherwise}"
        ),
    )
}

/// Restores the cluster, as far as `record` knows. If the cluster is gone, only deletes its group. `reboot` is
/// [`Reboot::Never`] unless the user asked for it.
pub async fn destroy<A: RdsApi>(
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
            let steps = undo_steps(&current, &record, reboot)?;
            if desired.verify {
                refuse_blind(&current, &steps)?;
            }
            steps
        }
        None => leftover(record),
    };
    for step in &steps {
        on_step(StepEvent { step, phase: Phase::Started, record });
        Box::pin(operation.take(step)).await?;
        on_step(StepEvent { step, phase: Phase::Done, record });
    }
    Ok(steps)
}

async fn fetch_at_rest<A: RdsApi>(
    operation: &Operation<'_, A>,
    desired: &LogicalReplication,
    record: &Record,
) -> Result<Option<Current>> {
    let cluster = match operation.at_rest(&desired.cluster).await {
        Err(error) if error.kind == Kind::NotFound => return Ok(None),
        at_rest => at_rest?,
    };
    if cluster.status == "deleting" {
        return operation.gone(&desired.cluster).await.map(|()| None);
    }
    if is_fatal(&cluster.status) && record.group.is_some() {
        let what = format!("it is {}", cluster.status);
        return Err(
            refused(&cluster, what).hint("Start or repair it first, or set skip_destroy = true to leave it as it is")
        );
    }
    let doing = format!("reading {} \"{}\"", operation.api.deployment(), desired.cluster);
    if let Some(writer) = cluster.writer() {
        operation.waiter.retry(&doing, || operation.was_restarted(&cluster.identifier, &writer.instance)).await?;
    }
    let Some(mut current) = operation.waiter.retry(&doing, || fetch(operation.api, desired, record)).await? else {
        return Ok(None);
    };
    if let Some((settings, who)) = operation.slots(&desired.cluster, &current.instances, record).await? {
        current.hear(settings, who);
    }
    Ok(Some(current))
}

impl<A: RdsApi> Operation<'_, A> {
    /// Waits until a cluster that is being deleted is gone.
    async fn gone(&self, cluster: &str) -> Result<()> {
        let doing = format!("waiting for {} \"{cluster}\" to be gone", self.api.deployment());
        let look = || async { found(self.api.cluster(cluster).await) };
        self.waiter
            .until(&doing, look, |seen| match seen {
                Some(cluster) => Ok(Seen::NotYet(format!("it is {}", cluster.status))),
                None => Ok(Seen::Done(())),
            })
            .await
    }

    /// The server's settings and its identity, if it can be queried.
    async fn slots(
        &self,
        cluster: &str,
        instances: &[Instance],
        record: &Record,
    ) -> Result<Option<(ServerSettings, Answerer)>> {
        let Some(probe) = self.probe else {
            return Ok(None);
        };
        let doing = format!("looking for logical replication slots on {} \"{cluster}\"", self.api.deployment());
        let briefly = self.waiter.at_most(self.patience.settle);
        let look = || self.look(probe, cluster, instances, record);
        let asked = briefly.until(&doing, look, |answer| match answer {
            // A host name that follows the writer does so with a delay after a failover.
            Ok((_, who @ Answerer::Reader(_), cluster)) if !briefly.is_over() => {
                Ok(Seen::NotYet(objecting(&who, &cluster)))
            }
            Ok((settings, who, _)) => Ok(Seen::Done((settings, who))),
            Err(error) if error.is_transient && !briefly.is_over() => Ok(Seen::NotYet(error.message)),
            Err(error) => {
                let deployment = self.api.deployment();
                let reach = format!("Let this machine reach the {}, or set skip_destroy = true", deployment.server());
                Err(unreachable(error, &doing, deployment).hint(reach))
            }
        });
        asked.await.map(Some)
    }

    /// Checks again: a slot may have been created since the destroy began.
    pub(super) async fn refuse_slots(&self, cluster: &str, start: Option<i64>) -> Result<()> {
        let doing = format!("looking for logical replication slots on {} \"{cluster}\"", self.api.deployment());
        let known = Record { proven_start: start, ..Record::default() };
        let instances = self.waiter.retry(&doing, || self.api.cluster_instances(cluster)).await?;
        let cluster = self.waiter.retry(&doing, || self.api.cluster(cluster)).await?;
        let mut current = Current { cluster, instances, ..Current::default() };
        if let Some((settings, who)) = self.slots(&current.cluster.identifier, &current.instances, &known).await? {
            current.hear(settings, who);
        }
        refuse_slots(&current)?;
        let reboot = current.writer().unwrap_or_default().to_owned();
        let (cluster, along) = (current.cluster.identifier.clone(), Vec::new());
        refuse_unproven(&current, &[Step::RebootWriter { cluster, instance: reboot, along, since: None }])
    }
}

fn leftover(record: &Record) -> Vec<Step> {
    let own = record.group.iter().filter(|_| record.group_created);
    let own = own.map(|group| Step::DeleteGroup { group: group.clone() });
    own.chain(obsolete(record)).collect()
}

/// Groups that the provider created, and that an interrupted apply has not deleted.
fn obsolete(record: &Record) -> impl Iterator<Item = Step> {
    record.obsolete_groups.iter().map(|group| Step::DeleteGroup { group: group.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rds::api::Deployment;
    use crate::rds::logical_replication::apply;
    use crate::rds::logical_replication::fake::{DEFAULT, Fake, OWN};

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

    #[test]
    fn an_instance_by_itself_is_called_one() {
        let instance = |answerer, settings| Current {
            cluster: Cluster {
                deployment: Deployment::RdsInstance,
                identifier: "shop".to_owned(),
                parameter_group: "own".to_owned(),
                ..Cluster::default()
            },
            answerer,
            settings,
            ..Current::default()
        };
        let slots = ServerSettings { logical_slots: vec!["neon".to_owned()], ..ServerSettings::default() };
        let (with_slots, blind) = (instance(Some(Answerer::Writer), Some(slots)), instance(None, None));
        let stranger = instance(Some(Answerer::Stranger("leads elsewhere".to_owned())), None);
        let (cluster, otherwise) = ("shop".to_owned(), Vec::new());
        let steps = [Step::RebootWriter { instance: cluster.clone(), cluster, along: otherwise, since: None }];
        for refused in [
            refuse_slots(&with_slots),
            refuse_unproven(&stranger, &steps),
            refuse_blind(&blind, &steps),
            refuse_blind_reboot(&blind, &steps),
        ] {
            let text = refused.unwrap_err().to_string();
            assert!(text.contains("DB instance \"shop\"") && !text.contains("cluster"), "{text}");
            assert!(!text.contains("writer"), "{text}");
        }
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
        let other = crate::rds::logical_replication::fake::group("other");
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
            Some(crate::rds::logical_replication::ServerSettings { logical_slots: slots, ..Default::default() });
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
