// SPDX-License-Identifier: MPL-2.0

//! A publication that replaces another one, so that its subscriptions can move from one to the other.
//!
//! A comment says which one it replaces, from the transaction that creates it until the other one is dropped. So the next apply
//! recognizes it after an interruption, and never takes one that somebody else has created.
//!
//! Source: `COMMENT` and `obj_description` in the Postgres documentation.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

use super::changes::{diff, drop_publication};
use super::{Publication, fetch_now};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::limits::Limits;
use crate::postgres::lost::look_again;
use crate::postgres::sql::{Ident, Literal, Statement};

/// The comment of a publication that replaces `old`.
fn mark(old: &Ident) -> String {
    format!("terraform-provider-neonrepl: takes the place of publication {old}")
}

/// The publications with a comment. Those with oids from 16384 on, which are not the server's own, are a range of the
/// index on comments, so only a few rows are read.
const MARKED: &str = "pg_description d JOIN pg_publication p ON p.oid = d.objoid WHERE d.objoid >= 16384 \
    AND d.classoid = 'pg_publication'::regclass AND d.objsubid = 0 AND d.description";

fn comment(name: &Ident, text: Option<&str>) -> Statement {
    let text = text.map_or_else(|| "NULL".to_owned(), |text| Literal(text).to_string());
    Statement::new(format!("COMMENT ON PUBLICATION {name} IS {text}"))
}

/// The publications that should replace `old`.
///
/// # Errors
/// When a query fails.
pub async fn successors(db: &Database, old: &Ident) -> Result<BTreeSet<Ident>> {
    let doing = format!("looking for what takes the place of publication {old}");
    let sql = format!("SELECT p.pubname FROM {MARKED} = $1");
    let rows = db.query(&doing, &sql, &[(&mark(old).as_str(), Type::TEXT)]).await?;
    let names = rows.iter().map(|row| row.try_get(0).map(Ident::from_catalog));
    let names: std::result::Result<_, tokio_postgres::Error> = names.collect();
    names.map_err(|error| db.error(&doing, Cause::Statement(error)))
}

/// A statement that fails ([`SqlState::DIVISION_BY_ZERO`](crate::postgres::SqlState::DIVISION_BY_ZERO)) if there is
/// one. As the first statement of a transaction, it lets the rest run only if there is none, without another round
/// trip.
pub fn unless_succeeded(old: &Ident) -> Statement {
    Statement::new(format!("SELECT 1 / (count(*) = 0)::int FROM {MARKED} = {}", Literal(&mark(old))))
}

/// Creates a publication that replaces `old`, or changes an earlier one to publish the same as `successor`.
///
/// # Errors
/// When the server refuses it, for example because of another publication with that name.
pub async fn make_successor(
    db: &Database,
    doing: &str,
    successor: &Publication,
    old: &Ident,
    limits: &Limits,
) -> Result<()> {
    let is_made = successors(db, old).await?.contains(&successor.name);
    let current = if is_made { fetch_now(db, &successor.name).await? } else { None };
    let version = db.version().await?;
    let statements = diff(current.as_ref(), Some(successor), version).map_err(|error| db.unsupported(doing, error))?;
    // It is marked before its owner may change.
    let marked = current.is_none().then(|| comment(&successor.name, Some(&mark(old))));
    let (first, rest) = statements.split_at(statements.len().min(1));
    let statements: Vec<_> = first.iter().cloned().chain(marked).chain(rest.iter().cloned()).collect();
    super::apply(db, doing, &statements, &successor.name, limits).await.map(drop)
}

/// Drops `old`, and gives its comment to the replacement, in one transaction.
///
/// # Errors
/// When the server refuses it, or it is unknown whether it was done.
pub async fn succeed(db: &Database, doing: &str, old: &Ident, successor: &Ident, limits: &Limits) -> Result<()> {
    let kept = comment_of(db, old).await?;
    let statements = [drop_publication(old), comment(successor, kept.as_deref())];
    match db.run_within(doing, &statements, limits).await {
        Ok(_) => Ok(()),
        Err(error) if error.is_lost() => match look_again(limits, || fetch_now(db, old)).await {
            Some(None) => Ok(()),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

async fn comment_of(db: &Database, name: &Ident) -> Result<Option<String>> {
    let doing = format!("reading the comment of publication {name}");
    let sql = "SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1::name";
    let rows = db.query(&doing, sql, &[(&name.as_str(), Type::TEXT)]).await?;
    let comment = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(comment.map_err(|error| db.error(&doing, Cause::Statement(error)))?.flatten())
}
