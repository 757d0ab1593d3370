// SPDX-License-Identifier: MPL-2.0

//! What a plan asks the servers, so that it refuses what they would refuse before anything is changed.

use crate::postgres::{self, Database, ServerVersion, Unsupported};
use crate::replication;
use crate::replication::checks::Objection;
use crate::tf_provider::convert::Model;
use crate::tf_provider::diagnostics::{Error, Result};
use crate::tf_provider::resource::PlannedChange;

/// Says in the plan what checks have found.
pub(super) fn report<M: Model>(change: &mut PlannedChange<M>, objections: impl IntoIterator<Item = Objection>) {
    for objection in objections {
        match objection {
            Objection::Refusal(error) => change.error(error.into()),
            Objection::Warning(warning) => change.warn(warning.into()),
        }
    }
}

/// Goes on with the plan of a new object whose server cannot be reached yet, and warns of what was not checked.
///
/// # Errors
/// Where the server has answered: an apply would get the same answer. And for an object that exists, whose server must be
/// there.
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

/// Checks a plan against the server's version, and whether the server lets us in. One that cannot be reached yet is no
/// reason to refuse a new object: a warning says what was not checked. Returns whether the server was asked.
///
/// # Errors
/// Where the server has answered that it does not let us in, or lacks what is asked for.
pub(super) async fn check_version<M: Model>(
    change: &mut PlannedChange<M>,
    database: &Database,
    doing: &str,
    check: impl Fn(ServerVersion) -> Result<(), Unsupported>,
) -> Result<bool> {
    // What exists was read a moment ago, and what the oldest server has needs no question.
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
