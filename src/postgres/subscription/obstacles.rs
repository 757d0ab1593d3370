//! What keeps the initial copy of tables from coming to its end, as far as both servers show it.
//!
//! The subscriber's own counters tell that a copy fails, and its log why; no query does. So both sides are compared:
//! the published columns and the rights to read them, and the tables that they are copied into.
//!
//! Source: "Initial Snapshot", "Security" and "Row Filters" of the chapter on logical replication, and the catalogs
//! `pg_publication_tables`, `pg_class` and `pg_attribute` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::Subscription;
use crate::postgres::database::Database;
use crate::postgres::error::{Cause, Result};
use crate::postgres::sql::{Ident, QualifiedName, list};
use crate::postgres::version::{self, ServerVersion};

type RowResult<T> = std::result::Result<T, tokio_postgres::Error>;

/// Why a table cannot be copied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It is not on the subscriber, or is no table there.
    NoTable,
    /// It lacks these published columns there.
    NoColumns(BTreeSet<Ident>),
    /// These columns there are generated, though they are published.
    Generated(BTreeSet<Ident>),
    /// These columns there must have a value, have no default, and are not published.
    Required(BTreeSet<Ident>),
    /// These columns have other types there, and rows are copied in binary form (Postgres 16).
    BinaryTypes(BTreeSet<Ident>),
    /// The role of the subscription's connection may not read it on the publisher.
    NoSelect {
        /// That role.
        role: Ident,
    },
    /// The owner of the subscription may not become the owner of the table (Postgres 16).
    NoSetRole {
        /// The owner of the subscription.
        subscription: Ident,
        /// The owner of the table.
        table: Ident,
    },
}

impl Obstacle {
    /// What to do about it, on the server that is named in it.
    pub fn remedy(&self, table: &QualifiedName) -> String {
        match self {
            Self::NoTable => "Make the table on the subscriber first, or drop it from the publication.".to_owned(),
            Self::NoColumns(_) => {
                "Add the columns on the subscriber, or publish a column list without them.".to_owned()
            }
            Self::Generated(_) => "Publish a column list without them.".to_owned(),
            Self::Required(columns) => {
                let columns = list(columns.iter().map(|column| format!("ALTER COLUMN {column} DROP NOT NULL")));
                format!("Publish them, or on the subscriber give them a default, or: ALTER TABLE {table} {columns};")
            }
            Self::BinaryTypes(_) => "Set binary = false, or give them the publisher's types.".to_owned(),
            Self::NoSelect { role } => format!(
                "On the publisher: GRANT USAGE ON SCHEMA {} TO {role}; GRANT SELECT ON {table} TO {role};",
                table.schema
            ),
            Self::NoSetRole { subscription, table: owner } => format!(
                "On the subscriber: GRANT {owner} TO {subscription}; or ALTER TABLE {table} OWNER TO {subscription};"
            ),
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTable => f.write_str("it is no table on the subscriber"),
            Self::NoColumns(columns) => write!(f, "it lacks published columns on the subscriber: {}", names(columns)),
            Self::Generated(columns) => {
                write!(f, "published columns are generated on the subscriber: {}", names(columns))
            }
            Self::Required(columns) => write!(
                f,
                "columns of the subscriber that are not published must have a value, and have no default: {}",
                names(columns)
            ),
            Self::BinaryTypes(columns) => {
                write!(f, "columns have other types on the subscriber, and binary = true: {}", names(columns))
            }
            Self::NoSelect { role } => write!(f, "role {role} may not read it on the publisher"),
            Self::NoSetRole { subscription, table } => {
                write!(f, "role {subscription}, which owns the subscription, may not SET ROLE to its owner {table}")
            }
        }
    }
}

fn names(columns: &BTreeSet<Ident>) -> String {
    columns.iter().map(Ident::as_str).collect::<Vec<_>>().join(", ")
}

/// A table as the publisher sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    /// The published columns, each with its type.
    columns: BTreeMap<Ident, String>,
    /// Whether the role of the connection may read all of them.
    is_readable: bool,
}

/// A table as the subscriber has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    owner: Ident,
    /// Whether the owner of the subscription may act as the table's.
    is_writable: bool,
    columns: BTreeMap<Ident, Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Column {
    ty: String,
    /// It must have a value and has no default.
    is_required: bool,
    is_generated: bool,
}

