// SPDX-License-Identifier: MPL-2.0

//! Definitions for unit tests, as short as they can be written.

use std::collections::BTreeMap;

use super::model::{Column, Constraint, ConstraintKind, Definition, Index, Statistics, Table};
use crate::postgres::sql::{Ident, QualifiedName};
use crate::postgres::version::ServerVersion;

pub(super) fn name(text: &str) -> QualifiedName {
    QualifiedName::parse(text).unwrap()
}

pub(super) fn ident(text: &str) -> Ident {
    Ident::new(text).unwrap()
}

/// An empty database.
pub(super) fn database(major: u32) -> Definition {
    Definition {
        version: ServerVersion::major_only(major),
        schemas: BTreeMap::new(),
        extensions: BTreeMap::new(),
        collations: BTreeMap::new(),
        types: BTreeMap::new(),
        functions: BTreeMap::new(),
        sequences: BTreeMap::new(),
        tables: BTreeMap::new(),
        indexes: BTreeMap::new(),
        statistics: BTreeMap::new(),
        others: Vec::new(),
        needs: BTreeMap::new(),
    }
}

/// A column of numbers that takes no nulls.
pub(super) fn column(number: i16, called: &str) -> Column {
    Column {
        number,
        name: ident(called),
        ty: "integer".to_owned(),
        collation: None,
        is_not_null: true,
        not_null: None,
        expression: None,
        generated: None,
        identity: None,
        sequence: None,
        storage: None,
        compression: None,
        statistics: None,
        options: None,
        is_local: true,
        is_inherited: false,
        comment: None,
    }
}

impl Definition {
    /// With a table of these columns, numbered from 1 on.
    pub(super) fn table(mut self, called: &str, columns: &str) -> Self {
        let columns = (1..).zip(columns.split_whitespace()).map(|(number, called)| column(number, called)).collect();
        let oid = i64::try_from(self.tables.len()).unwrap() + 100;
        let table = Table { oid, columns, replica_identity: "d".to_owned(), ..Table::default() };
        self.tables.insert(name(called), table);
        self
    }

    /// With a table that is partitioned.
    pub(super) fn partitioned(self, called: &str, columns: &str) -> Self {
        let mut with = self.table(called, columns);
        with.tables.get_mut(&name(called)).unwrap().partition_key = Some("LIST (id)".to_owned());
        with
    }

    /// With a partition of another table.
    pub(super) fn partition(self, called: &str, parent: &str, columns: &str) -> Self {
        let mut with = self.table(called, columns);
        let table = with.tables.get_mut(&name(called)).unwrap();
        (table.bound, table.parents) = (Some("DEFAULT".to_owned()), vec![name(parent)]);
        with
    }

    /// With a constraint of a table.
    pub(super) fn constraint(mut self, table: &str, called: &str, definition: &str) -> Self {
        let kinds = [
            ("PRIMARY KEY", ConstraintKind::PrimaryKey),
            ("UNIQUE", ConstraintKind::Unique),
            ("FOREIGN KEY", ConstraintKind::ForeignKey),
        ];
        let kind = kinds.into_iter().find(|(begins, _)| definition.starts_with(begins));
        let references = definition.split_once("REFERENCES ").map(|(_, rest)| rest.split_once('(').unwrap().0);
        let columns = definition.split_once('(').unwrap().1.split_once(')').unwrap().0;
        let constraint = Constraint {
            name: ident(called),
            kind: kind.map_or(ConstraintKind::Check, |(_, kind)| kind),
            definition: definition.to_owned(),
            is_local: true,
            is_not_inherited: false,
            is_valid: !definition.ends_with("NOT VALID"),
            is_enforced: true,
            is_temporal: false,
            is_clone: false,
            nulls_are_equal: false,
            sets_some: false,
            index_options: None,
            references: references.map(name),
            counts_on: None,
            columns: columns.split(", ").filter_map(|column| Ident::new(column).ok()).collect(),
            comment: None,
        };
        self.tables.get_mut(&name(table)).unwrap().constraints.insert(ident(called), constraint);
        self
    }

    /// With an index of a table, in the table's schema.
    pub(super) fn index(mut self, table: &str, called: &str, tail: &str) -> Self {
        let (tail, is_unique) = match tail.strip_prefix("UNIQUE ") {
            Some(tail) => (tail, true),
            None => (tail, false),
        };
        let (table, called) = (name(table), name(called));
        let unique = if is_unique { "UNIQUE " } else { "" };
        let index = Index {
            name: called.clone(),
            definition: format!("CREATE {unique}INDEX {} ON {table} {tail}", called.name),
            table,
            tail: tail.to_owned(),
            is_unique,
            nulls_are_equal: false,
            is_valid: true,
            is_replica_identity: false,
            is_clone: false,
            parent: None,
            statistics: None,
            comment: None,
        };
        self.indexes.insert(called, index);
        self
    }

    /// With a change to an index.
    pub(super) fn with_index(mut self, called: &str, change: impl FnOnce(&mut Index)) -> Self {
        change(self.indexes.get_mut(&name(called)).unwrap());
        self
    }

    /// With extended statistics of a table.
    pub(super) fn statistics(mut self, table: &str, called: &str, definition: &str) -> Self {
        let (table, called) = (name(table), name(called));
        let definition = definition.to_owned();
        let statistics = Statistics { name: called.clone(), table, definition, target: None, comment: None };
        self.statistics.insert(called, statistics);
        self
    }
}
