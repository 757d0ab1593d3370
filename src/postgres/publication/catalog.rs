// SPDX-License-Identifier: MPL-2.0

//! Reads publications, and runs changes of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;

use super::changes::{drop_publication, member};
use super::{FilterColumns, GeneratedColumns, Operation, Publication, Publications, RowFilter, TableSpec, Target};
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Error, Result};
use crate::postgres::limits::Limits;
use crate::postgres::notice::Notice;
use crate::postgres::sql::{Ident, QualifiedName, Statement};
use crate::postgres::version::{self, ServerVersion};

/// All publications of the database that can be read.
struct Readable {
    publications: Arc<Publications>,
    /// The publications with a row filter on a table that another session has locked, and the resulting error: Postgres
    /// prints no filter of such a table.
    locked: Option<(BTreeSet<Ident>, Error)>,
}

/// All publications of the database, from a snapshot that is at most two seconds old.
///
/// # Errors
/// Also when a row filter of one of them cannot be read, because its table is locked.
pub async fn fetch_all(db: &Database) -> Result<Arc<Publications>> {
    let readable = readable(db).await?;
    match &readable.locked {
        Some((_, error)) => Err(error.clone()),
        None => Ok(Arc::clone(&readable.publications)),
    }
}

/// One publication, from the same snapshot.
///
/// # Errors
/// As [`fetch_all`], but unreadable other publications do not matter.
pub async fn fetch(db: &Database, name: &Ident) -> Result<Option<Publication>> {
    let readable = readable(db).await?;
    match &readable.locked {
        Some((names, error)) if names.contains(name) => Err(error.clone()),
        _ => Ok(readable.publications.get(name).cloned()),
    }
}

async fn readable(db: &Database) -> Result<Arc<Readable>> {
    let found = db.snapshot::<Readable>().get(|| db.changes(), load_readable(db)).await?;
    if found.locked.is_none() || !db.is_patient() {
        return Ok(found);
    }
    // A change waits for a lock that a plan has skipped a moment ago.
    let publications = Box::pin(load(db, "reading the publications", None)).await?;
    Ok(Arc::new(Readable { publications: Arc::new(publications), locked: None }))
}

/// Reads all of them or, if that meets a lock, those that the lock does not affect.
async fn load_readable(db: &Database) -> Result<Readable> {
    let doing = "reading the publications";
    let error = match load(db, doing, None).await {
        Err(error) if error.is_locked() => error,
        loaded => return Ok(Readable { publications: Arc::new(loaded?), locked: None }),
    };
    let rows = db.query(doing, &query(db.version().await?, Which::All, Locked::PassedOver), &[]).await?;
    let names: std::result::Result<BTreeSet<_>, _> = rows.iter().filter_map(|row| unread(row).transpose()).collect();
    let read = names.and_then(|names| Ok((names, read_rows(&rows)?)));
    let (names, publications) = read.map_err(|error| db.error(doing, Cause::Statement(error)))?;
    let locked = (!names.is_empty()).then_some((names, error));
    Ok(Readable { publications: Arc::new(publications), locked })
}

/// The publication of a row whose filter was skipped.
fn unread(row: &Row) -> std::result::Result<Option<Ident>, tokio_postgres::Error> {
    let is_unread = row.try_get::<_, Option<bool>>(13)? == Some(true) && row.try_get::<_, Option<&str>>(12)?.is_none();
    Ok(if is_unread { Some(Ident::from_catalog(row.try_get(0)?)) } else { None })
}

/// One publication as it is now, by a query of its own: for the moments before and after a change.
pub async fn fetch_now(db: &Database, name: &Ident) -> Result<Option<Publication>> {
    let doing = format!("reading publication {name}");
    Ok(load(db, &doing, Some(name)).await?.remove(name))
}

