//! Runs: queued, started, followed to their end.
//!
//! One task holds the state of all runs that are not over. It takes what came in as one batch, writes
//! the changes of state as one transaction, and only then acts on them. What takes time (staging files,
//! reading logs, collecting outputs) is done in tasks of its own that report back.

mod active;
mod finish;
mod ingest;
mod recover;
mod start;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use dure_engine::{EngineError, Exit, UnitEvent, UnitId, UnitState};
use dure_plan::{
    lifecycle::{self, Next, Tried},
    price,
    schedule::Placed,
};
use dure_store::{AttemptStep, MetricRow, RunRow, StopRequest, Transition};
use dure_types::{
    Digest, RunId, Timestamp,
    environment::EnvironmentState,
    run::{Reason, ReasonCode, RunKind, RunState},
};
use futures_util::StreamExt;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};

pub(crate) use self::finish::read_signature;
use self::{active::Active, finish::Finished};
use crate::core::Core;

/// How many units are staged and started at once.
const STARTS_AT_ONCE: usize = 32;
const BATCH: usize = 1024;
const SWEEP: Duration = Duration::from_secs(30);

/// What the controller is told.
pub(crate) enum Message {
    Submitted(Vec<RunRow>),
    StopRequested(RunId, StopRequest),
    Unit(UnitEvent),
    Ensured(RunId, u32, Result<(), lifecycle::End>),
    Finished(Box<Finished>),
    Environment(Digest, EnvironmentState, Option<String>),
}

/// Tells the controller what happened. Cheap to clone.
#[derive(Clone)]
pub struct Runs(mpsc::UnboundedSender<Message>);

impl Runs {
    pub fn channel() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), Inbox(receiver))
    }

    /// These runs were written as queued.
    pub fn submitted(&self, rows: Vec<RunRow>) {
        self.tell(Message::Submitted(rows));
    }

    /// It was written that this run is to stop.
    pub fn stop_requested(&self, run: RunId, request: StopRequest) {
        self.tell(Message::StopRequested(run, request));
    }

    fn tell(&self, message: Message) {
        // Fails only when the control plane ends, and then what is written is found at the next start.
        let _ = self.0.send(message);
    }
}

pub struct Inbox(mpsc::UnboundedReceiver<Message>);

pub(crate) struct Controller {
    core: Arc<Core>,
    runs: HashMap<RunId, Active>,
    /// Runs that wait for an environment, by its digest and project.
    blocked: HashMap<Digest, HashSet<RunId>>,
    starts: Arc<Semaphore>,
    transitions: Vec<Transition>,
    after_commit: Vec<After>,
    samples: Vec<MetricRow>,
}

/// What is done once the changes of state are written.
enum After {
    Start(RunId),
    Stop(RunId),
    Follow(RunId),
    Over(RunId),
    Collect(RunId),
}

/// Runs until the control plane ends.
pub async fn run(core: Arc<Core>, mut inbox: Inbox) {
    let mut controller = Controller {
        starts: Arc::new(Semaphore::new(STARTS_AT_ONCE)),
        core,
        runs: HashMap::new(),
        blocked: HashMap::new(),
        transitions: Vec::new(),
        after_commit: Vec::new(),
        samples: Vec::new(),
    };
    controller.recover().await;
    let mut units = controller.core.engine.watch();
    let teller = controller.core.runs.clone();
    let watcher: JoinHandle<()> = tokio::spawn(async move {
        while let Some(event) = units.next().await {
            teller.tell(Message::Unit(event));
        }
    });
    let mut ended = controller.core.ended();
    let mut sweep = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP, SWEEP);
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        controller.commit().await;
        tokio::select! {
            count = inbox.0.recv_many(&mut batch, BATCH) => {
                if count == 0 { break }
                for message in batch.drain(..) {
                    controller.take(message).await;
                }
            }
            _ = sweep.tick() => controller.sweep().await,
            () = over(&mut ended) => break,
        }
    }
    watcher.abort();
}

/// Returns once everything has ended.
pub(crate) async fn over(ended: &mut watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await;
}

