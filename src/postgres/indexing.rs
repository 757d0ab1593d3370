// SPDX-License-Identifier: MPL-2.0

//! Builds indexes, and other objects that need a read of whole tables: the sessions with their own memory setting,
//! their progress, remains of earlier attempts, and the rights.
//!
//! Source: "Building Indexes Concurrently" and "CREATE INDEX Progress Reporting" in the Postgres documentation.

mod violations;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::database::Database;
use super::definition::Object;
use super::error::Result;
use super::limits::Limits;
use super::session::Task;
use super::sql::{Ident, Literal, QualifiedName, Statement};

pub use violations::{Violations, duplicates, orphans};

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// Runs statements one after the other, each in its own transaction, in a session with this
/// `maintenance_work_mem` (such as `1GB`; by default the server's).
///
/// # Errors
/// When the server refuses one of them, or a limit is reached; what ran before stays.
pub async fn run(
    db: &Database,
    doing: &str,
    statements: &[Statement],
    memory: Option<&str>,
    limits: &Limits,
) -> Result<()> {
    let mut session = db.session(doing, limits).await?;
    if let Some(memory) = memory {
        let set = Statement::new(format!("SET maintenance_work_mem = {}", Literal(memory)));
        let set = session.perform(Task::Change(&[set], None), limits).await;
        // The setting stays, so the connection is not used again.
        session.retire();
        set.map_err(|failure| db.error(doing, failure.cause))?;
    }
    for statement in statements {
        let ran = session.perform(Task::Change(std::slice::from_ref(statement), None), limits).await;
        ran.map_err(|failure| db.error(doing, failure.cause))?;
    }
    Ok(())
}

/// The statement that analyzes a table, for query plans.
pub fn analyze(table: &QualifiedName) -> Statement {
    Statement::new(format!("ANALYZE {table}"))
}

/// An index that a session is building.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Building {
    /// The index, once it has a name in the catalog.
    pub index: Option<QualifiedName>,
    /// Its table.
    pub table: QualifiedName,
    /// The phase, in the server's words: `building index: scanning table`.
    pub phase: String,
    /// How much of this phase is done; the unit depends on the phase.
    pub done: u64,
    /// How much there is to do in this phase; 0 if unknown.
    pub all: u64,
}

/// The indexes that sessions are building, as far as the role may see them.
///
/// # Errors
/// When a query fails.
pub async fn building(db: &Database) -> Result<Vec<Building>> {
    let sql = "SELECT xn.nspname::text, x.relname::text, n.nspname::text, c.relname::text, p.phase, \
         CASE WHEN p.phase LIKE 'waiting%' THEN p.lockers_done WHEN p.blocks_total > 0 THEN p.blocks_done ELSE p.tuples_done END, \
         CASE WHEN p.phase LIKE 'waiting%' THEN p.lockers_total WHEN p.blocks_total > 0 THEN p.blocks_total ELSE p.tuples_total END \
         FROM pg_stat_progress_create_index p JOIN pg_class c ON c.oid = p.relid JOIN pg_namespace n ON n.oid = c.relnamespace \
         LEFT JOIN pg_class x ON x.oid = p.index_relid LEFT JOIN pg_namespace xn ON xn.oid = x.relnamespace \
         WHERE p.datname = current_database()";
    db.query_all("reading how far indexes are", sql, &[], read_building).await
}

fn read_building(row: &Row) -> RowResult<Building> {
    let number = |at: usize| row.try_get(at).map(|number: Option<i64>| number.and_then(|n| u64::try_from(n).ok()));
    let index = match (row.try_get(0)?, row.try_get(1)?) {
        (Some(schema), Some(name)) => Some(QualifiedName::from_catalog(schema, name)),
        _ => None,
    };
    Ok(Building {
        index,
        table: QualifiedName::from_catalog(row.try_get(2)?, row.try_get(3)?),
        phase: row.try_get::<_, Option<String>>(4)?.unwrap_or_default(),
        done: number(5)?.unwrap_or_default(),
        all: number(6)?.unwrap_or_default(),
    })
}

