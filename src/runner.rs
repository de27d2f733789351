//! SKELETON
#![allow(missing_docs)]
/// Config section `[runner]`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {}