impl Controller {
    async fn take(&mut self, message: Message) {
        match message {
            Message::Submitted(rows) => {
                for row in rows {
                    self.admit(row).await;
                }
            }
            Message::StopRequested(run, request) => self.stop(&run, request),
            Message::Unit(event) => self.unit(event),
            Message::Ensured(run, attempt, result) => self.ensured(&run, attempt, result),
            Message::Finished(finished) => self.finished(*finished),
            Message::Environment(digest, state, error) => self.environment(&digest, state, error.as_deref()),
        }
    }

    /// A run that is queued: to the queue, or to those that wait for their environment.
    async fn admit(&mut self, row: RunRow) {
        if self.runs.contains_key(&row.id) {
            return;
        }
        let run = row.id.clone();
        let Some(active) = Active::new(row) else {
            tracing::error!(%run, "its work cannot be read; it is left as it is");
            return;
        };
        let environment = active.row.environment.clone().filter(|_| active.row.kind != RunKind::Build);
        let project = active.row.project.clone();
        self.runs.insert(run.clone(), active);
        let Some(digest) = environment else { return self.enqueue(&run) };
        match self.core.store.environment(&project, digest.as_str()).await {
            Ok(environment) if environment.state == EnvironmentState::Ready => self.enqueue(&run),
            Ok(environment) if environment.state == EnvironmentState::Failed => {
                self.end_unstarted(&run, environment_failed(environment.error.as_deref()));
            }
            _ => {
                self.blocked.entry(digest).or_default().insert(run.clone());
                let waits = Reason::new(ReasonCode::EnvironmentBuilding, "waits for its environment to be built");
                self.change(&run, RunState::Queued, Some(waits), AttemptStep::None);
            }
        }
    }

    fn enqueue(&mut self, run: &RunId) {
        if let Some(active) = self.runs.get(run) {
            self.core.schedule().enqueue(run.clone(), active.ask(), active.row.created_at);
        }
    }

    fn environment(&mut self, digest: &Digest, state: EnvironmentState, error: Option<&str>) {
        if !matches!(state, EnvironmentState::Ready | EnvironmentState::Failed) {
            return;
        }
        for run in self.blocked.remove(digest).unwrap_or_default() {
            match state {
                EnvironmentState::Ready => self.enqueue(&run),
                _ => self.end_unstarted(&run, environment_failed(error)),
            }
        }
    }

    fn end_unstarted(&mut self, run: &RunId, reason: Reason) {
        self.change(run, RunState::Failed, Some(reason), AttemptStep::None);
        self.after_commit.push(After::Over(run.clone()));
    }

    fn stop(&mut self, run: &RunId, request: StopRequest) {
        let Some(active) = self.runs.get_mut(run) else { return };
        let code = request.code;
        active.row.stop = Some(request);
        match active.row.state {
            RunState::Queued => {
                let reason = Reason::new(code, lifecycle::stop_message(code));
                self.change(run, RunState::Cancelled, Some(reason), AttemptStep::None);
                self.after_commit.push(After::Over(run.clone()));
            }
            RunState::Preparing | RunState::Running => {
                self.change(run, RunState::Stopping, Some(Reason::new(code, "is being stopped")), AttemptStep::None);
                self.after_commit.push(After::Stop(run.clone()));
            }
            _ => {}
        }
    }

    /// What the engine saw. It may tell the same twice; each step checks where the run is.
    fn unit(&mut self, event: UnitEvent) {
        let Some((run, attempt)) = run_of(event.id()) else { return };
        let Some(active) = self.runs.get_mut(&run).filter(|active| active.row.attempt == attempt) else {
            return self.remove_unknown(event.id());
        };
        match event {
            UnitEvent::Started { at, .. } => self.started(&run, Timestamp::from_micros(at)),
            UnitEvent::Usage { cpu_micros, memory_bytes, at, .. } => {
                let samples = active.sample(cpu_micros, memory_bytes, Timestamp::from_micros(at));
                self.samples.extend(samples);
            }
            UnitEvent::Ended { exit, .. } => self.ended(&run, exit),
        }
    }

