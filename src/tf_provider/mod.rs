//! Writing a Terraform provider in Rust.
pub mod call;
pub mod codec;
pub mod convert;
pub mod data_source;
pub mod diagnostics;
pub mod function;
pub mod number;
pub mod path;
pub mod plan;
pub mod provider;
pub mod resource;
pub mod schema;
pub mod timeouts;
pub mod value;
pub use diagnostics::{Error, Result};
