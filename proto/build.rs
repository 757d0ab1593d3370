//! Generates the wire types from the protocol files beside it, with a compiler written in Rust: nobody installs `protoc`.

/// What the provider speaks: Terraform's protocol, and the services of the plugin process around it.
const FILES: [&str; 4] = ["tfplugin5.proto", "grpc_controller.proto", "grpc_stdio.proto", "grpc_broker.proto"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    // The clients are for the tests, which talk to the built binary as Terraform does.
    tonic_prost_build::configure().build_server(true).build_client(true).compile_fds(descriptors)?;
    Ok(())
}
