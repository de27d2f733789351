//! SKELETON
/// Generated from `proto/pagebox/v1`.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("pagebox.v1");
}
