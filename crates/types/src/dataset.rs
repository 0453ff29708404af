//! Datasets: named folders of files whose versions never change.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    blob::{Digest, Manifest},
    name::Name,
    time::Timestamp,
};

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Dataset {
    pub name: Name,
    pub project: Name,
    pub latest: u32,
    pub files: u64,
    pub bytes: u64,
    pub created_by: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DatasetVersion {
    pub name: Name,
    pub version: u32,
    pub manifest: Digest,
    pub files: u64,
    pub bytes: u64,
    pub created_by: String,
    pub created_at: Timestamp,
    /// The files; only where one version is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Manifest>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DatasetQuery {
    /// Part of a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub search: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}

/// A new version from a manifest whose blobs were uploaded.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateDatasetVersion {
    pub manifest: Digest,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rename {
    pub name: Name,
}
