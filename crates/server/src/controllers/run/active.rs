//! A run that is not over, as the controller holds it.

use dure_engine::{Exit, UnitId};
use dure_plan::{
    price::{self, Ask},
    schedule::Placed,
};
use dure_store::{AttemptStep, MetricRow, RunRow, environment::EnvironmentChange};
use dure_types::{
    Money, Name, Timestamp,
    environment::EnvironmentState,
    run::{Reason, RunKind, RunState},
};

use super::{finish::Write, placed_at, unit_id};
use crate::work::{Input, Work};

pub(crate) struct Active {
    pub row: RunRow,
    pub work: Work,
    pub inputs: Vec<Input>,
    pub devices: Vec<String>,
    /// Of this attempt.
    pub started_at: Option<Timestamp>,
    pub per_hour: Money,
    pub exit: Option<Exit>,
    /// It is being staged and started right now.
    pub ensuring: bool,
    /// Its log is being taken in; ends when all of it was.
    pub ingest: Option<tokio::task::JoinHandle<()>>,
    /// What is written together with its next change of state.
    pub writes: Vec<Write>,
    last_sample: Option<(u64, Timestamp)>,
}

impl Active {
    pub fn new(row: RunRow) -> Option<Self> {
        let work = serde_json::from_value(row.spec.clone()).ok()?;
        let inputs = serde_json::from_value(row.inputs.clone()).ok()?;
        Some(Self {
            devices: row.devices.clone(),
            started_at: None,
            per_hour: Money::default(),
            exit: None,
            ensuring: false,
            ingest: None,
            writes: Vec::new(),
            last_sample: None,
            work,
            inputs,
            row,
        })
    }

    pub fn ask(&self) -> Ask {
        Ask { cpu_milli: self.row.cpu.milli(), memory_bytes: self.row.memory.bytes(), gpus: self.row.gpu }
    }

    /// A new attempt, there, on these devices.
    pub fn begin(&mut self, node: Name, devices: Vec<String>) {
        self.row.attempt += 1;
        self.row.node = Some(node);
        self.devices = devices;
    }

    /// Back in the queue.
    pub fn reset(&mut self) {
        self.row.node = None;
        self.devices.clear();
        self.started_at = None;
        self.per_hour = Money::default();
        self.exit = None;
        self.ensuring = false;
        self.ingest = None;
        self.last_sample = None;
    }

    /// A build that is over without having said anything of its environment has not made it.
    pub fn end_build(&mut self, at: Timestamp) {
        let failed = matches!(self.row.state, RunState::Failed | RunState::Cancelled);
        if self.row.kind != RunKind::Build || !failed || !self.writes.is_empty() {
            return;
        }
        if let Some(digest) = self.row.environment.clone() {
            let error = self.row.reason.as_ref().map(|reason| reason.message.clone());
            let change = EnvironmentChange {
                state: EnvironmentState::Failed,
                build: Some(self.row.id.clone()),
                python: None,
                packages: None,
                lock: None,
                error,
                at,
            };
            self.writes.push(Write::Environment {
                project: self.row.project.clone(),
                digest,
                change: Box::new(change),
            });
        }
    }

    pub fn unit(&self) -> Option<UnitId> {
        if self.row.attempt == 0 { None } else { unit_id(&self.row.id, self.row.attempt) }
    }

    pub fn placed(&self, started: Option<Timestamp>) -> Option<Placed> {
        let ends_by = started.zip(self.row.timeout).map(|(at, timeout)| at.plus(timeout.duration()));
        placed_at(self, ends_by)
    }

    pub fn should_have_unit(&self) -> bool {
        let on_node = matches!(self.row.state, RunState::Preparing | RunState::Running | RunState::Stopping);
        on_node && !self.ensuring && self.exit.is_none()
    }

    /// The end of the attempt as it is billed and remembered.
    pub fn ended(&self, at: Timestamp, exit: Option<&Exit>, reason: Option<Reason>) -> AttemptStep {
        if self.row.attempt == 0 {
            return AttemptStep::None;
        }
        let (exit_code, signal) = match exit.map(|exit| &exit.outcome) {
            Some(dure_engine::Outcome::Exited { code }) => (Some(*code), None),
            Some(dure_engine::Outcome::Signalled { signal }) => (None, Some(*signal)),
            _ => (None, None),
        };
        let cost = self.started_at.map_or_else(Money::default, |start| price::cost(self.per_hour, at.since(start)));
        AttemptStep::Ended {
            number: self.row.attempt,
            at,
            exit_code,
            signal,
            reason,
            cpu_seconds: exit.map(|exit| exit.usage.cpu_micros as f64 / 1e6),
            peak_memory: exit.map(|exit| exit.usage.peak_memory_bytes),
            cost,
        }
    }

    /// What it used since the last sample, kept beside the metrics that the program reports itself.
    pub fn sample(&mut self, cpu_micros: u64, memory_bytes: u64, at: Timestamp) -> Vec<MetricRow> {
        let row = |name: &str, value: f64| MetricRow {
            run: self.row.id.clone(),
            attempt: self.row.attempt,
            offset: u64::try_from(at.micros()).unwrap_or(0),
            name: name.to_owned(),
            value,
            step: None,
            at,
        };
        let mut samples = vec![row(MEMORY_METRIC, memory_bytes as f64)];
        let before = self.last_sample.replace((cpu_micros, at));
        if let Some((cpu_before, then)) = before.filter(|(_, then)| at > *then) {
            let used = cpu_micros.saturating_sub(cpu_before) as f64;
            samples.push(row(CPU_METRIC, used / (at.micros() - then.micros()) as f64));
        }
        samples
    }
}

/// Dure's own samples; no program's metric has these names.
pub const CPU_METRIC: &str = "dure.cpu_cores";
pub const MEMORY_METRIC: &str = "dure.memory_bytes";
