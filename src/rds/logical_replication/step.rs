// SPDX-License-Identifier: MPL-2.0

//! One step, and its text.

use std::collections::BTreeMap;
use std::fmt;

use crate::rds::api::NewParameterGroup;
use crate::rds::parameters::ParameterChange;

/// One step, in the order of execution. A plan shows its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Create a parameter group.
    CreateGroup(NewParameterGroup),
    /// Set or reset parameters of a group.
    SetParameters {
        /// The group.
        group: String,
        /// The changes, which are sent in portions of 20.
        changes: Vec<ParameterChange>,
    },
    /// Set and remove tags of a group that the provider created.
    Tag {
        /// The group.
        group: String,
        /// Its ARN.
        arn: String,
        /// Tags to set.
        add: BTreeMap<String, String>,
        /// Keys to remove.
        remove: Vec<String>,
    },
    /// Attach a group to the cluster, at once.
    Attach {
        /// The cluster.
        cluster: String,
        /// The group.
        group: String,
        /// The group that is attached now.
        instead_of: String,
        /// The group to attach if that one does not exist any more.
        otherwise: Option<String>,
    },
    /// Wait until the cluster is available and nothing is pending.
    WaitUntilAvailable {
        /// The cluster.
        cluster: String,
        /// Whether its members will show `pending-reboot`, which RDS does with a delay.
        until_reboot_is_pending: bool,
    },
    /// Reboot the instance that is the writer at that time.
    RebootWriter {
        /// The cluster.
        cluster: String,
        /// The current writer.
        instance: String,
        /// The readers that restart with it, on versions that do so.
        along: Vec<String>,
        /// The known start of its server before this reboot: a server that has been restarted since then, for example
        /// by a reboot in progress, is not rebooted a second time.
        since: Option<i64>,
    },
    /// Reboot a reader, unless it has already been restarted.
    RebootReader {
        /// The cluster.
        cluster: String,
        /// The instance.
        instance: String,
    },
    /// Check that the server is logical now; reboot the writer once more if not.
    Verify {
        /// The cluster.
        cluster: String,
        /// Whether that second reboot is allowed.
        may_reboot: bool,
        /// The start of the server before the reboot, if only its restart can identify it as the writer.
        start_before_reboot: Option<i64>,
    },
    /// Make sure that there is no logical replication slot: with one, the writer would not start again.
    RefuseSlots {
        /// The cluster.
        cluster: String,
        /// The start of the server that is known to be the writer.
        start: Option<i64>,
    },
    /// Delete a group that the provider created.
    DeleteGroup {
        /// The group.
        group: String,
    },
}

impl Step {
    /// Whether the step changes anything. Others only read and wait.
    #[must_use]
    pub fn is_change(&self) -> bool {
        !matches!(self, Step::WaitUntilAvailable { .. } | Step::Verify { .. } | Step::RefuseSlots { .. })
    }

    /// The instance that the step reboots.
    #[must_use]
    pub fn reboots(&self) -> Option<&str> {
        match self {
            Step::RebootWriter { instance, .. } | Step::RebootReader { instance, .. } => Some(instance),
            _ => None,
        }
    }

    /// All instances that accept no connections for a while: the rebooted one, and those that restart with it.
    pub fn interrupts(&self) -> impl Iterator<Item = &str> {
        let along = match self {
            Step::RebootWriter { along, .. } => along.as_slice(),
            _ => &[],
        };
        self.reboots().into_iter().chain(along.iter().map(String::as_str))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::CreateGroup(group) => {
                write!(f, "create parameter group {} (family {}", group.name, group.family)?;
                match &group.copy_of {
                    Some(original) => write!(f, ", a copy of {original})"),
                    None => write!(f, ")"),
                }
            }
            Step::SetParameters { group, changes } => {
                let texts: Vec<String> = changes.iter().map(ToString::to_string).collect();
                write!(f, "in parameter group {group}, set {}", texts.join(", "))
            }
            Step::Tag { group, .. } => write!(f, "tag parameter group {group}"),
            Step::Attach { cluster, group, instead_of, .. } => {
                write!(f, "attach parameter group {group} to {cluster} in place of {instead_of}")
            }
            Step::WaitUntilAvailable { cluster, .. } => {
                write!(f, "wait until {cluster} is available")
            }
            Step::RebootWriter { instance, cluster, .. } if instance == cluster => {
                write!(f, "reboot the instance {instance}")
            }
            Step::RebootWriter { instance, along, .. } => match along.as_slice() {
                [] => write!(f, "reboot the writer instance {instance}"),
                readers => {
                    write!(f, "reboot the writer instance {instance}, which restarts {} as well", readers.join(", "))
                }
            },
            Step::RebootReader { instance, .. } => {
                write!(f, "reboot the reader instance {instance}")
            }
            Step::Verify { .. } => {
                write!(f, "verify that the server runs with wal_level = logical")
            }
            Step::RefuseSlots { .. } => write!(f, "check that no logical replication slot exists"),
            Step::DeleteGroup { group } => write!(f, "delete parameter group {group}"),
        }
    }
}
