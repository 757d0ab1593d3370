// SPDX-License-Identifier: MPL-2.0

//! Errors about objects that do not exist.

use super::error::Error;
use super::operation::Operation;
use crate::postgres::{Database, Ident};

/// Publications that do not exist.
pub(super) fn publications(operation: &Operation<'_>, publisher: &Database, names: &[&Ident]) -> Error {
    let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    operation.error(format!("there is no publication {names} in {}", place(publisher))).about("publications")
}

/// A subscription that does not exist.
pub(super) fn subscription(operation: &Operation<'_>, subscriber: &Database, name: &Ident) -> Error {
    operation.error(format!("there is no subscription {name} in {}", place(subscriber))).about("subscription")
}

fn place(database: &Database) -> String {
    format!("database {:?} on {}", database.name(), database.config().address())
}
