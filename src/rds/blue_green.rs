// SPDX-License-Identifier: MPL-2.0

//! Blue/green deployments: a second cluster that will replace the first one.

use aws_sdk_rds::types;

use super::api::BlueGreen;
use super::client::failure;
use super::{RdsClusters, Result};

impl RdsClusters {
    /// See [`RdsApi::blue_green`](super::api::RdsApi::blue_green). There are few, so all of them are listed.
    pub(super) async fn blue_green_of(&self, arn: &str) -> Result<Option<BlueGreen>> {
        let call = self.client().await?.describe_blue_green_deployments();
        let mut pages = call.into_paginator().items().send();
        while let Some(deployment) = pages.next().await {
            let deployment = deployment.map_err(|error| failure("listing the blue/green deployments", error))?;
            if let Some(found) = side(deployment, arn) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The deployment, seen from the cluster of this ARN, if that is a side of it.
fn side(deployment: types::BlueGreenDeployment, arn: &str) -> Option<BlueGreen> {
    let is = |side: &Option<String>| side.as_deref() == Some(arn);
    let status = deployment.status.unwrap_or_default();
    let is_over = matches!(status.as_str(), "SWITCHOVER_COMPLETED" | "DELETING");
    let is_green = is(&deployment.target);
    let concerns = !is_over && (is_green || is(&deployment.source));
    let name = deployment.blue_green_deployment_name.unwrap_or_default();
    concerns.then_some(BlueGreen { name, status, is_green })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(status: &str) -> types::BlueGreenDeployment {
        let deployment = types::BlueGreenDeployment::builder().blue_green_deployment_name("upgrade").status(status);
        deployment.source("arn:shop").target("arn:shop-green").build()
    }

    #[test]
    fn a_cluster_is_one_side_or_none() {
        let side = |arn| side(deployment("AVAILABLE"), arn).map(|found| (found.name, found.is_green));
        assert_eq!(side("arn:shop"), Some(("upgrade".to_owned(), false)));
        assert_eq!(side("arn:shop-green"), Some(("upgrade".to_owned(), true)));
        assert_eq!(side("arn:other"), None);
    }

    #[test]
    fn one_that_is_over_is_none() {
        for status in ["SWITCHOVER_COMPLETED", "DELETING"] {
            assert_eq!(side(deployment(status), "arn:shop"), None, "{status}");
        }
    }
}
