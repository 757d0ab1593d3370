// SPDX-License-Identifier: MPL-2.0

//! What can keep rows out of a table, in addition to its constraints: row security, triggers, and functions that are called
//! for each row. Read for the requested tables.
//!
//! Source: "Row Security Policies", `ALTER TABLE … ENABLE REPLICA TRIGGER` and the catalogs `pg_class`, `pg_trigger`, `pg_proc`
//! and `pg_depend` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;

use super::wanted::{self, Wanted};
use crate::postgres::database::Database;
use crate::postgres::error::Result;
use crate::postgres::sql::{Ident, QualifiedName};

/// What can keep rows out of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guards {
    /// Whether the role of the connection has the rights of the table's owner, for example to publish it.
    pub is_owned: bool,
    /// Whether row security hides rows from the role in question.
    pub hides_rows: bool,
    /// Whether row security hides rows from the table's own owner.
    pub hides_rows_from_owner: bool,
    /// The triggers that fire for replicated rows: those that are enabled as REPLICA or ALWAYS.
    pub replica_triggers: Vec<Ident>,
}

/// The guards of the existing tables among these, for `role`, by default that of the connection.
///
/// # Errors
/// When a query fails.
pub async fn guards(
    db: &Database,
    tables: &BTreeSet<QualifiedName>,
    role: Option<&Ident>,
) -> Result<BTreeMap<QualifiedName, Guards>> {
    let wanted = Wanted::of(tables);
    let [schemas, names] = wanted.params();
    let role = role.map(Ident::as_str);
    let sql = "SELECT w.s, w.t, c.relrowsecurity AND NOT coalesce(r.rolsuper OR r.rolbypassrls OR \
           (NOT c.relforcerowsecurity AND pg_has_role(r.oid, c.relowner, 'USAGE')), true), \
         c.relrowsecurity AND c.relforcerowsecurity AND NOT (o.rolsuper OR o.rolbypassrls), \
         ARRAY(SELECT g.tgname::text FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal \
           AND g.tgenabled IN ('R', 'A') ORDER BY 1), pg_has_role(c.relowner, 'USAGE') \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t JOIN pg_roles o ON o.oid = c.relowner \
         LEFT JOIN pg_roles r ON r.rolname = coalesce($3::name, current_user)";
    let rows = db
        .query_all(
            "reading the row security and the triggers of tables",
            sql,
            &[schemas, names, (&role, Type::NAME)],
            |row| {
                let triggers: Vec<&str> = row.try_get(4)?;
                let guards = Guards {
                    is_owned: row.try_get(5)?,
                    hides_rows: row.try_get(2)?,
                    hides_rows_from_owner: row.try_get(3)?,
                    replica_triggers: triggers.into_iter().map(Ident::from_catalog).collect(),
                };
                Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), guards))
            },
        )
        .await?;
    Ok(rows.into_iter().collect())
}

/// A function that is called for rows of a table and depends on the session's `search_path`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CalledFunction {
    /// Its name.
    pub name: QualifiedName,
    /// Its arguments, as `ALTER FUNCTION` takes them.
    pub arguments: String,
    /// What calls it, in words: "a check".
    pub by: String,
}

/// The functions without a `search_path` of their own that are called by the tables' checks, defaults, generated
/// columns, indexes, domains, and triggers that fire for replicated rows. Replication runs with an empty `search_path`.
///
/// # Errors
/// When a query fails.
pub async fn called_functions(
    db: &Database,
    tables: &BTreeSet<QualifiedName>,
) -> Result<BTreeMap<QualifiedName, Vec<CalledFunction>>> {
    let sql = "SELECT DISTINCT w.s, w.t, pn.nspname::text, p.proname::text, pg_get_function_identity_arguments(p.oid), u.by \
         FROM unnest($1::text[], $2::text[]) AS w (s, t) JOIN pg_namespace n ON n.nspname = w.s \
         JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t \
         CROSS JOIN LATERAL (SELECT d.refobjid AS fn, 'a check' AS by FROM pg_constraint k JOIN pg_depend d \
             ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass \
             WHERE k.conrelid = c.oid AND k.contype = 'c' \
           UNION SELECT d.refobjid, CASE WHEN a.attgenerated = '' THEN 'a default' ELSE 'a generated column' END \
             FROM pg_attrdef f JOIN pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum JOIN pg_depend d \
             ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_proc'::regclass WHERE f.adrelid = c.oid \
           UNION SELECT d.refobjid, 'an index' FROM pg_index x JOIN pg_depend d ON d.classid = 'pg_class'::regclass \
             AND d.objid = x.indexrelid AND d.refclassid = 'pg_proc'::regclass WHERE x.indrelid = c.oid \
           UNION SELECT d.refobjid, 'a domain' FROM pg_attribute a JOIN pg_constraint k ON k.contypid = a.atttypid JOIN pg_depend d \
             ON d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass \
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
           UNION SELECT g.tgfoid, 'a trigger' FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal \
             AND g.tgenabled IN ('R', 'A')) u \
         JOIN pg_proc p ON p.oid = u.fn JOIN pg_namespace pn ON pn.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang \
         WHERE p.oid >= 16384 AND l.lanname NOT IN ('internal', 'c') AND p.prosqlbody IS NULL \
         AND NOT EXISTS (SELECT 1 FROM unnest(p.proconfig) AS s (text) WHERE s.text LIKE 'search_path=%') ORDER BY 1, 2, 3, 4, 5, 6";
    let doing = "reading the functions that tables call";
    let rows = db
        .query_all(doing, sql, &Wanted::of(tables).params(), |row| {
            let name = QualifiedName::from_catalog(row.try_get(2)?, row.try_get(3)?);
            let function = CalledFunction { name, arguments: row.try_get(4)?, by: row.try_get(5)? };
            Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), function))
        })
        .await?;
    Ok(wanted::by_table(rows))
}
