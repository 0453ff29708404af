//! How runs change: a run's row, its attempt, its ledger interval and its event, for many runs with one statement
//! for each table. What repeats itself after a crash changes nothing the second time, so nothing is billed twice.

use std::collections::{HashMap, HashSet};

use dure_types::{
    Money, Name, RunId, Timestamp,
    run::{Reason, ReasonCode, RunState},
};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::{
    StoreError, Tx,
    dialect::{Float, Int, Kind, Text},
    event::NewEvent,
    row::{Columns, clean, sql, to_json, whole},
};

/// A run that shall be in another state.
#[derive(Debug, Clone)]
pub struct Transition {
    pub run: RunId,
    pub to: RunState,
    pub reason: Option<Reason>,
    pub at: Timestamp,
    /// Who caused it; `dure` where the platform did.
    pub actor: String,
    /// Where it is now; left as it is unless said, and none once it is queued.
    pub node: Option<Name>,
    pub attempt: AttemptStep,
}

/// What becomes of the run's attempt with it.
#[derive(Debug, Clone)]
pub enum AttemptStep {
    None,
    /// It was given a node.
    Begin {
        number: u32,
        node: Name,
        devices: Vec<String>,
    },
    /// Its program runs: from here on it is billed, at this much per hour for its share of the node.
    Started {
        number: u32,
        at: Timestamp,
        rate: Money,
    },
    Ended {
        number: u32,
        at: Timestamp,
        exit_code: Option<i32>,
        signal: Option<i32>,
        reason: Option<Reason>,
        cpu_seconds: Option<f64>,
        peak_memory: Option<u64>,
        /// Of this attempt; nothing where it never started.
        cost: Money,
    },
}

/// What is known of a run before it changes.
struct Current {
    state: String,
    reason: Option<String>,
    attempt: i64,
    /// Of the attempt that the transition names.
    started: bool,
    ended: bool,
    domain: String,
    project: String,
}

/// The row of the statements below: what the transition comes to.
#[derive(Serialize)]
struct Change {
    run: String,
    state: &'static str,
    active: u8,
    reason_code: Option<String>,
    reason_message: Option<String>,
    at: i64,
    queued: u8,
    node: Option<String>,
    number: i64,
    devices: Option<String>,
    started_at: Option<i64>,
    rate: i64,
    ended_at: Option<i64>,
    lost: u8,
    failed: u8,
    exit_code: Option<i32>,
    signal: Option<i32>,
    attempt_code: Option<String>,
    attempt_message: Option<String>,
    cpu_seconds: Option<f64>,
    peak_memory: Option<i64>,
    cost: i64,
}

const RUN: &[(&str, Kind)] = &[
    ("run", Text),
    ("state", Text),
    ("active", Int),
    ("reason_code", Text),
    ("reason_message", Text),
    ("at", Int),
    ("queued", Int),
    ("node", Text),
    ("number", Int),
    ("devices", Text),
    ("started_at", Int),
    ("lost", Int),
    ("failed", Int),
    ("cost", Int),
];
const BEGIN: &[(&str, Kind)] = &[("run", Text), ("number", Int), ("node", Text), ("at", Int)];
const STARTED: &[(&str, Kind)] = &[("run", Text), ("number", Int), ("started_at", Int), ("rate", Int)];
const ENDED: &[(&str, Kind)] = &[
    ("run", Text),
    ("number", Int),
    ("ended_at", Int),
    ("exit_code", Int),
    ("signal", Int),
    ("attempt_code", Text),
    ("attempt_message", Text),
    ("cpu_seconds", Float),
    ("peak_memory", Int),
    ("cost", Int),
];

impl Transition {
    /// Which attempt it is about.
    fn number(&self) -> Option<u32> {
        match &self.attempt {
            AttemptStep::None => None,
            AttemptStep::Begin { number, .. }
            | AttemptStep::Started { number, .. }
            | AttemptStep::Ended { number, .. } => Some(*number),
        }
    }

    /// Whether it still has anything to say: not of a step that was taken already, nor of an attempt that is past.
    fn applies(&self, current: &Current) -> bool {
        match &self.attempt {
            AttemptStep::None => true,
            AttemptStep::Begin { number, .. } => i64::from(*number) > current.attempt,
            AttemptStep::Started { number, .. } => {
                i64::from(*number) == current.attempt && !current.started && !current.ended
            }
            AttemptStep::Ended { number, .. } => i64::from(*number) == current.attempt && !current.ended,
        }
    }

