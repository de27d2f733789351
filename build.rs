//! Compiles the protos without protoc, and keeps the descriptor set for server reflection and the
//! JSON mapping.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "proto/pagebox/v1/session.proto",
        "proto/pagebox/v1/execution.proto",
        "proto/pagebox/v1/daemon.proto",
        "proto/pagebox/v1/profile.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Holds a password; `src/grpc.rs` has one that leaves it out.
        .skip_debug(["pagebox.v1.Proxy"])
        .compile_fds(descriptors)?;
    Ok(())
}
