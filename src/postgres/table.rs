//! Tables, as far as publications and subscriptions need to know them.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database::Database;
use super::error::{Cause, Result};
use super::sql::{Ident, QualifiedName};

/// The tables that publications publish in the end: partitions, schemas and `FOR ALL TABLES` expanded.
///
/// Publications that do not exist contribute nothing. Source: the view `pg_publication_tables`.
pub async fn published(publisher: &Database, publications: &BTreeSet<Ident>) -> Result<BTreeSet<QualifiedName>> {
    let doing = "reading the published tables";
    let names: Vec<&str> = publications.iter().map(Ident::as_str).collect();
    let sql = "SELECT DISTINCT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = ANY ($1)";
    names_of(publisher, doing, sql, &names).await
}

/// Those of the tables that publish updates or deletes without a replica identity: there, both fail on the publisher.
pub async fn without_identity(publisher: &Database, publications: &BTreeSet<Ident>) -> Result<BTreeSet<QualifiedName>> {
    let doing = "reading the replica identities";
    let names: Vec<&str> = publications.iter().map(Ident::as_str).collect();
    let sql = "SELECT DISTINCT t.schemaname::text, t.tablename::text FROM pg_publication_tables t JOIN pg_publication p USING (pubname) \
        JOIN pg_namespace n ON n.nspname = t.schemaname JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
        WHERE p.pubname = ANY ($1) AND (p.pubupdate OR p.pubdelete) AND c.relreplident <> 'f' AND NOT EXISTS (SELECT 1 FROM pg_index i \
        WHERE i.indrelid = c.oid AND ((c.relreplident = 'd' AND i.indisprimary) OR (c.relreplident = 'i' AND i.indisreplident)))";
    names_of(publisher, doing, sql, &names).await
}

/// Those of the tables that exist.
pub async fn existing(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeSet<QualifiedName>> {
    among(db, "looking for tables", tables, "true").await
}

/// Those of the tables that exist, and for which the condition on their `pg_class` `c` holds.
async fn among(
    db: &Database,
    doing: &str,
    tables: &BTreeSet<QualifiedName>,
    condition: &str,
) -> Result<BTreeSet<QualifiedName>> {
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let sql = format!(
        "SELECT w.s, w.t FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t WHERE c.relkind IN ('r', 'p') AND ({condition})"
    );
    let rows = db.query(doing, &sql, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    read_names(db, doing, &rows)
}

/// Those of the tables that hold a row, as far as the role may read them.
///
/// # Errors
/// When the server cannot be asked.
pub async fn with_rows(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeSet<QualifiedName>> {
    // The others hold none; asking each table would take a query each.
    let takes_room = "pg_relation_size(c.oid) > 0 \
        OR EXISTS (SELECT 1 FROM pg_partition_tree(c.oid) p WHERE pg_relation_size(p.relid) > 0)";
    let candidates = among(db, "looking for tables that are not empty", tables, takes_room).await?;
    let looks = candidates.into_iter().map(async |table| (has_rows(db, &table).await, table));
    let looks = join_all(looks).await.into_iter();
    Ok(looks.filter(|(has_rows, _)| matches!(has_rows, Ok(true))).map(|(_, table)| table).collect())
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

/// A table as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: QualifiedName,
    /// The partitioned table that it is a partition of.
    pub partition_of: Option<QualifiedName>,
    /// How many rows the server believes there are, partitions included; absent before the first ANALYZE or VACUUM.
    pub rows_estimate: Option<i64>,
    /// What it takes on disk with its indexes, TOAST and partitions, in bytes.
    pub bytes: i64,
    /// What identifies an old row.
    pub replica_identity: ReplicaIdentity,
    /// Whether it has a primary key.
    pub has_primary_key: bool,
    /// Whether it is unlogged, and so cannot be published.
    pub unlogged: bool,
    /// The publications that publish its changes under its own name.
    pub published_by: BTreeSet<Ident>,
}

/// `REPLICA IDENTITY` of a table: what identifies the old row of an update or a delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaIdentity {
    /// The primary key, if there is one.
    Default,
    /// A unique index.
    Index,
    /// Every column.
    Full,
    /// None.
    Nothing,
}

impl ReplicaIdentity {
    /// Its name, as `ALTER TABLE … REPLICA IDENTITY` has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Index => "index",
            Self::Full => "full",
            Self::Nothing => "nothing",
        }
    }

    fn from_catalog(code: i8) -> Self {
        match u8::try_from(code).unwrap_or_default() {
            b'i' => Self::Index,
            b'f' => Self::Full,
            b'n' => Self::Nothing,
            _ => Self::Default,
        }
    }
}

