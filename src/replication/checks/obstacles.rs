// SPDX-License-Identifier: MPL-2.0

//! Obstacles that prevent replicating tables, as far as both servers show them: for a new subscription, and for one
//! whose publications will change.
//!
//! The subscriber's counters show that a copy fails, but only its log shows why. So both sides are compared: the
//! published columns and the rights to read them, and the tables that they are copied into.
//!
//! Source: "Initial Snapshot", "Security" and "Column Lists" of the chapter on logical replication in the Postgres
//! documentation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use futures_util::future::try_join;

use crate::postgres::catalog::{self, Column, Outline, Table};
use crate::postgres::publication::{self, Publications, Sent};
use crate::postgres::subscription::Subscription;
use crate::postgres::version;
use crate::postgres::{Ident, QualifiedName, Result};
use crate::replication::Pair;
use crate::replication::error::Error;
use crate::replication::names::{self, SHOWN};

/// Why a table cannot be copied.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// It does not exist on the subscriber, or is not a table there.
    NoTable,
    /// These publications send different columns of it (Postgres 15).
    Clash(Vec<Ident>),
    /// The subscriber lacks these published columns.
    NoColumns(BTreeSet<Ident>),
    /// These published columns are generated on the subscriber.
    Generated(BTreeSet<Ident>),
    /// These columns on the subscriber are NOT NULL without a default, and are not published.
    Required(BTreeSet<Ident>),
    /// These columns have other types on the subscriber, and rows are copied in binary form (Postgres 16).
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
    /// What to do about it; the text names the server.
    pub fn remedy(&self, table: &QualifiedName) -> String {
        match self {
            Self::NoTable => "Create the table on the subscriber first, which neonrepl_destination_schema does, or drop it from the publication."
                .to_owned(),
            Self::Clash(_) => {
                "Give all of these publications the same column list and publish_generated_columns.".to_owned()
            }
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
            Self::NoTable => f.write_str("it is not a table on the subscriber"),
            Self::Clash(publications) => {
                write!(
                    f,
                    "publications {} send different columns of it",
                    names::list(publications.iter().map(ToString::to_string))
                )
            }
            Self::NoColumns(columns) => write!(f, "it lacks published columns on the subscriber: {}", joined(columns)),
            Self::Generated(columns) => {
                write!(f, "published columns are generated on the subscriber: {}", joined(columns))
            }
            Self::Required(columns) => write!(
                f,
                "columns of the subscriber that are not published are NOT NULL, and have no default: {}",
                joined(columns)
            ),
            Self::BinaryTypes(columns) => {
                write!(f, "columns have other types on the subscriber, and binary = true: {}", joined(columns))
            }
            Self::NoSelect { role } => write!(f, "role {role} may not read it on the publisher"),
            Self::NoSetRole { subscription, table } => {
                write!(f, "role {subscription}, which owns the subscription, may not SET ROLE to its owner {table}")
            }
        }
    }
}

fn joined(columns: &BTreeSet<Ident>) -> String {
    columns.iter().map(Ident::as_str).collect::<Vec<_>>().join(", ")
}

/// Obstacles by table, without tables that have none.
pub type Obstacles = BTreeMap<QualifiedName, Vec<Obstacle>>;

/// Adds a line for each obstacle, and what to do.
pub fn described(error: Error, found: &Obstacles) -> Error {
    let lines = found.iter().flat_map(|(table, obstacles)| {
        obstacles.iter().map(move |obstacle| format!("{}: {obstacle}. {}", table.to_text(), obstacle.remedy(table)))
    });
    let error = lines.take(SHOWN).fold(error, Error::detail);
    if found.len() > SHOWN { error.detail(format!("And {} tables more.", found.len() - SHOWN)) } else { error }
}

/// The role that a subscription logs in as on its publisher, if its connection may be read.
pub fn login(subscription: &Subscription) -> Option<Ident> {
    subscription.connection.as_ref()?.get("user").and_then(|role| Ident::new(role).ok())
}

/// The obstacles for the tables of a subscription.
///
/// `subscription` may not exist yet. `role` is the role of its connection; without it, the right to read the tables is
/// not checked. Conflicts with existing rows are not checked either.
///
/// # Errors
/// When one of the servers cannot be queried.
pub async fn obstacles(pair: &Pair, subscription: &Subscription, role: Option<&Ident>) -> Result<Obstacles> {
    let (existing, outline) =
        Box::pin(try_join(publication::fetch_all(&pair.publisher), catalog::outline(&pair.publisher))).await?;
    let sent = sent(pair, subscription, &existing, &outline).await?;
    obstacles_of(pair, subscription, role, &sent).await
}

/// The same for planned publications, by what they will send.
///
/// # Errors
/// When one of the servers cannot be queried.
pub async fn obstacles_of(
    pair: &Pair,
    subscription: &Subscription,
    role: Option<&Ident>,
    sent: &Sent,
) -> Result<Obstacles> {
    let tables = sent.tables.keys().cloned().collect();
    Ok(BothSides::read(pair, subscription, role, &tables).await?.obstacles(sent))
}

