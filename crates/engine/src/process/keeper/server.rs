//! The keeper's one loop: requests, ends of processes, and the clock.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::net::UnixListener;
use tokio::select;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::connections::Connections;
use super::journal::{self, Journal, Record};
use super::limits::{Limits, watch};
use super::now_micros;
use super::processes::Snapshot;
use super::protocol::{Ask, Message, Reply, Request};
use super::spawn::Spawner;
use super::unit::{End, Ending, Phase, Unit};
use crate::process::places::State;
use crate::unit::{UnitEvent, UnitId, Usage};

/// How often usage is told, and how old a unit is before anybody looks.
const SAMPLE: Duration = Duration::from_secs(2);
/// How often memory is compared with its limit where no cgroup does it.
const WATCH: Duration = Duration::from_millis(250);

pub enum Input {
    Request(u64, Request),
    Gone(u64),
    AdoptedEnded(UnitId, End),
    /// What was killed of a unit has ended, or does not want to.
    Recheck(UnitId),
}

#[derive(Debug, Clone, Copy)]
pub enum Due {
    Timeout,
    Kill,
}

pub struct Server {
    pub(super) state: State,
    pub(super) boot: String,
    pub(super) journal: Journal,
    pub(super) limits: Limits,
    pub(super) spawner: Spawner,
    pub(super) units: HashMap<UnitId, Unit>,
    /// The first processes of the units that are our children.
    pub(super) children: HashMap<i32, UnitId>,
    pub(super) inputs: UnboundedSender<Input>,
    pub(super) connections: Connections,
    pub(super) deadlines: BTreeMap<(Instant, u64), (UnitId, Due)>,
    pub(super) alive: usize,
    /// Of these, those whose memory no cgroup limits.
    pub(super) watched: usize,
    pub(super) shutdown: Option<Shutdown>,
    serial: u64,
    received: Option<UnboundedReceiver<Input>>,
    idle: Duration,
}

pub struct Shutdown {
    connection: u64,
    number: u64,
    stopped: Vec<UnitId>,
}

impl Server {
    /// With what the keeper before this one knew.
    pub fn new(state: State, limits: Limits, idle: Duration) -> io::Result<(Server, Vec<Record>)> {
        let (inputs, received) = unbounded_channel();
        let (journal, records) = Journal::open(state.journal())?;
        let server = Server {
            journal,
            state,
            boot: journal::boot_id(),
            limits,
            spawner: Spawner::new()?,
            units: HashMap::new(),
            children: HashMap::new(),
            inputs,
            connections: Connections::default(),
            deadlines: BTreeMap::new(),
            alive: 0,
            watched: 0,
            shutdown: None,
            serial: 0,
            received: Some(received),
            idle,
        };
        Ok((server, records))
    }

