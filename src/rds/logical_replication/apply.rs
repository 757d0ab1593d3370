// SPDX-License-Identifier: MPL-2.0

//! Does the steps, one after the other, and records what they changed.

use std::future::Future;

use super::checks::{is_fatal, refusals};
use super::current::{Current, fetch, found};
use super::identity::answerer;
use super::steps::steps;
use super::{Answerer, LogicalReplication, Operation, Probe, ProbeError, Record, ServerSettings, Step, remedy};
use crate::rds::api::{Cluster, Deployment, Instance, NewParameterGroup, RdsApi};
use crate::rds::parameters::{self, ParameterChange, Previous};
use crate::rds::wait::Seen;
use crate::rds::{Error, Kind, Result};

/// The phase of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is about to be done; the record already has its changes, but not a group that it will create.
    Started,
    /// It is done.
    Done,
}

/// An event before and after each step, so that the caller can log it and save the record.
#[derive(Debug, Clone, Copy)]
pub struct StepEvent<'a> {
    /// The step.
    pub step: &'a Step,
    /// Its phase.
    pub phase: Phase,
    /// The current record.
    pub record: &'a Record,
}

/// The receiver of these events.
pub type OnStep<'a> = dyn FnMut(StepEvent<'_>) + Send + 'a;

/// The cluster after an apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// Its current state, with the server's settings if known.
    pub current: Current,
    /// The new record.
    pub record: Record,
    /// The steps that were taken.
    pub steps: Vec<Step>,
}

/// How often the steps are taken at most. Steps that remain after the first round come from an event in between, such
/// as a failover to an instance that still waits for its reboot, or had no effect, such as a reboot that restored old
/// values.
const ROUNDS: usize = 2;

/// Brings the cluster to the desired state. Whatever happens, `on_step` has received the record for the changes so far.
pub async fn apply<A: RdsApi>(
    operation: &Operation<'_, A>,
    desired: &LogicalReplication,
    mut record: Record,
    on_step: &mut OnStep<'_>,
) -> Result<Applied> {
    if desired.verify && operation.probe.is_none() {
        return Err(Error::new(Kind::Refused, operation.doing(desired), "there is no connection to verify it over")
            .hint("Configure the provider's publisher block, or set verify = false"));
    }
    record.start_before_reboot = None;
    let (mut taken, mut rounds) = (Vec::new(), 0);
    loop {
        let current = Box::pin(operation.current(desired, &record)).await?;
        record.conclude_reboot(&current);
        let steps = steps(&current, desired, &record)?;
        if desired.manage_parameter_group {
            record.adopt(&current);
        }
        let is_done = if rounds == 0 { steps.is_empty() } else { !steps.iter().any(Step::is_change) };
        if is_done {
            record.left_values.clear();
            return Ok(Applied { current, record, steps: taken });
        }
        if rounds == ROUNDS {
            return still_pending(current, operation.doing(desired), record, taken);
        }
        rounds += 1;
        for step in &steps {
            remember_step(step, &current, desired, &mut record);
            on_step(StepEvent { step, phase: Phase::Started, record: &record });
            // The SDK's futures are large, and this one contains every kind of call.
            Box::pin(operation.take(step)).await?;
            conclude_step(step, desired, &mut record);
            on_step(StepEvent { step, phase: Phase::Done, record: &record });
        }
        taken.extend(steps);
    }
}

/// If the writer itself reports logical WAL, the goal is reached, whatever RDS shows.
fn still_pending(current: Current, doing: String, record: Record, steps: Vec<Step>) -> Result<Applied> {
    if current.settings.as_ref().is_some_and(ServerSettings::is_logical) {
        return Ok(Applied { current, record, steps });
    }
    let pending = current.cluster.members.iter().filter(|member| !member.is_in_sync());
    let pending: Vec<_> =
        pending.map(|member| format!("{} is still {}", member.instance, member.parameter_group_status)).collect();
    Err(Error::new(Kind::Unverified, doing, format!("after a further reboot, {}", pending.join(", ")))
        .hint("Look at the events of the instance in RDS, then apply again"))
}

impl StepEvent<'_> {
    /// Whether the record has changes that were made or are about to be made, so that a state must store it. A group
    /// that is about to be created can be found by its tag, if its creation succeeds unseen.
    #[must_use]
    pub fn is_worth_saving(&self) -> bool {
        match self.phase {
            Phase::Started => {
                self.step.is_change() && !matches!(self.step, Step::CreateGroup(_) | Step::DeleteGroup { .. })
            }
            Phase::Done => self.step.is_change(),
        }
    }
}

