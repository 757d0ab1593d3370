// SPDX-License-Identifier: MPL-2.0

//! Replica identities, which identify changed rows of a table: the choice, how it is read, and how it is made.
//!
//! The identity of a partitioned table itself is never used: each leaf partition needs one. So a choice is made for a
//! table together with its partitions, and an index stands for the matching index of each of them.
//!
//! Source: `ALTER TABLE … REPLICA IDENTITY` and the catalogs `pg_class` and `pg_index` in the Postgres documentation.

mod breaking;
mod changing;
mod suitable;

use std::collections::BTreeMap;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::catalog::ReplicaIdentity;
use super::database::Database;
use super::error::Result;
use super::sql::{Ident, QualifiedName, Statement};

pub use breaking::{Breaking, breaking, chosen};
pub use changing::change;
pub use suitable::{Unsuitable, unsuitable};

/// The replica identity of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The primary key, if there is one.
    Default,
    /// Every column.
    Full,
    /// Nothing.
    Nothing,
    /// This index, in the schema of its table.
    Index(Ident),
    /// An index that was dropped: nothing identifies rows.
    DroppedIndex,
}

impl Choice {
    /// The kind of the choice.
    pub fn kind(&self) -> ReplicaIdentity {
        match self {
            Self::Default => ReplicaIdentity::Default,
            Self::Full => ReplicaIdentity::Full,
            Self::Nothing => ReplicaIdentity::Nothing,
            Self::Index(_) | Self::DroppedIndex => ReplicaIdentity::Index,
        }
    }

    /// The index.
    pub fn index(&self) -> Option<&Ident> {
        if let Self::Index(name) = self { Some(name) } else { None }
    }

    /// The choice of that name and index; `None` if they do not fit together.
    pub fn from_parts(kind: &str, index: Option<Ident>) -> Option<Self> {
        match (kind, index) {
            ("default", None) => Some(Self::Default),
            ("full", None) => Some(Self::Full),
            ("nothing", None) => Some(Self::Nothing),
            ("index", Some(index)) => Some(Self::Index(index)),
            ("index", None) => Some(Self::DroppedIndex),
            _ => None,
        }
    }
}

/// A table with its partitions of every depth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The table.
    pub table: QualifiedName,
    /// The table itself and its partitions.
    pub members: BTreeMap<QualifiedName, Member>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its own choice.
    pub choice: Choice,
    /// The table's index that its index is a part of; for the table itself, its own index.
    pub part_of: Option<Ident>,
    /// The role that owns it.
    pub owner: Ident,
    /// Whether our role may change it.
    pub is_owned: bool,
}

impl Member {
    /// Whether this member has the choice of the whole table.
    pub fn has(&self, choice: &Choice) -> bool {
        match (choice, &self.choice) {
            (Choice::Index(index), Choice::Index(_)) => self.part_of.as_ref() == Some(index),
            (wanted, own) => wanted == own,
        }
    }
}

impl Tree {
    /// The choice of the table itself.
    pub fn choice(&self) -> Choice {
        self.members.get(&self.table).map_or(Choice::Default, |member| member.choice.clone())
    }

    /// The partitions that have another choice than the table itself.
    pub fn differing(&self) -> Vec<&QualifiedName> {
        let choice = self.choice();
        self.members.iter().filter(|(_, member)| !member.has(&choice)).map(|(name, _)| name).collect()
    }

    /// Whether the table has partitions.
    pub fn is_partitioned(&self) -> bool {
        self.members.len() > 1
    }
}

/// The statement that makes a choice for one relation.
fn statement(table: &QualifiedName, choice: &Choice) -> Option<Statement> {
    by_hand(table, choice).map(Statement::new)
}

/// The same for people; none for a dropped index.
pub fn by_hand(table: &QualifiedName, choice: &Choice) -> Option<String> {
    let what = match choice {
        Choice::Default => "DEFAULT".to_owned(),
        Choice::Full => "FULL".to_owned(),
        Choice::Nothing => "NOTHING".to_owned(),
        Choice::Index(index) => format!("USING INDEX {index}"),
        Choice::DroppedIndex => return None,
    };
    Some(format!("ALTER TABLE {table} REPLICA IDENTITY {what}"))
}

