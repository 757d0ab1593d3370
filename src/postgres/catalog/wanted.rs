// SPDX-License-Identifier: MPL-2.0

//! The tables that a query is about, and its results by table.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::types::Type;

use crate::postgres::sql::QualifiedName;
use crate::postgres::work::Param;

/// The names of tables, as two parameters for `unnest($1::text[], $2::text[])`.
pub(super) struct Wanted<'a> {
    schemas: Vec<&'a str>,
    names: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    /// For these tables.
    pub(super) fn of(tables: &'a BTreeSet<QualifiedName>) -> Self {
        Self {
            schemas: tables.iter().map(|table| table.schema.as_str()).collect(),
            names: tables.iter().map(|table| table.name.as_str()).collect(),
        }
    }

    /// The two parameters.
    pub(super) fn params(&self) -> [Param<'_>; 2] {
        [(&self.schemas, Type::TEXT_ARRAY), (&self.names, Type::TEXT_ARRAY)]
    }
}

/// The results by table.
pub(super) fn by_table<T>(found: Vec<(QualifiedName, T)>) -> BTreeMap<QualifiedName, Vec<T>> {
    let mut tables: BTreeMap<QualifiedName, Vec<T>> = BTreeMap::new();
    for (table, one) in found {
        tables.entry(table).or_default().push(one);
    }
    tables
}
