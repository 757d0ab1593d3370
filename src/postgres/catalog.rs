// SPDX-License-Identifier: MPL-2.0

//! The relations of a database: one model of tables, their columns, keys and partition trees, for the whole provider.
//!
//! It has two depths. An [`Outline`] names every relation with what identifies its rows and its place in a partition
//! tree: one query, whatever their number, shared by all resources that plan at the same time. A [`Table`] adds the
//! columns, and what a role may do with it; it is read only for the requested tables.
//!
//! Every session pins `search_path` to `pg_catalog`, which is in every path anyway. So the server prints names (here:
//! of types) as qualified as under an empty path, and the same on both sides.
//!
//! Indexes, constraints, sequences and guards are read in the same way, each by one query for all requested tables.
//!
//! These reads wait for no lock on the tables themselves: they do not call `pg_get_expr`, which would.

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
