// SPDX-License-Identifier: MPL-2.0

//! Reasons against logical replication on a cluster. Pure.

use super::{Current, LogicalReplication, PARAMETER, Record};
use crate::rds::api::{Cluster, Deployment};
use crate::rds::parameters;
use crate::rds::{Error, Kind};

/// All reasons why it cannot be done on this cluster.
#[must_use]
pub fn refusals(current: &Current, desired: &LogicalReplication, record: &Record) -> Vec<Error> {
    let refuse = |(what, hint): (String, &str)| {
        let doing = format!(
            "enabling logical replication on {} \"{}\"",
            current.cluster.deployment, current.cluster.identifier
        );
        Error::new(Kind::Refused, doing, what).hint(hint)
    };
    if let Some(refusal) = cluster_refusal(&current.cluster) {
        return vec![refuse(refusal)];
    }
    if let Some(refusal) = upgrade_refusal(current, desired) {
        return vec![refuse(refusal)];
    }
    if !desired.manage_parameter_group {
        return unmanaged_refusal(current).map(refuse).into_iter().collect();
    }
    let mut refusals: Vec<Error> = group_refusal(current, desired, record).map(refuse).into_iter().collect();
    refusals.extend(parameters::refusals(
        current.cluster.deployment,
        &current.attached.parameters,
        current.family(),
        &desired.desired_parameters(),
    ));
    let own = desired.parameters.get(PARAMETER).filter(|value| parameters::truth(value) != Some(true));
    refusals.extend(own.map(|value| {
        refuse((format!("parameters sets {PARAMETER} to \"{value}\""), "Remove it: it is set to 1 here"))
            .about_parameter(PARAMETER)
    }));
    refusals
}