/// A table with its partitions as it is now; `None` if there is no table of that name.
///
/// # Errors
/// When a query fails.
pub async fn fetch(db: &Database, table: &QualifiedName) -> Result<Option<Tree>> {
    // The server returns no ancestors for an index that is not part of a partition tree.
    let sql = "SELECT pn.nspname::text, p.relname::text, p.relreplident::text, i.relname::text, \
           CASE WHEN p.oid = c.oid THEN i.relname ELSE u.relname END::text, \
           pg_get_userbyid(p.relowner)::text, pg_has_role(p.relowner, 'USAGE') \
         FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relkind IN ('r', 'p') \
         CROSS JOIN LATERAL (SELECT c.oid AS relid UNION SELECT t.relid FROM pg_partition_tree(c.oid) t) m \
         JOIN pg_class p ON p.oid = m.relid AND p.relkind IN ('r', 'p') JOIN pg_namespace pn ON pn.oid = p.relnamespace \
         LEFT JOIN pg_index x ON x.indrelid = p.oid AND x.indisreplident AND p.relreplident = 'i' \
         LEFT JOIN pg_class i ON i.oid = x.indexrelid \
         LEFT JOIN LATERAL (SELECT a.relname FROM pg_partition_ancestors(i.oid) l JOIN pg_index y ON y.indexrelid = l.relid \
           AND y.indrelid = c.oid JOIN pg_class a ON a.oid = l.relid) u ON true \
         WHERE n.nspname = $1::name AND c.relname = $2::name";
    let doing = format!("reading the replica identity of table {table}");
    let params = [(&table.schema.as_str() as _, Type::TEXT), (&table.name.as_str() as _, Type::TEXT)];
    let found = db.query_all(&doing, sql, &params, read_member).await?;
    let members: BTreeMap<_, _> = found.into_iter().collect();
    Ok((!members.is_empty()).then(|| Tree { table: table.clone(), members }))
}

fn read_member(row: &Row) -> std::result::Result<(QualifiedName, Member), tokio_postgres::Error> {
    let index = row.try_get::<_, Option<&str>>(3)?.map(Ident::from_catalog);
    let kind = ReplicaIdentity::from_catalog(row.try_get(2)?);
    let part_of = row.try_get::<_, Option<&str>>(4)?.map(Ident::from_catalog);
    let member = Member {
        choice: Choice::from_parts(kind.as_str(), index).unwrap_or(Choice::Default),
        part_of,
        owner: Ident::from_catalog(row.try_get(5)?),
        is_owned: row.try_get(6)?,
    };
    Ok((QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?), member))
}

/// The index of each member that is a part of this index of the table; for the table itself, this index.
///
/// # Errors
/// When a query fails.
pub async fn parts(db: &Database, table: &QualifiedName, index: &Ident) -> Result<BTreeMap<QualifiedName, Ident>> {
    let sql = "SELECT pn.nspname::text, p.relname::text, i.relname::text \
         FROM pg_namespace n JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = $2::name AND c.relkind IN ('r', 'p') \
         JOIN pg_index x ON x.indrelid = c.oid JOIN pg_class o ON o.oid = x.indexrelid AND o.relname = $3::name \
         CROSS JOIN LATERAL (SELECT o.oid AS relid UNION SELECT t.relid FROM pg_partition_tree(o.oid) t) m \
         JOIN pg_class i ON i.oid = m.relid JOIN pg_index y ON y.indexrelid = i.oid JOIN pg_class p ON p.oid = y.indrelid \
         JOIN pg_namespace pn ON pn.oid = p.relnamespace WHERE n.nspname = $1::name";
    let doing = format!("reading which indexes are parts of {index}");
    let params = [
        (&table.schema.as_str() as _, Type::TEXT),
        (&table.name.as_str() as _, Type::TEXT),
        (&index.as_str() as _, Type::TEXT),
    ];
    let found = db.query_all(&doing, sql, &params, |row| {
        let name = QualifiedName::from_catalog(row.try_get(0)?, row.try_get(1)?);
        Ok((name, Ident::from_catalog(row.try_get(2)?)))
    });
    Ok(found.await?.into_iter().collect())
}

