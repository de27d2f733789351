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
        "proto/pagebox/v1/live.proto",
    ];
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // They hold what is not to be shown; `src/grpc.rs` has ones that leave it out.
        .skip_debug([
            "pagebox.v1.Proxy",
            "pagebox.v1.Secret",
            "pagebox.v1.Model",
            "pagebox.v1.LiveView",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
