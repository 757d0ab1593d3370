//! Tables, as far as publications and subscriptions need to know them.

use std::collections::BTreeSet;

use tokio_postgres::types::Type;

use super::connection::Database;
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
    let doing = "looking for tables";
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let sql = "SELECT w.s, w.t FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
        JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t WHERE c.relkind IN ('r', 'p')";
    let rows = db.query(doing, sql, &[(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY)]).await?;
    read_names(db, doing, &rows)
}

async fn names_of(db: &Database, doing: &str, sql: &str, publications: &[&str]) -> Result<BTreeSet<QualifiedName>> {
    let rows = db.query(doing, sql, &[(&publications, Type::TEXT_ARRAY)]).await?;
    read_names(db, doing, &rows)
}

fn read_names(db: &Database, doing: &str, rows: &[tokio_postgres::Row]) -> Result<BTreeSet<QualifiedName>> {
    let name = |row: &tokio_postgres::Row| Ok(QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?));
    let names: std::result::Result<_, tokio_postgres::Error> = rows.iter().map(name).collect();
    names.map_err(|error| db.error(doing, Cause::Statement(error)))
}