/// Updates the record before a step: the first value is the one to restore, whatever happened in between.
pub(super) fn remember_step(step: &Step, current: &Current, desired: &LogicalReplication, record: &mut Record) {
    match step {
        Step::SetParameters { group, changes } if *group == current.target_name => changes.iter().for_each(|change| {
            let previous = || Previous { value: change.from.clone(), source: change.from_source };
            record.previous_values.entry(change.name.clone()).or_insert_with(previous);
        }),
        Step::Tag { .. } => record.tag_keys.extend(desired.tags.keys().cloned()),
        Step::Attach { .. } if record.previous_group.is_none() => {
            record.previous_group = Some(current.attached.group.name.clone());
        }
        Step::RebootWriter { instance, .. } => {
            record.rebooting = Some(instance.clone());
            record.start_before_reboot = current.telling_start(record);
        }
        Step::RebootReader { instance, .. } => record.rebooting = Some(instance.clone()),
        _ => {}
    }
}

/// Updates the record after a step: a created group is ours to delete, and restored values need no record.
pub(super) fn conclude_step(step: &Step, desired: &LogicalReplication, record: &mut Record) {
    match step {
        Step::CreateGroup(_) => {
            record.group_created = true;
            record.tag_keys = desired.tags.keys().cloned().collect();
        }
        Step::SetParameters { group, .. } if record.left_values.remove(group).is_some() => {}
        Step::SetParameters { .. } => {
            let wanted = desired.desired_parameters();
            record.previous_values.retain(|name, _| wanted.contains_key(name));
        }
        Step::Tag { .. } => record.tag_keys.retain(|key| desired.tags.contains_key(key)),
        Step::DeleteGroup { group } => {
            record.obsolete_groups.remove(group);
        }
        Step::RebootWriter { .. } | Step::RebootReader { .. } => record.rebooting = None,
        _ => {}
    }
}

