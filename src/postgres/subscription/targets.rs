//! The tables of a subscriber that a subscription copies into.
//!
//! Source: the catalogs `pg_class` and `pg_attribute`, and "Security" of the chapter on logical replication in the Postgres
//! documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Subscription;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::{self, ServerVersion};

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// A table as the subscriber has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who owns it.
    pub owner: Ident,
    /// Whether the owner of the subscription may act as the table's.
    pub is_writable: bool,
    /// Its columns.
    pub columns: BTreeMap<Ident, Column>,
}

/// A column of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its type, as `format_type` prints it.
    pub ty: String,
    /// It must have a value and has no default.
    pub is_required: bool,
    /// Its values are computed.
    pub is_generated: bool,
}

/// The owner of the subscription, and those of the tables that exist.
pub async fn targets(
    subscriber: &Database,
    subscription: &Subscription,
    tables: &BTreeSet<QualifiedName>,
) -> Result<(Ident, BTreeMap<QualifiedName, Target>)> {
    let doing = "reading the tables that are copied into";
    let sql = targets_query(subscriber.version().await?, subscription.options.run_as_owner == Some(true));
    let owner = subscription.owner.as_ref().map(Ident::as_str);
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY), (&owner, Type::TEXT)];
    let rows = subscriber.query(doing, &sql, &params).await?;
    let read = || -> RowResult<_> {
        let owner = rows.first().map(|row| row.try_get(0)).transpose()?.or(owner).unwrap_or_default();
        let targets = rows.iter().filter_map(|row| read_target(row).transpose()).collect::<RowResult<_>>()?;
        Ok((Ident::from_catalog(owner), targets))
    };
    read().map_err(|error| subscriber.error(doing, Cause::Statement(error)))
}

/// Before Postgres 16 changes are applied as the owner of the subscription, a superuser.
fn targets_query(version: ServerVersion, run_as_owner: bool) -> String {
    let is_writable = if version.has(version::RUN_AS_OWNER) && !run_as_owner {
        "pg_has_role(o.name, c.relowner, 'SET')"
    } else {
        "true"
    };
    let attributes = |what: &str| format!("coalesce(array_agg({what}) FILTER (WHERE a.attname IS NOT NULL), '{{}}')");
    format!(
        "SELECT o.name::text, w.s, w.t, c.oid IS NOT NULL, pg_get_userbyid(c.relowner)::text, {is_writable}, {}, {}, {}, {} \
         FROM (SELECT coalesce($3::name, current_user) AS name) o \
         CROSS JOIN unnest($1::text[], $2::text[]) AS w (s, t) LEFT JOIN pg_namespace n ON n.nspname = w.s \
         LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p') \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         GROUP BY o.name, w.s, w.t, c.oid, c.relowner",
        attributes("a.attname::text"),
        attributes("format_type(a.atttypid, a.atttypmod)"),
        attributes("a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''"),
        attributes("a.attgenerated <> ''"),
    )
}

fn read_target(row: &Row) -> RowResult<Option<(QualifiedName, Target)>> {
    if !row.try_get::<_, bool>(3)? {
        return Ok(None);
    }
    let names: Vec<&str> = row.try_get(6)?;
    let types: Vec<String> = row.try_get(7)?;
    let required: Vec<bool> = row.try_get(8)?;
    let generated: Vec<bool> = row.try_get(9)?;
    let columns = types.into_iter().zip(required).zip(generated);
    let columns = columns.map(|((ty, is_required), is_generated)| Column { ty, is_required, is_generated });
    let name = QualifiedName::from_catalog(row.try_get(1)?, row.try_get(2)?);
    let target = Target {
        owner: Ident::from_catalog(row.try_get(4)?),
        is_writable: row.try_get::<_, Option<bool>>(5)?.unwrap_or(true),
        columns: names.into_iter().map(Ident::from_catalog).zip(columns).collect(),
    };
    Ok(Some((name, target)))
}
