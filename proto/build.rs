// SPDX-License-Identifier: MPL-2.0

//! Generates the wire types from the protocol files beside it, with a compiler written in Rust, so that nobody must
//! install `protoc`. Also adds what the binary needs to be self-contained.

use std::env;

/// The protocols of the provider: Terraform's, and the services of the plugin process around it.
const FILES: [&str; 4] = ["tfplugin5.proto", "grpc_controller.proto", "grpc_stdio.proto", "grpc_broker.proto"];

/// The lookup of names, if the C library is GNU's.
const NAME_SERVICE: &str = "src/name_service.c";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    // The clients are for the tests, which talk to the built binary as Terraform does.
    tonic_prost_build::configure().build_server(true).build_client(true).compile_fds(descriptors)?;
    stand_alone()?;
    Ok(())
}

fn stand_alone() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed={NAME_SERVICE}");
    let is = |what: &str, value: &str| env::var(what).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_OS", "linux") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        for object in cc::Build::new().file(NAME_SERVICE).cargo_metadata(false).try_compile_intermediates()? {
            println!("cargo::rustc-link-arg-bins={}", object.display());
        }
    }
    Ok(())
}
