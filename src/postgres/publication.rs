// SPDX-License-Identifier: MPL-2.0

//! Publications: their values, how they are read, and the statements between two of them.
//!
//! Source: `CREATE PUBLICATION`, `ALTER PUBLICATION` and the catalogs `pg_publication*` in the Postgres documentation.

mod catalog;
mod changes;
mod flaws;
mod readers;
mod rights;
mod sent;
mod succession;
mod trial;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub use catalog::{
    ReadFilter, apply, canonical_filter, drop, fetch, fetch_all, fetch_now, filter_columns, published_tables,
    read_filter,
};
use changes::member;
pub use changes::{diff, drop_publication};
pub use flaws::{FilterColumns, Flaw, Gravity, Member, Problem, filters_to_read, flaws};
pub use readers::{Reader, Readers, readers, readers_now, skip_missed, unless_read, younger_than_slot};
pub use rights::{Lack, lacks, owned_by};
pub use sent::{Difference, Sent, SentTable, sent};
pub use succession::{make_successor, succeed, successors, unless_succeeded};
pub use trial::{Part, Refused, refused};

pub use super::filter::{InvalidFilter, RowFilter};
use super::sql::{Ident, QualifiedName};
use super::version::{self, ServerVersion, Unsupported};

/// All publications of one database, by name.
pub type Publications = BTreeMap<Ident, Publication>;

/// A publication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Its name.
    pub name: Ident,
    /// Its owner. Always known when read; absent in a desired value if any owner is right.
    pub owner: Option<Ident>,
    /// The objects that it publishes.
    pub target: Target,
    /// The operations that it publishes; may be empty.
    pub publish: BTreeSet<Operation>,
    /// Whether changes of partitions are published as those of the partitioned table.
    pub via_partition_root: bool,
    /// Whether stored generated columns are published (Postgres 18; before, they never are).
    pub generated_columns: GeneratedColumns,
}

/// The objects that a publication publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every table of the database, including future ones.
    AllTables,
    /// These tables and the tables of these schemas; both may be empty.
    Lists {
        /// Tables, each with its published parts.
        tables: BTreeMap<QualifiedName, TableSpec>,
        /// Schemas (Postgres 15).
        schemas: BTreeSet<Ident>,
    },
}

impl Target {
    /// Nothing.
    pub fn none() -> Self {
        Self::Lists { tables: BTreeMap::new(), schemas: BTreeSet::new() }
    }

    /// Whole tables.
    pub fn tables(tables: impl IntoIterator<Item = QualifiedName>) -> Self {
        Self::Lists {
            tables: tables.into_iter().map(|table| (table, TableSpec::default())).collect(),
            schemas: BTreeSet::new(),
        }
    }
}

/// The published part of one table; everything by default.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TableSpec {
    /// Only these columns (Postgres 15). Postgres does not keep their order.
    pub columns: Option<BTreeSet<Ident>>,
    /// Only the rows that match this (Postgres 15).
    pub filter: Option<RowFilter>,
}

/// An operation that can be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// TRUNCATE.
    Truncate,
}

impl Operation {
    /// Every operation, which is also the server's default.
    pub const ALL: [Self; 4] = [Self::Insert, Self::Update, Self::Delete, Self::Truncate];

    /// Its name in `publish`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Truncate => "truncate",
        }
    }

    /// The operation of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|operation| operation.as_str() == name)
    }
}

/// Whether generated columns are published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GeneratedColumns {
    /// They are not.
    #[default]
    None,
    /// Stored ones are.
    Stored,
}

impl GeneratedColumns {
    /// Its name in `publish_generated_columns`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Stored => "stored",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Stored].into_iter().find(|choice| choice.as_str() == name)
    }
}

impl Publication {
    /// A publication of `target` with the server's defaults for everything else.
    pub fn new(name: Ident, target: Target) -> Self {
        Self {
            name,
            owner: None,
            target,
            publish: BTreeSet::from(Operation::ALL),
            via_partition_root: false,
            generated_columns: GeneratedColumns::None,
        }
    }

