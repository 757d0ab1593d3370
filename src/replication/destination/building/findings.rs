// SPDX-License-Identifier: MPL-2.0

//! Objects that could not be created, and what to do about them.

use crate::postgres::definition::{IndexBuild, Object};
use crate::postgres::indexing::{self, Violations};
use crate::postgres::{Database, Ident, QualifiedName, SqlState};
use crate::replication::Operation;
use crate::replication::destination::words::{counted, listed};
use crate::replication::error::Error;

/// An object that could not be created.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    object: Object,
    what: String,
    error: Error,
}

impl Failure {
    pub(super) fn of(object: Object, what: String, error: Error) -> Self {
        Self { object, what, error }
    }

    pub(super) fn is_of_index(&self, name: &QualifiedName) -> bool {
        matches!(&self.object, Object::Index(index) if index == name)
    }

    /// Whether all later jobs would fail in the same way: no time left, no connection, or a request to stop.
    pub(super) fn ends_all(&self) -> bool {
        self.error.is_cancelled()
            || self.error.cause().is_some_and(|cause| cause.code().is_none() || cause.is_transient())
    }
}

/// The error of an index, with the rows that violate it.
pub(super) async fn of_index(db: &Database, build: &IndexBuild, error: Error) -> Error {
    if !error.is(&SqlState::UNIQUE_VIOLATION) {
        return error;
    }
    let found = indexing::duplicates(db, &build.name).await.ok().flatten();
    let error = with_keys(error, "Keys that several rows have", found);
    error.detail(
        "On the publisher the key is unique, so one of these rows was written on the subscriber, or was copied \
         twice: delete it there, and apply again.",
    )
}

/// The error of a foreign key, with the rows that violate it.
pub(super) async fn of_key(db: &Database, table: &QualifiedName, key: &Ident, error: Error) -> Error {
    if !error.is(&SqlState::FOREIGN_KEY_VIOLATION) {
        return error;
    }
    let found = indexing::orphans(db, table, key).await.ok().flatten();
    let error = with_keys(error, "Keys of rows that refer to nothing", found);
    error.detail(
        "The rows that they refer to are not published (because of a filter, for instance), have not arrived yet, \
         or were deleted on the subscriber. The foreign key exists and is checked for new rows. Once these rows are \
         right, apply again.",
    )
}

fn with_keys(error: Error, title: &str, found: Option<Violations>) -> Error {
    let Some(Violations { query, keys, has_more }) = found else { return error };
    let more = if has_more { " and more" } else { "" };
    let keys = if keys.is_empty() { String::new() } else { format!("{title}: {}{more}.", keys.join(", ")) };
    error.detail(keys).detail(format!("All of them, on the subscriber: {query};"))
}

/// The error with everything that could not be created, and how the next apply continues.
pub(super) async fn error(operation: &Operation<'_>, db: &Database, failures: Vec<Failure>) -> Error {
    let unfinished = unfinished(db, &failures).await;
    let unfinished = listed("Left unfinished, to be built again by the next apply:", unfinished);
    if let Some(failure) = failures.iter().find(|failure| failure.error.is_cancelled()) {
        let error = failure.error.clone();
        let error = if error.cause().is_some() { Error::cancelled() } else { error };
        return error.detail(unfinished).detail("What was built so far stays. The next apply goes on.");
    }
    let lines = failures.iter().map(|failure| format!("{}: {}", failure.what, failure.error)).collect();
    let count = counted(failures.len(), "thing");
    operation
        .error(format!("{count} could not be made"))
        .detail(listed("What failed:", lines))
        .detail(unfinished)
        .detail("Everything else was created. The next apply goes on with what is missing.")
}

/// The indexes that exist but are invalid.
async fn unfinished(db: &Database, failures: &[Failure]) -> Vec<String> {
    let mut unfinished = Vec::new();
    for failure in failures {
        let Object::Index(name) = &failure.object else { continue };
        if let Ok(Some(standing)) = indexing::standing(&db.briefly(), None, name).await
            && !standing.is_valid
        {
            unfinished.push(failure.object.to_string());
        }
    }
    unfinished
}