async fn load(db: &Database, doing: &str, name: Option<&Ident>) -> Result<Publications> {
    let version = db.version().await?;
    let rows = match name.map(Ident::as_str) {
        Some(name) => {
            let sql = query(version, Which::Named, Locked::Awaited);
            db.query(doing, &sql, &[(&name, Type::TEXT)]).await?
        }
        None => db.query(doing, &query(version, Which::All, Locked::Awaited), &[]).await?,
    };
    read_rows(&rows).map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// The tables of a subscription to these publications: partitions, schemas and `FOR ALL TABLES` expanded. If both
/// servers have version 16 or later (`version` is the older one), omits partitions whose root a publication sends.
///
/// Publications that do not exist contribute nothing. Source: the view `pg_publication_tables`, and the function
/// `pg_get_publication_tables`, which subscriptions use since 16.
///
/// # Errors
/// When a query fails.
pub async fn published_tables(
    db: &Database,
    names: &BTreeSet<Ident>,
    version: ServerVersion,
) -> Result<BTreeSet<QualifiedName>> {
    let doing = "reading the published tables";
    let names: Vec<&str> = names.iter().map(Ident::as_str).collect();
    let sql = if version.has(version::ROOTS_ALONE) {
        "SELECT DISTINCT n.nspname::text, c.relname::text FROM pg_get_publication_tables(VARIADIC \
         (SELECT array_agg(p.pubname::text) FROM pg_publication p WHERE p.pubname = ANY ($1))) g \
         JOIN pg_class c ON c.oid = g.relid JOIN pg_namespace n ON n.oid = c.relnamespace"
    } else {
        "SELECT DISTINCT schemaname::text, tablename::text FROM pg_publication_tables WHERE pubname = ANY ($1)"
    };
    let rows = db.query(doing, sql, &[(&names, Type::TEXT_ARRAY)]).await?;
    let read = rows.iter().map(|row| Ok(QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?)));
    let tables: std::result::Result<_, tokio_postgres::Error> = read.collect();
    tables.map_err(|error| db.error(doing, Cause::Statement(error)))
}

/// The columns that the row filters of these publications use, by publication.
///
/// A stored filter refers to columns by their numbers, which can be read even while another session has locked the
/// table.
///
/// # Errors
/// When a query fails.
pub async fn filter_columns(db: &Database, names: &BTreeSet<Ident>) -> Result<BTreeMap<Ident, FilterColumns>> {
    if !db.version().await?.has(version::ROW_FILTERS) {
        return Ok(BTreeMap::new());
    }
    let names: Vec<&str> = names.iter().map(Ident::as_str).collect();
    let sql = "SELECT p.pubname::text, n.nspname::text, c.relname::text, a.attname::text FROM pg_publication_rel r \
         JOIN pg_publication p ON p.oid = r.prpubid JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum IN (SELECT m.numbers[1]::int2 \
           FROM regexp_matches(r.prqual::text, ':varattno ([0-9]+) ', 'g') AS m (numbers)) WHERE p.pubname = ANY ($1)";
    let rows = db
        .query_all("reading the columns of row filters", sql, &[(&names, Type::TEXT_ARRAY)], |row| {
            let table = QualifiedName::from_catalog(row.try_get(1)?, row.try_get(2)?);
            Ok((Ident::from_catalog(row.try_get(0)?), table, Ident::from_catalog(row.try_get(3)?)))
        })
        .await?;
    let mut found: BTreeMap<Ident, FilterColumns> = BTreeMap::new();
    for (publication, table, column) in rows {
        found.entry(publication).or_default().entry(table).or_default().insert(column);
    }
    Ok(found)
}

/// Runs statements that create or alter a publication, and reads it back in the same round trip.
///
/// `name` is its name afterwards. The statements are those of [`diff`](super::diff).
pub async fn apply(
    db: &Database,
    doing: &str,
    statements: &[Statement],
    name: &Ident,
    limits: &Limits,
) -> Result<(Vec<Notice>, Option<Publication>)> {
    let sql = query(db.version().await?, Which::Named, Locked::Awaited);
    let bound = name.as_str();
    let (notices, rows) = db.run_and_read(doing, statements, Some((&sql, &[(&bound, Type::TEXT)])), limits).await?;
    let found = match rows {
        Some(rows) => read_rows(&rows).map_err(|error| db.error(doing, Cause::Statement(error)))?.remove(name),
        None => fetch_now(db, name).await?,
    };
    Ok((notices, found))
}

