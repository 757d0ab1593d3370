//! Published tables as a publisher sends them.
//!
//! Source: the views and catalogs `pg_publication_tables`, `pg_class` and `pg_attribute` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version;

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// A table as the publisher sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The published columns, each with its type.
    pub columns: BTreeMap<Ident, String>,
    /// Whether the role of the connection may read all of them.
    pub is_readable: bool,
}

/// The published tables. Generated columns are published since Postgres 18, and then the view names them.
pub async fn sources(
    publisher: &Database,
    publications: &BTreeSet<Ident>,
    role: &Ident,
) -> Result<BTreeMap<QualifiedName, Source>> {
    let doing = "reading the columns that are published";
    let version = publisher.version().await?;
    let listed = if version.has(version::COLUMN_LISTS) { "a.attname = ANY (t.attnames)" } else { "true" };
    let generated = if version.has(version::PUBLISH_GENERATED_COLUMNS) { "true" } else { "a.attgenerated = ''" };
    let sql = format!(
        "SELECT t.schemaname::text, t.tablename::text, has_schema_privilege($2, n.oid, 'USAGE') \
         AND coalesce(bool_and(has_column_privilege($2, c.oid, a.attnum, 'SELECT')), true), \
         coalesce(array_agg(a.attname::text) FILTER (WHERE a.attname IS NOT NULL), '{{}}'), \
         coalesce(array_agg(format_type(a.atttypid, a.atttypmod)) FILTER (WHERE a.attname IS NOT NULL), '{{}}') \
         FROM pg_publication_tables t JOIN pg_namespace n ON n.nspname = t.schemaname \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.tablename \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND {listed} AND {generated} \
         WHERE t.pubname = ANY ($1) GROUP BY 1, 2, n.oid, c.oid"
    );
    let names: Vec<&str> = publications.iter().map(Ident::as_str).collect();
    let rows = publisher.query(doing, &sql, &[(&names, Type::TEXT_ARRAY), (&role.as_str(), Type::NAME)]).await?;
    let sources: RowResult<_> = rows.iter().map(read_source).collect();
    sources.map_err(|error| publisher.error(doing, Cause::Statement(error)))
}

fn read_source(row: &Row) -> RowResult<(QualifiedName, Source)> {
    let names: Vec<&str> = row.try_get(3)?;
    let types: Vec<String> = row.try_get(4)?;
    let columns = names.into_iter().map(Ident::from_catalog).zip(types).collect();
    let name = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
    Ok((name, Source { columns, is_readable: row.try_get(2)? }))
}
