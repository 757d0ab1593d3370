// SPDX-License-Identifier: MPL-2.0

//! Tries a subscription in a transaction that is rolled back, so that a plan knows what its server refuses.
//!
//! Nothing connects to the publisher, and no secret is sent, because a refused statement may appear in the server's
//! log.

use std::sync::atomic::{AtomicU32, Ordering};

use super::changes::{How, change_owner};
use super::half_made::{Claim, begin};
use super::{SlotName, Subscription};
use crate::postgres::conninfo::Conninfo;
use crate::postgres::database::Database;
use crate::postgres::error::{Error, Result};
use crate::postgres::sql::{Ident, Statement};

/// Tries to create this subscription, and rolls back. Returns the server's refusal: missing rights, an owner that does
/// not exist, a keyword that its libpq does not know, a read-only server.
///
/// # Errors
/// When a query fails, or the server's version lacks a feature.
pub async fn refused(db: &Database, doing: &str, desired: &Subscription, how: &How) -> Result<Option<Error>> {
    let version = db.version().await?;
    // With its own name it would wait for another session that creates it at the same time.
    let name = trial_name();
    let connection = Some(without_secrets(desired.connection.as_ref()));
    let slot = desired.slot.clone().or_else(|| Some(SlotName::Named(desired.name.clone())));
    let tried = Subscription { name: name.clone(), connection, slot, ..desired.clone() };
    let how = How { connect: false, ..how.clone() };
    let statements =
        begin(&tried, &how, &Claim::begin(), version).map_err(|unsupported| db.unsupported(doing, unsupported))?;
    let owner = desired.owner.as_ref().map(|owner| change_owner(&name, owner));
    attempt(db, doing, statements.into_iter().chain(owner)).await
}

/// Tries to give a subscription to this owner, and rolls back. Returns the server's refusal.
///
/// # Errors
/// When a query fails.
pub async fn refused_owner(db: &Database, doing: &str, name: &Ident, owner: &Ident) -> Result<Option<Error>> {
    attempt(db, doing, [change_owner(name, owner)]).await
}

async fn attempt(db: &Database, doing: &str, statements: impl IntoIterator<Item = Statement>) -> Result<Option<Error>> {
    // Readers of the server's log can see that it is only a trial.
    let statements = statements.into_iter().map(|statement| format!("{} /* neonrepl_trial */", statement.text()));
    let changes: Vec<_> = ["SET LOCAL lock_timeout = '1s'".to_owned()].into_iter().chain(statements).collect();
    match db.query_undone(doing, &changes, "SELECT 1").await {
        Ok(_) => Ok(None),
        Err(error) if error.is_answer() && !error.is_connect() => Ok(Some(error)),
        // Another session holds a lock: only the real change will show it.
        Err(error) if error.is_locked() => Ok(None),
        Err(error) => Err(error),
    }
}

fn trial_name() -> Ident {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    Ident::from_catalog(&format!("neonrepl_trial_{}_{number}", std::process::id()))
}

/// The connection string with a fake password in place of its own.
fn without_secrets(connection: Option<&Conninfo>) -> Conninfo {
    let mut shown = connection.cloned().unwrap_or_default();
    if connection.is_none() {
        shown.set("host", "later");
    }
    if connection.is_none_or(|connection| connection.get("password").is_some()) {
        shown.set("password", "none");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_tried() {
        let shown = |text: &str| without_secrets(Some(&Conninfo::parse(text).unwrap())).to_secret().expose().to_owned();
        assert_eq!(shown("host=h user=u password=hunter2"), "host=h password=none user=u");
        assert_eq!(shown("host=h user=u"), "host=h user=u");
        assert_eq!(without_secrets(None).to_secret().expose(), "host=later password=none");
        assert_ne!(trial_name(), trial_name());
    }
}