/// What keeps the tables of a subscription from being copied, by table; those with nothing in their way are left out.
///
/// `subscription` may not exist yet. `role` is the one that its connection logs in as. Whether rows collide with rows
/// that are there already is not looked at.
///
/// # Errors
/// When one of the servers cannot be asked.
pub async fn obstacles(
    publisher: &Database,
    subscriber: &Database,
    subscription: &Subscription,
    role: &Ident,
) -> Result<BTreeMap<QualifiedName, Vec<Obstacle>>> {
    let sources = sources(publisher, &subscription.publications, role).await?;
    let tables: BTreeSet<_> = sources.keys().cloned().collect();
    let (owner, targets) = targets(subscriber, subscription, &tables).await?;
    let binary = subscription.options.binary == Some(true) && subscriber.version().await?.has(version::BINARY_COPY);
    let found = sources.into_iter().filter_map(|(table, source)| {
        let found = compare(&source, targets.get(&table), role, &owner, binary);
        (!found.is_empty()).then_some((table, found))
    });
    Ok(found.collect())
}

fn compare(source: &Source, target: Option<&Target>, role: &Ident, owner: &Ident, binary: bool) -> Vec<Obstacle> {
    let Some(target) = target else { return vec![Obstacle::NoTable] };
    let published: BTreeSet<_> = source.columns.keys().cloned().collect();
    let there = |fits: &dyn Fn(&Ident, &Column) -> bool| -> BTreeSet<Ident> {
        let columns = target.columns.iter().filter(|(name, column)| fits(name, column));
        columns.map(|(name, _)| name.clone()).collect()
    };
    let missing = published.iter().filter(|name| !target.columns.contains_key(*name)).cloned().collect();
    let generated = there(&|name, column| column.is_generated && published.contains(name));
    let required = there(&|name, column| column.is_required && !published.contains(name));
    let retyped = there(&|name, column| binary && source.columns.get(name).is_some_and(|ty| *ty != column.ty));
    let columns = [
        (Obstacle::NoColumns as fn(BTreeSet<Ident>) -> Obstacle, missing),
        (Obstacle::Generated, generated),
        (Obstacle::Required, required),
        (Obstacle::BinaryTypes, retyped),
    ];
    let mut found: Vec<_> = columns
        .into_iter()
        .filter(|(_, columns)| !columns.is_empty())
        .map(|(obstacle, columns)| obstacle(columns))
        .collect();
    if !source.is_readable {
        found.push(Obstacle::NoSelect { role: role.clone() });
    }
    if !target.is_writable {
        found.push(Obstacle::NoSetRole { subscription: owner.clone(), table: target.owner.clone() });
    }
    found
}

/// The published tables. Generated columns are published since Postgres 18, and then the view names them.
async fn sources(
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

/// The owner of the subscription, and those of the tables that exist.
async fn targets(
    subscriber: &Database,
    subscription: &Subscription,
    tables: &BTreeSet<QualifiedName>,
) -> Result<(Ident, BTreeMap<QualifiedName, Target>)> {
    let doing = "reading the tables that are copied into";
    let sql = targets_query(subscriber.version().await?, subscription.options.run_as_owner == Some(true));
    let owner = subscription.owner.as_ref().map(Ident::as_str);
    let schemas: Vec<&str> = tables.iter().map(|table| table.schema.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    let params: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&schemas, Type::TEXT_ARRAY), (&names, Type::TEXT_ARRAY), (&owner, Type::TEXT)];
    let rows = subscriber.query(doing, &sql, &params).await?;
    let read = || -> RowResult<_> {
        let owner = rows.first().map(|row| row.try_get(0)).transpose()?.or(owner).unwrap_or_default();
        let targets = rows.iter().filter_map(|row| read_target(row).transpose()).collect::<RowResult<_>>()?;
        Ok((Ident::from_catalog(owner), targets))
    };
    read().map_err(|error| subscriber.error(doing, Cause::Statement(error)))
}