    /// Until it is told to go, or has had nothing to do for a while.
    pub async fn run(&mut self, listener: UnixListener) {
        let Some(mut received) = self.received.take() else { return };
        let (Ok(mut ends), Ok(mut terminate)) = (signal(SignalKind::child()), signal(SignalKind::terminate())) else {
            eprintln!("signals cannot be received");
            return;
        };
        let mut sample = interval(SAMPLE);
        let mut watch = interval(WATCH);
        sample.set_missed_tick_behavior(MissedTickBehavior::Delay);
        watch.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut idle_since = Instant::now();
        let mut waiting = Vec::new();
        self.reap();
        while !self.is_shut_down() {
            let idle = self.alive == 0 && self.connections.is_empty();
            if !idle {
                idle_since = Instant::now();
            }
            let leave = idle_since + self.idle;
            let next = self.deadlines.keys().next().map_or(leave, |(at, _)| *at);
            select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        let words = self.limits.words();
                        self.connections.accept(stream, self.inputs.clone(), words);
                    }
                    Err(error) => {
                        // Out of descriptors, most likely; at once it would fail again.
                        eprintln!("a connection was not accepted: {error}");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                _ = received.recv_many(&mut waiting, 32) => {
                    waiting.drain(..).for_each(|input| self.input(input));
                    self.reap();
                }
                _ = ends.recv() => self.reap(),
                _ = sample.tick(), if self.alive > 0 => self.sample(),
                _ = watch.tick(), if self.watched > 0 => self.watch_memory(),
                () = sleep_until(next.into()), if !self.deadlines.is_empty() => self.due(),
                () = sleep_until(leave.into()), if idle => return,
                _ = terminate.recv() => return,
            }
        }
    }

    pub async fn close(&mut self) {
        self.connections.close().await;
        self.limits.close();
    }

    fn is_shut_down(&mut self) -> bool {
        if self.alive > 0 {
            return false;
        }
        let Some(shutdown) = self.shutdown.take() else { return false };
        let reply = Reply::Stopped(shutdown.stopped);
        self.connections.reply(shutdown.connection, shutdown.number, reply);
        true
    }

    fn input(&mut self, input: Input) {
        match input {
            Input::Request(connection, Request { number, ask }) => {
                if let Some(reply) = self.answer(connection, number, ask) {
                    self.connections.reply(connection, number, reply);
                }
            }
            Input::Gone(connection) => self.connections.gone(connection),
            Input::AdoptedEnded(id, end) => self.main_ended(&id, end),
            Input::Recheck(id) => self.recheck(&id),
        }
    }

    /// None where the reply comes later.
    fn answer(&mut self, connection: u64, number: u64, ask: Ask) -> Option<Reply> {
        match ask {
            Ask::Watch => {
                for unit in self.units.values() {
                    self.connections.send(connection, &Message::Known(unit.known()));
                }
                self.connections.watch(connection);
                Some(Reply::Done)
            }
            Ask::Start(_) if self.shutdown.is_some() => Some(Reply::Failed("the keeper is being shut down".into())),
            Ask::Start(launch) => Some(self.start(*launch)),
            Ask::Stop(id) => Some(self.stop(&id)),
            Ask::Remove(id) => {
                let Some(unit) = self.units.get_mut(&id) else { return Some(Reply::Done) };
                if !unit.is_alive() {
                    self.units.remove(&id);
                    self.forget(&id);
                    return Some(Reply::Done);
                }
                unit.removers.push((connection, number));
                self.end(&id, Ending::Stop);
                None
            }
            Ask::Shutdown => {
                let alive = self.units.values().filter(|unit| unit.is_alive());
                let stopped: Vec<UnitId> = alive.map(|unit| unit.head.id.clone()).collect();
                for id in &stopped {
                    self.stop(id);
                }
                self.shutdown = Some(Shutdown { connection, number, stopped });
                None
            }
        }
    }

    pub(super) fn publish(&mut self, event: UnitEvent) {
        self.connections.publish(&Message::Event(event));
    }

    pub(super) fn forget(&mut self, id: &UnitId) {
        if let Err(error) = self.journal.forgotten(id) {
            eprintln!("{id}: the journal cannot be written: {error}");
        }
    }

    pub(super) fn insert(&mut self, unit: Unit) {
        self.alive += usize::from(unit.is_alive());
        self.watched += usize::from(unit.is_alive() && unit.has_watched_limit());
        self.units.insert(unit.head.id.clone(), unit);
    }

    pub(super) fn due_at(&mut self, at: Instant, id: &UnitId, due: Due) {
        self.serial += 1;
        self.deadlines.insert((at, self.serial), (id.clone(), due));
    }

    pub(super) fn arm_timeout(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        let Some(micros) = unit.head.timeout_micros else { return };
        let gone = u64::try_from(now_micros() - unit.head.started_at).unwrap_or(0);
        let left = Duration::from_micros(micros.saturating_sub(gone));
        if let Some(at) = Instant::now().checked_add(left) {
            self.due_at(at, id, Due::Timeout);
        }
    }

    fn due(&mut self) {
        let now = Instant::now();
        while let Some(first) = self.deadlines.first_entry() {
            if first.key().0 > now {
                return;
            }
            let (id, due) = first.remove();
            let alive = self.units.get(&id).filter(|unit| matches!(unit.phase, Phase::Running));
            match (due, alive) {
                (Due::Timeout, Some(_)) => self.ask_to_end(&id, Ending::Timeout),
                (Due::Kill, Some(_)) => self.kill(&id),
                (_, None) => {}
            }
        }
    }

    /// Collects every child that has ended: units' first processes, and orphans that came to us.
    fn reap(&mut self) {
        loop {
            let mut status = 0;
            // SAFETY: plain numbers, filled by the call.
            let (pid, used) = unsafe {
                let mut used: libc::rusage = std::mem::zeroed();
                let pid = libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut used);
                (pid, used)
            };
            if pid <= 0 {
                return;
            }
            if let Some(id) = self.children.remove(&pid) {
                let micros = |time: libc::timeval| time.tv_sec * 1_000_000 + time.tv_usec;
                let cpu = micros(used.ru_utime) + micros(used.ru_stime);
                let usage = Usage {
                    cpu_micros: u64::try_from(cpu).unwrap_or(0),
                    peak_memory_bytes: u64::try_from(used.ru_maxrss).unwrap_or(0) * 1024,
                };
                self.main_ended(&id, End::Status { wait_status: status, usage: Some(usage) });
            }
        }
    }

    fn running(&self) -> impl Iterator<Item = &Unit> {
        self.units.values().filter(|unit| matches!(unit.phase, Phase::Running))
    }

    fn sample(&mut self) {
        let now = now_micros();
        let old = |unit: &&Unit| now - unit.head.started_at >= SAMPLE.as_micros() as i64;
        let mut snapshot = None;
        let mut samples = Vec::new();
        for unit in self.running().filter(old) {
            let members = unit.slot.members().unwrap_or_else(|| {
                let snapshot = snapshot.get_or_insert_with(Snapshot::take);
                snapshot.of_unit(unit.pid, unit.head.id.as_str())
            });
            let memory = unit.slot.memory().unwrap_or_else(|| watch::memory(&members));
            let cpu = unit.slot.cpu_micros().unwrap_or_else(|| watch::cpu_micros(&members));
            samples.push((unit.head.id.clone(), cpu, memory));
        }
        for (id, cpu, memory_bytes) in samples {
            let Some(unit) = self.units.get_mut(&id) else { continue };
            // Processes that ended take their share of the sum along.
            let cpu_micros = cpu.max(unit.sampled.cpu_micros);
            let peak_memory_bytes = memory_bytes.max(unit.sampled.peak_memory_bytes);
            unit.sampled = Usage { cpu_micros, peak_memory_bytes };
            self.publish(UnitEvent::Usage { id, cpu_micros, memory_bytes, at: now });
        }
    }

    fn watch_memory(&mut self) {
        let snapshot = Snapshot::take();
        let above: Vec<UnitId> = self
            .running()
            .filter(|unit| unit.has_watched_limit())
            .filter(|unit| unit.ending.is_none())
            .filter(|unit| {
                let members = snapshot.of_unit(unit.pid, unit.head.id.as_str());
                watch::is_above(&members, unit.head.memory_bytes)
            })
            .map(|unit| unit.head.id.clone())
            .collect();
        for id in above {
            self.end(&id, Ending::Memory);
        }
    }

    pub(super) fn signal_members(&self, id: &UnitId, signals: &[Signal]) {
        for held in self.hold_members(id) {
            signals.iter().for_each(|signal| held.signal(*signal));
        }
    }
}
