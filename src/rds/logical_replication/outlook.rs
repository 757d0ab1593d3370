// SPDX-License-Identifier: MPL-2.0

//! What a person should know before the steps are taken, and the texts of a plan. Pure.

use std::fmt;

use super::apply::{conclude_step, remember_step};
use super::undo::{outgrown_note, undo_outlook};
use super::{Current, Group, LogicalReplication, Reboot, Record, Step, remedy};
use crate::rds::api::{BlueGreen, ParameterGroup, Source};
use crate::rds::parameters::ParameterChange;

/// What a destroy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDestroy {
    /// It leaves everything as it is.
    Leave,
    /// It restores the previous state, and reboots these instances so that it takes effect.
    GiveBack(Reboot),
}

/// What an apply or a destroy will do, for a person to decide on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outlook {
    /// One line, with the instances that will be rebooted.
    pub summary: String,
    /// The steps, the warnings, and what a destroy undoes, as indented lines.
    pub detail: String,
}

/// What an apply of these steps will do. They must be those of [`steps`](super::steps()) with the same arguments.
#[must_use]
pub fn outlook(
    current: &Current,
    desired: &LogicalReplication,
    record: &Record,
    steps: &[Step],
    on_destroy: OnDestroy,
) -> Outlook {
    let cluster = &current.cluster.identifier;
    let mut notes = status_note(current);
    notes.extend(warnings(current, desired, steps, When::Before));
    let mut sections = vec![section("The steps:", numbered(steps))];
    sections.extend((!notes.is_empty()).then(|| section("Note that", bullets(&notes))));
    sections.push(section("A destroy then:", undone(current, desired, record, steps, on_destroy)));
    Outlook {
        summary: format!("applying changes the {} {cluster}: {}", current.cluster.deployment, reboots(steps)),
        detail: sections.join("\n"),
    }
}

/// What a destroy will do; none if it does nothing.
#[must_use]
pub fn destroy_outlook(current: &Current, record: &Record, on_destroy: OnDestroy) -> Option<Outlook> {
    let OnDestroy::GiveBack(reboot) = on_destroy else {
        return None;
    };
    let steps = undo_outlook(current, record, reboot);
    if steps.is_empty() {
        return None;
    }
    let mut sections = vec![section("The steps:", numbered(&steps))];
    sections.extend(effect_note(&steps));
    sections.extend(outgrown_note(current, record));
    let slots = current.settings.as_ref().map(|settings| settings.logical_slots.join(", ")).unwrap_or_default();
    sections.extend(
        (!slots.is_empty())
            .then(|| format!("It is refused while logical replication slots exist. Now there are: {slots}.")),
    );
    sections.extend(current.objection().map(|objection| {
        format!(
            "It is refused while its logical replication slots cannot be listed: the provider's publisher \
             connection {objection}. {}.",
            remedy(&current.cluster)
        )
    }));
    let cluster = &current.cluster.identifier;
    let deployment = current.cluster.deployment;
    let summary = format!("destroying restores the {deployment} {cluster}: {}", reboots(&steps));
    Some(Outlook { summary, detail: sections.join("\n") })
}

/// Whether the steps are planned or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// They are planned.
    Before,
    /// They were taken.
    After,
}

impl When {
    /// The text for this time.
    fn say(self, before: &'static str, after: &'static str) -> &'static str {
        match self {
            Self::Before => before,
            Self::After => after,
        }
    }
}

