//! One unit as its keeper knows it, and how its end is told.

use std::sync::Arc;
use std::time::Instant;

use super::journal::Head;
use super::limits::Slot;
use super::processes::Held;
use super::protocol::Known;
use crate::unit::{Exit, Outcome, UnitState, UnitStatus, Usage};

pub struct Unit {
    pub head: Head,
    /// None where the number may mean another process by now.
    pub pid: Option<i32>,
    /// Set if an earlier keeper started it: then it is not our child, and this is how its end
    /// is seen.
    pub adopted: Option<Arc<Held>>,
    pub slot: Slot,
    pub phase: Phase,
    /// Why it is being ended, if it is.
    pub ending: Option<Ending>,
    pub sampled: Usage,
    /// Who waits for its removal: connection and request.
    pub removers: Vec<(u64, u64)>,
}

pub enum Phase {
    Running,
    /// The first process has ended; what it left behind is being killed.
    Draining {
        end: End,
        since: Instant,
        ended_at: i64,
    },
    Ended(Exit),
}

/// What is known of the first process's end.
#[derive(Debug, Clone)]
pub enum End {
    Status { wait_status: i32, usage: Option<Usage> },
    Unknown(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Stop,
    Timeout,
    Memory,
}

impl Unit {
    pub fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Ended(_))
    }

    pub fn has_watched_limit(&self) -> bool {
        self.slot.is_watched() && self.head.memory_bytes > 0
    }

    pub fn known(&self) -> Known {
        let state = match &self.phase {
            Phase::Ended(exit) => UnitState::Ended(exit.clone()),
            Phase::Running | Phase::Draining { .. } => {
                UnitState::Running { pid: self.pid.map_or(0, i32::unsigned_abs), started_at: self.head.started_at }
            }
        };
        Known { status: UnitStatus { id: self.head.id.clone(), state }, socket: self.head.socket.clone() }
    }

    /// What it used in all, of what the kernel and the samples say.
    pub fn usage(&self, end: &End) -> Usage {
        let waited = match end {
            End::Status { usage: Some(usage), .. } => *usage,
            _ => Usage::default(),
        };
        // A cgroup's own peak counts the files that a program read, up to its limit; so it is
        // taken only for those that ended before anybody looked.
        let peak = match (self.sampled.peak_memory_bytes, self.slot.peak()) {
            (0, Some(peak)) => peak,
            (sampled, _) => sampled.max(waited.peak_memory_bytes),
        };
        let counted = self.slot.cpu_micros().unwrap_or(0);
        Usage { cpu_micros: waited.cpu_micros.max(self.sampled.cpu_micros).max(counted), peak_memory_bytes: peak }
    }
}

/// What became of a unit. `killed_for_memory` is what the kernel counted.
pub fn outcome(end: &End, ending: Option<Ending>, killed_for_memory: bool, memory_limit: u64) -> Outcome {
    let out_of_memory = Outcome::OutOfMemory { limit: memory_limit };
    match (ending, end) {
        (Some(Ending::Stop), _) => Outcome::Stopped,
        (Some(Ending::Timeout), _) => Outcome::TimedOut,
        (Some(Ending::Memory), _) => out_of_memory,
        // A program that gets over the loss of a child has not failed.
        (None, End::Status { wait_status: 0, .. }) => Outcome::Exited { code: 0 },
        (None, _) if killed_for_memory => out_of_memory,
        (None, End::Status { wait_status, .. }) => match wait_status & 0x7f {
            0 => Outcome::Exited { code: (wait_status >> 8) & 0xff },
            signal => Outcome::Signalled { signal },
        },
        (None, End::Unknown(message)) => Outcome::Lost { message: message.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_an_end_is_named_before_its_status() {
        let status = |wait_status| End::Status { wait_status, usage: None };
        let told = |end, ending, memory| outcome(&end, ending, memory, 9);
        assert_eq!(told(status(3 << 8), None, false), Outcome::Exited { code: 3 });
        assert_eq!(told(status(15), None, false), Outcome::Signalled { signal: 15 });
        assert_eq!(told(status(0x80 | 6), None, false), Outcome::Signalled { signal: 6 });
        assert_eq!(told(status(9), None, true), Outcome::OutOfMemory { limit: 9 });
        assert_eq!(told(status(1 << 8), None, true), Outcome::OutOfMemory { limit: 9 });
        assert_eq!(told(status(0), None, true), Outcome::Exited { code: 0 });
        assert_eq!(told(status(9), Some(Ending::Timeout), false), Outcome::TimedOut);
        assert_eq!(told(status(0), Some(Ending::Stop), false), Outcome::Stopped);
        assert_eq!(told(status(9), Some(Ending::Memory), false), Outcome::OutOfMemory { limit: 9 });
        let lost = End::Unknown("gone".into());
        assert_eq!(told(lost, None, false), Outcome::Lost { message: "gone".into() });
    }
}
