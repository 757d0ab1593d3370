// SPDX-License-Identifier: MPL-2.0

//! Makes sure that an Aurora cluster's writer really runs with `wal_level = logical`.
//!
//! [`fetch`] reads the current state, [`steps()`] decides (pure), [`apply()`] does the steps; [`undo_steps`] and
//! [`destroy`] undo them. Steps only depend on the present state, so the next apply finishes an interrupted one.

mod apply;
mod checks;
mod current;
mod identity;
mod outlook;
mod reboot;
mod record;
mod step;
mod steps;
mod undo;

#[cfg(test)]
mod fake;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::api::ParameterGroup;
use super::wait::Waiter;

pub use apply::{Applied, OnStep, Phase, StepEvent, apply};
pub use checks::refusals;
pub use current::{Current, Group, ask, blue_green, fetch};
pub use identity::{Answerer, ServerIdentity, remedy};
pub use outlook::{OnDestroy, Outlook, When, destroy_outlook, outlook, warnings};
pub use reboot::reboot_writer;
pub use record::Record;
pub use step::Step;
pub use steps::steps;
pub use undo::{destroy, undo_outlook, undo_steps};

/// The cluster parameter that enables logical decoding. It is static.
pub const PARAMETER: &str = "rds.logical_replication";
/// The tag that records the cluster's previous parameter group.
pub const PREVIOUS_GROUP_TAG: &str = "neonrepl:previous-parameter-group";

/// Which instances may be rebooted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reboot {
    /// The writer only. Readers keep their settings until they are rebooted.
    #[default]
    Writer,
    /// The readers, one after the other, and then the writer.
    All,
    /// None.
    Never,
}

/// The desired state of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogicalReplication {
    /// The cluster's identifier.
    pub cluster: String,
    /// Whether the parameter group may be created, edited and attached. If not, the cluster is only rebooted
    /// and verified.
    pub manage_parameter_group: bool,
    /// The parameter group; see `LogicalReplication::target_names` for the default.
    pub parameter_group_name: Option<String>,
    /// Further cluster parameters. Only these and [`PARAMETER`] are changed.
    pub parameters: BTreeMap<String, String>,
    /// Which instances may be rebooted.
    pub reboot: Reboot,
    /// Whether to check the server's settings over SQL.
    pub verify: bool,
    /// Tags of a parameter group that the provider creates.
    pub tags: BTreeMap<String, String>,
    /// The family at the time of the plan: if it has changed, the plan is no longer valid.
    pub planned_family: Option<String>,
}

impl LogicalReplication {
    /// For this cluster, with all other defaults.
    #[must_use]
    pub fn new(cluster: impl Into<String>) -> Self {
        Self { cluster: cluster.into(), manage_parameter_group: true, verify: true, ..Self::default() }
    }

    /// All parameters that should have a value, including [`PARAMETER`].
    #[must_use]
    pub fn desired_parameters(&self) -> BTreeMap<String, String> {
        let mut desired = self.parameters.clone();
        desired.insert(PARAMETER.to_owned(), "1".to_owned());
        desired
    }

    /// The candidates for the target group; the first that is not of another family is used: the configured one,
    /// otherwise the one used so far, otherwise the cluster's own custom group, otherwise
    /// `<cluster>-logical-replication`, with the major version appended if an upgrade has left a group of that name.
    /// RDS stores names in lower case.
    #[must_use]
    pub fn target_names(&self, attached: &ParameterGroup, record: &Record) -> Vec<String> {
        if !self.manage_parameter_group {
            return vec![attached.name.clone()];
        }
        if let Some(asked) = &self.parameter_group_name {
            return vec![asked.to_ascii_lowercase()];
        }
        let own = self.own_name();
        let mut names: Vec<String> = record.group.clone().into_iter().collect();
        match attached.is_default() {
            true => names.extend([own.clone(), format!("{own}-{}", major(&attached.family))]),
            false => names.push(attached.name.clone()),
        }
        names
    }

    /// The default name of a group that the provider creates.
    fn own_name(&self) -> String {
        format!("{}-logical-replication", self.cluster.to_ascii_lowercase())
    }
}

/// The number at the end of a family, as `17` in `aurora-postgresql17`.
fn major(family: &str) -> &str {
    let version = family.trim_end_matches(|c: char| c.is_ascii_digit()).len();
    if version == family.len() { family } else { &family[version..] }
}

/// The settings that the writer itself reports over SQL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerSettings {
    /// `SHOW wal_level`.
    pub wal_level: String,
    /// `SHOW rds.logical_replication`; absent if the server does not have the setting.
    pub rds_logical_replication: Option<String>,
    /// The names of the logical slots in `pg_replication_slots`. Only undoing reads them.
    pub logical_slots: Vec<String>,
    /// When the server was started, in any unit: it only grows, and another value means another start. Absent if it was
    /// not read.
    pub started_at: Option<i64>,
    /// The facts that identify the server.
    pub server: ServerIdentity,
}

