//! Whether tables hold rows, and how much room they take.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::QualifiedName;

/// Those of the tables that hold a row, as far as the role may read them.
///
/// # Errors
/// When the server cannot be asked.
pub async fn with_rows(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeSet<QualifiedName>> {
    // The others hold none; asking each table would take a query each.
    let candidates = taking_room(db, tables).await?;
    let looks = candidates.into_iter().map(async |table| (has_rows(db, &table).await, table));
    let looks = join_all(looks).await.into_iter();
    Ok(looks.filter(|(has_rows, _)| matches!(has_rows, Ok(true))).map(|(_, table)| table).collect())
}

/// Those of the tables that have a file with something in it, or a partition that has.
async fn taking_room(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeSet<QualifiedName>> {
    let doing = "looking for tables that are not empty";
    let sql = "SELECT w.s, w.t FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t WHERE c.relkind IN ('r', 'p') AND (pg_relation_size(c.oid) > 0 \
         OR EXISTS (SELECT 1 FROM pg_partition_tree(c.oid) p WHERE pg_relation_size(p.relid) > 0))";
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let rows = db.query(doing, sql, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    let read = rows.iter().map(|row| Ok(QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?)));
    let names: std::result::Result<_, tokio_postgres::Error> = read.collect();
    names.map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// What tables take on disk in all, with their indexes, TOAST and partitions, in bytes. Those that do not exist take nothing.
///
/// # Errors
/// When the server cannot be asked.
pub async fn bytes(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<i64> {
    let doing = "reading the size of tables";
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    // A partition may be among the tables beside its root.
    let sql = "SELECT coalesce(sum(pg_total_relation_size(l.relid)), 0)::bigint FROM (SELECT c.oid AS relid \
        FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t UNION SELECT p.relid FROM unnest($1::text[], $2::text[]) AS w (s, t) \
        JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
        CROSS JOIN LATERAL pg_partition_tree(c.oid) p WHERE c.relkind = 'p') l";
    let rows = db.query(doing, sql, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    let found = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(found.map_err(|error| db.error(doing, Cause::Statement(error)))?.unwrap_or_default())
}

/// How big a table is, partitions included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableSize {
    /// How many rows the server believes there are; absent before the first ANALYZE or VACUUM.
    pub rows: Option<u64>,
    /// What it takes on disk without its indexes, in bytes.
    pub bytes: u64,
}

/// The sizes of those of the tables that exist.
///
/// # Errors
/// When the server cannot be asked.
pub async fn sizes(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeMap<QualifiedName, TableSize>> {
    let doing = "reading the size of tables";
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let sql = "SELECT w.s, w.t, sum(l.reltuples::float8) FILTER (WHERE l.reltuples >= 0)::bigint, \
        coalesce(sum(pg_table_size(l.oid)), 0)::bigint FROM unnest($1::text[], $2::text[]) AS w (s, t) \
        JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
        JOIN pg_class l ON l.relkind <> 'p' AND l.oid IN (SELECT c.oid UNION ALL \
            SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p') GROUP BY w.s, w.t";
    let rows = db.query(doing, sql, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    let read = rows.iter().map(|row| {
        let rows = row.try_get::<_, Option<i64>>(2)?.and_then(|rows| u64::try_from(rows).ok());
        let size = TableSize { rows, bytes: u64::try_from(row.try_get::<_, i64>(3)?).unwrap_or_default() };
        Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), size))
    });
    let sizes: std::result::Result<_, tokio_postgres::Error> = read.collect();
    sizes.map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// Whether a table holds any row.
///
/// # Errors
/// When the server cannot be asked, or the role may not read the table.
async fn has_rows(db: &Database, table: &QualifiedName) -> Result<bool> {
    let doing = format!("looking for rows in table {table}");
    let rows = db.query(&doing, &format!("SELECT EXISTS (SELECT 1 FROM {table})"), &[]).await?;
    let found = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(found.map_err(|error| db.error(&doing, Cause::Statement(error)))?.unwrap_or(false))
}
