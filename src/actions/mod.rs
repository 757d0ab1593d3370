//! The actions, one file each.

mod build_indexes;
mod compare_tables;
mod copy_sequences;
mod reboot_writer;
mod refresh_publication;
mod wait_for_sync;

use crate::config::Context;
use crate::tf_provider::action::AnyAction;

/// All of them, in the order of the docs.
pub const ALL: &[&dyn AnyAction<Context>] = &[
    &build_indexes::BuildIndexes,
    &compare_tables::CompareTables,
    &copy_sequences::CopySequences,
    &reboot_writer::RebootWriter,
    &refresh_publication::RefreshPublication,
    &wait_for_sync::WaitForSync,
];