    fn started(&mut self, run: &RunId, at: Timestamp) {
        let Some(active) = self.runs.get_mut(run).filter(|active| active.started_at.is_none()) else { return };
        let number = active.row.attempt;
        let per_hour = price::share_rate(self.core.node.rate.per_hour, &self.core.node.facts, &active.ask());
        active.started_at = Some(at);
        active.per_hour = per_hour;
        let placed = active.placed(Some(at));
        // A run that is to stop stays `stopping`, but what it uses until then is billed.
        let to = if active.row.state == RunState::Stopping { RunState::Stopping } else { RunState::Running };
        if let Some(placed) = placed {
            let mut schedule = self.core.schedule();
            schedule.release(run);
            schedule.place(run.clone(), placed);
        }
        self.change(run, to, None, AttemptStep::Started { number, at, rate: per_hour });
        self.after_commit.push(After::Follow(run.clone()));
    }

    fn ended(&mut self, run: &RunId, exit: Exit) {
        if exit.started_at > 0 {
            self.started(run, Timestamp::from_micros(exit.started_at));
        }
        let Some(active) = self.runs.get_mut(run).filter(|active| active.exit.is_none()) else { return };
        active.exit = Some(exit);
        // Nothing of it lives any more: others may have its place while its log and outputs are taken in.
        self.core.schedule().release(run);
        self.after_commit.push(After::Collect(run.clone()));
    }

    fn ensured(&mut self, run: &RunId, attempt: u32, result: Result<(), lifecycle::End>) {
        let Some(active) = self.runs.get_mut(run).filter(|active| active.row.attempt == attempt) else { return };
        active.ensuring = false;
        match result {
            Err(end) => self.settle(run, &end, None, Vec::new()),
            // It was told to stop while it was being started: now there is something to stop.
            Ok(()) if active.row.state == RunState::Stopping => self.after_commit.push(After::Stop(run.clone())),
            Ok(()) => {}
        }
    }

    /// An attempt has ended and everything of it was taken in: what becomes of the run?
    fn finished(&mut self, finished: Finished) {
        let Finished { run, attempt, end, writes } = finished;
        let Some(active) = self.runs.get(&run).filter(|active| active.row.attempt == attempt) else { return };
        let exit = active.exit.clone();
        self.settle(&run, &end, exit.as_ref(), writes);
    }

    fn settle(&mut self, run: &RunId, end: &lifecycle::End, exit: Option<&Exit>, writes: Vec<finish::Write>) {
        let Some(active) = self.runs.get_mut(run) else { return };
        let row = &active.row;
        let tried = Tried { lost: row.failures_lost, failed: row.failures_failed };
        let stop = row.stop.as_ref().map(|stop| stop.code);
        let mut next = lifecycle::after(end, stop, row.retries, tried);
        if let (Next::Over { state, reason }, RunKind::Replica, Some(code)) = (&mut next, row.kind, stop) {
            // A replica is never done: one that was told to end has been cancelled, however well it ended.
            *state = RunState::Cancelled;
            *reason = Some(Reason::new(code, lifecycle::stop_message(code)));
        }
        let (to, reason) = match next {
            Next::Over { state, reason } => (state, reason),
            Next::Again { reason } => (RunState::Queued, Some(reason)),
        };
        let at = exit.map_or_else(|| self.core.now(), |exit| Timestamp::from_micros(exit.ended_at));
        let ended = active.ended(at, exit, reason.clone());
        if to == RunState::Queued {
            match end {
                lifecycle::End::Lost { .. } => active.row.failures_lost += 1,
                _ => active.row.failures_failed += 1,
            }
        }
        active.writes = writes;
        self.change(run, to, reason, ended);
        self.after_commit.push(After::Over(run.clone()));
    }

