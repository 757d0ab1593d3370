//! The actions, one file each.

mod reboot_writer;

use crate::config::Context;
use crate::tf_provider::action::AnyAction;

/// All of them, in the order of the docs.
pub const ALL: &[&dyn AnyAction<Context>] = &[&reboot_writer::RebootWriter];
