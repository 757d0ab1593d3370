// SPDX-License-Identifier: MPL-2.0

//! The data that subscriptions to publications are sent: the tables that they must have, the name under which the
//! rows of a partition arrive, and the columns. Pure, so that it also works for planned publications.
//!
//! Rows arrive under the name of the topmost ancestor that a publication with `publish_via_partition_root` publishes,
//! whatever the other publications of the subscription say.
//!
//! Source: "Publication" of the chapter on logical replication, `CREATE PUBLICATION` and the view
//! `pg_publication_tables` in the Postgres documentation.

use std::collections::{BTreeMap, BTreeSet};

use super::{GeneratedColumns, Publication, TableSpec, Target};
use crate::postgres::catalog::{Column, Kind, Outline, Relation, Table};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::{self, ServerVersion};

/// The data that a subscription is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// The tables that it must have, by the name under which their rows arrive.
    pub tables: BTreeMap<QualifiedName, SentTable>,
    /// For each table that is not partitioned, the name under which its rows arrive.
    pub routes: BTreeMap<QualifiedName, QualifiedName>,
}

/// A table as the publications send it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SentTable {
    /// The parts that publications send of it.
    parts: BTreeMap<Ident, Part>,
}

/// The part of a table that one publication sends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    columns: Option<BTreeSet<Ident>>,
    generated: GeneratedColumns,
}

/// The effect of a change of publications on a subscription.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Tables that it must have from then on.
    pub joined: BTreeSet<QualifiedName>,
    /// Tables that it already has, with other columns than before.
    pub changed: BTreeSet<QualifiedName>,
    /// Tables whose rows are not sent any more.
    pub left: BTreeSet<QualifiedName>,
    /// Tables whose rows arrive under another name, with the old and the new one.
    pub moved: BTreeMap<QualifiedName, (QualifiedName, QualifiedName)>,
}

/// The data that a subscription to these publications is sent. `version` is the older one of both servers.
pub fn sent<'a>(
    publications: impl IntoIterator<Item = &'a Publication>,
    outline: &Outline,
    version: ServerVersion,
) -> Sent {
    let mut found = Sent::default();
    let mut levels: BTreeMap<&QualifiedName, usize> = BTreeMap::new();
    for publication in publications {
        for (name, relation) in &outline.relations {
            let Some(level) = publication.level(name, relation) else { continue };
            if relation.kind == Kind::Table {
                let highest = levels.entry(name).or_default();
                *highest = level.max(*highest);
            }
            let top = at(name, relation, level);
            found.tables.entry(top.clone()).or_default().parts.insert(publication.name.clone(), publication.part(top));
        }
    }
    let route =
        |(name, level)| Some((QualifiedName::clone(name), at(name, outline.relations.get(name)?, level).clone()));
    found.routes = levels.into_iter().filter_map(route).collect();
    if version.has(version::ROOTS_ALONE) {
        found.drop_partitions(outline);
    }
    found
}

impl Sent {
    /// The difference to `after`.
    pub fn difference(&self, after: &Self) -> Difference {
        let is_new = |(name, _): &(&QualifiedName, &SentTable)| !self.tables.contains_key(*name);
        let is_changed =
            |(name, table): &(&QualifiedName, &SentTable)| self.tables.get(*name).is_some_and(|old| old != *table);
        let name = |(name, _): (&QualifiedName, &SentTable)| name.clone();
        let moved = self.routes.iter().filter_map(|(table, old)| {
            let new = after.routes.get(table)?;
            (new != old).then(|| (table.clone(), (old.clone(), new.clone())))
        });
        Difference {
            joined: after.tables.iter().filter(is_new).map(name).collect(),
            changed: after.tables.iter().filter(is_changed).map(name).collect(),
            left: self.routes.keys().filter(|table| !after.routes.contains_key(*table)).cloned().collect(),
            moved: moved.collect(),
        }
    }

    /// The tables that a new subscription would copy twice, each with the ancestor whose rows include its own (before
    /// Postgres 16).
    pub fn twice(&self, outline: &Outline) -> BTreeMap<QualifiedName, QualifiedName> {
        let includes = |name: &QualifiedName| {
            let ancestors = &outline.relations.get(name)?.ancestors;
            ancestors.iter().find(|ancestor| self.tables.contains_key(*ancestor)).cloned()
        };
        self.tables.keys().filter_map(|name| Some((name.clone(), includes(name)?))).collect()
    }

    /// Drops partitions of which an ancestor is sent too.
    fn drop_partitions(&mut self, outline: &Outline) {
        let names: BTreeSet<_> = self.tables.keys().cloned().collect();
        let is_within = |name: &QualifiedName| {
            let relation = outline.relations.get(name);
            relation.is_some_and(|relation| relation.ancestors.iter().any(|ancestor| names.contains(ancestor)))
        };
        self.tables.retain(|name, _| !is_within(name));
    }
}

