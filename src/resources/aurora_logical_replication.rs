// SPDX-License-Identifier: MPL-2.0

//! `neonrepl_aurora_logical_replication`: makes sure that the writer of an Aurora cluster runs with logical WAL.

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
        resource: "Turns on logical replication on an Aurora PostgreSQL cluster: creates a cluster parameter group \
                   with `rds.logical_replication = 1`, attaches it, reboots the writer, and verifies the result \
                   over SQL. The plan shows every step and names the instance that is rebooted. Destroying gives \
                   the cluster its old parameters back.",
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
        let description = "Which instances may be rebooted. `writer`: the writer alone. `all`: the readers one by \
             one and the writer last, waiting for each, so that replication survives a failover. `never`: none; \
             `pending_reboot` stays `true` until you reboot the writer in your own maintenance window. Up to Aurora \
             PostgreSQL 12.13, 13.9 and 14.6, readers restart together with the writer, whatever the value. \
             Default: `writer`.";
        Attribute::optional("reboot", Type::String, description)
            .default(Self::REBOOT)
            .one_of(&["writer", "all", "never"])
    }
}