/// Of a partitioned table only its leaves have rows and files.
const LIST: &str = "SELECT n.nspname::text, c.relname::text, pn.nspname::text, p.relname::text, size.rows, size.bytes, c.relreplident, \
    EXISTS (SELECT 1 FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary), c.relpersistence = 'u', \
    coalesce(pub.names, '{}') \
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_inherits h ON h.inhrelid = c.oid AND c.relispartition \
    LEFT JOIN pg_class p ON p.oid = h.inhparent LEFT JOIN pg_namespace pn ON pn.oid = p.relnamespace \
    CROSS JOIN LATERAL (SELECT sum(l.reltuples::float8) FILTER (WHERE l.reltuples >= 0)::bigint AS rows, \
        coalesce(sum(pg_total_relation_size(l.oid)), 0)::bigint AS bytes \
        FROM pg_class l WHERE l.relkind <> 'p' AND l.oid IN (SELECT c.oid UNION ALL \
            SELECT t.relid FROM pg_partition_tree(c.oid) t WHERE c.relkind = 'p')) size \
    LEFT JOIN (SELECT t.schemaname, t.tablename, array_agg(t.pubname::text) AS names \
        FROM pg_publication_tables t GROUP BY 1, 2) pub ON pub.schemaname = n.nspname AND pub.tablename = c.relname \
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    AND ($1 IS NULL OR n.nspname = ANY ($1)) ORDER BY n.nspname, c.relname";

/// The tables of these schemas, or of all, in the order of their names. System schemas and temporary tables are left out.
///
/// Source: `pg_class`, `pg_publication_tables` and the size functions in the Postgres documentation.
pub async fn list(db: &Database, schemas: Option<&BTreeSet<Ident>>) -> Result<Vec<Listed>> {
    let doing = "listing the tables";
    let schemas: Option<Vec<&str>> = schemas.map(|schemas| schemas.iter().map(Ident::as_str).collect());
    let rows = db.query(doing, LIST, &[(&schemas, Type::TEXT_ARRAY)]).await?;
    let tables: std::result::Result<_, tokio_postgres::Error> = rows.iter().map(read_listed).collect();
    tables.map_err(|error| db.error(doing, Cause::Statement(error)))
}

fn read_listed(row: &Row) -> std::result::Result<Listed, tokio_postgres::Error> {
    let parent = (row.try_get::<_, Option<&str>>(2)?, row.try_get::<_, Option<&str>>(3)?);
    let publications: Vec<&str> = row.try_get(9)?;
    Ok(Listed {
        name: QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?),
        partition_of: parent.0.zip(parent.1).map(|(schema, name)| QualifiedName::from_catalog(schema, name)),
        rows_estimate: row.try_get(4)?,
        bytes: row.try_get(5)?,
        replica_identity: ReplicaIdentity::from_catalog(row.try_get(6)?),
        has_primary_key: row.try_get(7)?,
        unlogged: row.try_get(8)?,
        published_by: publications.into_iter().map(Ident::from_catalog).collect(),
    })
}

async fn names_of(db: &Database, doing: &str, sql: &str, publications: &[&str]) -> Result<BTreeSet<QualifiedName>> {
    let rows = db.query(doing, sql, &[(&publications, Type::TEXT_ARRAY)]).await?;
    read_names(db, doing, &rows)
}

fn read_names(db: &Database, doing: &str, rows: &[Row]) -> Result<BTreeSet<QualifiedName>> {
    let name = |row: &Row| Ok(QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?));
    let names: std::result::Result<_, tokio_postgres::Error> = rows.iter().map(name).collect();
    names.map_err(|error| db.error(doing, Cause::Statement(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replica_identities_have_the_names_of_their_statement() {
        let names = [b'd', b'i', b'f', b'n'].map(|code| ReplicaIdentity::from_catalog(code.cast_signed()).as_str());
        assert_eq!(names, ["default", "index", "full", "nothing"]);
    }
}
