//! A unit's way from its start to its end, as steps of the keeper's loop.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::journal::{self, Head};
use super::limits::Limit;
use super::now_micros;
use super::processes::{self, Held, Snapshot};
use super::protocol::{Launch, Reply};
use super::server::{Due, Input, Server};
use super::spawn::{Program, SpawnError};
use super::unit::{self, End, Ending, Phase, Unit};
use crate::process::places;
use crate::unit::{Exit, Outcome, UnitEvent, UnitId, Usage};

/// After this long a killed process is not waited for: it hangs in the kernel.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
const KILL_RECHECK: Duration = Duration::from_secs(1);

impl Server {
    pub(super) fn start(&mut self, launch: Launch) -> Reply {
        let id = launch.id.clone();
        if self.units.contains_key(&id) {
            return Reply::Done;
        }
        let limit = Limit { cpu_milli: launch.cpu_milli, memory_bytes: launch.memory_bytes };
        let slot = match self.limits.enter(&id, limit) {
            Ok(slot) => slot,
            Err(error) => return Reply::Failed(format!("its limits cannot be set: {error}")),
        };
        let folder = self.state.unit(&id);
        let head = Head {
            id: id.clone(),
            program: launch.command.first().cloned().unwrap_or_default(),
            boot: self.boot.clone(),
            started_at: now_micros(),
            memory_bytes: launch.memory_bytes,
            timeout_micros: launch.timeout_micros,
            grace_micros: launch.grace_micros,
            socket: launch.socket,
            cgroups: slot.folders.clone(),
            kills_before: slot.kills_before,
        };
        let opened = open_log(&folder.join(places::LOG)).and_then(|log| {
            self.journal.head(&head)?;
            Ok(log)
        });
        let log = match opened {
            Ok(log) => log,
            Err(error) => {
                self.limits.leave(slot);
                return Reply::Failed(format!("{}: {error}", folder.display()));
            }
        };
        let spawned = self.spawner.spawn(&Program {
            command: &launch.command,
            env: &launch.env,
            folder: &folder.join(places::CODE),
            join: &slot.join_files(),
            log: &log,
            journal: self.journal.file(),
            started: journal::started_prefix(&id).as_bytes(),
        });
        let mut unit = Unit {
            head,
            pid: None,
            adopted: None,
            slot,
            phase: Phase::Running,
            ending: None,
            sampled: Usage::default(),
            removers: vec![],
        };
        match spawned {
            Ok(pid) => {
                unit.pid = Some(pid);
                let at = unit.head.started_at;
                self.children.insert(pid, id.clone());
                self.insert(unit);
                self.arm_timeout(&id);
                self.publish(UnitEvent::Started { id, pid: pid.unsigned_abs(), at });
                Reply::Done
            }
            Err(SpawnError::Program(message)) => {
                let program = unit.head.program.clone();
                self.insert(unit);
                let outcome = Outcome::FailedToStart { program, message };
                self.finish(&id, outcome, Usage::default(), now_micros());
                Reply::Done
            }
            Err(SpawnError::Machine(message)) => {
                self.forget(&id);
                self.limits.leave(unit.slot);
                Reply::Failed(message)
            }
        }
    }

    pub(super) fn stop(&mut self, id: &UnitId) -> Reply {
        match self.units.get(id).map(|unit| &unit.phase) {
            None => return Reply::NoSuchUnit,
            Some(Phase::Running) => self.ask_to_end(id, Ending::Stop),
            Some(_) => {}
        }
        Reply::Done
    }

