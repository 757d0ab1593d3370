// SPDX-License-Identifier: MPL-2.0

//! How the tables of a database are defined, with everything that they need: as values, as the statements that create them,
//! and as the differences between two of them.
//!
//! [`read`] follows the catalog's own dependencies from the given tables, in one query for any number of them.
//! [`steps()`] orders the statements that create them. [`differences`] compares two definitions by the names of their
//! parts and their printed forms, never by oids or column numbers. Objects of an extension are not part of a
//! definition: the extension is named instead.
//!
//! Source: the system catalogs, `pg_depend` and "System Catalog Information Functions" in the Postgres documentation.

mod difference;
mod facets;
#[cfg(test)]
mod fields;
mod fingerprint;
mod fitting;
mod known;
mod late;
mod likeness;
mod making;
mod mending;
mod model;
mod needs;
mod new_names;
mod object;
mod ordering;
mod printed;
mod promoting;
mod query;
mod reading;
mod renaming;
#[cfg(test)]
mod samples;
mod sharing;
mod steps;
mod table;

pub use difference::{BeyondNames, Difference, differences};
pub use fingerprint::fingerprint;
pub use fitting::{Fitted, Left, Refusal, fit};
pub use known::{Known, Replaced, TakenUp, forgotten, has_others_there, known, names_beyond, replaced};
pub use late::{
    IndexBuild, KeyStep, Late, LateIndex, LateKey, Turn, drop_left_over, drops_of_keys, late, with_tables_of,
};
pub use model::{
    Collation, Column, Constraint, ConstraintKind, Definition, Extension, Function, Index, Other, Sequence, Statistics,
    Table, Type, TypeKind,
};
pub use new_names::{NewName, NewNames, new_names, with_new_names};
pub use object::{Object, drops, only_if_empty, settings};
pub use reading::{Wanted, missing_of, read, read_in};
pub use renaming::{Renaming, Renamings, renamed, renamings};
pub use sharing::{Freshness, read_recent};
pub use steps::{Circle, Group, Step, steps};