impl SentTable {
    /// The columns that are sent of it.
    pub fn columns(&self, table: &Table) -> BTreeSet<Ident> {
        self.parts.values().flat_map(|part| part.columns(table)).collect()
    }

    /// The publications that send different columns of a table, which Postgres refuses: for a new subscription at once,
    /// for a running one at the next row.
    pub fn clash(&self, table: &Table) -> Vec<Ident> {
        let columns: BTreeSet<_> = self.parts.values().map(|part| part.columns(table)).collect();
        if columns.len() > 1 { self.parts.keys().cloned().collect() } else { Vec::new() }
    }
}

impl Part {
    fn columns(&self, table: &Table) -> BTreeSet<Ident> {
        let is_sent = |column: &&Column| match &self.columns {
            Some(columns) => columns.contains(&column.name),
            None => !column.is_generated || self.generated == GeneratedColumns::Stored && column.is_stored,
        };
        table.columns.iter().filter(is_sent).map(|column| column.name.clone()).collect()
    }
}

impl Publication {
    /// The level at which the rows of a table arrive: 0 under its own name, 1 under its parent's. A partitioned table
    /// itself is only sent if its partitions are not. `None` if it is not published.
    pub(super) fn level(&self, name: &QualifiedName, relation: &Relation) -> Option<usize> {
        let is_sent = match relation.kind {
            Kind::Table => true,
            Kind::Partitioned => self.via_partition_root,
            Kind::Other(_) => false,
        };
        let chain = std::iter::once(name).chain(&relation.ancestors).enumerate();
        let members = chain.filter(|(_, name)| is_sent && self.has_member(name)).map(|(level, _)| level);
        let highest = members.max()?;
        Some(if self.via_partition_root { highest } else { 0 })
    }

    /// The table whose column list and filter apply to a table: its topmost published ancestor if partitions are
    /// published as their root, otherwise itself.
    pub(super) fn governing<'a>(
        &'a self,
        name: &'a QualifiedName,
        relation: &'a Relation,
    ) -> (&'a QualifiedName, Option<&'a TableSpec>) {
        let governing = at(name, relation, self.level(name, relation).unwrap_or_default());
        (governing, self.spec(governing))
    }

    fn has_member(&self, name: &QualifiedName) -> bool {
        match &self.target {
            Target::AllTables => true,
            Target::Lists { tables, schemas } => tables.contains_key(name) || schemas.contains(&name.schema),
        }
    }

    fn spec(&self, name: &QualifiedName) -> Option<&TableSpec> {
        match &self.target {
            Target::AllTables => None,
            Target::Lists { tables, .. } => tables.get(name),
        }
    }

    fn part(&self, name: &QualifiedName) -> Part {
        let columns = self.spec(name).and_then(|spec| spec.columns.clone());
        Part { columns, generated: self.generated_columns }
    }
}