    /// SIGTERM to all of it now, SIGKILL after the grace.
    pub(super) fn ask_to_end(&mut self, id: &UnitId, why: Ending) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if unit.ending.is_some() {
            return;
        }
        unit.ending = Some(why);
        let grace = Duration::from_micros(unit.head.grace_micros);
        if grace.is_zero() {
            self.kill(id);
            return;
        }
        // A stopped process hears nothing before it goes on.
        self.signal_members(id, &[Signal::TERM, Signal::CONT]);
        let at = Instant::now().checked_add(grace);
        // A grace of centuries is none that ends.
        if let Some(at) = at {
            self.due_at(at, id, Due::Kill);
        }
    }

    /// SIGKILL to all of it now.
    pub(super) fn end(&mut self, id: &UnitId, why: Ending) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if matches!(unit.phase, Phase::Running) {
            unit.ending.get_or_insert(why);
            self.kill(id);
        }
    }

    /// Kills what there is, and looks again when that is gone: it may have forked meanwhile.
    pub(super) fn kill(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        let held = self.hold_members(id);
        if !unit.slot.kill() {
            held.iter().for_each(|process| process.signal(Signal::KILL));
        }
        let (inputs, id) = (self.inputs.clone(), id.clone());
        tokio::spawn(async move {
            let all = futures_util::future::join_all(held.iter().map(Held::ended));
            let _ = tokio::time::timeout(KILL_RECHECK, all).await;
            let _ = inputs.send(Input::Recheck(id));
        });
    }

    pub(super) fn recheck(&mut self, id: &UnitId) {
        match self.units.get(id).map(|unit| (&unit.phase, unit.ending)) {
            Some((Phase::Draining { .. }, _)) => self.drain(id),
            Some((Phase::Running, Some(_))) => self.kill(id),
            _ => {}
        }
    }

    /// The living processes of a unit.
    fn members(&self, unit: &Unit) -> Vec<i32> {
        let living = |pid: &i32| processes::stat(*pid).is_some_and(|stat| !stat.is_dead());
        if let Some(mut members) = unit.slot.members() {
            members.retain(living);
            return members;
        }
        let ended = !matches!(unit.phase, Phase::Running);
        let mut strays = Vec::new();
        if ended && unit.adopted.is_none() && unit.pid.is_some() {
            // Whatever our child leaves behind becomes our child. Mostly there is nothing, and
            // then nothing else need be read.
            if let Some(children) = processes::own_children() {
                strays = children;
                strays.retain(|pid| !self.children.contains_key(pid) && living(pid));
                if strays.is_empty() {
                    return strays;
                }
            }
        }
        let snapshot = Snapshot::take();
        let mut members = snapshot.of_unit(unit.pid, unit.head.id.as_str());
        if ended && self.alive == 1 {
            // They hide whose they are, but there is only one unit that they can be of.
            members.extend(snapshot.families(&strays));
            members.sort_unstable();
            members.dedup();
        }
        members
    }

    /// The same, each held and seen to be a member while it was: no number can mean another
    /// process by the time that it is signalled.
    pub(super) fn hold_members(&self, id: &UnitId) -> Vec<Held> {
        let Some(unit) = self.units.get(id) else { return vec![] };
        let mut held = Vec::new();
        for pid in self.members(unit) {
            match Held::open(pid) {
                Ok(process) => held.extend(process),
                Err(error) => eprintln!("{id}: process {pid} cannot be held: {error}"),
            }
        }
        if held.is_empty() {
            return held;
        }
        let still = self.members(unit);
        held.retain(|process| still.contains(&process.pid));
        held
    }

    /// The unit's first process has ended; what it left behind ends with it.
    pub(super) fn main_ended(&mut self, id: &UnitId, end: End) {
        let Some(unit) = self.units.get_mut(id) else { return };
        if !matches!(unit.phase, Phase::Running) {
            return;
        }
        unit.phase = Phase::Draining { end, since: Instant::now(), ended_at: now_micros() };
        self.drain(id);
    }

    fn drain(&mut self, id: &UnitId) {
        let Some(unit) = self.units.get(id) else { return };
        let Phase::Draining { end, since, ended_at } = &unit.phase else { return };
        if !self.members(unit).is_empty() {
            if since.elapsed() < KILL_PATIENCE {
                self.kill(id);
                return;
            }
            eprintln!("{id}: some of its processes do not end, they are left behind");
        }
        let killed_for_memory = unit.slot.was_out_of_memory();
        let outcome = unit::outcome(end, unit.ending, killed_for_memory, unit.head.memory_bytes);
        let (usage, ended_at) = (unit.usage(end), *ended_at);
        self.finish(id, outcome, usage, ended_at);
    }

    fn finish(&mut self, id: &UnitId, outcome: Outcome, usage: Usage, ended_at: i64) {
        let folder = self.state.unit(id);
        let Some(unit) = self.units.get_mut(id) else { return };
        let log = std::fs::symlink_metadata(folder.join(places::LOG));
        let exit = Exit {
            started_at: unit.head.started_at,
            ended_at: ended_at.max(unit.head.started_at),
            outcome,
            usage,
            log_bytes: log.map_or(0, |log| log.len()),
        };
        if let Err(error) = self.journal.ended(id, &exit) {
            eprintln!("{id}: its end cannot be recorded: {error}");
        }
        if let Some(socket) = &unit.head.socket {
            let _ = std::fs::remove_file(socket);
        }
        unit.phase = Phase::Ended(exit.clone());
        unit.adopted = None;
        unit.pid = None;
        self.watched -= usize::from(unit.has_watched_limit());
        let slot = std::mem::replace(&mut unit.slot, super::limits::Slot::none());
        let removers = std::mem::take(&mut unit.removers);
        self.alive -= 1;
        self.limits.leave(slot);
        self.publish(UnitEvent::Ended { id: id.clone(), exit });
        if !removers.is_empty() {
            self.units.remove(id);
            self.forget(id);
        }
        for (connection, number) in removers {
            self.connections.reply(connection, number, Reply::Done);
        }
    }
}

fn open_log(path: &std::path::Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(path)
}
