// SPDX-License-Identifier: MPL-2.0

//! The relations of a database: one model of tables, their columns, keys and partition trees, for all who ask.
//!
//! It has two depths. An [`Outline`] names every relation with what identifies its rows and its place in a
//! partition tree: one query, whatever their number, and shared by all who plan at the same time. A [`Table`] adds the
//! columns, and what a role may do with it; it is read only for the tables that somebody asks for.
//!
//! Every session pins `search_path` to `pg_catalog`, which is in every path anyway. So whatever the server prints (types
//! here) is qualified as under an empty path, and reads the same on both sides.
//!
//! Indexes, constraints, sequences and what else stands between a table and its rows are read in the same way, each by one
//! query for all tables that somebody asks for.
//!
//! What is read waits for no lock on the tables themselves: `pg_get_expr`, which would, is not asked here.

mod constraints;
mod extensions;
mod guards;
mod indexes;
mod left_behind;
mod listing;
mod outline;
mod rows;
mod sequences;
mod statistics;
mod tables;
mod types;
mod wanted;
mod writes;

pub use constraints::{Constraint, Demand, Reference, constraints, references};
pub use extensions::{available_extensions, extensions};
pub use guards::{CalledFunction, Guards, called_functions, guards};
pub use indexes::{Index, indexes};
pub use left_behind::{LeftBehind, LeftKind, cron_jobs, left_behind};
pub use listing::{Listed, list};
pub(super) use outline::SYSTEM_TABLE;
pub use outline::{Identity, Kind, Outline, Relation, ReplicaIdentity, is_system_schema, outline};
pub use rows::{TableSize, bytes, sizes, with_rows};
pub use sequences::{Sequence, Tie, highest, sequences};
pub use statistics::{Unanalyzed, analyze, unanalyzed};
pub use tables::{Column, Equality, Rights, Table, tables};
pub use types::{Labels, add_label, labels};
pub use writes::lacking_writes;
