// SPDX-License-Identifier: MPL-2.0

//! The tables of the subscriber, created as the publisher's: which tables they are, what has to be created, changed or left,
//! and doing it.
//!
//! Deciding is pure: [`Plan::of`] takes both sides' definitions. [`make`] runs the plan in one transaction, reads the
//! subscriber again in it, and undoes everything unless both are the same then.

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

/// What the subscriber is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The publications whose tables it is to have.
    pub publications: BTreeSet<Ident>,
    /// Further tables.
    pub tables: BTreeSet<QualifiedName>,
    /// When secondary indexes and extended statistics are made.
    pub indexes: When,
    /// When foreign keys are made.
    pub foreign_keys: When,
    /// Whether functions that something needs are made.
    pub makes_functions: bool,
    /// Whether what is there is changed where that only adds.
    pub follows: bool,
    /// Which columns of the subscriber are which of the publisher's, as far as that is known.
    pub known: Known,
}

/// When something is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// Together with the tables.
    WithTables,
    /// After the rows are there, by something else.
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

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::WithTables, Self::Later, Self::Never].into_iter().find(|when| when.as_str() == name)
    }
}
