// SPDX-License-Identifier: MPL-2.0

//! The actions, one file each.

mod build_indexes;
mod compare_tables;
mod copy_sequences;
mod reboot_writer;
mod refresh_publication;
mod wait_for_sync;

use crate::config::{Context, check_name};
use crate::tf_provider::action::AnyAction;
use crate::tf_provider::schema::{Attribute, Schema, Type};

/// All actions, in the order of the docs.
pub const ALL: &[&dyn AnyAction<Context>] = &[
    &build_indexes::BuildIndexes,
    &compare_tables::CompareTables,
    &copy_sequences::CopySequences,
    &reboot_writer::RebootWriter,
    &refresh_publication::RefreshPublication,
    &wait_for_sync::WaitForSync,
];

/// Adds the attributes for the database of each side, which actions about both sides have.
fn with_databases(schema: Schema) -> Schema {
    let database = |name: &str, side: &str| {
        let description = format!("The database of the {side}. Default: the provider's.");
        Attribute::optional(name, Type::String, &description).text(check_name)
    };
    schema.attribute(database("publisher_database", "publisher")).attribute(database("database", "subscriber"))
}
