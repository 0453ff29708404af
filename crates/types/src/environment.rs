//! Environments: the packages that runs import, locked once per content and shared.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{blob::Digest, id::RunId, name::Name, time::Timestamp};

/// What an environment is made from, with the files it names read in. Its digest is its identity:
/// it is resolved and built once, so one digest stands for one lock.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentInput {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// The text of a requirements file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<String>,
    /// The text of a pyproject.toml.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pyproject: Option<String>,
    /// The text of the uv.lock beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uv_lock: Option<String>,
    /// `3.12` or `>=3.10,<3.14`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
}

impl EnvironmentInput {
    /// Its identity: the same description is the same environment, built once. The order of `packages` and
    /// the space around them do not count.
    pub fn digest(&self) -> Digest {
        let mut packages: Vec<&str> = self.packages.iter().map(|package| package.trim()).collect();
        packages.sort_unstable();
        packages.dedup();
        // The number changes when environments have to be built anew because we build them otherwise.
        // An array keeps the form canonical: there are no keys to order.
        let canonical = serde_json::json!([
            "dure-environment",
            1,
            packages,
            self.requirements,
            self.pyproject,
            self.uv_lock,
            self.python.as_deref().map(str::trim),
        ]);
        Digest::of(canonical.to_string().as_bytes())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Package {
    pub name: String,
    pub version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnvironmentState {
    /// Nothing has asked for it to be built.
    Declared,
    Building,
    Ready,
    Failed,
}

#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Environment {
    /// None for one that stands inline in a job.
    pub name: Option<Name>,
    pub digest: Digest,
    pub input: EnvironmentInput,
    pub state: EnvironmentState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Package>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<String>,
    /// The run that builds or built it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<RunId>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub created_by: String,
    pub created_at: Timestamp,
}