/// What the user should know about the steps and their results.
#[must_use]
pub fn warnings(current: &Current, desired: &LogicalReplication, steps: &[Step], when: When) -> Vec<String> {
    let mut warnings = Vec::new();
    let edits = |step: &Step| matches!(step, Step::SetParameters { group, .. } if *group == current.target_name);
    if steps.iter().any(edits) {
        warnings.extend(sharing(current, when));
    }
    let writer = current.instances.iter().find(|instance| Some(instance.identifier.as_str()) == current.writer());
    if let Some(writer) = writer.filter(|writer| !writer.publicly_accessible) {
        let name = &writer.identifier;
        warnings.push(format!("the instance {name} is not publicly accessible: Neon cannot reach it from outside"));
    }
    warnings.extend(unproven(current, desired, steps));
    warnings.extend(outgrown(current, when));
    warnings.extend(still_used(current));
    warnings.extend(blue_green(current));
    warnings.extend(waiting_readers(current, desired, steps, when));
    warnings.extend(waiting_writer(current, desired, steps, when));
    warnings.extend(standby(current, steps).filter(|_| when == When::Before));
    warnings
}

/// Without a reboot nothing shows that the server that answers is the writer.
fn unproven(current: &Current, desired: &LogicalReplication, steps: &[Step]) -> Option<String> {
    let is_proven_later = steps.iter().any(|step| matches!(step, Step::Verify { .. }));
    let objection = current.objection().filter(|_| desired.verify && !is_proven_later)?;
    Some(format!(
        "the provider's publisher connection {objection}: the wal_level that it reports proves nothing. {}, or set \
         verify = false",
        remedy(&current.cluster)
    ))
}

/// The groups that an upgrade to another major version has left behind.
fn outgrown(current: &Current, when: When) -> impl Iterator<Item = String> {
    let takes = when.say("takes", "has taken");
    let (cluster, family, target) = (&current.cluster.identifier, current.family(), &current.target_name);
    current.outgrown.iter().map(move |outgrown| {
        let ParameterGroup { name, family: before, .. } = &outgrown.group;
        format!(
            "{cluster} was upgraded to the family {family}, and parameter group {name} is of {before}, which cannot be \
             changed: {target} {takes} its place"
        )
    })
}

/// The groups that cannot be deleted yet.
fn still_used(current: &Current) -> impl Iterator<Item = String> {
    current.still_used.iter().map(|(group, others)| {
        let others = others.join(", ");
        format!(
            "parameter group {group}, which this resource created, is also attached to {others}: it stays until \
             nothing uses it"
        )
    })
}

/// A switchover moves the endpoint to another cluster, without the replication slots.
fn blue_green(current: &Current) -> Option<String> {
    let BlueGreen { name, status, is_green } = current.blue_green.as_ref()?;
    let cluster = &current.cluster.identifier;
    Some(if *is_green {
        format!(
            "{cluster} is the green side of blue/green deployment {name} ({status}): it takes no writes of its own before the \
             switchover. Name the blue side, or switch over first"
        )
    } else {
        format!(
            "{cluster} is the blue side of blue/green deployment {name} ({status}): a switchover leaves its replication slots, \
             and with them its subscriptions, behind. Switch over or delete the deployment before you subscribe to it"
        )
    })
}

/// The other users of the edited group.
fn sharing(current: &Current, when: When) -> Option<String> {
    let group = &current.target_name;
    match current.sharing.as_deref() {
        Some([]) => None,
        Some(others) => {
            let others = others.join(", ");
            let change = when.say("change", "have changed");
            Some(format!("parameter group {group} is also attached to {others}: its parameters {change} there too"))
        }
        None => Some(format!(
            "whether parameter group {group} is attached elsewhere, where its parameters {} too, is not known: \
             these credentials may not list what uses it",
            when.say("would change", "have changed")
        )),
    }
}

/// Readers that keep their old settings, or are not rebooted.
fn waiting_readers(current: &Current, desired: &LogicalReplication, steps: &[Step], when: When) -> Option<String> {
    let readers: Vec<&str> = current.cluster.readers().map(|reader| reader.instance.as_str()).collect();
    let is_writer_alone = |step: &Step| matches!(step, Step::RebootWriter { along, .. } if along.is_empty());
    let stays = desired.reboot == Reboot::Writer && !readers.is_empty() && steps.iter().any(is_writer_alone);
    stays.then(|| {
        format!(
            "the readers {} {} not rebooted and stay pending-reboot: after a failover to one, logical replication stops until \
             it is rebooted. reboot = \"all\" reboots them as well",
            readers.join(", "),
            when.say("are", "were")
        )
    })
}