impl ServerSettings {
    /// Whether logical decoding works.
    #[must_use]
    pub fn is_logical(&self) -> bool {
        let is_off = |value: &String| super::parameters::truth(value) == Some(false);
        self.wal_level == "logical" && !self.rds_logical_replication.as_ref().is_some_and(is_off)
    }
}

impl fmt::Display for ServerSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wal_level is {}", self.wal_level)?;
        match &self.rds_logical_replication {
            Some(value) => write!(f, ", {PARAMETER} is {value}"),
            None => Ok(()),
        }
    }
}

/// The query of the writer failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeError {
    /// Why, without secrets.
    pub message: String,
    /// Whether it may go away by itself, for example while a server starts: connection refused, reset, "starting up".
    pub is_transient: bool,
}

/// Queries the writer over SQL. Any function that returns a future of settings implements it.
pub trait Probe: Send + Sync {
    /// Reads the settings once, over a new connection if the old one has died.
    fn settings(&self) -> BoxFuture<'_, Result<ServerSettings, ProbeError>>;

    /// The addresses of a host, as a connection would look them up; empty if unknown.
    fn addresses(&self, host: &str) -> BoxFuture<'_, Vec<IpAddr>> {
        let host = host.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await;
            found.map(|all| all.map(|address| address.ip()).collect()).unwrap_or_default()
        })
    }
}

impl<F, R> Probe for F
where
    F: Fn() -> R + Send + Sync,
    R: Future<Output = Result<ServerSettings, ProbeError>> + Send + 'static,
{
    fn settings(&self) -> BoxFuture<'_, Result<ServerSettings, ProbeError>> {
        Box::pin(self())
    }
}

/// How long to wait for certainty before continuing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How long RDS may take to show an accepted change: a parameter's new value, `pending-reboot` after an
    /// attachment, `in-sync` after a reboot.
    pub settle: Duration,
    /// How long the server may take to accept connections again after a reboot.
    pub connect: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { settle: Duration::from_secs(60), connect: Duration::from_secs(180) }
    }
}

/// The context of applying and destroying.
#[derive(Clone)]
pub struct Operation<'a, A> {
    /// AWS.
    pub api: &'a A,
    /// The server, if a connection to it is configured.
    pub probe: Option<&'a dyn Probe>,
    /// The timeout and the cancellation.
    pub waiter: Waiter,
    /// How long to wait for certainty.
    pub patience: Patience,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(name: &str) -> ParameterGroup {
        ParameterGroup { name: name.to_owned(), ..ParameterGroup::default() }
    }

    #[test]
    fn the_group_is_asked_for_or_remembered_or_the_clusters_own() {
        let shop = LogicalReplication::new("Shop");
        let asked = LogicalReplication { parameter_group_name: Some("Mine".to_owned()), ..shop.clone() };
        let unmanaged = LogicalReplication { manage_parameter_group: false, ..asked.clone() };
        let used = Record { group: Some("used".to_owned()), ..Record::default() };
        let none = Record::default();
        for (desired, record, group, expected) in [
            (&shop, &none, "default.aurora-postgresql16", "shop-logical-replication"),
            (&shop, &none, "custom", "custom"),
            (&shop, &used, "custom", "used"),
            (&asked, &used, "custom", "mine"),
            (&unmanaged, &used, "custom", "custom"),
        ] {
            assert_eq!(desired.target_names(&attached(group), record)[0], expected);
        }
    }

    #[test]
    fn a_name_that_is_taken_in_an_older_family_gets_the_major_version() {
        let family = "aurora-postgresql17".to_owned();
        let attached = ParameterGroup { family, ..attached("default.aurora-postgresql17") };
        let used = Record { group: Some("theirs".to_owned()), ..Record::default() };
        let names = LogicalReplication::new("Shop").target_names(&attached, &used);
        assert_eq!(names, ["theirs", "shop-logical-replication", "shop-logical-replication-17"]);
        assert_eq!((major("postgres17"), major("aurora-postgresql9.6"), major("odd")), ("17", "6", "odd"));
    }

    #[test]
    fn logical_is_what_both_settings_say() {
        let settings = |wal_level: &str, rds: Option<&str>| ServerSettings {
            wal_level: wal_level.to_owned(),
            rds_logical_replication: rds.map(str::to_owned),
            ..ServerSettings::default()
        };
        assert!(settings("logical", Some("on")).is_logical());
        assert!(settings("logical", None).is_logical());
        assert!(!settings("logical", Some("off")).is_logical());
        assert!(!settings("replica", Some("on")).is_logical());
        assert_eq!(
            settings("replica", Some("off")).to_string(),
            "wal_level is replica, rds.logical_replication is off"
        );
    }
}
