//! Plan and apply: what a file would change, and what it changed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    blob::Digest,
    environment::EnvironmentInput,
    id::RunId,
    name::Name,
    quantity::Money,
    spec::{DatasetSpec, JobSpec, Kind, ServiceSpec},
};

/// One document with everything local already uploaded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Document {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub dataset: Option<DatasetDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub job: Option<JobDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub service: Option<ServiceSpec>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetDocument {
    pub spec: DatasetSpec,
    /// The source's files.
    pub manifest: Digest,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentDocument {
    pub name: Name,
    pub input: EnvironmentInput,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobDocument {
    pub spec: JobSpec,
    /// The code folder's files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Digest>,
    /// The inline environment with its files read in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<EnvironmentInput>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeRequest {
    pub documents: Vec<Document>,
    /// Start a job again although nothing of it changed.
    #[serde(default)]
    pub rerun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeAction {
    Create,
    /// A new version or revision.
    Update,
    /// A run of it failed or was cancelled; it is started again.
    Retry,
    /// Nothing to do.
    Keep,
}

/// Where a run would go, what that costs and why there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    pub node: Name,
    pub per_hour: Money,
    /// `your hardware, assumed rate`
    pub rate_note: String,
    pub why: String,
    /// How long it took last time, if it ran before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// From how many earlier runs that is.
    pub from_runs: u32,
    /// What it would wait for, if it cannot start at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Change {
    pub kind: Kind,
    pub name: Name,
    pub action: ChangeAction,
    /// What it is, in a few words: `1 CPU, 1Gi`.
    pub summary: String,
    /// What differs from what is there: `model digits@1 -> digits@2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub differences: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The version or revision that there is, or after an apply was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The run that was started, or that stands for it already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
}

/// The answer to plan and apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ChangeSet {
    pub changes: Vec<Change>,
}

impl ChangeSet {
    pub fn is_empty(&self) -> bool {
        self.changes.iter().all(|change| change.action == ChangeAction::Keep)
    }
}

/// What ended when everything was shut down.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Ended {
    pub runs: u64,
    /// Name and replicas of each service.
    pub services: BTreeMap<String, u32>,
    pub keeper: bool,
}
