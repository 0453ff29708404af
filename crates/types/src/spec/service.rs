use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Resources;
use crate::name::{Name, Reference};

/// A model that answers at an address which does not change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceSpec {
    pub name: Name,
    /// Pinned to a version when it is applied; an alias that moves rolls on the next apply.
    pub model: Reference,
    /// How many of it run; 1 to 100.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: u32,
    /// What each replica gets.
    #[serde(default)]
    pub resources: Resources,
}

fn one() -> u32 {
    1
}
