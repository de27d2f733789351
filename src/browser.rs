//! SKELETON
#![allow(missing_docs)]
/// Config section `[browser]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("SKELETON")]
    Skeleton,
}