impl<A: RdsApi> Operation<'_, A> {
    fn doing(&self, desired: &LogicalReplication) -> String {
        format!("enabling logical replication on {} \"{}\"", self.api.deployment(), desired.cluster)
    }

    /// The cluster at rest, with the server's settings if it answers.
    pub(super) async fn current(&self, desired: &LogicalReplication, record: &Record) -> Result<Current> {
        let cluster = self.at_rest(&desired.cluster).await?;
        let doing = self.doing(desired);
        let missing = || Error::new(Kind::NotFound, &doing, "it is gone");
        if !is_fatal(&cluster.status) {
            if let Some(instance) = &record.rebooting {
                self.waiter.retry(&doing, || self.reboot_ended(&cluster.identifier, instance)).await?;
            }
            if let Some(writer) = cluster.writer() {
                self.waiter.retry(&doing, || self.was_restarted(&cluster.identifier, &writer.instance)).await?;
            }
        }
        let read = self.waiter.retry(&doing, || fetch(self.api, desired, record));
        let mut current = read.await?.ok_or_else(missing)?;
        if desired.verify && refusals(&current, desired, record).is_empty() {
            let (settings, answerer, cluster) = self.answered(&doing, &current, record).await?;
            current.cluster = cluster;
            current.hear(settings, answerer);
        }
        Ok(current)
    }

    /// The server's settings, its identity, and the cluster at that moment: a restart in between must not look like one
    /// that is still needed. A server that does not answer, or is another one, must be found before anything is
    /// changed, not after.
    async fn answered(
        &self,
        doing: &str,
        current: &Current,
        record: &Record,
    ) -> Result<(ServerSettings, Answerer, Cluster)> {
        let missing = || Error::new(Kind::Refused, doing, "there is no connection to verify it over");
        let probe = self.probe.ok_or_else(missing)?;
        let look = || self.look(probe, &current.cluster.identifier, &current.instances, record);
        let patient = self.waiter.at_most(self.patience.connect);
        let asked = patient.until(doing, look, |answer| match answer {
            Ok((_, who @ Answerer::Stranger(_), cluster)) => Err(stranger(&who, &cluster, doing)),
            // A host name that follows the writer does so with a delay after a failover.
            Ok((_, who @ Answerer::Reader(_), cluster)) => Ok(Seen::NotYet(objecting(&who, &cluster))),
            Ok(answered) => Ok(Seen::Done(answered)),
            Err(error) if error.is_transient => Ok(Seen::NotYet(error.message)),
            Err(error) => Err(unreachable(error, doing, self.api.deployment())),
        });
        asked.await.map_err(|error| match error.kind {
            Kind::Timeout => {
                let server = self.api.deployment().server();
                error.hint(format!("Let this machine reach the {server}, or set verify = false"))
            }
            _ => error,
        })
    }

    /// The server's settings, and its identity at that moment.
    pub(super) async fn look(
        &self,
        probe: &dyn Probe,
        cluster: &str,
        instances: &[Instance],
        record: &Record,
    ) -> Result<Result<(ServerSettings, Answerer, Cluster), ProbeError>> {
        let settings = match probe.settings().await {
            Ok(settings) => settings,
            Err(error) => return Ok(Err(error)),
        };
        let cluster = self.api.cluster(cluster).await?;
        let who = answerer(probe, &settings, &cluster, instances, record).await;
        Ok(Ok((settings, who, cluster)))
    }

    pub(super) async fn take(&self, step: &Step) -> Result<()> {
        let text = step.to_string();
        self.waiter.check_cancelled(&text)?;
        tracing::info!(step = text, "taking a step");
        match step {
            Step::CreateGroup(group) => self.create_group(group).await,
            Step::SetParameters { group, changes } => self.set_parameters(group, changes).await,
            Step::Tag { arn, add, remove, .. } => {
                if !remove.is_empty() {
                    self.retry_fresh(&text, || self.api.remove_tags(arn, remove)).await?;
                }
                if add.is_empty() { Ok(()) } else { self.retry_fresh(&text, || self.api.add_tags(arn, add)).await }
            }
            Step::Attach { cluster, group, otherwise, .. } => self.attach(cluster, group, otherwise.as_deref()).await,
            Step::WaitUntilAvailable { cluster, until_reboot_is_pending } => {
                self.settled(cluster, *until_reboot_is_pending).await
            }
            Step::RebootWriter { cluster, instance, since, .. } => {
                let since = since.map(|since| (instance.as_str(), since));
                self.reboot_writer(cluster, since).await.map(drop)
            }
            Step::RebootReader { cluster, instance } => self.reboot_reader(cluster, instance).await,
            Step::Verify { cluster, may_reboot, start_before_reboot } => {
                self.verify(cluster, *may_reboot, *start_before_reboot).await
            }
            Step::RefuseSlots { cluster, start } => self.refuse_slots(cluster, *start).await,
            Step::DeleteGroup { group } => self.delete_group(group).await,
        }
    }

    /// Retries while a new group is not known everywhere yet.
    async fn retry_fresh<T, F: Future<Output = Result<T>>>(&self, doing: &str, call: impl Fn() -> F) -> Result<T> {
        let briefly = self.waiter.at_most(self.patience.settle);
        let patient = || async {
            match call().await {
                Err(error) if is_group_missing(&error) && !briefly.is_over() => {
                    Err(Error { kind: Kind::InvalidState, ..error })
                }
                answer => answer,
            }
        };
        self.waiter.retry(doing, patient).await
    }

    /// Creates a group, and waits until it is visible.
    async fn create_group(&self, group: &NewParameterGroup) -> Result<()> {
        let doing = format!("waiting for parameter group \"{}\"", group.name);
        self.waiter.retry(&doing, || self.api.create_parameter_group(group)).await?;
        let look = || async { found(self.api.parameter_group(&group.name).await) };
        self.waiter
            .until(&doing, look, |seen| match seen {
                Some(_) => Ok(Seen::Done(())),
                None => Ok(Seen::NotYet("it does not show yet".to_owned())),
            })
            .await
    }

    async fn set_parameters(&self, group: &str, changes: &[ParameterChange]) -> Result<()> {
        let doing = format!("setting parameters of \"{group}\"");
        let (set, reset): (Vec<_>, Vec<_>) =
            changes.iter().map(ParameterChange::setting).partition(|setting| setting.value.is_some());
        for portion in parameters::portions(&set) {
            self.retry_fresh(&doing, || self.api.modify_parameters(group, portion)).await?;
        }
        for portion in parameters::portions(&reset) {
            self.retry_fresh(&doing, || self.api.reset_parameters(group, portion)).await?;
        }
        self.shown(group, changes).await
    }

    /// Waits for a while until the group shows its new values: attaching it earlier would apply the old ones.
    async fn shown(&self, group: &str, changes: &[ParameterChange]) -> Result<()> {
        let doing = format!("waiting for the parameters of \"{group}\"");
        let look = || async { self.api.parameters(group).await };
        let briefly = self.waiter.at_most(self.patience.settle);
        let waited = briefly.until(&doing, look, |parameters| {
            let is_shown = |change: &ParameterChange| {
                parameters.iter().any(|one| {
                    let value = one.value.as_deref();
                    one.name == change.name
                        && (change.to.is_none() || parameters::same_value(one, value, change.to.as_deref()))
                })
            };
            Ok(if changes.iter().all(is_shown) { Seen::Done(()) } else { Seen::NotYet(String::new()) })
        });
        patiently(waited.await)
    }

    async fn attach(&self, cluster: &str, group: &str, otherwise: Option<&str>) -> Result<()> {
        let doing = format!("attaching parameter group \"{group}\"");
        let Some(other) = otherwise else {
            return self.retry_fresh(&doing, || self.api.attach_parameter_group(cluster, group)).await;
        };
        match self.waiter.retry(&doing, || self.api.attach_parameter_group(cluster, group)).await {
            Err(error) if is_group_missing(&error) => {
                self.waiter.retry(&doing, || self.api.attach_parameter_group(cluster, other)).await
            }
            attached => attached,
        }
    }

    /// RDS reports a detached group as in use for a short time, so deletion is retried.
    async fn delete_group(&self, group: &str) -> Result<()> {
        let doing = format!("deleting parameter group \"{group}\"");
        let deleted = self.waiter.retry(&doing, || self.api.delete_parameter_group(group)).await;
        found(deleted).map(drop)
    }
}

