use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::quantity::{Cpu, Memory};

/// What one unit gets: at most this much, and this is what it is billed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// 1, 0.5 or 500m.
    #[serde(default = "one_core")]
    pub cpu: Cpu,
    /// 512Mi, 4Gi or 2G.
    #[serde(default = "one_gibibyte")]
    pub memory: Memory,
    /// Whole GPUs; none unless said.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gpu: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpu: one_core(), memory: one_gibibyte(), gpu: 0 }
    }
}

fn one_core() -> Cpu {
    Cpu::from_milli(1000)
}

fn one_gibibyte() -> Memory {
    Memory::from_bytes(1 << 30)
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}
