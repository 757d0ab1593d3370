//! What the copy of tables needs to know of them.

pub use super::catalog::with_rows;
pub use super::publication::published_tables as published;
