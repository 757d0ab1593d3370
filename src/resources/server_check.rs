// SPDX-License-Identifier: MPL-2.0

//! The plan's questions to the servers, so that it refuses what they would refuse before anything is changed.

use crate::postgres::{self, Database, ServerVersion, Unsupported};
use crate::replication;
use crate::replication::checks::Objection;
use crate::tf_provider::convert::Model;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// Reports the results of checks in the plan.
pub(super) fn report<M: Model>(change: &mut PlannedChange<M>, objections: impl IntoIterator<Item = Objection>) {
    for objection in objections {
        match objection {
            Objection::Refusal(error) => change.error(error.into()),
            Objection::Warning(warning) => change.warn(warning.into()),
        }
    }
}

/// Continues the plan of a new object whose server cannot be reached yet, and warns of what was not checked.
///
/// # Errors
/// When the server has answered: an apply would get the same answer. Also for an existing object, whose server must be
/// reachable.
pub(super) fn go_on_without<M: Model>(
    change: &mut PlannedChange<M>,
    error: postgres::Error,
    doing: &str,
    unchecked: &str,
) -> Result<()> {
    let is_new = change.prior().is_none() || change.replaces();
    if !is_new || error.is_answer() {
        return Err(replication::Error::from(error).during(doing).into());
    }
    let warning = Error::new(format!("{doing}: the server could not be asked")).detail(unchecked);
    change.warn(warning.detail(error.to_string()).detail(error.hint().unwrap_or_default()));
    Ok(())
}

/// Checks a plan against the server's version, and whether the login works. A server that cannot be reached yet is not
/// an error for a new object: a warning says what was not checked. Returns whether the server was queried.
///
/// # Errors
/// When the server refuses the login, or lacks a required feature.
pub(super) async fn check_version<M: Model>(
    change: &mut PlannedChange<M>,
    database: &Database,
    doing: &str,
    check: impl Fn(ServerVersion) -> Result<(), Unsupported>,
) -> Result<bool> {
    // An existing object was just read, and features of the oldest version need no check.
    if change.prior().is_some() && check(ServerVersion::OLDEST).is_ok() {
        return Ok(true);
    }
    match database.version().await {
        Ok(version) => {
            Ok(check(version).map(|()| true).map_err(|unsupported| database.unsupported(doing, unsupported))?)
        }
        Err(error) => {
            let unchecked = "Whether it has everything that is needed is only known when this is applied.";
            go_on_without(change, error, doing, unchecked).map(|()| false)
        }
    }
}
