// SPDX-License-Identifier: MPL-2.0

//! Decides the steps from the current state. Pure.

use super::checks::refusals;
use super::{Current, LogicalReplication, PREVIOUS_GROUP_TAG, Reboot, Record, ServerSettings, Step};
use crate::rds::Result;
use crate::rds::api::{Cluster, Member, NewParameterGroup};
use crate::rds::parameters::{self, ParameterChange, Parameters};

/// The steps to the desired state; empty if it is reached. Fails with the first of [`refusals`].
pub fn steps(current: &Current, desired: &LogicalReplication, record: &Record) -> Result<Vec<Step>> {
    if let Some(refusal) = refusals(current, desired, record).into_iter().next() {
        return Err(refusal);
    }
    let mut steps = Vec::new();
    let needs_reboot = desired.manage_parameter_group && group_steps(current, desired, record, &mut steps);
    let is_pending = current.is_reboot_pending();
    let cluster = &current.cluster.identifier;
    if !steps.is_empty() || needs_reboot || is_pending {
        // If only the writer itself reports that it is pending, RDS has not noticed the new values yet.
        let is_unnoticed = current.cluster.writer().is_some_and(Member::is_in_sync);
        let until_reboot_is_pending = is_unnoticed && (needs_reboot || is_pending && desired.reboot != Reboot::Never);
        steps.push(Step::WaitUntilAvailable { cluster: cluster.clone(), until_reboot_is_pending });
    }
    match needs_reboot || is_pending {
        true => steps.extend(reboot_steps(current, desired.reboot, |reader| needs_reboot || !reader.is_in_sync())),
        false if desired.reboot == Reboot::All => steps.extend(pending_reader_steps(&current.cluster)),
        false => {}
    }
    steps.extend(verify_step(current, desired, record, needs_reboot || is_pending));
    if desired.manage_parameter_group {
        steps.extend(left_groups(current, record));
        steps.extend(obsolete_groups(current, record));
    }
    Ok(steps)
}

/// A writer that already reports logical WAL, and is not rebooted, need not be asked again. A server that was not
/// identified is only worth asking after a reboot, which identifies it.
fn verify_step(current: &Current, desired: &LogicalReplication, record: &Record, needs_reboot: bool) -> Option<Step> {
    let may_reboot = desired.reboot != Reboot::Never;
    let is_known_logical = !needs_reboot && current.settings.as_ref().is_some_and(ServerSettings::is_logical);
    let is_worth_asking = needs_reboot || current.objection().is_none();
    let is_asked = desired.verify && !is_known_logical && is_worth_asking && (may_reboot || !needs_reboot);
    let start_before_reboot = current.telling_start(record).filter(|_| needs_reboot);
    is_asked.then(|| Step::Verify { cluster: current.cluster.identifier.clone(), may_reboot, start_before_reboot })
}

/// The steps on the parameter group, and whether they need a reboot.
fn group_steps(current: &Current, desired: &LogicalReplication, record: &Record, steps: &mut Vec<Step>) -> bool {
    let group = &current.target_name;
    let present = match &current.target {
        Some(target) => &target.parameters,
        None => &current.attached.parameters,
    };
    if current.target.is_none() {
        steps.push(Step::CreateGroup(new_group(current, desired, record)));
    }
    let changes = changes(current, present, desired, record);
    let mut needs_reboot = changes.iter().any(ParameterChange::needs_reboot);
    if !changes.is_empty() {
        steps.push(Step::SetParameters { group: group.clone(), changes });
    }
    steps.extend(tag_step(current, desired, record));
    if !current.is_attached() {
        // RDS then marks every member as pending-reboot, even if the values are the same.
        needs_reboot = true;
        steps.push(Step::Attach {
            cluster: current.cluster.identifier.clone(),
            group: group.clone(),
            instead_of: current.attached.group.name.clone(),
            otherwise: None,
        });
    }
    needs_reboot
}

/// A custom group that the user wants to leave is copied, so that none of its settings is lost. If the provider
/// created that group, its predecessor counts as the previous one.
fn new_group(current: &Current, desired: &LogicalReplication, record: &Record) -> NewParameterGroup {
    let attached = &current.attached;
    let name = &attached.group.name;
    let is_ours = record.replaced_group(&current.target_name) == Some(name) || attached.is_made_for(&current.cluster);
    let before = record.previous_group.as_ref().or(attached.previous_group()).filter(|_| is_ours);
    let mut tags = desired.tags.clone();
    tags.insert(current.cluster.deployment.tag().to_owned(), current.cluster.identifier.clone());
    tags.insert(PREVIOUS_GROUP_TAG.to_owned(), before.unwrap_or(name).clone());
    NewParameterGroup {
        name: current.target_name.clone(),
        family: attached.group.family.clone(),
        description: format!("Logical replication for {} {}", current.cluster.deployment, current.cluster.identifier),
        tags,
        copy_of: (!attached.group.is_default()).then(|| name.clone()),
    }
}

