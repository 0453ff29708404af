//! Services: a model version behind an address, kept by replicas that are runs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    id::RunId,
    name::Name,
    quantity::{Cpu, Memory, Money},
    run::{Reason, RunState},
    time::Timestamp,
};

/// `rolling -> ready | failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    Rolling,
    Ready,
    Failed,
    Stopping,
}

impl ServiceState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Stopping => "stopping",
        }
    }
}

/// Immutable: a change of the spec or of the pinned version makes the next one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    pub number: u32,
    /// As it was written: `digits@latest`.
    pub wanted: String,
    /// What that was when the revision was made; none while a run that is to make it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The run that makes the model, where one was going on when the revision was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<RunId>,
    pub replicas: u32,
    pub cpu: Cpu,
    pub memory: Memory,
    pub gpu: u32,
    pub created_by: String,
    pub created_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Replica {
    pub run: RunId,
    pub revision: u32,
    pub state: RunState,
    pub ready: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    pub name: Name,
    pub project: Name,
    pub state: ServiceState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// `/s/PROJECT/NAME`
    pub path: String,
    /// The revision that answers, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serving: Option<u32>,
    /// The model version that answers: `digits@3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<String>,
    pub revision: Revision,
    pub replicas: Vec<Replica>,
    pub requests: u64,
    pub cost: Money,
    pub created_by: String,
    pub created_at: Timestamp,
}