    /// Notes a change of state, to be written with the others.
    fn change(&mut self, run: &RunId, to: RunState, reason: Option<Reason>, attempt: AttemptStep) {
        let Some(active) = self.runs.get_mut(run) else { return };
        if active.row.state != to && !lifecycle::may_become(active.row.state, to) {
            tracing::warn!(%run, from = active.row.state.as_str(), to = to.as_str(), "a change of state that does not exist");
            return;
        }
        if active.row.state == to && active.row.reason == reason && matches!(attempt, AttemptStep::None) {
            return;
        }
        let actor = match (&active.row.stop, to) {
            (Some(stop), RunState::Stopping | RunState::Cancelled) => stop.actor.clone(),
            _ => "dure".to_owned(),
        };
        // What the machine saw has the machine's time, however late it is told.
        let at = match &attempt {
            AttemptStep::Started { at, .. } | AttemptStep::Ended { at, .. } => *at,
            AttemptStep::None | AttemptStep::Begin { .. } => self.core.now(),
        };
        active.row.state = to;
        active.row.reason.clone_from(&reason);
        active.end_build(self.core.now());
        self.transitions.push(Transition {
            run: run.clone(),
            to,
            reason,
            at,
            actor,
            node: active.row.node.clone(),
            attempt,
        });
    }

    /// Places what fits, writes all that is noted, then acts on it; again, as long as there is something.
    async fn commit(&mut self) {
        loop {
            self.place();
            if self.transitions.is_empty() && self.after_commit.is_empty() && self.samples.is_empty() {
                return;
            }
            if !self.write().await {
                return;
            }
            for after in std::mem::take(&mut self.after_commit) {
                self.act(after);
            }
        }
    }

    fn place(&mut self) {
        if self.core.is_draining() {
            return;
        }
        let placements = self.core.schedule().decide(BATCH);
        for placement in placements {
            let Some(active) = self.runs.get_mut(&placement.run) else {
                self.core.schedule().release(&placement.run);
                continue;
            };
            active.begin(placement.node.clone(), placement.devices);
            let number = active.row.attempt;
            let placed = active.placed(None);
            let begin = AttemptStep::Begin { number, node: placement.node, devices: active.devices.clone() };
            if let Some(placed) = placed {
                self.core.schedule().place(placement.run.clone(), placed);
            }
            self.change(&placement.run, RunState::Preparing, None, begin);
            self.after_commit.push(After::Start(placement.run));
        }
    }