fn is_group_missing(error: &Error) -> bool {
    let codes = ["DBParameterGroupNotFound", "DBClusterParameterGroupNotFound"];
    error.code.as_deref().is_some_and(|code| codes.contains(&code))
}

pub(super) fn unreachable(error: ProbeError, doing: &str, deployment: Deployment) -> Error {
    Error::new(Kind::Unverified, doing, format!("the {} cannot be asked: {}", deployment.server(), error.message))
        .hint("Correct the provider's publisher connection, or set verify = false")
}

/// A sentence about why the server's answer does not count.
pub(super) fn objecting(who: &Answerer, cluster: &Cluster) -> String {
    format!("the provider's publisher connection {}", who.objection(cluster).unwrap_or_default())
}

/// The error if the server does not belong to the cluster.
pub(super) fn stranger(who: &Answerer, cluster: &Cluster, doing: &str) -> Error {
    Error::new(Kind::Refused, doing, objecting(who, cluster))
        .hint(format!("{}, or set verify = false", remedy(cluster)))
}

/// Treats the end of a grace period as success.
pub(super) fn patiently(waited: Result<()>) -> Result<()> {
    match waited {
        Err(error) if error.kind == Kind::Timeout => Ok(()),
        waited => waited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rds::RdsClusters;
    use crate::rds::logical_replication::Reboot;
    use crate::rds::logical_replication::fake::{DEFAULT, Fake, Lags, OWN};

    /// The future must be `Send`, because the provider runs it in a spawned task.
    #[test]
    fn can_be_spawned() {
        fn sendable<T: Send>(value: T) -> T {
            value
        }
        let _ = |operation: &'static Operation<'static, RdsClusters>,
                 desired: &'static LogicalReplication,
                 on_step: &'static mut OnStep<'static>| {
            drop(sendable(apply(operation, desired, Record::default(), on_step)));
        };
    }

    fn shop() -> LogicalReplication {
        LogicalReplication::new("shop")
    }

    async fn run(fake: &Fake, desired: &LogicalReplication) -> Result<Applied> {
        let operation = fake.operation(Some(fake), 60);
        apply(&operation, desired, Record::default(), &mut |_| {}).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_becomes_logical_and_a_second_apply_does_nothing() {
        let fake = Fake::new(0);
        let applied = run(&fake, &shop()).await.unwrap();
        let calls = [
            "create shop-logical-replication",
            "modify shop-logical-replication (1)",
            "attach shop-logical-replication",
            "reboot shop-1",
        ];
        assert_eq!(fake.log(), calls);
        assert!(applied.current.settings.unwrap().is_logical());
        assert_eq!(run(&fake, &shop()).await.unwrap().steps, []);
        assert_eq!(fake.log(), calls);
    }

    #[tokio::test(start_paused = true)]
    async fn the_record_is_told_before_and_after_every_step() {
        let fake = Fake::new(0);
        let operation = fake.operation(Some(&fake), 60);
        let mut told = Vec::new();
        let mut on_step = |event: StepEvent<'_>| {
            let record = event.record;
            told.push((event.phase, record.group_created, record.previous_values.len(), record.previous_group.clone()));
        };
        apply(&operation, &shop(), Record::default(), &mut on_step).await.unwrap();
        let default = Some(DEFAULT.to_owned());
        assert_eq!(
            told[..6],
            [
                (Phase::Started, false, 0, None),
                (Phase::Done, true, 0, None),
                (Phase::Started, true, 1, None),
                (Phase::Done, true, 1, None),
                (Phase::Started, true, 1, default.clone()),
                (Phase::Done, true, 1, default),
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn parameters_are_sent_in_portions() {
        let fake = Fake::new(0);
        let mut desired = shop();
        desired.parameters.extend((0..45).map(|n| (format!("p{n:02}"), "1".to_owned())));
        run(&fake, &desired).await.unwrap();
        let modified: Vec<_> = fake.log().into_iter().filter(|call| call.starts_with("modify")).collect();
        assert_eq!(modified, [20, 20, 6].map(|n| format!("modify {OWN} ({n})")));
    }

    #[tokio::test(start_paused = true)]
    async fn available_before_rebooting_is_not_back() {
        let fake = Fake::new(0).lags(Lags { away: 50, back: 100, in_sync: 130, ..Lags::default() });
        let applied = run(&fake, &shop()).await.unwrap();
        assert!(!applied.current.is_reboot_pending());
        assert_eq!(fake.log().iter().filter(|call| call.starts_with("reboot")).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reboot_between_two_looks_is_proven_by_the_status() {
        let fake = Fake::new(0).lags(Lags { away: 0, back: 0, in_sync: 1, ..Lags::default() });
        assert!(run(&fake, &shop()).await.unwrap().current.settings.unwrap().is_logical());
        assert_eq!(fake.log().len(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_is_not_logical_is_rebooted_once_more() {
        let fake = Fake::new(0).lags(Lags { reboots_in_vain: 1, ..Lags::default() });
        assert!(run(&fake, &shop()).await.unwrap().current.settings.unwrap().is_logical());
        assert_eq!(fake.log()[3..], ["reboot shop-1", "reboot shop-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn and_then_it_fails() {
        let fake = Fake::new(0).lags(Lags { reboots_in_vain: 9, ..Lags::default() });
        let error = run(&fake, &shop()).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unverified);
        let text = error.to_string();
        assert!(text.contains("after a further reboot of \"shop-1\", wal_level is replica"), "{text}");
        assert_eq!(fake.log()[3..], ["reboot shop-1", "reboot shop-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_that_fails_ends_the_wait() {
        let fake = Fake::new(0).lags(Lags { away_status: "incompatible-parameters", ..Lags::default() });
        let error = run(&fake, &shop()).await.unwrap_err();
        assert!(error.to_string().contains("it is incompatible-parameters"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_timeout_ends_everything() {
        let fake = Fake::new(0).lags(Lags { back: 1_000_000, ..Lags::default() });
        let operation = fake.operation(Some(&fake), 5);
        let error = apply(&operation, &shop(), Record::default(), &mut |_| {}).await.unwrap_err();
        assert_eq!(error.kind, Kind::Timeout);
        assert!(error.to_string().contains("it is rebooting"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn busy_objects_are_tried_again() {
        let fake = Fake::new(0);
        fake.fail("attach", Kind::InvalidState, "InvalidDBClusterStateFault");
        fake.fail("reboot", Kind::InvalidState, "InvalidDBInstanceState");
        run(&fake, &shop()).await.unwrap();
        assert_eq!(
            fake.log()[2..],
            [&format!("attach {OWN}"), &format!("attach {OWN}"), "reboot shop-1", "reboot shop-1"]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_stops_where_it_is() {
        let fake = Fake::new(0);
        fake.fail("attach", Kind::Denied, "AccessDenied");
        assert_eq!(run(&fake, &shop()).await.unwrap_err().kind, Kind::Denied);
        assert_eq!(fake.log().last(), Some(&format!("attach {OWN}")));
        let finished = run(&fake, &shop()).await.unwrap();
        assert!(finished.record.group_created, "the tag says so, although the record was lost");
        assert_eq!(finished.record.previous_group.as_deref(), Some(DEFAULT));
        assert_eq!(fake.log().iter().filter(|call| call.starts_with("create")).count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_that_was_not_made_is_not_ours() {
        let fake = Fake::new(0);
        fake.fail("create", Kind::AlreadyExists, "DBParameterGroupAlreadyExists");
        let mut last = None;
        let operation = fake.operation(Some(&fake), 60);
        let mut on_step = |event: StepEvent<'_>| last = Some(event.record.clone());
        apply(&operation, &shop(), Record::default(), &mut on_step).await.unwrap_err();
        assert!(!last.unwrap().group_created);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reboot_on_its_way_is_not_done_again() {
        let fake = Fake::new(0);
        let operation = fake.operation(Some(&fake), 60);
        let cut_off = async {
            let desired = shop();
            let mut on_step = |_: StepEvent<'_>| {};
            let applying = apply(&operation, &desired, Record::default(), &mut on_step);
            let rebooting = async {
                while fake.world().instances[0].status != "rebooting" {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
            };
            tokio::select! { _ = applying => panic!("it ended"), () = rebooting => {} }
        };
        cut_off.await;
        assert!(run(&fake, &shop()).await.unwrap().current.settings.unwrap().is_logical());
        assert_eq!(fake.log()[3..], ["reboot shop-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_is_stopped_on_the_way_ends_it() {
        let fake = Fake::new(0);
        let operation = fake.operation(Some(&fake), 60);
        let mut on_step = |event: StepEvent<'_>| {
            if event.step.reboots().is_some() {
                "stopped".clone_into(&mut fake.world().cluster.status);
            }
        };
        let error = apply(&operation, &shop(), Record::default(), &mut on_step).await.unwrap_err();
        assert!(error.to_string().contains("it is stopped"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_writer_that_does_not_answer_is_found_out_before_anything_changes() {
        for (is_transient, kind) in [(true, Kind::Timeout), (false, Kind::Unverified)] {
            let fake = Fake::new(0);
            let probe = move || async move {
                Err::<ServerSettings, _>(ProbeError { message: "no route".to_owned(), is_transient })
            };
            let operation = fake.operation(Some(&probe), 60);
            let error = apply(&operation, &shop(), Record::default(), &mut |_| {}).await.unwrap_err();
            assert_eq!(error.kind, kind);
            assert!(error.to_string().contains("no route"), "{error}");
            assert_eq!(fake.log(), [""; 0]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn verifying_needs_a_connection() {
        let fake = Fake::new(0);
        let error = apply(&fake.operation(None, 5), &shop(), Record::default(), &mut |_| {}).await.unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
        assert_eq!(fake.log(), [""; 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn readers_follow_one_after_the_other() {
        let fake = Fake::new(2);
        run(&fake, &LogicalReplication { reboot: Reboot::All, ..shop() }).await.unwrap();
        assert_eq!(fake.log()[3..], ["reboot shop-2", "reboot shop-3", "reboot shop-1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn tags_follow_the_configuration() {
        let fake = Fake::new(0);
        let mut desired = shop();
        desired.tags.insert("team".to_owned(), "orders".to_owned());
        let record = run(&fake, &desired).await.unwrap().record;
        desired.tags = [("owner".to_owned(), "me".to_owned())].into();
        let operation = fake.operation(Some(&fake), 60);
        apply(&operation, &desired, record, &mut |_| {}).await.unwrap();
        let tags = fake.world().groups[OWN].tags.clone();
        assert_eq!(tags.get("owner").map(String::as_str), Some("me"));
        assert!(!tags.contains_key("team"));
        assert!(tags.contains_key("neonrepl:cluster"), "ours stay");
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_with_another_ones_name_is_not_taken() {
        let fake = Fake::new(0);
        let other = crate::rds::logical_replication::fake::group(OWN);
        fake.world().groups.insert(OWN.to_owned(), other);
        let error = run(&fake, &shop()).await.unwrap_err();
        assert!(error.to_string().contains("exists and was not created for it"), "{error}");
        let asked = LogicalReplication { parameter_group_name: Some(OWN.to_owned()), ..shop() };
        assert!(!run(&fake, &asked).await.unwrap().record.group_created);
    }
}
