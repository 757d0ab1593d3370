// SPDX-License-Identifier: MPL-2.0

//! The list of tables, with their sizes and their publications.

use std::collections::BTreeSet;

use futures_util::future::try_join;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::outline::{Outline, Relation, ReplicaIdentity, outline};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};

/// A table in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: QualifiedName,
    /// The partitioned table that it is a partition of.
    pub partition_of: Option<QualifiedName>,
    /// The server's estimate of its rows, with partitions; absent before the first ANALYZE or VACUUM.
    pub rows_estimate: Option<i64>,
    /// Its size on disk with indexes, TOAST and partitions, in bytes.
    pub bytes: i64,
    /// What identifies an old row.
    pub replica_identity: ReplicaIdentity,
    /// Whether it has a primary key.
    pub has_primary_key: bool,
    /// Whether it is unlogged, and therefore cannot be published.
    pub unlogged: bool,
    /// The publications that publish its changes under its own name.
    pub published_by: BTreeSet<Ident>,
}

/// Only the leaves of a partitioned table have rows and files.
const SIZES: &str = "SELECT n.nspname::text, c.relname::text, size.rows, size.bytes, coalesce(pub.names, '{}') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    CROSS JOIN LATERAL (SELECT sum(l.reltuples::float8) FILTER (WHERE l.reltuples >= 0)::bigint AS rows, \
        coalesce(sum(pg_total_relation_size(l.oid)), 0)::bigint AS bytes \
        FROM pg_class l WHERE l.relkind <> 'p' AND l.oid IN (SELECT c.oid UNION ALL \
            SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p')) size \
    LEFT JOIN (SELECT t.schemaname, t.tablename, array_agg(t.pubname::text) AS names \
        FROM pg_publication_tables t GROUP BY 1, 2) pub ON pub.schemaname = n.nspname AND pub.tablename = c.relname \
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    AND ($1 IS NULL OR n.nspname = ANY ($1)) ORDER BY n.nspname, c.relname";

/// The tables of these schemas, or of all, by name. Omits system schemas and temporary tables.
///
/// # Errors
/// When a query fails.
///
/// Source: `pg_class`, `pg_publication_tables` and the size functions in the Postgres documentation.
pub async fn list(db: &Database, schemas: Option<&BTreeSet<Ident>>) -> Result<Vec<Listed>> {
    let doing = "listing the tables";
    let schemas: Option<Vec<&str>> = schemas.map(|schemas| schemas.iter().map(Ident::as_str).collect());
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] = [(&schemas, Type::TEXT_ARRAY)];
    let (outline, rows) = Box::pin(try_join(outline(db), db.query(doing, SIZES, &params))).await?;
    let tables: std::result::Result<Vec<_>, tokio_postgres::Error> =
        rows.iter().map(|row| read_listed(row, &outline)).collect();
    let tables = tables.map_err(|error| db.error(doing, Cause::Statement(error)))?;
    Ok(tables.into_iter().flatten().collect())
}

/// A table with its size. None if it was created after the outline was read.
fn read_listed(row: &Row, outline: &Outline) -> std::result::Result<Option<Listed>, tokio_postgres::Error> {
    let name = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
    let Some(relation) = outline.relations.get(&name) else { return Ok(None) };
    let Relation { replica_identity, has_primary_key, is_unlogged, .. } = *relation;
    let publications: Vec<&str> = row.try_get(4)?;
    Ok(Some(Listed {
        partition_of: relation.ancestors.first().cloned(),
        rows_estimate: row.try_get(2)?,
        bytes: row.try_get(3)?,
        replica_identity,
        has_primary_key,
        unlogged: is_unlogged,
        published_by: publications.into_iter().map(Ident::from_catalog).collect(),
        name,
    }))
}