/// The data that a subscription receives from these publications.
///
/// # Errors
/// When one of the servers cannot be queried.
pub async fn sent(
    pair: &Pair,
    subscription: &Subscription,
    publications: &Publications,
    outline: &Outline,
) -> Result<Sent> {
    let publications = subscription.publications.iter().filter_map(|name| publications.get(name));
    Ok(publication::sent(publications, outline, pair.older_version().await?))
}

/// Tables on both sides.
#[derive(Default)]
pub(in crate::replication) struct BothSides {
    sources: BTreeMap<QualifiedName, Table>,
    targets: BTreeMap<QualifiedName, Table>,
    rules: Rules,
}

/// What a subscription requires of its tables.
#[derive(Default)]
struct Rules {
    /// Whether the role on the publisher is known, and must be able to read them.
    reads: bool,
    /// Whether types must be the same (Postgres 16).
    is_binary: bool,
    /// Whether it applies changes as the owner of each table (Postgres 16).
    becomes_owner: bool,
}

/// A table and its sent columns.
struct Source<'a> {
    table: &'a Table,
    columns: BTreeSet<Ident>,
    clash: Vec<Ident>,
}

impl BothSides {
    /// Reads the tables on both sides.
    ///
    /// # Errors
    /// When one of the servers cannot be queried.
    pub(in crate::replication) async fn read(
        pair: &Pair,
        subscription: &Subscription,
        role: Option<&Ident>,
        tables: &BTreeSet<QualifiedName>,
    ) -> Result<Self> {
        let sources = catalog::tables(&pair.publisher, tables, role);
        let targets = catalog::tables(&pair.subscriber, tables, subscription.owner.as_ref());
        let (sources, targets) = Box::pin(try_join(sources, targets)).await?;
        let version = pair.subscriber.version().await?;
        let rules = Rules {
            reads: role.is_some(),
            is_binary: subscription.options.binary == Some(true) && version.has(version::BINARY_COPY),
            becomes_owner: version.has(version::RUN_AS_OWNER) && subscription.options.run_as_owner != Some(true),
        };
        Ok(Self { sources, targets, rules })
    }

    /// Tables for tests.
    #[cfg(test)]
    pub(in crate::replication) fn of(
        sources: BTreeMap<QualifiedName, Table>,
        targets: BTreeMap<QualifiedName, Table>,
    ) -> Self {
        Self { sources, targets, rules: Rules { reads: true, is_binary: false, becomes_owner: true } }
    }

    /// The publisher's tables.
    pub(in crate::replication) fn sources(&self) -> &BTreeMap<QualifiedName, Table> {
        &self.sources
    }

    /// The subscriber's tables of the same names.
    pub(in crate::replication) fn targets(&self) -> &BTreeMap<QualifiedName, Table> {
        &self.targets
    }

    /// The obstacles for those of these tables that are sent.
    pub(in crate::replication) fn obstacles(&self, sent: &Sent) -> Obstacles {
        let found = self.sources.iter().filter_map(|(name, table)| {
            let sent = sent.tables.get(name)?;
            let source = Source { table, columns: sent.columns(table), clash: sent.clash(table) };
            let found = compare(&source, self.targets.get(name), &self.rules);
            (!found.is_empty()).then(|| (name.clone(), found))
        });
        found.collect()
    }
}

fn compare(source: &Source<'_>, target: Option<&Table>, rules: &Rules) -> Vec<Obstacle> {
    let clash = (!source.clash.is_empty()).then(|| Obstacle::Clash(source.clash.clone()));
    let Some(target) = target.filter(|target| target.takes_rows) else {
        return [Obstacle::NoTable].into_iter().chain(clash).collect();
    };
    let rights = &source.table.rights;
    let reads = !rules.reads || source.columns.is_subset(&rights.reads);
    let no_select = (!reads).then(|| Obstacle::NoSelect { role: rights.role.clone() });
    let writes = !rules.becomes_owner || target.rights.becomes_owner;
    let (subscription, table) = (target.rights.role.clone(), target.owner.clone());
    let no_role = (!writes).then_some(Obstacle::NoSetRole { subscription, table });
    clash.into_iter().chain(compare_columns(source, target, rules)).chain(no_select).chain(no_role).collect()
}

