//! What a plan asks the servers for, so that what its version lacks is refused before anything is changed.

use crate::postgres::{Database, ServerVersion, Unsupported};
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

/// Checks a plan against the server's version. A server that cannot be reached yet is no reason to refuse a new object:
/// a warning says what was not checked.
pub(super) async fn check_version<M: Model>(
    change: &mut PlannedChange<M>,
    database: &Database,
    doing: &str,
    check: impl Fn(ServerVersion) -> Result<(), Unsupported>,
) -> Result<()> {
    // What the oldest server has needs no question.
    if check(ServerVersion::OLDEST).is_ok() {
        return Ok(());
    }
    match database.version().await {
        Ok(version) => Ok(check(version).map_err(|unsupported| database.unsupported(doing, unsupported))?),
        Err(error) if change.prior().is_none() => {
            let warning = Error::new(format!("{doing}: the server could not be asked for its version"))
                .detail("Whether it has all that is asked for is only found out when this is applied.")
                .detail(error.to_string());
            change.warn(warning);
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