/// Before Postgres 16 changes are applied as the owner of the subscription, a superuser.
fn targets_query(version: ServerVersion, run_as_owner: bool) -> String {
    let is_writable = if version.has(version::RUN_AS_OWNER) && !run_as_owner {
        "pg_has_role(o.name, c.relowner, 'SET')"
    } else {
        "true"
    };
    let attributes = |what: &str| format!("coalesce(array_agg({what}) FILTER (WHERE a.attname IS NOT NULL), '{{}}')");
    format!(
        "SELECT o.name::text, w.s, w.t, c.oid IS NOT NULL, pg_get_userbyid(c.relowner)::text, {is_writable}, {}, {}, {}, {} \
         FROM (SELECT coalesce($3::name, current_user) AS name) o \
         CROSS JOIN unnest($1::text[], $2::text[]) AS w (s, t) LEFT JOIN pg_namespace n ON n.nspname = w.s \
         LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.t AND c.relkind IN ('r', 'p') \
         LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
         GROUP BY o.name, w.s, w.t, c.oid, c.relowner",
        attributes("a.attname::text"),
        attributes("format_type(a.atttypid, a.atttypmod)"),
        attributes("a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''"),
        attributes("a.attgenerated <> ''"),
    )
}

fn read_target(row: &Row) -> RowResult<Option<(QualifiedName, Target)>> {
    if !row.try_get::<_, bool>(3)? {
        return Ok(None);
    }
    let names: Vec<&str> = row.try_get(6)?;
    let types: Vec<String> = row.try_get(7)?;
    let required: Vec<bool> = row.try_get(8)?;
    let generated: Vec<bool> = row.try_get(9)?;
    let columns = types.into_iter().zip(required).zip(generated);
    let columns = columns.map(|((ty, is_required), is_generated)| Column { ty, is_required, is_generated });
    let name = QualifiedName::from_catalog(row.try_get(1)?, row.try_get(2)?);
    let target = Target {
        owner: Ident::from_catalog(row.try_get(4)?),
        is_writable: row.try_get::<_, Option<bool>>(5)?.unwrap_or(true),
        columns: names.into_iter().map(Ident::from_catalog).zip(columns).collect(),
    };
    Ok(Some((name, target)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    /// Columns as `name:type`, with `!` for one that must have a value and `=` for a generated one.
    fn target(columns: &str) -> Target {
        let columns = columns.split_whitespace().map(|text| {
            let (name, ty) = text.split_once(':').unwrap();
            let plain = ty.trim_end_matches(['!', '=']);
            let column =
                Column { ty: plain.to_owned(), is_required: ty.ends_with('!'), is_generated: ty.ends_with('=') };
            (ident(name), column)
        });
        Target { owner: ident("table owner"), is_writable: true, columns: columns.collect() }
    }

    fn source(columns: &str) -> Source {
        let target = target(columns);
        let columns = target.columns.into_iter().map(|(name, column)| (name, column.ty));
        Source { columns: columns.collect(), is_readable: true }
    }

    fn check(source: &Source, target: Option<&Target>, binary: bool, expected: &[&str]) {
        let found = compare(source, target, &ident("replicator"), &ident("me"), binary);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn tables_that_fit_have_nothing_in_their_way() {
        check(&source("id:integer"), Some(&target("id:integer")), true, &[]);
        check(&source("id:integer"), Some(&target("id:bigint extra:text")), false, &[]);
        check(&source(""), Some(&target("id:integer")), false, &[]);
    }

    #[test]
    fn columns_are_compared() {
        check(&source("id:integer"), None, false, &["it is no table on the subscriber"]);
        let mended = [
            "it lacks published columns on the subscriber: b",
            "published columns are generated on the subscriber: c",
            "columns of the subscriber that are not published must have a value, and have no default: d",
        ];
        let source = source("a:text b:text c:text");
        check(&source, Some(&target("a:text c:text= d:text!")), false, &mended);
        let retyped = ["columns have other types on the subscriber, and binary = true: a"];
        check(&source, Some(&target("a:varchar b:text c:text")), true, &retyped);
    }

    #[test]
    fn rights_are_named_with_the_grant_that_gives_them() {
        let unreadable = Source { is_readable: false, ..source("id:integer") };
        let unwritable = Target { is_writable: false, ..target("id:integer") };
        let table = QualifiedName::parse("Orders").unwrap();
        let found = compare(&unreadable, Some(&unwritable), &ident("re\"pl"), &ident("me"), false);
        let remedies: Vec<_> = found.iter().map(|obstacle| obstacle.remedy(&table)).collect();
        assert_eq!(
            remedies,
            [
                "On the publisher: GRANT USAGE ON SCHEMA \"public\" TO \"re\"\"pl\"; GRANT SELECT ON \"public\".\"Orders\" TO \"re\"\"pl\";",
                "On the subscriber: GRANT \"table owner\" TO \"me\"; or ALTER TABLE \"public\".\"Orders\" OWNER TO \"me\";"
            ]
        );
    }
}
