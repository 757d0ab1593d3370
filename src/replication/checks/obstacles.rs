//! What keeps the initial copy of tables from coming to its end, as far as both servers show it.
//!
//! The subscriber's own counters tell that a copy fails, and its log why; no query does. So both sides are compared:
//! the published columns and the rights to read them, and the tables that they are copied into.
//!
//! Source: "Initial Snapshot", "Security" and "Row Filters" of the chapter on logical replication, and the catalogs
//! `pg_publication_tables`, `pg_class` and `pg_attribute` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::postgres::publication::{self, Source};
use crate::postgres::subscription::{self, Subscription, Target, TargetColumn};
use crate::postgres::version;
use crate::postgres::{Ident, QualifiedName, Result};
use crate::replication::Pair;

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
                let columns: Vec<_> = columns.iter().map(ToString::to_string).collect();
                let columns = columns.join(" DROP NOT NULL, ALTER COLUMN ");
                format!(
                    "Publish them, or on the subscriber give them a default, or: ALTER TABLE {table} ALTER COLUMN {columns} DROP NOT NULL;"
                )
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

/// What keeps the tables of a subscription from being copied, by table; those with nothing in their way are left out.
///
/// `subscription` may not exist yet. `role` is the one that its connection logs in as. Whether rows collide with rows
/// that are there already is not looked at.
///
/// # Errors
/// When one of the servers cannot be asked.
pub async fn obstacles(
    pair: &Pair,
    subscription: &Subscription,
    role: &Ident,
) -> Result<BTreeMap<QualifiedName, Vec<Obstacle>>> {
    let sources = publication::sources(&pair.publisher, &subscription.publications, role).await?;
    let tables: BTreeSet<_> = sources.keys().cloned().collect();
    let (owner, targets) = subscription::targets(&pair.subscriber, subscription, &tables).await?;
    let binary =
        subscription.options.binary == Some(true) && pair.subscriber.version().await?.has(version::BINARY_COPY);
    let found = sources.into_iter().filter_map(|(table, source)| {
        let found = compare(&source, targets.get(&table), role, &owner, binary);
        (!found.is_empty()).then_some((table, found))
    });
    Ok(found.collect())
}

fn compare(source: &Source, target: Option<&Target>, role: &Ident, owner: &Ident, binary: bool) -> Vec<Obstacle> {
    let Some(target) = target else { return vec![Obstacle::NoTable] };
    let published: BTreeSet<_> = source.columns.keys().cloned().collect();
    let there = |fits: &dyn Fn(&Ident, &TargetColumn) -> bool| -> BTreeSet<Ident> {
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
                TargetColumn { ty: plain.to_owned(), is_required: ty.ends_with('!'), is_generated: ty.ends_with('=') };
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
