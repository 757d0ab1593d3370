// SPDX-License-Identifier: MPL-2.0

//! Compares the rows of a table on two servers: what is compared, how a server counts and hashes it, and sessions that
//! see one fixed state of it.
//!
//! Rows are hashed by value if Postgres hashes a type in the same way on every server, and otherwise by their text. The
//! keys of a table are divided into buckets, so that one pass over each side finds where they differ, for any type of
//! key.
//!
//! Source: "Record and Composite Functions", `LOCK`, `SAVEPOINT`, the view `pg_publication_tables` and "System Catalogs" in the
//! Postgres documentation; which hash functions depend on the server: `hashenum` hashes an oid.

mod comparable;
mod fineness;
mod published;
mod side;
mod text;

pub use comparable::{Comparable, Incomparable, comparable};
pub use fineness::Fineness;
pub use published::{Published, published};
pub use side::{Entry, Side, Sum, entry};
