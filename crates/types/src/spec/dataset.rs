use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::name::Name;

/// Files that runs read. Applied again with other files it gets a new version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    pub name: Name,
    /// A file or folder, relative to the spec's own folder.
    pub source: String,
}