    /// A hash of the published content, without name and owner. 64 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        let mut text = format!(
            "publish={:?}\nroot={}\ngenerated={:?}\n",
            self.publish, self.via_partition_root, self.generated_columns
        );
        match &self.target {
            Target::AllTables => text.push_str("all tables\n"),
            Target::Lists { tables, schemas } => {
                tables.iter().for_each(|(table, spec)| push_line(&mut text, &member(table, spec)));
                schemas.iter().for_each(|schema| push_line(&mut text, &format!("schema {schema}")));
            }
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        digest.as_ref().iter().fold(String::with_capacity(64), |mut hex, byte| {
            // Writing to a String cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// Fails if the server's version lacks a feature of it, and names the attribute.
    pub fn check_supported(&self, version: ServerVersion) -> std::result::Result<(), Unsupported> {
        if let Target::Lists { tables, schemas } = &self.target {
            if tables.values().any(|spec| spec.columns.is_some()) {
                version.require(version::COLUMN_LISTS)?;
            }
            if tables.values().any(|spec| spec.filter.is_some()) {
                version.require(version::ROW_FILTERS)?;
            }
            if !schemas.is_empty() {
                version.require(version::SCHEMAS)?;
            }
        }
        match self.generated_columns {
            GeneratedColumns::None => Ok(()),
            GeneratedColumns::Stored => version.require(version::PUBLISH_GENERATED_COLUMNS),
        }
    }
}

fn push_line(text: &mut String, line: &str) {
    // The length makes the text unambiguous, whatever a name contains.
    let _ = writeln!(text, "{} {line}", line.len());
}

/// Whether a subscription can read from a publication of this name.
///
/// A worker sends names as `E'…'` if one contains a backslash, which the publisher's replication grammar does not
/// accept: the subscription would be created, and its worker would always end with a syntax error (measured from
/// Postgres 18 to 17).
pub fn can_be_subscribed_to(name: &str) -> bool {
    !name.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn publication(target: Target) -> Publication {
        Publication::new(ident("p"), target)
    }

    fn tables<const N: usize>(names: [&str; N]) -> Target {
        Target::tables(names.map(|name| QualifiedName::parse(name).unwrap()))
    }

    fn one(columns: &[&str], filter: Option<&str>, schemas: &[&str]) -> Target {
        let columns = (!columns.is_empty()).then(|| columns.iter().copied().map(ident).collect());
        let filter = filter.map(|filter| RowFilter::new(filter).unwrap());
        let table = QualifiedName::parse("a").unwrap();
        Target::Lists {
            tables: BTreeMap::from([(table, TableSpec { columns, filter })]),
            schemas: schemas.iter().copied().map(ident).collect(),
        }
    }

    #[test]
    fn a_fingerprint_is_of_the_content_alone() {
        let fingerprint = |target| publication(target).fingerprint();
        assert_eq!(fingerprint(tables(["a", "b"])).len(), 64);
        assert_eq!(fingerprint(tables(["a", "b"])), fingerprint(tables(["public.b", "a"])));
        let renamed = Publication { name: ident("q"), owner: Some(ident("me")), ..publication(tables(["a"])) };
        assert_eq!(renamed.fingerprint(), fingerprint(tables(["a"])));
        let different = [
            Target::none(),
            Target::AllTables,
            tables(["a"]),
            tables(["a", "b"]),
            one(&["x"], None, &[]),
            one(&["x", "y"], None, &[]),
            one(&[], Some("x>1"), &[]),
            one(&[], None, &["s"]),
        ]
        .map(fingerprint);
        assert_eq!(BTreeSet::from(different.clone()).len(), different.len());
    }

    #[test]
    fn a_fingerprint_stays_the_same() {
        // If the hash changed, every subscription would be refreshed once.
        let target = one(&["x"], Some("y>1"), &["s"]);
        expect!["d559e8cb9d445d1d86cdf01e0c08fdbf9dd8bbf077d1f6ddffba6d92b4b87692"]
            .assert_eq(&publication(target).fingerprint());
    }
}