/// The relation itself, or the ancestor so many levels up.
fn at<'a>(name: &'a QualifiedName, relation: &'a Relation, level: usize) -> &'a QualifiedName {
    level.checked_sub(1).and_then(|above| relation.ancestors.get(above)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::catalog::{Identity, ReplicaIdentity};

    fn ident(text: &str) -> Ident {
        Ident::new(text).unwrap()
    }

    fn table(text: &str) -> QualifiedName {
        QualifiedName::parse(text).unwrap()
    }

    fn relation(kind: Kind, ancestors: &[&str]) -> Relation {
        Relation {
            kind,
            is_unlogged: false,
            replica_identity: ReplicaIdentity::Default,
            has_primary_key: false,
            identity: Identity::Missing,
            stored_generated: BTreeSet::new(),
            virtual_generated: BTreeSet::new(),
            ancestors: ancestors.iter().map(|name| table(name)).collect(),
        }
    }

    /// `plain`, a view, and `root` with `leaf` and with `mid`, which has `deep`.
    fn outline() -> Outline {
        let mut outline = Outline::default();
        outline.insert(table("plain"), relation(Kind::Table, &[]));
        outline.insert(table("view"), relation(Kind::Other("a view"), &[]));
        outline.insert(table("root"), relation(Kind::Partitioned, &[]));
        outline.insert(table("leaf"), relation(Kind::Table, &["root"]));
        outline.insert(table("s.mid"), relation(Kind::Partitioned, &["root"]));
        outline.insert(table("deep"), relation(Kind::Table, &["s.mid", "root"]));
        outline
    }

    /// A publication from its name, tables, `schema.*` and `*`; a name that ends in `^` publishes roots.
    fn publication(text: &str) -> Publication {
        let (name, members) = text.split_once(':').unwrap();
        let (mut tables, mut schemas) = (BTreeMap::new(), BTreeSet::new());
        for member in members.split_whitespace() {
            match member.strip_suffix(".*") {
                Some(schema) => drop(schemas.insert(ident(schema))),
                None => drop(tables.insert(table(member), TableSpec::default())),
            }
        }
        let target = if members.trim() == "*" { Target::AllTables } else { Target::Lists { tables, schemas } };
        Publication { via_partition_root: name.ends_with('^'), ..Publication::new(ident(name), target) }
    }

    fn of(publications: &[&str], major: u32) -> Sent {
        let publications: Vec<_> = publications.iter().map(|text| publication(text)).collect();
        sent(&publications, &outline(), ServerVersion::major_only(major))
    }

    /// The tables of a subscription, and how rows arrive, as `leaf>root`.
    fn check(publications: &[&str], major: u32, tables: &str, routes: &str) {
        let sent = of(publications, major);
        let short = |name: &QualifiedName| name.to_text().trim_start_matches("public.").to_owned();
        let found: Vec<_> = sent.tables.keys().map(short).collect();
        assert_eq!(found.join(" "), tables, "{publications:?}");
        let found: Vec<_> =
            sent.routes.iter().map(|(table, name)| format!("{}>{}", short(table), short(name))).collect();
        assert_eq!(found.join(" "), routes, "{publications:?}");
    }

    #[test]
    fn partitions_arrive_under_their_own_name_or_the_topmost_published() {
        check(&["p:plain root view nowhere"], 18, "deep leaf plain", "deep>deep leaf>leaf plain>plain");
        check(&["p^:plain root"], 18, "plain root", "deep>root leaf>root plain>plain");
        check(&["p^:s.mid leaf"], 18, "leaf s.mid", "deep>s.mid leaf>leaf");
        check(&["p^:s.mid leaf root"], 14, "root", "deep>root leaf>root");
        check(&["p:s.*"], 18, "deep", "deep>deep");
        check(&["p^:s.*"], 18, "s.mid", "deep>s.mid");
        check(&["p:*"], 18, "deep leaf plain", "deep>deep leaf>leaf plain>plain");
        check(&["p^:*"], 18, "plain root", "deep>root leaf>root plain>plain");
        check(&["p:"], 18, "", "");
    }

    #[test]
    fn one_publication_of_the_root_is_enough() {
        check(&["p:root", "q^:s.mid"], 18, "leaf s.mid", "deep>s.mid leaf>leaf");
        check(&["p:root", "q^:s.mid"], 15, "deep leaf s.mid", "deep>s.mid leaf>leaf");
    }

    #[test]
    fn what_a_change_means_is_told_by_table() {
        let difference = |before: &[&str], after: &[&str]| of(before, 18).difference(&of(after, 18));
        assert_eq!(difference(&["p:root"], &["p:root"]), Difference::default());
        let joins = difference(&["p:leaf"], &["p:leaf plain"]);
        assert_eq!((joins.joined, joins.left.len()), (BTreeSet::from([table("plain")]), 0));
        let leaves = difference(&["p:leaf plain"], &["p:leaf"]);
        assert_eq!((leaves.left, leaves.joined.len()), (BTreeSet::from([table("plain")]), 0));
        let moves = difference(&["p:root"], &["p^:root"]);
        assert_eq!(moves.moved[&table("deep")], (table("deep"), table("root")));
        assert_eq!((moves.moved.len(), moves.left.len()), (2, 0));
        assert_eq!(difference(&["p:leaf"], &["p:leaf", "q^:root"]).moved.len(), 1);
        assert!(difference(&["p:leaf plain"], &["p:leaf", "q:plain"]).left.is_empty());
    }

    #[test]
    fn column_lists_must_be_alike() {
        let column = |name: &str, is_generated, is_stored| Column {
            name: ident(name),
            ty: "integer".to_owned(),
            is_not_null: false,
            has_default: false,
            is_generated,
            is_stored,
            equality: crate::postgres::catalog::Equality::Value,
        };
        let rights =
            crate::postgres::catalog::Rights { role: ident("me"), reads: BTreeSet::new(), becomes_owner: true };
        let columns = vec![column("a", false, false), column("b", false, false), column("sum", true, true)];
        let plain = Table { takes_rows: true, is_partitioned: false, owner: ident("me"), columns, rights };
        let part = |columns: Option<&str>, generated| Part {
            columns: columns.map(|names| names.split_whitespace().map(ident).collect()),
            generated,
        };
        let sent = |parts: &[Part]| SentTable {
            parts: parts.iter().enumerate().map(|(at, part)| (ident(&format!("p{at}")), part.clone())).collect(),
        };
        let (none, stored) = (GeneratedColumns::None, GeneratedColumns::Stored);
        let alike = sent(&[part(None, none), part(Some("a b"), none)]);
        assert_eq!(alike.clash(&plain), []);
        assert_eq!(alike.columns(&plain), BTreeSet::from([ident("a"), ident("b")]));
        for other in [part(Some("a"), none), part(None, stored)] {
            assert_eq!(sent(&[part(None, none), other]).clash(&plain), [ident("p0"), ident("p1")]);
        }
    }
}
