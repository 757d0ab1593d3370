// SPDX-License-Identifier: MPL-2.0

//! Tables with their columns, and what a role may do with them: read for the requested ones.

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
    /// Whether rows can be replicated into it: a table of any persistence, partitioned or not.
    pub takes_rows: bool,
    /// Whether its rows are in its partitions.
    pub is_partitioned: bool,
    /// The role that owns it.
    pub owner: Ident,
    /// Its columns, in its own order.
    pub columns: Vec<Column>,
    /// What the role in question may do with it.
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
    /// Whether it gets a value if none is given: by a default or as an identity.
    pub has_default: bool,
    /// Whether its value follows from other columns: `STORED`, or since Postgres 18 `VIRTUAL`.
    pub is_generated: bool,
    /// Whether it is generated and stored, so that it can be published (Postgres 18).
    pub is_stored: bool,
    /// How values on two servers are compared.
    pub equality: Equality,
}

/// How values on two servers are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Equality {
    /// By value: every server hashes it to the same number.
    Value,
    /// By each letter of its text: the collation treats some different texts as equal.
    Letters,
    /// By text: the type has no hash, or one that depends on the server, like an enum's, which hashes an oid.
    Text,
}

/// What a role may do with a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The role.
    pub role: Ident,
    /// The columns that it may read; all if the role does not exist.
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

/// The existing tables among these, with the rights of `role`; by default the role of the connection.
///
/// # Errors
/// When a query fails.
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

/// Types whose values have the same hash on every server of every version, also in arrays.
const HASHED_ALIKE: &str = "'bool', 'int2', 'int4', 'int8', 'float4', 'float8', 'numeric', 'text', 'varchar', 'bpchar', 'name', \
    'char', 'bytea', 'uuid', 'date', 'time', 'timetz', 'timestamp', 'timestamptz', 'interval', 'inet', 'cidr', 'macaddr', \
    'macaddr8', 'jsonb'";

/// One row for each table, with the names, types and marks of its columns in parallel arrays: `n` is not null, `d` has
/// a default, `s` and `v` are generated, `r` may be read, `h` has the same hash everywhere, `l` has a nondeterministic
/// collation. A role that does not exist has no oid, so that its rights are null.
fn query(version: ServerVersion) -> String {
    let becomes = if version.has(version::RUN_AS_OWNER) { "SET" } else { "MEMBER" };
    format!(
        "SELECT w.s, w.t, c.relkind IN ('r', 'p'), pg_get_userbyid(c.relowner)::text, \
         o.name::text, coalesce(pg_has_role(r.oid, c.relowner, '{becomes}'), true), k.names, k.types, k.marks, c.relkind = 'p' \
         FROM (SELECT coalesce($3::name, current_user) AS name) o LEFT JOIN pg_roles r ON r.rolname = o.name \
         CROSS JOIN unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p', 'v', 'm', 'f') \
         CROSS JOIN LATERAL (SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{{}}') AS names, \
           coalesce(array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY a.attnum), '{{}}') AS types, \
           coalesce(array_agg(concat(CASE WHEN a.attnotnull THEN 'n' END, \
             CASE WHEN a.atthasdef AND a.attgenerated = '' OR a.attidentity <> '' THEN 'd' END, a.attgenerated, \
             CASE WHEN coalesce(has_schema_privilege(r.oid, n.oid, 'USAGE') \
               AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT'), true) THEN 'r' END, \
             CASE WHEN v.typnamespace = 'pg_catalog'::regnamespace AND v.typname IN ({HASHED_ALIKE}) \
               AND b.oid IN (v.oid, v.typarray) THEN 'h' END, \
             CASE WHEN NOT coalesce(l.collisdeterministic, true) THEN 'l' END) ORDER BY a.attnum), '{{}}') AS marks \
           FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid \
           JOIN pg_type b ON b.oid = CASE WHEN y.typtype = 'd' THEN y.typbasetype ELSE y.oid END \
           JOIN pg_type v ON v.oid = CASE WHEN b.typcategory = 'A' AND b.typelem <> 0 THEN b.typelem ELSE b.oid END \
           LEFT JOIN pg_collation l ON l.oid = a.attcollation \
           WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) k"
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
    let (owner, is_partitioned) = (Ident::from_catalog(row.try_get(3)?), row.try_get(9)?);
    let table = Table { takes_rows, is_partitioned, owner, columns, rights };
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
        equality: match (marks.contains('l'), marks.contains('h')) {
            (true, _) => Equality::Letters,
            (false, true) => Equality::Value,
            (false, false) => Equality::Text,
        },
    }
}