fn compare_columns(source: &Source<'_>, target: &Table, rules: &Rules) -> impl Iterator<Item = Obstacle> {
    let is_sent = |column: &&Column| source.columns.contains(&column.name);
    let named = |columns: &mut dyn Iterator<Item = &Column>| -> BTreeSet<Ident> {
        columns.map(|column| column.name.clone()).collect()
    };
    let is_retyped = |column: &&Column| {
        let type_there = source.table.column(&column.name).map(|column| &column.ty);
        rules.is_binary && type_there.is_some_and(|ty| *ty != column.ty)
    };
    let is_required = |column: &&Column| column.is_not_null && !column.has_default && !column.is_generated;
    let mut sent = source.table.columns.iter().filter(is_sent);
    let columns = || target.columns.iter();
    let found = [
        (
            Obstacle::NoColumns as fn(BTreeSet<Ident>) -> Obstacle,
            named(&mut sent.by_ref().filter(|column| target.column(&column.name).is_none())),
        ),
        (Obstacle::Generated, named(&mut columns().filter(is_sent).filter(|column| column.is_generated))),
        (Obstacle::Required, named(&mut columns().filter(|column| !is_sent(column)).filter(is_required))),
        (Obstacle::BinaryTypes, named(&mut columns().filter(is_sent).filter(is_retyped))),
    ];
    found.into_iter().filter(|(_, columns)| !columns.is_empty()).map(|(obstacle, columns)| obstacle(columns))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::catalog::{Equality, Rights};

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    /// Columns as `name:type`, with `!` for one that must have a value and `=` for a generated one.
    fn table(columns: &str) -> Table {
        let columns = columns.split_whitespace().map(|text| {
            let (name, ty) = text.split_once(':').unwrap();
            Column {
                name: ident(name),
                ty: ty.trim_end_matches(['!', '=']).to_owned(),
                is_not_null: ty.ends_with('!'),
                has_default: false,
                is_generated: ty.ends_with('='),
                is_stored: ty.ends_with('='),
                equality: Equality::Value,
            }
        });
        let columns: Vec<_> = columns.collect();
        let reads = columns.iter().map(|column| column.name.clone()).collect();
        let rights = Rights { role: ident("me"), reads, becomes_owner: true };
        Table { takes_rows: true, is_partitioned: false, owner: ident("table owner"), columns, rights }
    }

    fn check(source: &Table, target: Option<&Table>, is_binary: bool, expected: &[&str]) {
        let found = found(source, target, is_binary, &[]);
        assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    }

    fn found(source: &Table, target: Option<&Table>, is_binary: bool, clash: &[&str]) -> Vec<Obstacle> {
        let columns = source.columns.iter().map(|column| column.name.clone()).collect();
        let source = Source { table: source, columns, clash: clash.iter().copied().map(ident).collect() };
        compare(&source, target, &Rules { reads: true, is_binary, becomes_owner: true })
    }

    #[test]
    fn tables_that_fit_have_nothing_in_their_way() {
        check(&table("id:integer"), Some(&table("id:integer")), true, &[]);
        check(&table("id:integer"), Some(&table("id:bigint extra:text")), false, &[]);
        check(&table(""), Some(&table("id:integer")), false, &[]);
    }

    #[test]
    fn columns_are_compared() {
        check(&table("id:integer"), None, false, &["it is not a table on the subscriber"]);
        let mended = [
            "it lacks published columns on the subscriber: b",
            "published columns are generated on the subscriber: c",
            "columns of the subscriber that are not published are NOT NULL, and have no default: d",
        ];
        let source = table("a:text b:text c:text");
        check(&source, Some(&table("a:text c:text= d:text!")), false, &mended);
        let retyped = ["columns have other types on the subscriber, and binary = true: a"];
        check(&source, Some(&table("a:varchar b:text c:text")), true, &retyped);
    }

    #[test]
    fn rights_are_named_with_the_grant_that_gives_them() {
        let (mut unreadable, mut unwritable) = (table("id:integer"), table("id:integer"));
        unreadable.rights = Rights { role: ident("re\"pl"), reads: BTreeSet::new(), becomes_owner: true };
        unwritable.rights.becomes_owner = false;
        let found = found(&unreadable, Some(&unwritable), false, &[]);
        let table = QualifiedName::parse("Orders").unwrap();
        let remedies: Vec<_> = found.iter().map(|obstacle| obstacle.remedy(&table)).collect();
        assert_eq!(
            remedies,
            [
                "On the publisher: GRANT USAGE ON SCHEMA \"public\" TO \"re\"\"pl\"; GRANT SELECT ON \"public\".\"Orders\" TO \"re\"\"pl\";",
                "On the subscriber: GRANT \"table owner\" TO \"me\"; or ALTER TABLE \"public\".\"Orders\" OWNER TO \"me\";"
            ]
        );
    }

    #[test]
    fn publications_that_send_different_columns_are_named() {
        let both = found(&table("id:integer"), None, false, &["a", "b"]);
        assert_eq!(both[1].to_string(), "publications \"a\", \"b\" send different columns of it");
        let there = found(&table("id:integer"), Some(&table("id:integer")), false, &["a", "b"]);
        assert_eq!(there, [Obstacle::Clash(vec![ident("a"), ident("b")])]);
    }
}
