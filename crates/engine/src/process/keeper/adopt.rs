//! What a keeper finds when it starts: the units of the one before it.

use std::sync::Arc;

use rustix::process::Signal;

use super::journal::{self, Alive, Record};
use super::limits::Slot;
use super::processes::{self, Held, Snapshot};
use super::server::{Input, Server};
use super::unit::{End, Phase, Unit};
use crate::unit::{UnitId, Usage};

const GONE: &str = "it ended while no keeper was running, and the machine does not remember its exit code";
const REBOOTED: &str = "the machine was restarted while it ran";

impl Server {
    pub fn adopt(&mut self, records: Vec<Record>) {
        records.into_iter().for_each(|record| self.adopt_unit(record));
    }

    fn adopt_unit(&mut self, record: Record) {
        let started = record.stat();
        let Record { head, exit, .. } = record;
        let id = head.id.clone();
        let same_boot = head.boot == self.boot;
        let Some(started) = started else {
            if exit.is_none() {
                self.discard_unstarted(&id, same_boot);
                return;
            }
            self.insert(Unit {
                pid: None,
                adopted: None,
                slot: Slot::none(),
                phase: exit.map_or(Phase::Running, Phase::Ended),
                ending: None,
                sampled: Usage::default(),
                removers: vec![],
                head,
            });
            return;
        };
        let in_use = if exit.is_none() && same_boot { head.cgroups.clone() } else { vec![] };
        let slot = self.limits.adopt(in_use, head.kills_before);
        let boot = head.boot.clone();
        let ended = exit.is_some();
        self.insert(Unit {
            pid: Some(started.pid),
            adopted: None,
            slot,
            phase: exit.map_or(Phase::Running, Phase::Ended),
            ending: None,
            sampled: Usage::default(),
            removers: vec![],
            head,
        });
        if ended {
            return;
        }
        // Held first, looked at then: so it is the held one that was looked at.
        let held = if same_boot { Held::open(started.pid).ok().flatten() } else { None };
        let found = held.as_ref().and_then(|held| processes::stat(held.pid));
        match (journal::is_alive(&started, &boot, &self.boot, found.as_ref()), held) {
            (Alive::Yes, Some(held)) => {
                let held = Arc::new(held);
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.adopted = Some(held.clone());
                }
                self.arm_timeout(&id);
                let inputs = self.inputs.clone();
                tokio::spawn(async move {
                    if let Err(error) = held.ended().await {
                        eprintln!("{id}: its end cannot be waited for: {error}");
                    }
                    let end = match held.wait_status(started.start_time) {
                        Some(wait_status) => End::Status { wait_status, usage: None },
                        None => End::Unknown(GONE.into()),
                    };
                    let _ = inputs.send(Input::AdoptedEnded(id, end));
                });
            }
            (Alive::Zombie, Some(held)) => {
                let end = match held.wait_status(started.start_time) {
                    Some(wait_status) => End::Status { wait_status, usage: None },
                    None => End::Unknown(GONE.into()),
                };
                self.main_ended(&id, end);
            }
            (alive, _) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.pid = None;
                }
                let other_boot = alive == Alive::OtherBoot;
                let message = if other_boot { REBOOTED } else { GONE };
                self.main_ended(&id, End::Unknown(message.into()));
            }
        }
    }

    /// The keeper was killed in the moment between writing the record and the program's start.
    /// Ends what may have come of it; whoever wants the unit asks again.
    fn discard_unstarted(&mut self, id: &UnitId, same_boot: bool) {
        if same_boot {
            for pid in Snapshot::take().of_unit(None, id.as_str()) {
                if let Ok(Some(held)) = Held::open(pid) {
                    held.signal(Signal::KILL);
                }
            }
        }
        self.forget(id);
    }
}
