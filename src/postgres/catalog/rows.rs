// SPDX-License-Identifier: MPL-2.0

//! Whether tables hold rows, and how much space they use.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::wanted::Wanted;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::QualifiedName;

/// How many tables one query checks for a row.
const BATCH: usize = 500;

/// The tables among these that have a row, as far as the role may read them.
///
/// # Errors
/// When a query fails.
pub async fn with_rows(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeSet<QualifiedName>> {
    // The others have none.
    let candidates: Vec<_> = taking_room(db, tables).await?.into_iter().collect();
    let mut found = BTreeSet::new();
    for batch in candidates.chunks(BATCH) {
        match holding_rows(db, batch).await {
            Ok(holding) => found.extend(holding),
            // One of them is locked or dropped: check the others one by one.
            Err(_) => {
                for table in batch {
                    found.extend(holding_rows(db, std::slice::from_ref(table)).await.unwrap_or_default());
                }
            }
        }
    }
    Ok(found)
}

/// The tables that the role may read and that have a file that is not empty, or a partition with one.
async fn taking_room(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeSet<QualifiedName>> {
    let sql = "SELECT w.s, w.t FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t WHERE c.relkind IN ('r', 'p') \
         AND has_schema_privilege(n.oid, 'USAGE') AND has_any_column_privilege(c.oid, 'SELECT') AND (pg_relation_size(c.oid) > 0 \
         OR EXISTS (SELECT 1 FROM pg_partition_tree(c.oid) p WHERE pg_relation_size(p.relid) > 0))";
    let doing = "looking for tables that are not empty";
    Ok(db.query_all(doing, sql, &Wanted::of(tables).params(), read_name).await?.into_iter().collect())
}

fn read_name(row: &Row) -> std::result::Result<QualifiedName, tokio_postgres::Error> {
    Ok(QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?))
}

/// The tables among these that have a row.
async fn holding_rows(db: &Database, tables: &[QualifiedName]) -> Result<BTreeSet<QualifiedName>> {
    let looks =
        tables.iter().enumerate().map(|(at, table)| format!("SELECT {at} WHERE EXISTS (SELECT 1 FROM {table})"));
    let sql = looks.collect::<Vec<_>>().join(" UNION ALL ");
    let found = db.query_all("looking for rows in tables", &sql, &[], |row| row.try_get::<_, i32>(0)).await?;
    let table = |at: i32| tables.get(usize::try_from(at).ok()?).cloned();
    Ok(found.into_iter().filter_map(table).collect())
}

/// The total size of tables on disk, with indexes, TOAST and partitions, in bytes. Missing tables count as 0.
///
/// # Errors
/// When a query fails.
pub async fn bytes(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<i64> {
    let doing = "reading the size of tables";
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    // A partition may be listed together with its root.
    let sql = "SELECT coalesce(sum(pg_total_relation_size(l.relid)), 0)::bigint FROM (SELECT c.oid AS relid \
        FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t UNION SELECT p.relid FROM unnest($1::text[], $2::text[]) AS w (s, t) \
        JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
        CROSS JOIN LATERAL pg_partition_tree(c.oid) p WHERE c.relkind = 'p') l";
    let rows = db.query(doing, sql, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    let found = rows.first().map(|row| row.try_get(0)).transpose();
    Ok(found.map_err(|error| db.error(doing, Cause::Statement(error)))?.unwrap_or_default())
}

/// The size of a table, including partitions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TableSize {
    /// The server's estimate of its rows; absent before the first ANALYZE or VACUUM.
    pub rows: Option<u64>,
    /// Its size on disk without indexes, in bytes.
    pub bytes: u64,
}

/// The sizes of the existing tables among these. For a table that another session has locked, the size at the last
/// ANALYZE or VACUUM, because the server would wait for the lock.
///
/// # Errors
/// When a query fails.
pub async fn sizes(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeMap<QualifiedName, TableSize>> {
    let sql = "SELECT w.s, w.t, sum(l.reltuples::float8) FILTER (WHERE l.reltuples >= 0)::bigint, \
         coalesce(sum(CASE WHEN l.oid = ANY (k.locked) THEN l.relpages * current_setting('block_size')::bigint \
           ELSE pg_table_size(l.oid) END), 0)::bigint FROM unnest($1::text[], $2::text[]) AS w (s, t) \
         JOIN pg_namespace n ON n.nspname = w.s JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
         JOIN pg_class l ON l.relkind <> 'p' AND l.oid IN (SELECT c.oid UNION ALL \
            SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p') \
         CROSS JOIN (SELECT ARRAY(SELECT k.relation FROM pg_locks k WHERE k.locktype = 'relation' \
           AND k.mode = 'AccessExclusiveLock')) AS k (locked) GROUP BY w.s, w.t";
    let wanted = Wanted::of(tables);
    let params = wanted.params();
    let rows = db.query_all("reading the size of tables", sql, &params, |row| {
        let rows = row.try_get::<_, Option<i64>>(2)?.and_then(|rows| u64::try_from(rows).ok());
        let size = TableSize { rows, bytes: u64::try_from(row.try_get::<_, i64>(3)?).unwrap_or_default() };
        Ok((read_name(row)?, size))
    });
    Ok(rows.await?.into_iter().collect())
}
