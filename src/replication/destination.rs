// SPDX-License-Identifier: MPL-2.0

//! The tables of the subscriber, created like the publisher's: which tables they are, what must be created, changed or
//! left, and doing so.
//!
//! Deciding is pure: `Plan::of` takes both sides' definitions. [`make`] runs the plan in one transaction, reads the
//! subscriber again in it, and rolls back unless both sides are the same.

pub mod building;
mod doing;
mod dropping;
mod looking;
mod planning;
mod published;
mod words;

use std::collections::BTreeSet;

use crate::postgres::definition::Known;
use crate::postgres::{Ident, QualifiedName};

pub use doing::{Outcome, make};
pub use dropping::{Drop, drop_made};
pub use looking::{Look, look};
pub use planning::{Plan, Unlike};
pub use published::{Published, published};

/// What the subscriber should have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The publications whose tables it should have.
    pub publications: BTreeSet<Ident>,
    /// Further tables.
    pub tables: BTreeSet<QualifiedName>,
    /// When secondary indexes and extended statistics are created.
    pub indexes: When,
    /// When foreign keys are created.
    pub foreign_keys: When,
    /// Whether needed functions are created.
    pub makes_functions: bool,
    /// Whether existing objects are changed if the change only adds something.
    pub follows: bool,
    /// The recorded matches of both sides' tables and columns.
    pub known: Known,
}

/// When something is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Together with the tables.
    WithTables,
    /// After the copy, by another resource.
    Later,
    /// Never.
    Never,
}

impl When {
    /// Its name in a configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WithTables => "with_tables",
            Self::Later => "later",
            Self::Never => "never",
        }
    }

    /// The choice of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::WithTables, Self::Later, Self::Never].into_iter().find(|when| when.as_str() == name)
    }
}
