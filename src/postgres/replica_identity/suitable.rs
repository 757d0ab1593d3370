// SPDX-License-Identifier: MPL-2.0

//! Whether an index can identify the rows of a table. Pure.

use crate::postgres::catalog::{Column, Index};
use crate::postgres::sql::Ident;

/// Why an index cannot be a replica identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unsuitable {
    /// The table has no index of that name.
    Missing,
    /// It is not unique.
    NotUnique,
    /// It is checked at the end of a transaction.
    Deferrable,
    /// It covers only some of the rows.
    Partial,
    /// It is on an expression.
    Expression,
    /// It is invalid after a failed build.
    Invalid,
    /// These columns of its key may be null.
    Nullable(Vec<Ident>),
}

impl Unsuitable {
    /// The problem in words: "it is not unique".
    pub fn describe(&self) -> String {
        match self {
            Self::Missing => "the table has no index of that name".to_owned(),
            Self::NotUnique => "it is not unique".to_owned(),
            Self::Deferrable => "it is deferrable".to_owned(),
            Self::Partial => "it is partial: it covers only the rows for which its condition is true".to_owned(),
            Self::Expression => "it is of an expression".to_owned(),
            Self::Invalid => "it is not valid".to_owned(),
            Self::Nullable(columns) => {
                let names: Vec<_> = columns.iter().map(ToString::to_string).collect();
                format!("it has columns that may be null: {}", names.join(", "))
            }
        }
    }
}

/// Why the table's index of that name cannot be its replica identity; `None` if it can.
pub fn unsuitable(name: &Ident, indexes: &[Index], columns: &[Column]) -> Option<Unsuitable> {
    let Some(index) = indexes.iter().find(|index| index.name == *name) else { return Some(Unsuitable::Missing) };
    let Some(keys) = index.columns() else { return Some(Unsuitable::Expression) };
    let nullable = columns.iter().filter(|column| keys.contains(&column.name) && !column.is_not_null);
    let nullable: Vec<_> = nullable.map(|column| column.name.clone()).collect();
    // An exclusion index, such as that of a temporal primary key, is left to the server.
    let is_unique = index.is_unique || index.is_primary;
    match index {
        _ if !is_unique => Some(Unsuitable::NotUnique),
        _ if !index.is_immediate => Some(Unsuitable::Deferrable),
        _ if index.is_partial => Some(Unsuitable::Partial),
        _ if !index.is_valid => Some(Unsuitable::Invalid),
        _ => (!nullable.is_empty()).then_some(Unsuitable::Nullable(nullable)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::example::ident;
    use super::*;
    use crate::postgres::catalog::Equality;

    fn column(name: &str, is_not_null: bool) -> Column {
        Column {
            name: ident(name),
            ty: "integer".to_owned(),
            is_not_null,
            has_default: false,
            is_generated: false,
            is_stored: false,
            equality: Equality::Value,
        }
    }

    fn index() -> Index {
        Index {
            name: ident("i"),
            method: "btree".to_owned(),
            keys: vec![Some(ident("a"))],
            is_unique: true,
            is_primary: false,
            is_replica_identity: false,
            is_valid: true,
            is_immediate: true,
            is_partial: false,
            is_of_constraint: false,
        }
    }

    fn why(change: impl Fn(&mut Index)) -> Option<String> {
        let mut index = index();
        change(&mut index);
        unsuitable(&ident("i"), &[index], &[column("a", true), column("b", false)]).map(|why| why.describe())
    }

    #[test]
    fn what_the_server_refuses_is_known_before() {
        assert_eq!(why(|_| ()), None);
        let said = |change: fn(&mut Index)| why(change).unwrap();
        assert_eq!(said(|index| index.name = ident("j")), "the table has no index of that name");
        assert_eq!(said(|index| index.is_unique = false), "it is not unique");
        assert_eq!(said(|index| index.is_immediate = false), "it is deferrable");
        assert!(said(|index| index.is_partial = true).starts_with("it is partial"));
        assert_eq!(said(|index| index.keys.push(None)), "it is of an expression");
        assert_eq!(said(|index| index.is_valid = false), "it is not valid");
        assert_eq!(said(|index| index.keys.push(Some(ident("b")))), "it has columns that may be null: \"b\"");
    }
}