fn waiting_writer(current: &Current, desired: &LogicalReplication, steps: &[Step], when: When) -> Option<String> {
    let needs_one = current.is_reboot_pending() || steps.iter().any(is_static_change);
    let writer = current.writer().filter(|_| desired.reboot == Reboot::Never && needs_one)?;
    Some(format!(
        "the instance {writer} {} not rebooted (reboot = \"never\"): logical replication is off until it is rebooted",
        when.say("is", "was")
    ))
}

/// A reboot restarts the server in place. Only a forced failover would move it.
fn standby(current: &Current, steps: &[Step]) -> Option<String> {
    let reboots = steps.iter().any(|step| step.reboots().is_some());
    (current.cluster.is_multi_az && reboots).then(|| {
        format!(
            "{} is Multi-AZ: it is rebooted in place, without a failover to its standby",
            current.cluster.identifier
        )
    })
}

fn is_static_change(step: &Step) -> bool {
    match step {
        Step::SetParameters { changes, .. } => changes.iter().any(ParameterChange::needs_reboot),
        Step::Attach { .. } => true,
        _ => false,
    }
}

fn status_note(current: &Current) -> Vec<String> {
    let (cluster, status) = (&current.cluster.identifier, &current.cluster.status);
    let waits = status != "available";
    waits.then(|| format!("{cluster} is now {status}: the apply waits until it is available")).into_iter().collect()
}

/// The instances that accept no connections for a while.
fn reboots(steps: &[Step]) -> String {
    let names: Vec<_> = steps.iter().flat_map(Step::interrupts).collect();
    match names.as_slice() {
        [] => "no instance is rebooted".to_owned(),
        names => format!("this reboots {}", names.join(", ")),
    }
}

fn section(title: &str, lines: Vec<String>) -> String {
    format!("{title}\n{}", lines.join("\n"))
}

fn numbered<T: fmt::Display>(items: &[T]) -> Vec<String> {
    items.iter().enumerate().map(|(at, item)| format!("  {}. {item}", at + 1)).collect()
}

fn bullets(items: &[String]) -> Vec<String> {
    items.iter().map(|item| format!("  - {item}")).collect()
}

/// What a destroy would do after these steps.
fn undone(
    current: &Current,
    desired: &LogicalReplication,
    record: &Record,
    steps: &[Step],
    on_destroy: OnDestroy,
) -> Vec<String> {
    let OnDestroy::GiveBack(reboot) = on_destroy else {
        return vec!["  leaves everything as it is (skip_destroy = true)".to_owned()];
    };
    let (current, record) = afterwards(current, desired, record, steps);
    let steps = undo_outlook(&current, &record, reboot);
    if steps.is_empty() {
        return vec!["  changes nothing in RDS".to_owned()];
    }
    let mut lines = numbered(&steps);
    let notes = effect_note(&steps).into_iter().chain(outgrown_note(&current, &record));
    lines.extend(notes.map(|note| format!("  {note}")));
    lines
}

fn effect_note(undo: &[Step]) -> Option<String> {
    let is_due = undo.iter().any(is_static_change) && !undo.iter().any(|step| step.reboots().is_some());
    is_due.then(|| "The old parameters take effect when the instances restart (reboot_on_destroy = false).".to_owned())
}

