// SPDX-License-Identifier: MPL-2.0

//! A subscription whose slot the subscriber creates has a provisional name until that is done.
//!
//! `CREATE SUBSCRIPTION` creates the slot outside of any transaction, so nothing else can be done together with it, such as
//! writing a comment that identifies the subscription. Its name identifies it instead. No other attempt has that name, so if the answer
//! is lost, the name shows whether it was created. It is disabled, has never copied anything, and gets its final name in the
//! transaction that enables it.

use std::fmt::Write as _;

use tokio_postgres::types::Type;

use super::changes::{How, change_owner, diff, enable};
use super::half_made::Token;
use super::{SlotName, Subscription};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Error, Result};
use crate::postgres::sql::{Ident, Statement};
use crate::postgres::version::{ServerVersion, Unsupported};

/// The beginning of such a name.
const PREFIX: &str = "neonrepl_making_";

/// A provisional name that only one attempt to create this subscription has.
pub fn provisional_name(name: &Ident) -> Ident {
    Ident::from_catalog(&format!("{}{}", prefix(name), &Token::random().to_string()[..16]))
}

/// The common beginning of the provisional names of a subscription.
fn prefix(name: &Ident) -> String {
    let mut text = PREFIX.to_owned();
    // Writing to a String cannot fail.
    let _ = write!(text, "{:016x}_", fingerprint(name.as_str()));
    text
}

/// FNV-1a: the same in every version of this program.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The statement that creates a subscription and its slot under a provisional name, disabled.
///
/// # Errors
/// When the server's version lacks a feature of `desired`.
pub fn begin_provisional(
    desired: &Subscription,
    how: &How,
    provisional: &Ident,
    version: ServerVersion,
) -> std::result::Result<Vec<Statement>, Unsupported> {
    let slot = desired.slot_name().map_or(SlotName::None, |slot| SlotName::Named(slot.clone()));
    let (name, slot) = (provisional.clone(), Some(slot));
    let bare = Subscription { name, slot, enabled: false, owner: None, ..desired.clone() };
    diff(None, Some(&bare), how, version)
}

/// The statements that give it its final name and enable it, in one transaction. They fail with 42704 if it is gone,
/// and with 42710 if another one has the name.
pub fn finish_provisional(desired: &Subscription, provisional: &Ident) -> Vec<Statement> {
    let name = &desired.name;
    let rename = Statement::new(format!("ALTER SUBSCRIPTION {provisional} RENAME TO {name}"));
    let enable = desired.enabled.then(|| enable(name));
    let owner = desired.owner.as_ref().map(|owner| change_owner(name, owner));
    [rename].into_iter().chain(enable).chain(owner).collect()
}

/// The statement that drops it with its slot, which it created itself.
pub fn drop_provisional(provisional: &Ident) -> Statement {
    Statement::alone(format!("DROP SUBSCRIPTION {provisional}"))
}

/// The provisional subscriptions of this name: abandoned ones and those in progress.
///
/// # Errors
/// When a query fails.
pub async fn provisionals(subscriber: &Database, name: &Ident) -> Result<Vec<Ident>> {
    let doing = format!("looking for what an attempt to make subscription {name} has left");
    let sql = "SELECT s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
        WHERE d.datname = current_database() AND NOT s.subenabled AND starts_with(s.subname::text, $1) ORDER BY 1";
    let prefix = prefix(name);
    let rows = subscriber.query(&doing, sql, &[(&prefix.as_str(), Type::TEXT)]).await?;
    let read = |row: &tokio_postgres::Row| Ok(Ident::from_catalog(row.try_get(0)?));
    let found: std::result::Result<_, tokio_postgres::Error> = rows.iter().map(read).collect();
    found.map_err(|error| -> Error { subscriber.error(&doing, Cause::Statement(error)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::conninfo::Conninfo;

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    #[test]
    fn a_provisional_name_is_short_enough_and_nobody_elses() {
        let long = ident(&"n".repeat(63));
        let names = [provisional_name(&long), provisional_name(&long), provisional_name(&ident("shop"))];
        assert!(names.iter().all(|name| name.as_str().len() <= 63));
        assert!(names[0] != names[1]);
        assert!(names[0].as_str().starts_with(&prefix(&long)) && !names[2].as_str().starts_with(&prefix(&long)));
        // The remains of an older build are found.
        assert_eq!(prefix(&ident("shop")), "neonrepl_making_46dc5e18e28e2409_");
    }

    #[test]
    fn it_is_made_disabled_and_gets_its_name_when_it_may_run() {
        let mut connection = Conninfo::new();
        connection.set("host", "h");
        let mut desired = Subscription::new(ident("shop"), connection, [ident("p")]);
        let made = begin_provisional(&desired, &How::default(), &ident("mine"), ServerVersion::OLDEST).unwrap();
        let texts = |statements: Vec<Statement>| statements.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            texts(made),
            [
                "CREATE SUBSCRIPTION \"mine\" CONNECTION 'host=h' PUBLICATION \"p\" WITH (enabled = false, slot_name = 'shop')"
            ]
        );
        let rename = "ALTER SUBSCRIPTION \"mine\" RENAME TO \"shop\"";
        assert_eq!(texts(finish_provisional(&desired, &ident("mine"))), [rename, "ALTER SUBSCRIPTION \"shop\" ENABLE"]);
        (desired.enabled, desired.owner) = (false, Some(ident("o")));
        assert_eq!(
            texts(finish_provisional(&desired, &ident("mine"))),
            [rename, "ALTER SUBSCRIPTION \"shop\" OWNER TO \"o\""]
        );
    }
}