    fn change(&self, current: &Current) -> Change {
        let mut change = Change {
            run: self.run.to_string(),
            state: self.to.as_str(),
            active: u8::from(!self.to.is_over()),
            reason_code: self.reason.as_ref().map(|reason| reason.code.as_str()),
            reason_message: self.reason.as_ref().map(|reason| clean(&reason.message)),
            at: self.at.micros(),
            queued: u8::from(self.to == RunState::Queued),
            node: self.node.as_ref().map(Name::to_string),
            number: self.number().map_or(current.attempt, i64::from),
            devices: None,
            started_at: None,
            rate: 0,
            ended_at: None,
            lost: 0,
            failed: 0,
            exit_code: None,
            signal: None,
            attempt_code: None,
            attempt_message: None,
            cpu_seconds: None,
            peak_memory: None,
            cost: 0,
        };
        match &self.attempt {
            AttemptStep::None => {}
            AttemptStep::Begin { node, devices, .. } => {
                change.node = Some(node.to_string());
                change.devices = serde_json::to_string(devices).ok();
            }
            AttemptStep::Started { at, rate, .. } => {
                change.started_at = Some(at.micros());
                change.rate = rate.nanos();
            }
            AttemptStep::Ended { at, exit_code, signal, reason, cpu_seconds, peak_memory, cost, .. } => {
                let reason = reason.as_ref().or(self.reason.as_ref());
                let lost =
                    reason.is_some_and(|reason| matches!(reason.code, ReasonCode::MachineLost | ReasonCode::NodeLost));
                let counts = matches!(self.to, RunState::Queued | RunState::Failed);
                change.ended_at = Some(at.micros());
                change.lost = u8::from(counts && lost);
                change.failed = u8::from(counts && !lost);
                change.exit_code = *exit_code;
                change.signal = *signal;
                change.attempt_code = reason.map(|reason| reason.code.as_str());
                change.attempt_message = reason.map(|reason| clean(&reason.message));
                change.cpu_seconds = cpu_seconds.filter(|seconds| seconds.is_finite());
                change.peak_memory = peak_memory.map(whole);
                change.cost = cost.nanos();
            }
        }
        change
    }

    /// A change of state is an event, and so is another kind of reason; another wording of the same is not.
    fn event(&self, current: &Current) -> Option<NewEvent> {
        let code = self.reason.as_ref().map(|reason| reason.code.as_str());
        if current.state == self.to.as_str() && current.reason == code {
            return None;
        }
        Some(NewEvent {
            sequence: 0,
            resource: "run",
            subject: self.run.to_string(),
            action: self.to.as_str().to_owned(),
            message: self.reason.as_ref().map(|reason| clean(&reason.message)),
            domain: current.domain.clone(),
            project: current.project.clone(),
            created_by: clean(&self.actor),
            created_at: self.at.micros(),
        })
    }
}

impl Tx {
    /// Carries out transitions in their order, and returns the runs that really changed: one that is over stays as it
    /// is, and a step of an attempt is taken once.
    pub async fn transition(&mut self, transitions: &[Transition]) -> Result<Vec<RunId>, StoreError> {
        let mut changed = Vec::new();
        let mut rest = transitions;
        while !rest.is_empty() {
            // A statement over a set changes each row once, so a run that comes again begins the next set.
            let mut seen = HashSet::new();
            let set = rest.iter().take_while(|transition| seen.insert(&transition.run)).count();
            let (now, later) = rest.split_at(set);
            changed.extend(self.transition_set(now).await?);
            rest = later;
        }
        Ok(changed)
    }

    async fn transition_set(&mut self, transitions: &[Transition]) -> Result<Vec<RunId>, StoreError> {
        let current = self.current(transitions).await?;
        let (mut changed, mut changes, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let (mut begins, mut starts, mut ends) = (false, false, false);
        for transition in transitions {
            let Some(current) = current.get(transition.run.as_str()).filter(|current| transition.applies(current))
            else {
                continue;
            };
            begins |= matches!(transition.attempt, AttemptStep::Begin { .. });
            starts |= matches!(transition.attempt, AttemptStep::Started { .. });
            ends |= matches!(transition.attempt, AttemptStep::Ended { .. });
            changed.push(transition.run.clone());
            changes.push((transition, transition.change(current)));
            events.extend(transition.event(current));
        }
        if changes.is_empty() {
            return Ok(changed);
        }
        let pick = |wanted: fn(&AttemptStep) -> bool| {
            let picked: Vec<_> =
                changes.iter().filter(|(from, _)| wanted(&from.attempt)).map(|(_, change)| change).collect();
            to_json(&picked)
        };
        self.update_runs(pick(|_| true)?).await?;
        if begins {
            self.begin_attempts(pick(|step| matches!(step, AttemptStep::Begin { .. }))?).await?;
        }
        if starts {
            self.start_attempts(pick(|step| matches!(step, AttemptStep::Started { .. }))?).await?;
        }
        if ends {
            self.end_attempts(pick(|step| matches!(step, AttemptStep::Ended { .. }))?).await?;
        }
        self.add_events(&mut events).await?;
        Ok(changed)
    }

    /// Only of those that are not over.
    async fn current(&mut self, transitions: &[Transition]) -> Result<HashMap<String, Current>, StoreError> {
        #[derive(Serialize)]
        struct Wanted<'a> {
            run: &'a str,
            number: Option<u32>,
        }
        let wanted: Vec<_> =
            transitions.iter().map(|each| Wanted { run: each.run.as_str(), number: each.number() }).collect();
        let rows = self.dialect().rows(&[("run", Text), ("number", Int)]);
        let found = sql(format!(
            "SELECT r.id, r.state, r.reason_code, r.attempt, r.domain, r.project, a.started_at, a.ended_at FROM {rows} \
             JOIN runs r ON r.id = j.run LEFT JOIN attempts a ON a.run = r.id AND a.number = j.number WHERE r.active = 1"
        ))
        .bind(to_json(&wanted)?)
        .fetch_all(self.connection())
        .await?;
        let read = |row: &AnyRow| {
            let current = Current {
                state: row.text("state")?,
                reason: row.maybe_text("reason_code")?,
                attempt: row.int("attempt")?,
                started: row.maybe_int("started_at")?.is_some(),
                ended: row.maybe_int("ended_at")?.is_some(),
                domain: row.text("domain")?,
                project: row.text("project")?,
            };
            Ok((row.text("id")?, current))
        };
        found.iter().map(read).collect()
    }

