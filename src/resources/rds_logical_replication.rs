// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_rds_logical_replication`: makes sure that a DB instance of RDS for PostgreSQL runs with logical WAL.

use super::logical_replication::{LogicalReplication, Product, Words};
use crate::config::Context;
use crate::rds::RdsInstances;
use crate::rds::api::Deployment;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::schema::{Attribute, Type};

/// The resource.
pub(super) const RDS_LOGICAL_REPLICATION: &LogicalReplication<Rds> = &LogicalReplication::NEW;

/// RDS for PostgreSQL.
#[derive(Clone, Copy, Default)]
pub(super) struct Rds;

impl Product for Rds {
    type Api = RdsInstances;
    const DEPLOYMENT: Deployment = Deployment::RdsInstance;
    const TYPE_NAME: &'static str = "neonrepl_rds_logical_replication";
    const IDENTIFIER: &'static str = "instance_identifier";
    const HAS_READERS: bool = false;
    const REBOOT: &'static str = "always";
    const WORDS: Words = Words {
        resource: "Turns on logical replication on a DB instance of RDS for PostgreSQL: creates a DB parameter \
                   group with `rds.logical_replication = 1`, attaches it, reboots the instance, and verifies the \
                   result over SQL. The plan shows every step. Destroying gives the instance its old parameters \
                   back. A Multi-AZ instance is rebooted in place, without a failover. An instance of an Aurora \
                   cluster takes its parameters from the cluster: use `neonrepl_aurora_logical_replication` there.",
        whole: "instance",
        server: "instance",
        group: "DB parameter group",
        parameters: "Further parameters of the instance",
        family: "postgres16",
        endpoint: "The host name to connect to.",
    };

    fn api(context: &Context) -> Result<&RdsInstances> {
        context.instance_api()
    }

    fn reboot() -> Attribute {
        let description = "Whether the instance may be rebooted: `always`, if a reboot is needed, or `never`, which \
             leaves `pending_reboot = true` until you reboot it in your own maintenance window. Default: `always`.";
        Attribute::optional("reboot", Type::String, description).default(Self::REBOOT).one_of(&["always", "never"])
    }
}