/// Drops a publication, in one transaction with the statements that guard it. Returns whether it existed.
///
/// # Errors
/// When a guard fails, the server refuses it, or it is unknown whether it was done.
pub async fn drop(db: &Database, doing: &str, guards: Vec<Statement>, name: &Ident, limits: &Limits) -> Result<bool> {
    let statements: Vec<_> = guards.into_iter().chain([drop_publication(name)]).collect();
    match db.run_and_read(doing, &statements, None, limits).await {
        Ok(_) => Ok(true),
        Err(error) if error.is(&SqlState::UNDEFINED_OBJECT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The publications that a query is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// The one named by `$1`.
    Named,
}

/// What to do with a row filter on a table that another session has locked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Locked {
    /// Wait for the lock.
    Awaited,
    /// Skip the filter.
    PassedOver,
}

/// The tables that nobody can read now, because of a granted or a waiting lock: everybody else waits behind a waiting
/// one too.
const LOCKED: &str = "SELECT l.relation FROM pg_locks l WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock' \
     AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())";

/// One row for each member, or one for a publication without any.
///
/// Each part has the restriction to one publication, so that the server looks up its members by index.
fn query(version: ServerVersion, which: Which, locked: Locked) -> String {
    let only = |column: &str| match which {
        Which::All => String::new(),
        Which::Named => format!(" WHERE {column} = (SELECT o.oid FROM pg_publication o WHERE o.pubname = $1::name)"),
    };
    let (columns, filter, is_filtered, schemas) = if version.has(version::COLUMN_LISTS) {
        let schemas = " UNION ALL SELECT x.pnpubid, n.nspname, NULL, NULL, NULL, NULL \
             FROM pg_publication_namespace x JOIN pg_namespace n ON n.oid = x.pnnspid";
        (
            "CASE WHEN r.prattrs IS NOT NULL THEN ARRAY(SELECT a.attname::text FROM pg_attribute a \
             WHERE a.attrelid = r.prrelid AND a.attnum = ANY (r.prattrs)) END",
            match locked {
                Locked::Awaited => "pg_get_expr(r.prqual, r.prrelid)".to_owned(),
                Locked::PassedOver => {
                    format!("CASE WHEN r.prrelid <> ALL (ARRAY({LOCKED})) THEN pg_get_expr(r.prqual, r.prrelid) END")
                }
            },
            "r.prqual IS NOT NULL",
            format!("{schemas}{}", only("x.pnpubid")),
        )
    } else {
        ("NULL::text[]", "NULL::text".to_owned(), "NULL::boolean", String::new())
    };
    let generated = if version.has(version::PUBLISH_GENERATED_COLUMNS) { "p.pubgencols = 's'" } else { "false" };
    format!(
        "SELECT p.pubname, pg_get_userbyid(p.pubowner), p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, \
         p.pubviaroot, {generated}, m.nspname, m.relname, m.columns, m.filter, m.is_filtered \
         FROM pg_publication p LEFT JOIN (SELECT r.prpubid, n.nspname, c.relname, {columns} AS columns, {filter} AS filter, {is_filtered} AS is_filtered \
         FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace{}{schemas}) m \
         ON m.prpubid = p.oid{}",
        only("r.prpubid"),
        only("p.oid"),
    )
}

fn read_rows(rows: &[Row]) -> std::result::Result<Publications, tokio_postgres::Error> {
    let mut publications = Publications::new();
    for row in rows {
        let name = Ident::from_catalog(row.try_get(0)?);
        let publication = match publications.entry(name) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let publication = read_publication(entry.key().clone(), row)?;
                entry.insert(publication)
            }
        };
        if let Target::Lists { tables, schemas } = &mut publication.target {
            read_member(row, tables, schemas)?;
        }
    }
    Ok(publications)
}

fn read_publication(name: Ident, row: &Row) -> std::result::Result<Publication, tokio_postgres::Error> {
    let mut publish = BTreeSet::new();
    for (column, operation) in (3..).zip(Operation::ALL) {
        if row.try_get(column)? {
            publish.insert(operation);
        }
    }
    Ok(Publication {
        name,
        owner: Some(Ident::from_catalog(row.try_get(1)?)),
        target: if row.try_get(2)? { Target::AllTables } else { Target::none() },
        publish,
        via_partition_root: row.try_get(7)?,
        generated_columns: if row.try_get(8)? { GeneratedColumns::Stored } else { GeneratedColumns::None },
    })
}