/// Groups that the provider created and that the target replaces, unless others still use them.
fn obsolete_groups(current: &Current, record: &Record) -> impl Iterator<Item = Step> {
    let unused = record.obsolete_groups(current).into_iter().filter(|group| !current.still_used.contains_key(group));
    unused.map(|group| Step::DeleteGroup { group })
}

/// The changes to the desired values, and back to the old ones for parameters that are no longer desired.
fn changes(
    current: &Current,
    present: &Parameters,
    desired: &LogicalReplication,
    record: &Record,
) -> Vec<ParameterChange> {
    let wanted = desired.desired_parameters();
    let mut given_up = record.previous_values.clone();
    given_up.retain(|name, _| !wanted.contains_key(name) && !record.is_of_another(current));
    let mut changes = parameters::changes(present, &wanted);
    changes.extend(parameters::restoring(present, &given_up));
    changes
}

fn tag_step(current: &Current, desired: &LogicalReplication, record: &Record) -> Option<Step> {
    let target = current.target.as_ref()?;
    if !record.group_created && !target.is_made_for(&current.cluster) {
        return None;
    }
    let mut add = desired.tags.clone();
    add.retain(|key, value| target.tags.get(key) != Some(value));
    let gone = |key: &&String| target.tags.contains_key(*key) && !desired.tags.contains_key(*key);
    let remove: Vec<String> = record.tag_keys.iter().filter(gone).cloned().collect();
    let (group, arn) = (current.target_name.clone(), target.group.arn.clone());
    (!add.is_empty() || !remove.is_empty()).then_some(Step::Tag { group, arn, add, remove })
}

/// The changes that restore groups that were edited in place and that the target has replaced: nothing needs their
/// new values any more.
pub(super) fn left_groups<'a>(current: &'a Current, record: &'a Record) -> impl Iterator<Item = Step> + 'a {
    current.left.iter().filter_map(|left| {
        let previous = record.values_of(&left.group.name)?;
        let changes = parameters::restoring(&left.parameters, previous);
        (!changes.is_empty()).then(|| Step::SetParameters { group: left.group.name.clone(), changes })
    })
}

/// The readers that still wait for their reboot after the writer's.
fn pending_reader_steps(cluster: &Cluster) -> impl Iterator<Item = Step> {
    cluster.readers().filter(|reader| !reader.is_in_sync()).map(|reader| reboot_reader(cluster, reader))
}

/// Readers first, one after the other, and the writer last: each is back before the next one stops. If readers restart
/// with the writer anyway, they are not rebooted separately.
pub(super) fn reboot_steps(current: &Current, reboot: Reboot, is_due: impl Fn(&Member) -> bool) -> Vec<Step> {
    let cluster = &current.cluster;
    let Some(writer) = cluster.writer().filter(|_| reboot != Reboot::Never) else {
        return Vec::new();
    };
    let takes_readers = cluster.restarts_readers_with_the_writer();
    let readers = cluster.readers().filter(|reader| reboot == Reboot::All && !takes_readers && is_due(reader));
    let along = cluster.readers().filter(|_| takes_readers).map(|reader| reader.instance.clone()).collect();
    let (id, instance) = (cluster.identifier.clone(), writer.instance.clone());
    let since = current.settings.as_ref().and_then(|settings| settings.started_at);
    let writer = Step::RebootWriter { cluster: id, instance, along, since };
    readers.map(|reader| reboot_reader(cluster, reader)).chain([writer]).collect()
}

fn reboot_reader(cluster: &Cluster, reader: &Member) -> Step {
    Step::RebootReader { cluster: cluster.identifier.clone(), instance: reader.instance.clone() }
}

#[cfg(test)]
mod tests {
    use super::super::PARAMETER;
    use super::*;
    use crate::rds::api::Source;
    use crate::rds::logical_replication::fake::{Fake, current};
    use crate::rds::parameters::Previous;

    fn shop() -> LogicalReplication {
        LogicalReplication::new("shop")
    }