/// The choice for each member that gives all the table's choice. Omits members that already have it, and members
/// without a part of its index.
pub fn wanted(tree: &Tree, choice: &Choice, parts: &BTreeMap<QualifiedName, Ident>) -> BTreeMap<QualifiedName, Choice> {
    let lacking = tree.members.iter().filter(|(_, member)| !member.has(choice));
    let own = |name: &QualifiedName| match choice {
        Choice::Index(_) => parts.get(name).cloned().map(Choice::Index),
        choice => Some(choice.clone()),
    };
    lacking.filter_map(|(name, _)| Some((name.clone(), own(name)?))).collect()
}

/// The partitions without a part of the table's index.
pub fn without_part<'t>(tree: &'t Tree, parts: &BTreeMap<QualifiedName, Ident>) -> Vec<&'t QualifiedName> {
    tree.members.keys().filter(|name| !parts.contains_key(*name)).collect()
}

/// Names for the tests of the modules below.
#[cfg(test)]
mod example {
    use super::*;

    pub(super) fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    pub(super) fn table(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::example::{ident, table};
    use super::*;

    fn member(choice: Choice, part_of: Option<&str>) -> Member {
        Member { choice, part_of: part_of.map(ident), owner: ident("o"), is_owned: true }
    }

    /// `root` with the partitions `one` and `two`, of whose indexes only that of `one` is a part of `key`.
    fn tree() -> Tree {
        let members = [
            ("root", member(Choice::Index(ident("key")), Some("key"))),
            ("one", member(Choice::Index(ident("one_key")), Some("key"))),
            ("two", member(Choice::Index(ident("own")), None)),
        ];
        Tree { table: table("root"), members: members.map(|(name, member)| (table(name), member)).into() }
    }

    #[test]
    fn choices_go_round() {
        let all = [Choice::Default, Choice::Full, Choice::Nothing, Choice::Index(ident("i")), Choice::DroppedIndex];
        for choice in all {
            let again = Choice::from_parts(choice.kind().as_str(), choice.index().cloned());
            assert_eq!(again, Some(choice));
        }
        assert_eq!(Choice::from_parts("full", Some(ident("i"))), None);
        assert_eq!(Choice::from_parts("?", None), None);
    }

    #[test]
    fn a_partition_whose_index_is_no_part_of_the_tables_differs() {
        assert_eq!(tree().differing(), [&table("two")]);
        let parts = [("root", "key"), ("one", "one_key"), ("two", "two_key")];
        let parts = parts.map(|(name, index)| (table(name), ident(index))).into();
        let wanted = wanted(&tree(), &Choice::Index(ident("key")), &parts);
        assert_eq!(wanted, [(table("two"), Choice::Index(ident("two_key")))].into());
        assert!(without_part(&tree(), &parts).is_empty());
    }

    #[test]
    fn each_member_gets_what_is_chosen_for_the_table() {
        let full = wanted(&tree(), &Choice::Full, &BTreeMap::new());
        assert_eq!(full.len(), 3);
        let shown: Vec<_> = full.iter().filter_map(|(name, choice)| by_hand(name, choice)).collect();
        assert_eq!(shown[0], r#"ALTER TABLE "public"."one" REPLICA IDENTITY FULL"#);
    }

    #[test]
    fn statements_are_those_of_the_documentation() {
        let show = |choice: &Choice| by_hand(&table("a.b"), choice).unwrap_or_default();
        assert_eq!(show(&Choice::Default), r#"ALTER TABLE "a"."b" REPLICA IDENTITY DEFAULT"#);
        assert_eq!(show(&Choice::Nothing), r#"ALTER TABLE "a"."b" REPLICA IDENTITY NOTHING"#);
        assert_eq!(show(&Choice::Index(ident("x\"y"))), r#"ALTER TABLE "a"."b" REPLICA IDENTITY USING INDEX "x""y""#);
        assert_eq!(show(&Choice::DroppedIndex), "");
    }
}