fn read_member(
    row: &Row,
    tables: &mut BTreeMap<QualifiedName, TableSpec>,
    schemas: &mut BTreeSet<Ident>,
) -> std::result::Result<(), tokio_postgres::Error> {
    match (row.try_get::<_, Option<&str>>(9)?, row.try_get::<_, Option<&str>>(10)?) {
        (Some(schema), Some(name)) => {
            let columns: Option<Vec<&str>> = row.try_get(11)?;
            let filter: Option<String> = row.try_get(12)?;
            let spec = TableSpec {
                columns: columns.map(|columns| columns.into_iter().map(Ident::from_catalog).collect()),
                filter: filter.map(RowFilter::from_catalog),
            };
            tables.insert(QualifiedName::from_catalog(schema, name), spec);
        }
        (Some(schema), None) => {
            schemas.insert(Ident::from_catalog(schema));
        }
        _ => {}
    }
    Ok(())
}

/// A row filter, as the server understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadFilter {
    /// Its printed form, for comparisons.
    pub canonical: String,
    /// The columns that it uses.
    pub columns: BTreeSet<Ident>,
}

/// The server's printed form of a row filter on a table. See [`read_filter`].
pub async fn canonical_filter(db: &Database, table: &QualifiedName, filter: &RowFilter) -> Result<String> {
    Ok(read_filter(db, table, filter).await?.canonical)
}

/// Has the server parse a row filter on a table. Leaves nothing behind.
///
/// Needs SELECT on the table and TEMP on the database, or ownership of the table and CREATE on the database.
pub async fn read_filter(db: &Database, table: &QualifiedName, filter: &RowFilter) -> Result<ReadFilter> {
    let doing = format!("reading the row filter of table {table}");
    let scratch = "pg_temp.neonrepl_row_filter";
    let changes = [
        format!("CREATE TEMPORARY TABLE {scratch} (LIKE {table}) ON COMMIT DROP"),
        format!("ALTER TABLE {scratch} ADD CHECK {}", filter.enclosed()),
    ];
    let read = "SELECT pg_get_expr(conbin, conrelid), ARRAY(SELECT attname::text FROM pg_attribute \
         WHERE attrelid = conrelid AND attnum = ANY (conkey)) \
         FROM pg_constraint WHERE contype = 'c' AND conrelid = 'pg_temp.neonrepl_row_filter'::regclass";
    let rows = match db.query_undone(&doing, &changes, read).await {
        Err(error) if error.is(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let (changes, read) = scratch_publication(table, filter);
            db.query_undone(&doing, &changes, read).await?
        }
        result => result?,
    };
    let unprinted = || db.error(&doing, Cause::Unexpected("the server did not print it".to_owned()));
    let row = rows.first().ok_or_else(unprinted)?;
    let canonical: Option<String> = row.try_get(0).map_err(|error| db.error(&doing, Cause::Statement(error)))?;
    let columns: Vec<&str> = row.try_get(1).map_err(|error| db.error(&doing, Cause::Statement(error)))?;
    let columns = columns.into_iter().map(Ident::from_catalog).collect();
    Ok(ReadFilter { canonical: canonical.ok_or_else(unprinted)?, columns })
}

/// The statement for a temporary publication with the filter, and the query for its printed form.
fn scratch_publication(table: &QualifiedName, filter: &RowFilter) -> ([String; 1], &'static str) {
    let spec = TableSpec { columns: None, filter: Some(filter.clone()) };
    let create = format!(
        "CREATE PUBLICATION neonrepl_row_filter FOR TABLE {} WITH (publish_via_partition_root = true)",
        member(table, &spec)
    );
    let read = "SELECT pg_get_expr(r.prqual, r.prrelid), ARRAY(SELECT a.attname::text FROM pg_depend d \
         JOIN pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid \
         WHERE d.classid = 'pg_publication_rel'::regclass AND d.objid = r.oid AND d.refclassid = 'pg_class'::regclass \
         AND d.refobjsubid > 0) \
         FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid WHERE p.pubname = 'neonrepl_row_filter'";
    ([create], read)
}
