//! Tables with their columns, and what a role may do with them: read for those that are asked for.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::{self, ServerVersion};

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// A table, or another relation with columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Whether rows can be replicated into it: a table of whatever persistence, partitioned or not.
    pub takes_rows: bool,
    /// The role that owns it.
    pub owner: Ident,
    /// Its columns, in its own order.
    pub columns: Vec<Column>,
    /// What the role may do with it that was asked about.
    pub rights: Rights,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: Ident,
    /// Its type as `format_type` prints it: with its schema, unless that is `pg_catalog`, and with its modifier.
    pub ty: String,
    /// Whether it must have a value.
    pub is_not_null: bool,
    /// Whether it has a value where none is given: a default, or an identity.
    pub has_default: bool,
    /// Whether its value follows from other columns: `STORED`, or since Postgres 18 `VIRTUAL`.
    pub is_generated: bool,
    /// Whether it is generated and stored, so that it can be published (Postgres 18).
    pub is_stored: bool,
}

/// What a role may do with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The role.
    pub role: Ident,
    /// The columns that it may read; all of them where the server does not know the role.
    pub reads: BTreeSet<Ident>,
    /// Whether it may act as the owner: `SET ROLE` since Postgres 16, membership before.
    pub becomes_owner: bool,
}

impl Table {
    /// The column of that name.
    pub fn column(&self, name: &Ident) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == *name)
    }
}

/// Those of the tables that exist, with what `role` may do with them; by default the role of the connection.
///
/// # Errors
/// When the server cannot be asked.
pub async fn tables(
    db: &Database,
    names: &BTreeSet<QualifiedName>,
    role: Option<&Ident>,
) -> Result<BTreeMap<QualifiedName, Table>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let doing = "reading the columns of tables";
    let sql = query(db.version().await?);
    let schemas: Vec<&str> = names.iter().map(|table| table.schema.as_str()).collect();
    let relations: Vec<&str> = names.iter().map(|table| table.name.as_str()).collect();
    let role = role.map(Ident::as_str);
    let rows = db
        .query(doing, &sql, &[(&schemas, Type::TEXT_ARRAY), (&relations, Type::TEXT_ARRAY), (&role, Type::TEXT)])
        .await?;
    let tables: RowResult<_> = rows.iter().map(read_table).collect();
    tables.map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// One row for each table, with the names, types and marks of its columns side by side: `n` must have a value, `d` has one
/// by itself, `s` and `v` are generated, `r` may be read. A role that the server does not know has no oid, and questions
/// about its rights no answer.
fn query(version: ServerVersion) -> String {
    let becomes = if version.has(version::RUN_AS_OWNER) { "SET" } else { "MEMBER" };
    format!(
        "SELECT w.s, w.t, c.relkind IN ('r', 'p'), pg_get_userbyid(c.relowner)::text, \
         o.name::text, coalesce(pg_has_role(r.oid, c.relowner, '{becomes}'), true), k.names, k.types, k.marks \
         FROM (SELECT coalesce($3::name, current_user) AS name) o LEFT JOIN pg_roles r ON r.rolname = o.name \
         CROSS JOIN unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         CROSS JOIN LATERAL (SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{{}}') AS names, \
           coalesce(array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum), '{{}}') AS types, \
           coalesce(array_agg(concat(CASE WHEN a.attnotnull THEN 'n' END, \
             CASE WHEN a.atthasdef AND a.attgenerated = '' OR a.attidentity <> '' THEN 'd' END, a.attgenerated, \
             CASE WHEN coalesce(has_schema_privilege(r.oid, n.oid, 'USAGE') \
               AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT'), true) THEN 'r' END) ORDER BY a.attnum), '{{}}') AS marks \
           FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) k"
    )
}

fn read_table(row: &Row) -> RowResult<(QualifiedName, Table)> {
    let (names, marks): (Vec<&str>, Vec<&str>) = (row.try_get(6)?, row.try_get(8)?);
    let types: Vec<String> = row.try_get(7)?;
    let marked = names.iter().zip(&marks);
    let reads = marked.filter(|(_, marks)| marks.contains('r')).map(|(name, _)| Ident::from_catalog(name)).collect();
    let columns = names.iter().zip(&marks).zip(types).map(|((name, marks), ty)| column(name, ty, marks)).collect();
    let rights = Rights { role: Ident::from_catalog(row.try_get(4)?), reads, becomes_owner: row.try_get(5)? };
    let takes_rows = row.try_get(2)?;
    let table = Table { takes_rows, owner: Ident::from_catalog(row.try_get(3)?), columns, rights };
    Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), table))
}

fn column(name: &str, ty: String, marks: &str) -> Column {
    Column {
        name: Ident::from_catalog(name),
        ty,
        is_not_null: marks.contains('n'),
        has_default: marks.contains('d'),
        is_generated: marks.contains(['s', 'v']),
        is_stored: marks.contains('s'),
    }
}