    fn check(current: &Current, desired: &LogicalReplication, record: &Record, expected: &[&str]) {
        let steps = steps(current, desired, record).unwrap();
        assert_eq!(steps.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    fn says(wal_level: &str) -> Option<ServerSettings> {
        Some(ServerSettings { wal_level: wal_level.to_owned(), ..ServerSettings::default() })
    }

    fn turn_on(group: &mut super::super::Group) {
        group.parameters.get_mut(PARAMETER).unwrap().value = Some("1".to_owned());
    }

    const WAIT: &str = "wait until shop is available";
    const REBOOT: &str = "reboot the writer instance shop-1";
    const VERIFY: &str = "verify that the server runs with wal_level = logical";

    #[tokio::test]
    async fn a_default_group_is_left_for_one_of_our_own() {
        let current = current(&Fake::new(0), &shop()).await;
        let create = "create parameter group shop-logical-replication (family aurora-postgresql16)";
        let set = "in parameter group shop-logical-replication, set rds.logical_replication: 0 -> 1";
        let attach = "attach parameter group shop-logical-replication to shop \
             in place of default.aurora-postgresql16";
        check(&current, &shop(), &Record::default(), &[create, set, attach, WAIT, REBOOT, VERIFY]);
    }

    #[tokio::test]
    async fn a_custom_group_is_edited_in_place() {
        let current = current(&Fake::new(0).with_group("theirs"), &shop()).await;
        let set = "in parameter group theirs, set rds.logical_replication: 0 -> 1";
        check(&current, &shop(), &Record::default(), &[set, WAIT, REBOOT, VERIFY]);
    }

    #[tokio::test]
    async fn a_custom_group_that_is_left_is_copied() {
        let desired = LogicalReplication { parameter_group_name: Some("Mine".to_owned()), ..shop() };
        let current = current(&Fake::new(0).with_group("theirs"), &desired).await;
        let steps = steps(&current, &desired, &Record::default()).unwrap();
        let expected = "create parameter group mine (family aurora-postgresql16, a copy of theirs)";
        assert_eq!(steps[0].to_string(), expected);
    }

    #[tokio::test]
    async fn a_logical_cluster_needs_nothing() {
        let fake = Fake::new(0).with_group("theirs");
        turn_on(fake.world().groups.get_mut("theirs").unwrap());
        let mut current = current(&fake, &shop()).await;
        check(&current, &shop(), &Record::default(), &[VERIFY]);
        current.settings = says("logical");
        check(&current, &shop(), &Record::default(), &[]);
        current.settings = says("replica");
        check(&current, &shop(), &Record::default(), &[WAIT, REBOOT, VERIFY]);
    }

    #[tokio::test]
    async fn a_pending_reboot_is_made_up_for() {
        let fake = Fake::new(1).with_group("theirs");
        turn_on(fake.world().groups.get_mut("theirs").unwrap());
        let mut current = current(&fake, &shop()).await;
        current.settings = says("logical");
        "pending-reboot".clone_into(&mut current.cluster.members[1].parameter_group_status);
        check(&current, &shop(), &Record::default(), &[]);
        let all = LogicalReplication { reboot: Reboot::All, ..shop() };
        let reader = "reboot the reader instance shop-2";
        check(&current, &all, &Record::default(), &[reader]);
        "pending-reboot".clone_into(&mut current.cluster.members[0].parameter_group_status);
        check(&current, &shop(), &Record::default(), &[WAIT, REBOOT, VERIFY]);
        let all = LogicalReplication { reboot: Reboot::All, ..shop() };
        check(&current, &all, &Record::default(), &[WAIT, "reboot the reader instance shop-2", REBOOT, VERIFY]);
        let never = LogicalReplication { reboot: Reboot::Never, ..shop() };
        check(&current, &never, &Record::default(), &[WAIT]);
        assert!(!steps(&current, &never, &Record::default()).unwrap().iter().any(Step::is_change));
    }

    #[tokio::test]
    async fn a_dynamic_parameter_needs_no_reboot() {
        let fake = Fake::new(0).with_group("theirs");
        turn_on(fake.world().groups.get_mut("theirs").unwrap());
        let mut desired = shop();
        desired.parameters.insert("wal_sender_timeout".to_owned(), "0".to_owned());
        let mut current = current(&fake, &desired).await;
        current.settings = says("logical");
        check(
            &current,
            &desired,
            &Record::default(),
            &["in parameter group theirs, set wal_sender_timeout: 30000 -> 0", WAIT],
        );
    }

    #[tokio::test]
    async fn what_is_not_wanted_any_more_goes_back() {
        let fake = Fake::new(0).with_group("theirs");
        turn_on(fake.world().groups.get_mut("theirs").unwrap());
        let mut current = current(&fake, &shop()).await;
        current.settings = says("logical");
        let slots = current.target.as_mut().unwrap().parameters.get_mut("max_replication_slots").unwrap();
        (slots.value, slots.source) = (Some("99".to_owned()), Source::User);
        let previous = Previous { value: Some("25".to_owned()), source: Source::User };
        let previous_values = [("max_replication_slots".to_owned(), previous)].into();
        let record = Record { previous_values, ..Record::default() };
        check(
            &current,
            &shop(),
            &record,
            &["in parameter group theirs, set max_replication_slots: 99 -> 25", WAIT, REBOOT, VERIFY],
        );
    }

    #[tokio::test]
    async fn a_group_that_is_not_managed_is_not_touched() {
        let desired = LogicalReplication { manage_parameter_group: false, ..shop() };
        let mut current = current(&Fake::new(0).with_group("theirs"), &desired).await;
        assert!(steps(&current, &desired, &Record::default()).is_err());
        turn_on(&mut current.attached);
        "pending-reboot".clone_into(&mut current.cluster.members[0].parameter_group_status);
        check(&current, &desired, &Record::default(), &[WAIT, REBOOT, VERIFY]);
    }
}
