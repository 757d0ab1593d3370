// SPDX-License-Identifier: MPL-2.0

//! The rights on rows of tables that a role lacks.
//!
//! Source: "Access Privilege Inquiry Functions" in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;

use super::wanted::Wanted;
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::{Ident, QualifiedName};

/// The privileges for replicated changes that a role lacks, by table. Omits tables where it lacks none, and is empty if
/// the role does not exist.
///
/// # Errors
/// When a query fails.
pub async fn lacking_writes(
    db: &Database,
    tables: &BTreeSet<QualifiedName>,
    role: &Ident,
) -> Result<BTreeMap<QualifiedName, Vec<String>>> {
    let wanted = Wanted::of(tables);
    let [schemas, names] = wanted.params();
    let role = role.as_str();
    let sql = "SELECT w.s, w.t, array_agg(p.name ORDER BY p.place) FROM unnest($1::text[], $2::text[]) AS w (s, t) \
         JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
         JOIN pg_roles r ON r.rolname = $3 \
         CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) WITH ORDINALITY AS p (name, place) \
         WHERE c.relkind IN ('r', 'p') AND NOT (has_schema_privilege(r.oid, n.oid, 'USAGE') \
           AND has_table_privilege(r.oid, c.oid, p.name)) GROUP BY w.s, w.t";
    let read = |row: &tokio_postgres::Row| {
        Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), row.try_get(2)?))
    };
    let doing = "reading what a role may do with tables";
    let rows = db.query_all(doing, sql, &[schemas, names, (&role, Type::NAME)], read).await?;
    Ok(rows.into_iter().collect())
}
