// SPDX-License-Identifier: MPL-2.0

//! Everything that any Terraform provider needs, independent of what it manages.
pub mod action;
pub mod call;
pub mod codec;
pub mod convert;
pub mod data_source;
pub mod diagnostics;
pub mod docs;
pub mod ephemeral_resource;
pub mod function;
pub mod list_resource;
pub mod log;
pub mod number;
pub mod path;
pub mod plan;
pub mod plugin;
#[doc(hidden)] // for the tests, which talk to the built binary as Terraform does
pub mod proto;
pub mod provider;
pub mod resource;
pub mod rfc3339;
pub mod schema;
pub mod server;
pub mod timeouts;
pub mod ty;
pub mod validate;
pub mod value;

pub use diagnostics::{Error, Result};