/// The indexes and statistics whose names another object in the database has, each with that object. An index of the
/// same table does not count.
///
/// # Errors
/// When a query fails.
pub async fn taken(db: &Database, names: &BTreeMap<Object, QualifiedName>) -> Result<BTreeMap<Object, String>> {
    let sql = "SELECT w.at, concat_ws(' ', i.type, i.identity) \
         FROM unnest($1::int8[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[]) AS w (at, s, n, ts, tn, is_index) \
         JOIN pg_namespace n ON n.nspname = w.s CROSS JOIN LATERAL ( \
           SELECT 'pg_class'::regclass, c.oid FROM pg_class c WHERE w.is_index AND c.relnamespace = n.oid AND c.relname = w.n \
             AND NOT EXISTS (SELECT 1 FROM pg_index x JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
               WHERE x.indexrelid = c.oid AND tn.nspname = w.ts AND t.relname = w.tn) \
           UNION ALL SELECT 'pg_statistic_ext'::regclass, s.oid FROM pg_statistic_ext s \
             WHERE NOT w.is_index AND s.stxnamespace = n.oid AND s.stxname = w.n) o (class, oid) \
         CROSS JOIN LATERAL pg_identify_object(o.class, o.oid, 0) i";
    let own = |object: &'_ Object| match object {
        Object::Index(name) | Object::Statistics(name) => Some(name.clone()),
        _ => None,
    };
    let all: Vec<_> = names.iter().filter_map(|(object, table)| Some((object, own(object)?, table))).collect();
    let places: Vec<i64> = (0..).take(all.len()).collect();
    let schemas: Vec<&str> = all.iter().map(|(_, name, _)| name.schema.as_str()).collect();
    let own: Vec<&str> = all.iter().map(|(_, name, _)| name.name.as_str()).collect();
    let table_schemas: Vec<&str> = all.iter().map(|(.., table)| table.schema.as_str()).collect();
    let tables: Vec<&str> = all.iter().map(|(.., table)| table.name.as_str()).collect();
    let are_indexes: Vec<bool> = all.iter().map(|(object, ..)| matches!(object, Object::Index(_))).collect();
    let params = [
        (&places as _, Type::INT8_ARRAY),
        (&schemas as _, Type::TEXT_ARRAY),
        (&own as _, Type::TEXT_ARRAY),
        (&table_schemas as _, Type::TEXT_ARRAY),
        (&tables as _, Type::TEXT_ARRAY),
        (&are_indexes as _, Type::BOOL_ARRAY),
    ];
    let read = |row: &Row| Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, String>(1)?));
    let found = db.query_all("looking for names that are taken", sql, &params, read).await?;
    let object = |at: i64| usize::try_from(at).ok().and_then(|at| all.get(at)).map(|(object, ..)| (*object).clone());
    Ok(found.into_iter().filter_map(|(at, what)| Some((object(at)?, what))).collect())
}

/// The state of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether queries may use it.
    pub is_valid: bool,
    /// The process that is building it, for example that of a killed apply. For other roles' processes it is only known
    /// that they build something on its table.
    pub builder: Option<i32>,
}

/// The state of an index of this table, or of any table if none is given; none if there is no such index.
///
/// # Errors
/// When a query fails.
pub async fn standing(db: &Database, table: Option<&QualifiedName>, index: &QualifiedName) -> Result<Option<Standing>> {
    let sql = "SELECT x.indisvalid, (SELECT min(p.pid) FROM pg_stat_progress_create_index p WHERE p.datname = current_database() \
           AND (p.index_relid = x.indexrelid OR p.relid IS NULL AND EXISTS (SELECT 1 FROM pg_locks l \
             WHERE l.pid = p.pid AND l.locktype = 'relation' AND l.relation = x.indrelid AND l.granted))) \
         FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid JOIN pg_index x ON x.indexrelid = c.oid \
         JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace tn ON tn.oid = t.relnamespace \
         WHERE n.nspname = $1 AND c.relname = $2 AND coalesce(tn.nspname = $3 AND t.relname = $4, true)";
    let (schema, name) = (table.map(|table| table.schema.as_str()), table.map(|table| table.name.as_str()));
    let params = [
        (&index.schema.as_str() as _, Type::TEXT),
        (&index.name.as_str() as _, Type::TEXT),
        (&schema as _, Type::TEXT),
        (&name as _, Type::TEXT),
    ];
    let read = |row: &Row| Ok(Standing { is_valid: row.try_get(0)?, builder: row.try_get(1)? });
    let doing = format!("reading how index {} stands", index.to_text());
    Ok(db.query_all(&doing, sql, &params, read).await?.pop())
}

/// The rights of the connection's role to create objects of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    /// The role.
    pub role: Ident,
    /// The role that owns the table.
    pub owner: Ident,
    /// Whether it may act as the owner.
    pub owns: bool,
    /// Whether it may create objects in the table's schema.
    pub creates: bool,
    /// Whether its foreign keys may reference the table.
    pub refers: bool,
}

/// The rights of the connection's role on the existing tables among these.
///
/// # Errors
/// When a query fails.
pub async fn rights(db: &Database, tables: &BTreeSet<QualifiedName>) -> Result<BTreeMap<QualifiedName, Rights>> {
    let sql = "SELECT w.s, w.t, current_user::text, pg_get_userbyid(c.relowner)::text, pg_has_role(c.relowner, 'USAGE'), \
         has_schema_privilege(n.oid, 'CREATE'), has_any_column_privilege(c.oid, 'REFERENCES') \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p')";
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let params = [(&schemas as _, Type::TEXT_ARRAY), (&names as _, Type::TEXT_ARRAY)];
    let read = |row: &Row| {
        let (role, owner) = (Ident::from_catalog(row.try_get(2)?), Ident::from_catalog(row.try_get(3)?));
        let rights = Rights { role, owner, owns: row.try_get(4)?, creates: row.try_get(5)?, refers: row.try_get(6)? };
        Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), rights))
    };
    Ok(db.query_all("reading who may build indexes", sql, &params, read).await?.into_iter().collect())
}
