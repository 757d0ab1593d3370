// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_aurora_logical_replication`: the writer of an Aurora cluster runs with a logical WAL.

use super::logical_replication::{LogicalReplication, Product, Words};
use crate::config::Context;
use crate::rds::RdsClusters;
use crate::rds::api::Deployment;
use crate::tf_provider::diagnostics::Result;
use crate::tf_provider::schema::{Attribute, Type};

/// The resource.
pub(super) const AURORA_LOGICAL_REPLICATION: &LogicalReplication<Aurora> = &LogicalReplication::NEW;

/// Aurora PostgreSQL.
#[derive(Clone, Copy, Default)]
pub(super) struct Aurora;

impl Product for Aurora {
    type Api = RdsClusters;
    const DEPLOYMENT: Deployment = Deployment::AuroraCluster;
    const TYPE_NAME: &'static str = "neonrepl_aurora_logical_replication";
    const IDENTIFIER: &'static str = "cluster_identifier";
    const HAS_READERS: bool = true;
    const REBOOT: &'static str = "writer";
    const WORDS: Words = Words {
        resource: "Makes the writer of an Aurora PostgreSQL cluster run with a logical WAL: a cluster parameter group with \
                   `rds.logical_replication = 1`, attached, the writer rebooted, and the result proven over SQL. The plan shows every \
                   step, the instance that is rebooted among them. Destroying gives the cluster its old parameters back.",
        whole: "cluster",
        server: "writer",
        group: "cluster parameter group",
        parameters: "Further cluster parameters",
        family: "aurora-postgresql16",
        endpoint: "The writer endpoint: the host name to connect to.",
    };

    fn api(context: &Context) -> Result<&RdsClusters> {
        context.cluster_api()
    }

    fn reboot() -> Attribute {
        let description = "Which instances may be rebooted: `writer`; `all`, the readers one by one and the writer last, each waited for, so \
             that a failover stays logical; or `never`, which leaves `pending_reboot = true` for your own maintenance. Up to \
             Aurora PostgreSQL 12.13, 13.9 and 14.6, readers restart together with the writer, whatever this says. \
             Default: `writer`.";
        Attribute::optional("reboot", Type::String, description)
            .default(Self::REBOOT)
            .one_of(&["writer", "all", "never"])
    }
}