    /// Writes until it is written: what has happened has happened, whether the store takes it now or later. False
    /// where the control plane ends before that: then nothing may be done that is not written, and the next start
    /// finds by the engine how things stand.
    async fn write(&mut self) -> bool {
        let transitions = Arc::new(std::mem::take(&mut self.transitions));
        let samples = Arc::new(std::mem::take(&mut self.samples));
        let mut writes = Vec::new();
        for transition in transitions.iter() {
            if let Some(active) = self.runs.get_mut(&transition.run) {
                writes.append(&mut active.writes);
            }
        }
        let writes = Arc::new(writes);
        let mut pause = Duration::from_millis(50);
        let mut ended = self.core.ended();
        loop {
            let (transitions, samples, writes) = (transitions.clone(), samples.clone(), writes.clone());
            let written = self.core.store.write(move |tx| {
                Box::pin(async move {
                    for write in writes.iter() {
                        write.apply(tx).await?;
                    }
                    tx.transition(&transitions).await?;
                    tx.insert_metrics(&samples).await
                })
            });
            match written.await {
                Ok(_) => return true,
                Err(error) => tracing::error!(%error, "changes of state cannot be written; trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = over(&mut ended) => return false,
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }

    fn act(&mut self, after: After) {
        match after {
            After::Start(run) => self.spawn_start(&run),
            After::Stop(run) => {
                if let Some(unit) = self.runs.get(&run).and_then(Active::unit) {
                    let engine = Arc::clone(&self.core.engine);
                    tokio::spawn(async move {
                        match engine.stop(&unit).await {
                            // One that is still being started is told again once it is.
                            Ok(()) | Err(EngineError::NotFound(_)) => {}
                            Err(error) => tracing::warn!(%unit, %error, "cannot stop"),
                        }
                    });
                }
            }
            After::Follow(run) => {
                self.spawn_ingest(&run);
                self.tell_service(&run);
            }
            After::Collect(run) => self.spawn_finish(&run),
            After::Over(run) => self.over(&run),
        }
    }

    /// A run is over, or back in the queue: its place is free and its unit goes.
    fn over(&mut self, run: &RunId) {
        self.core.schedule().release(run);
        for waiting in self.blocked.values_mut() {
            waiting.remove(run);
        }
        let Some(active) = self.runs.get_mut(run) else { return };
        if let Some(unit) = active.unit() {
            let engine = Arc::clone(&self.core.engine);
            tokio::spawn(async move {
                match engine.remove(&unit).await {
                    // After `dure down` the next start removes what is left.
                    Ok(()) | Err(EngineError::ShutDown) => {}
                    Err(error) => tracing::warn!(%unit, %error, "cannot remove"),
                }
            });
        }
        self.tell_service(run);
        let Some(active) = self.runs.get_mut(run) else { return };
        if active.row.state == RunState::Queued {
            active.reset();
            return self.enqueue(run);
        }
        if let Some(active) = self.runs.remove(run)
            && active.row.kind == RunKind::Build
        {
            self.build_over(&active);
        }
    }

    /// Those who wait for an environment go on, or end as it did.
    fn build_over(&self, active: &Active) {
        let Some(digest) = active.row.environment.clone() else { return };
        let state = match active.row.state {
            RunState::Succeeded => EnvironmentState::Ready,
            _ => EnvironmentState::Failed,
        };
        let error = active.row.reason.as_ref().map(|reason| reason.message.clone());
        self.core.runs.tell(Message::Environment(digest, state, error));
    }

    /// Services follow their replicas, and the runs that make their models.
    fn tell_service(&self, run: &RunId) {
        let Some(active) = self.runs.get(run) else { return };
        match &active.row.service {
            Some((service, _)) => self.core.services.changed(active.row.project.clone(), service.clone()),
            None if active.row.state.is_over() => self.core.services.run_over(run.clone()),
            None => {}
        }
    }

    fn remove_unknown(&self, unit: &UnitId) {
        let engine = Arc::clone(&self.core.engine);
        let unit = unit.clone();
        tokio::spawn(async move {
            // Nothing that is remembered belongs to it: a run that ended just before a kill, for example.
            let _ = engine.remove(&unit).await;
        });
    }

    /// Compares with what the engine has, for what no event told.
    async fn sweep(&mut self) {
        let Ok(units) = self.core.engine.list().await else { return };
        let mut there = HashSet::new();
        for status in units {
            let Some((run, attempt)) = run_of(&status.id) else { continue };
            if self.runs.get(&run).is_none_or(|active| active.row.attempt != attempt) {
                self.remove_unknown(&status.id);
                continue;
            }
            there.insert(run.clone());
            if let UnitState::Ended(exit) = status.state {
                self.ended(&run, exit);
            }
        }
        self.lost(&there);
    }

    /// Runs that should have a unit and have none.
    fn lost(&mut self, there: &HashSet<RunId>) {
        let gone: Vec<RunId> = self
            .runs
            .iter()
            .filter(|(run, active)| active.should_have_unit() && !there.contains(*run))
            .map(|(run, _)| run.clone())
            .collect();
        for run in gone {
            let message = "its machine does not know it any more".to_owned();
            self.settle(&run, &lifecycle::End::Lost { message }, None, Vec::new());
        }
    }
}

fn environment_failed(error: Option<&str>) -> Reason {
    Reason::new(ReasonCode::EnvironmentFailed, error.unwrap_or("its environment could not be made").to_owned())
}

/// `<run>-<attempt>-<index>`
pub(crate) fn unit_id(run: &RunId, attempt: u32) -> Option<UnitId> {
    UnitId::new(format!("{run}-{attempt}-0")).ok()
}

fn run_of(unit: &UnitId) -> Option<(RunId, u32)> {
    let mut parts = unit.as_str().split('-');
    let (run, attempt) = (parts.next()?, parts.next()?);
    Some((run.parse().ok()?, attempt.parse().ok()?))
}

pub(crate) fn placed_at(active: &Active, ends_by: Option<Timestamp>) -> Option<Placed> {
    let node = active.row.node.clone()?;
    Some(Placed { node, devices: active.devices.clone(), ask: active.ask(), ends_by })
}