type Reason = (String, &'static str);

fn cluster_refusal(cluster: &Cluster) -> Option<Reason> {
    if let Some(of) = &cluster.member_of {
        let what = format!("it is a member of DB cluster {of}, which has the parameters");
        return Some((what, "Use neonrepl_aurora_logical_replication for an Aurora cluster"));
    }
    if cluster.engine != cluster.deployment.engine() {
        let what = format!("its engine is {}, not {}", cluster.engine, cluster.deployment.engine());
        let hint = match cluster.deployment {
            Deployment::AuroraCluster => "Name an Aurora PostgreSQL cluster",
            Deployment::RdsInstance => "Name a DB instance of RDS for PostgreSQL",
        };
        return Some((what, hint));
    }
    if cluster.engine_mode.as_deref() == Some("serverless") {
        let what = "Aurora Serverless v1 has no logical replication".to_owned();
        return Some((what, "Move the cluster to provisioned instances or Serverless v2 first"));
    }
    if is_fatal(&cluster.status) {
        return Some((format!("it is {}", cluster.status), "Start or repair it first"));
    }
    if cluster.members.is_empty() {
        return Some(("it has no DB instance".to_owned(), "Add an instance to the cluster first"));
    }
    if let Some(source) = &cluster.replication_source {
        return Some((format!("it is a replica of {source}"), "Name the primary"));
    }
    match (cluster.writer(), &cluster.global_cluster) {
        (Some(_), _) => None,
        (None, Some(global)) => {
            let what = format!("it is a secondary of the global database {global}");
            Some((what, "Name the primary cluster of the global database"))
        }
        (None, None) => {
            Some(("it has no writer instance".to_owned(), "Wait for a failover to end, or promote an instance"))
        }
    }
}

/// Whether a cluster stays in that state until a person acts.
pub(super) fn is_fatal(status: &str) -> bool {
    const FATAL: [&str; 7] = [
        "deleting",
        "stopped",
        "stopping",
        "inaccessible-encryption-credentials",
        "inaccessible-encryption-credentials-recoverable",
        "incompatible-parameters",
        "storage-full",
    ];
    FATAL.contains(&status) || status.ends_with("failed")
}

/// A plan names the group that is created and attached: after an upgrade it would be another one.
fn upgrade_refusal(current: &Current, desired: &LogicalReplication) -> Option<Reason> {
    let planned = desired.planned_family.as_deref().filter(|planned| *planned != current.family())?;
    let what = format!("it was upgraded since the plan: its family was {planned} and is now {}", current.family());
    Some((what, "Plan and apply again"))
}

fn unmanaged_refusal(current: &Current) -> Option<Reason> {
    let what = format!(
        "{PARAMETER} is not 1 in its parameter group \"{}\", which is not managed here",
        current.attached.group.name
    );
    (!current.attached.is_logical())
        .then_some((what, "Set it where the group is managed, or set manage_parameter_group = true"))
}

fn group_refusal(current: &Current, desired: &LogicalReplication, record: &Record) -> Option<Reason> {
    let name = &current.target_name;
    if name.starts_with("default.") {
        let what = format!("parameter group \"{name}\" belongs to AWS and cannot be modified");
        return Some((what, "Choose another parameter_group_name, or leave it out"));
    }
    let Some(target) = &current.target else {
        let what = format!("\"{name}\" cannot be the name of a parameter group");
        let hint = "A name has 1 to 255 letters, digits and single hyphens, begins with a letter, and does not end \
             with a hyphen";
        return (!is_group_name(name)).then_some((what, hint));
    };
    if target.group.family != current.family() {
        let (is, needs) = (&target.group.family, current.family());
        let what = format!("parameter group \"{name}\" is of family {is}, not {needs}");
        let hint = "Choose another parameter_group_name, or leave it out: the family of a group cannot be changed";
        return Some((what, hint));
    }
    let is_chosen = desired.parameter_group_name.is_some() || record.group.as_deref() == Some(name);
    let is_known = is_chosen || current.is_attached() || target.is_made_for(&current.cluster);
    let what = format!("parameter group \"{name}\" exists and was not created for it");
    (!is_known).then_some((what, "To use it anyway, set parameter_group_name to it; otherwise set another name"))
}

fn is_group_name(name: &str) -> bool {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    is_plain && begins && !name.ends_with('-') && !name.contains("--") && name.len() <= 255
}

#[cfg(test)]
mod tests {
    use super::super::steps::steps;
    use super::*;
    use crate::rds::logical_replication::fake::{Fake, OWN, current, group};

    fn shop() -> LogicalReplication {
        LogicalReplication::new("shop")
    }

    fn refused(current: &Current, desired: &LogicalReplication, expected: &str) {
        let error = steps(current, desired, &Record::default()).unwrap_err();
        assert_eq!(error.kind, Kind::Refused);
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[tokio::test]
    async fn clusters_that_cannot_are_refused() {
        let good = current(&Fake::new(1), &shop()).await;
        type Spoil = fn(&mut Cluster);
        let cases: [(Spoil, &str); 9] = [
            (|c| c.engine = "aurora-mysql".to_owned(), "its engine is aurora-mysql"),
            (|c| c.engine_mode = Some("serverless".to_owned()), "Serverless v1"),
            (|c| c.status = "stopped".to_owned(), "it is stopped"),
            (|c| c.status = "deleting".to_owned(), "it is deleting"),
            (|c| c.status = "migration-failed".to_owned(), "it is migration-failed"),
            (|c| c.members.clear(), "it has no DB instance"),
            (|c| c.replication_source = Some("main".to_owned()), "it is a replica of main"),
            (|c| c.members[0].is_writer = false, "it has no writer instance"),
            (
                |c| {
                    c.members[0].is_writer = false;
                    c.global_cluster = Some("world".to_owned());
                },
                "it is a secondary of the global database world",
            ),
        ];
        for (spoil, expected) in cases {
            let mut current = good.clone();
            spoil(&mut current.cluster);
            refused(&current, &shop(), expected);
        }
    }

    #[tokio::test]
    async fn groups_that_cannot_are_refused() {
        for (name, expected) in [
            ("default.aurora-postgresql16", "belongs to AWS"),
            ("two--hyphens", "cannot be the name"),
            ("1st", "cannot be the name"),
            ("end-", "cannot be the name"),
            ("a.b", "cannot be the name"),
        ] {
            let desired = LogicalReplication { parameter_group_name: Some(name.to_owned()), ..shop() };
            refused(&current(&Fake::new(0), &desired).await, &desired, expected);
        }
        let fake = Fake::new(0);
        let mut older = group("older");
        older.group.family = "aurora-postgresql15".to_owned();
        fake.world().groups.insert("older".to_owned(), older);
        let desired = LogicalReplication { parameter_group_name: Some("older".to_owned()), ..shop() };
        refused(&current(&fake, &desired).await, &desired, "is of family aurora-postgresql15");
        fake.world().groups.insert(OWN.to_owned(), group(OWN));
        refused(&current(&fake, &shop()).await, &shop(), "was not created for it");
    }

    #[tokio::test]
    async fn parameters_are_checked_by_name() {
        let mut desired = shop();
        desired.parameters.insert("no.such".to_owned(), "1".to_owned());
        desired.parameters.insert(PARAMETER.to_owned(), "off".to_owned());
        let current = current(&Fake::new(0), &desired).await;
        let refusals = refusals(&current, &desired, &Record::default());
        let named: Vec<_> = refusals.iter().filter_map(|refusal| refusal.parameter.as_deref()).collect();
        assert_eq!(named, ["no.such", PARAMETER]);
    }

    #[tokio::test]
    async fn an_unmanaged_group_must_be_logical() {
        let desired = LogicalReplication { manage_parameter_group: false, ..shop() };
        let current = current(&Fake::new(0).with_group("theirs"), &desired).await;
        refused(&current, &desired, "rds.logical_replication is not 1 in its parameter group \"theirs\"");
    }
}