    async fn update_runs(&mut self, changes: String) -> Result<(), StoreError> {
        let rows = self.dialect().rows(RUN);
        let text = format!(
            "UPDATE runs SET state = j.state, active = j.active, reason_code = j.reason_code, \
             reason_message = j.reason_message, attempt = j.number, \
             node = CASE WHEN j.queued = 1 THEN NULL ELSE COALESCE(j.node, runs.node) END, \
             devices = CASE WHEN j.queued = 1 THEN '[]' ELSE COALESCE(j.devices, runs.devices) END, \
             attempt_started_at = CASE WHEN j.queued = 1 THEN NULL ELSE COALESCE(j.started_at, runs.attempt_started_at) END, \
             started_at = COALESCE(runs.started_at, j.started_at), \
             ended_at = CASE WHEN j.active = 1 THEN NULL ELSE j.at END, cost = runs.cost + j.cost, \
             failures_lost = runs.failures_lost + j.lost, failures_failed = runs.failures_failed + j.failed \
             FROM {rows} WHERE runs.id = j.run AND runs.active = 1"
        );
        sql(text).bind(changes).execute(self.connection()).await?;
        Ok(())
    }

    async fn begin_attempts(&mut self, changes: String) -> Result<(), StoreError> {
        let rows = self.dialect().rows(BEGIN);
        let text = format!(
            "INSERT INTO attempts (run, number, node, cost, domain, project, created_by, created_at) \
             SELECT j.run, j.number, j.node, 0, r.domain, r.project, r.created_by, j.at FROM {rows} \
             JOIN runs r ON r.id = j.run"
        );
        sql(text).bind(changes).execute(self.connection()).await?;
        Ok(())
    }

    async fn start_attempts(&mut self, changes: String) -> Result<(), StoreError> {
        let rows = self.dialect().rows(STARTED);
        let text = format!(
            "UPDATE attempts SET started_at = j.started_at FROM {rows} \
             WHERE attempts.run = j.run AND attempts.number = j.number"
        );
        sql(text).bind(changes.clone()).execute(self.connection()).await?;
        let text = format!(
            "INSERT INTO ledger (run, attempt, kind, name, service, node, started_at, rate, domain, project, created_by, created_at) \
             SELECT j.run, j.number, r.kind, r.name, r.service, a.node, j.started_at, j.rate, r.domain, r.project, \
             r.created_by, j.started_at FROM {rows} JOIN runs r ON r.id = j.run \
             JOIN attempts a ON a.run = j.run AND a.number = j.number"
        );
        sql(text).bind(changes).execute(self.connection()).await?;
        Ok(())
    }

    async fn end_attempts(&mut self, changes: String) -> Result<(), StoreError> {
        let rows = self.dialect().rows(ENDED);
        let text = format!(
            "UPDATE attempts SET ended_at = j.ended_at, exit_code = j.exit_code, signal = j.signal, \
             reason_code = j.attempt_code, reason_message = j.attempt_message, cpu_seconds = j.cpu_seconds, \
             peak_memory = j.peak_memory, cost = j.cost FROM {rows} \
             WHERE attempts.run = j.run AND attempts.number = j.number"
        );
        sql(text).bind(changes.clone()).execute(self.connection()).await?;
        let text = format!(
            "UPDATE ledger SET ended_at = j.ended_at, cost = j.cost FROM {rows} \
             WHERE ledger.run = j.run AND ledger.attempt = j.number AND ledger.ended_at IS NULL"
        );
        sql(text).bind(changes).execute(self.connection()).await?;
        Ok(())
    }
}
