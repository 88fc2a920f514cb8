//! Compiles the protocol without protoc: protox is a protobuf compiler in Rust.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let files = [
        "envoy/service/discovery/v3/discovery.proto",
        "leno/v1/identity.proto",
        "leno/v1/reports.proto",
        "leno/v1/resources.proto",
    ];
    for dir in ["envoy", "google", "leno"] {
        println!("cargo:rerun-if-changed={dir}");
    }
    let descriptors = protox::compile(files, ["."])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .codec_path("crate::codec::SmallCodec")
        // Versions are hashes of the encoding, so it has to be deterministic.
        .btree_map(".")
        .compile_fds(descriptors)?;
    Ok(())
}
