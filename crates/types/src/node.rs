//! Nodes: machines that runs are placed on.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{name::Name, quantity::Money, time::Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Gpu {
    pub id: String,
    pub model: String,
    pub memory_bytes: u64,
}

/// What a machine has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct NodeFacts {
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<Gpu>,
}

/// What an hour of the whole node costs, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeRate {
    pub per_hour: Money,
    /// From Dure's own table for hardware of this size, not from anybody's bill.
    pub assumed: bool,
    pub source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    pub name: Name,
    pub engine: String,
    pub facts: NodeFacts,
    pub rate: NodeRate,
    /// How limits are held: `cgroup v2`, `cgroup v1` or `watched memory`.
    pub limits: String,
    pub used_cpu_milli: u64,
    pub used_memory_bytes: u64,
    pub used_gpus: u64,
    pub ready: bool,
    pub seen_at: Timestamp,
}