/// The cluster and the record after the steps.
fn afterwards(current: &Current, desired: &LogicalReplication, record: &Record, steps: &[Step]) -> (Current, Record) {
    let (mut after, mut record) = (current.clone(), record.clone());
    if desired.manage_parameter_group {
        record.adopt(current);
    }
    for step in steps {
        remember_step(step, current, desired, &mut record);
        conclude_step(step, desired, &mut record);
        take_over(step, &mut after);
    }
    after.settings = None;
    after.answerer = None;
    after.left.clear();
    after.outgrown.clear();
    after.still_used.clear();
    after.cluster.members.iter_mut().for_each(|member| "in-sync".clone_into(&mut member.parameter_group_status));
    (after, record)
}

fn take_over(step: &Step, after: &mut Current) {
    match step {
        Step::CreateGroup(new) => {
            let group =
                ParameterGroup { name: new.name.clone(), family: new.family.clone(), ..ParameterGroup::default() };
            after.target = Some(Group { group, ..after.attached.clone() });
        }
        Step::SetParameters { group, changes } => {
            let target = after.target.as_mut().filter(|target| target.group.name == *group);
            target.into_iter().for_each(|target| changes.iter().for_each(|change| change_parameter(target, change)));
        }
        Step::Attach { group, .. } => group.clone_into(&mut after.cluster.parameter_group),
        _ => {}
    }
}

