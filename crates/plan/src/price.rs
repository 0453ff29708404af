//! What an hour of a machine costs, and what a share of it for a while does.

use std::time::Duration;

use dure_types::{
    Money,
    node::{Gpu, NodeFacts, NodeRate},
};

/// Assumptions for hardware that nobody has put a price on: about what Google Cloud asked on demand for a core
/// and a gibibyte of its E2 machines (us-central1), and what GPU clouds asked for a card, in 2025. They are there so
/// that shares can be compared; `dure up --rate` replaces them.
const CORE_HOUR: i64 = 21_811_000;
const GIBIBYTE_HOUR: i64 = 2_923_000;
const GPU_HOURS: &[(&str, i64)] = &[
    ("H200", 3_800_000_000),
    ("H100", 3_000_000_000),
    ("A100", 1_800_000_000),
    ("L40", 1_000_000_000),
    ("A10", 750_000_000),
    ("L4", 560_000_000),
    ("V100", 550_000_000),
    ("4090", 400_000_000),
    ("T4", 350_000_000),
    ("3090", 250_000_000),
];
/// For a card that is not in the table.
const GPU_GIBIBYTE_HOUR: i64 = 20_000_000;

const GIBIBYTE: u64 = 1 << 30;

/// The assumed rate of a machine of this size.
pub fn assumed_rate(facts: &NodeFacts) -> NodeRate {
    let cores = scaled(CORE_HOUR, facts.cpu_milli, 1000);
    let memory = scaled(GIBIBYTE_HOUR, facts.memory_bytes, GIBIBYTE);
    let gpus: i64 = facts.gpus.iter().map(gpu_hour).sum();
    NodeRate {
        per_hour: Money::from_nanos(cores + memory + gpus),
        assumed: true,
        source: "assumed from cores, memory and GPUs at public on-demand prices; set yours with dure up --rate"
            .to_owned(),
    }
}

/// A rate that the owner gave.
pub fn stated_rate(per_hour: Money) -> NodeRate {
    NodeRate { per_hour, assumed: false, source: "stated with dure up --rate".to_owned() }
}

fn gpu_hour(gpu: &Gpu) -> i64 {
    GPU_HOURS
        .iter()
        .find(|(model, _)| gpu.model.contains(model))
        .map_or_else(|| scaled(GPU_GIBIBYTE_HOUR, gpu.memory_bytes, GIBIBYTE), |(_, hour)| *hour)
}

fn scaled(nanos: i64, amount: u64, unit: u64) -> i64 {
    i64::try_from(i128::from(nanos) * i128::from(amount) / i128::from(unit)).unwrap_or(i64::MAX)
}

/// What a run asks for of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    pub cpu_milli: u64,
    pub memory_bytes: u64,
    pub gpus: u32,
}

/// The hourly rate of the largest of the ask's shares of the node: who takes half of the memory keeps
/// others from half of the machine, whatever they do with the cores.
pub fn share_rate(rate: Money, node: &NodeFacts, ask: &Ask) -> Money {
    let shares = [
        (ask.cpu_milli, node.cpu_milli),
        (ask.memory_bytes, node.memory_bytes),
        (u64::from(ask.gpus), node.gpus.len() as u64),
    ];
    let dominant = shares
        .into_iter()
        .filter(|(part, whole)| *part > 0 && *whole > 0)
        .map(|(part, whole)| scaled(rate.nanos(), part.min(whole), whole))
        .max();
    Money::from_nanos(dominant.unwrap_or(0))
}

/// What a rate comes to over a while.
pub fn cost(per_hour: Money, length: Duration) -> Money {
    let nanos =
        i128::from(per_hour.nanos()) * i128::try_from(length.as_micros()).unwrap_or(i128::MAX / 1_000_000_000_000);
    Money::from_nanos(i64::try_from(nanos / 3_600_000_000).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> NodeFacts {
        NodeFacts { cpu_milli: 8000, memory_bytes: 32 * GIBIBYTE, gpus: Vec::new() }
    }

    #[test]
    fn the_dominant_share_is_billed() {
        let rate = Money::from_nanos(1_000_000_000);
        let ask = |cpu_milli, gibibytes| Ask { cpu_milli, memory_bytes: gibibytes * GIBIBYTE, gpus: 0 };
        assert_eq!(share_rate(rate, &node(), &ask(1000, 1)).nanos(), 125_000_000);
        assert_eq!(share_rate(rate, &node(), &ask(1000, 16)).nanos(), 500_000_000);
        assert_eq!(share_rate(rate, &node(), &ask(64_000, 1)).nanos(), 1_000_000_000);
    }

    #[test]
    fn a_bill_is_exact_to_the_nano_dollar() {
        assert_eq!(cost(Money::from_nanos(3_600_000_000), Duration::from_secs(1)).nanos(), 1_000_000);
        assert_eq!(cost(Money::from_nanos(1), Duration::from_secs(1)).nanos(), 0);
    }

    #[test]
    fn a_known_gpu_is_worth_more_than_its_memory() {
        let gpu = |model: &str| Gpu { id: "0".to_owned(), model: model.to_owned(), memory_bytes: 80 * GIBIBYTE };
        assert_eq!(gpu_hour(&gpu("NVIDIA H100 80GB HBM3")), 3_000_000_000);
        assert_eq!(gpu_hour(&gpu("Something else")), 1_600_000_000);
    }
}
