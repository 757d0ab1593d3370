// SPDX-License-Identifier: MPL-2.0

//! The wire types, generated from `proto/` at build time. Nothing else.
#![allow(
    missing_docs,
    clippy::all,
    clippy::str_to_string,
    rustdoc::all,
    reason = "generated code; the comments are in the .proto files"
)]

/// Terraform's provider protocol 5.
pub mod tfplugin5 {
    tonic::include_proto!("tfplugin5");
}

/// The services of a go-plugin process.
pub mod plugin {
    tonic::include_proto!("plugin");
}