fn change_parameter(group: &mut Group, change: &ParameterChange) {
    if let Some(parameter) = group.parameters.get_mut(&change.name) {
        parameter.value.clone_from(&change.to);
        parameter.source = if change.to.is_some() { Source::User } else { Source::System };
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::rds::logical_replication::fake::Fake;
    use crate::rds::logical_replication::{fetch, steps};

    fn shop() -> LogicalReplication {
        LogicalReplication::new("shop")
    }

    async fn current(fake: &Fake) -> Current {
        fetch(fake, &shop(), &Record::default()).await.unwrap().unwrap()
    }

    fn check(current: &Current, desired: &LogicalReplication, on_destroy: OnDestroy, expected: Expect) {
        let record = Record::default();
        let steps = steps(current, desired, &record).unwrap();
        let outlook = outlook(current, desired, &record, &steps, on_destroy);
        expected.assert_eq(&format!("{}\n{}\n", outlook.summary, outlook.detail));
    }

    #[tokio::test]
    async fn a_group_of_our_own() {
        let current = current(&Fake::new(1)).await;
        check(
            &current,
            &shop(),
            OnDestroy::GiveBack(Reboot::Never),
            expect![[r#"
                applying changes the DB cluster shop: this reboots shop-1
                The steps:
                  1. create parameter group shop-logical-replication (family aurora-postgresql16)
                  2. in parameter group shop-logical-replication, set rds.logical_replication: 0 -> 1
                  3. attach parameter group shop-logical-replication to shop in place of default.aurora-postgresql16
                  4. wait until shop is available
                  5. reboot the writer instance shop-1
                  6. verify that the server runs with wal_level = logical
                Note that
                  - the readers shop-2 are not rebooted and stay pending-reboot: after a failover to one, logical replication stops until it is rebooted. reboot = "all" reboots them as well
                A destroy then:
                  1. attach parameter group default.aurora-postgresql16 to shop in place of shop-logical-replication
                  2. wait until shop is available
                  3. delete parameter group shop-logical-replication
                  The old parameters take effect when the instances restart (reboot_on_destroy = false).
            "#]],
        );
    }

    #[tokio::test]
    async fn a_shared_group_that_is_edited_in_place() {
        let mut current = current(&Fake::new(1).with_group("theirs")).await;
        current.sharing = Some(vec!["other".to_owned()]);
        current.instances[0].publicly_accessible = false;
        "upgrading".clone_into(&mut current.cluster.status);
        "13.9".clone_into(&mut current.cluster.engine_version);
        let desired = LogicalReplication { reboot: Reboot::All, ..shop() };
        check(
            &current,
            &desired,
            OnDestroy::GiveBack(Reboot::All),
            expect![[r#"
                applying changes the DB cluster shop: this reboots shop-1, shop-2
                The steps:
                  1. in parameter group theirs, set rds.logical_replication: 0 -> 1
                  2. wait until shop is available
                  3. reboot the writer instance shop-1, which restarts shop-2 as well
                  4. verify that the server runs with wal_level = logical
                Note that
                  - shop is now upgrading: the apply waits until it is available
                  - parameter group theirs is also attached to other: its parameters change there too
                  - the instance shop-1 is not publicly accessible: Neon cannot reach it from outside
                A destroy then:
                  1. in parameter group theirs, set rds.logical_replication: 1 -> (default)
                  2. wait until shop is available
                  3. check that no logical replication slot exists
                  4. reboot the writer instance shop-1, which restarts shop-2 as well
            "#]],
        );
        let desired = LogicalReplication { reboot: Reboot::Never, ..shop() };
        check(
            &current,
            &desired,
            OnDestroy::Leave,
            expect![[r#"
                applying changes the DB cluster shop: no instance is rebooted
                The steps:
                  1. in parameter group theirs, set rds.logical_replication: 0 -> 1
                  2. wait until shop is available
                Note that
                  - shop is now upgrading: the apply waits until it is available
                  - parameter group theirs is also attached to other: its parameters change there too
                  - the instance shop-1 is not publicly accessible: Neon cannot reach it from outside
                  - the instance shop-1 is not rebooted (reboot = "never"): logical replication is off until it is rebooted
                A destroy then:
                  leaves everything as it is (skip_destroy = true)
            "#]],
        );
    }

    #[tokio::test]
    async fn what_was_done_is_not_announced() {
        let mut current = current(&Fake::new(1).with_group("theirs")).await;
        current.sharing = Some(vec!["other".to_owned()]);
        current.cluster.is_multi_az = true;
        let said = |reboot, when| {
            let desired = LogicalReplication { reboot, ..shop() };
            let steps = steps(&current, &desired, &Record::default()).unwrap();
            warnings(&current, &desired, &steps, when).join("\n")
        };
        let (before, after) = (said(Reboot::Writer, When::Before), said(Reboot::Writer, When::After));
        for (ahead, done) in
            [("its parameters change", "its parameters have changed"), ("are not rebooted", "were not rebooted")]
        {
            assert!(before.contains(ahead) && after.contains(done), "{before}\n{after}");
        }
        assert!(before.contains("Multi-AZ") && !after.contains("Multi-AZ"), "{before}\n{after}");
        assert!(said(Reboot::Never, When::After).contains("shop-1 was not rebooted"));
    }

    #[tokio::test]
    async fn nothing_to_do_is_nothing_to_warn_of() {
        let current = current(&Fake::new(1).with_group("theirs")).await;
        assert_eq!(warnings(&current, &shop(), &[], When::Before), [""; 0]);
    }

    #[tokio::test]
    async fn a_destroy_says_which_slots_forbid_it() {
        let mut current = current(&Fake::new(0)).await;
        let record =
            Record { group: Some("shop-logical-replication".to_owned()), group_created: true, ..Record::default() };
        let slots = vec!["orders".to_owned()];
        current.settings = Some(crate::rds::logical_replication::ServerSettings {
            wal_level: "logical".to_owned(),
            logical_slots: slots,
            ..Default::default()
        });
        let outlook = destroy_outlook(&current, &record, OnDestroy::GiveBack(Reboot::Never)).unwrap();
        expect![[r#"
            destroying restores the DB cluster shop: no instance is rebooted
            The steps:
              1. delete parameter group shop-logical-replication
            It is refused while logical replication slots exist. Now there are: orders.
        "#]]
        .assert_eq(&format!("{}\n{}\n", outlook.summary, outlook.detail));
        assert_eq!(destroy_outlook(&current, &record, OnDestroy::Leave), None);
        assert_eq!(destroy_outlook(&current, &Record::default(), OnDestroy::GiveBack(Reboot::Never)), None);
    }
}
