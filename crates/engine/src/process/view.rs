//! What an engine knows of its units: the keeper's words, kept so that questions are answered at
//! once, and passed on to whoever watches.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::keeper::protocol::Known;
use crate::unit::{Exit, Outcome, UnitEvent, UnitId, UnitState, UnitStatus, Usage};

#[derive(Default)]
pub struct View {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    units: HashMap<UnitId, Entry>,
    watchers: Vec<UnboundedSender<UnitEvent>>,
    /// Told so far in a list that is not complete yet.
    told: HashSet<UnitId>,
}

struct Entry {
    state: UnitState,
    socket: Option<PathBuf>,
    /// Dropped with the unit's end.
    until_end: Vec<oneshot::Sender<()>>,
}

impl Entry {
    fn new(state: UnitState) -> Entry {
        Entry { state, socket: None, until_end: vec![] }
    }
}

impl View {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn list(&self) -> Vec<UnitStatus> {
        let status = |(id, entry): (&UnitId, &Entry)| UnitStatus { id: id.clone(), state: entry.state.clone() };
        self.lock().units.iter().map(status).collect()
    }

    pub fn is_known(&self, id: &str) -> bool {
        UnitId::new(id).is_ok_and(|id| self.lock().units.contains_key(&id))
    }

    pub fn has_started(&self, id: &UnitId) -> bool {
        let inner = self.lock();
        inner.units.get(id).is_some_and(|entry| entry.state != UnitState::Starting)
    }

    pub fn socket(&self, id: &UnitId) -> Option<Option<PathBuf>> {
        self.lock().units.get(id).map(|entry| entry.socket.clone())
    }

    /// Every unit's state as an event, and then what changes, with nothing between them lost.
    pub fn watch(&self) -> UnboundedReceiver<UnitEvent> {
        let (send, receive) = unbounded_channel();
        let mut inner = self.lock();
        for event in inner.units.iter().filter_map(|(id, entry)| event(id, &entry.state)) {
            let _ = send.send(event);
        }
        inner.watchers.push(send);
        receive
    }

    /// Resolves when the unit has ended or was removed; none if that is so already.
    pub fn until_end(&self, id: &UnitId) -> Option<oneshot::Receiver<()>> {
        let mut inner = self.lock();
        let entry = inner.units.get_mut(id)?;
        if matches!(entry.state, UnitState::Ended(_)) {
            return None;
        }
        let (send, receive) = oneshot::channel();
        entry.until_end.retain(|waiting| !waiting.is_closed());
        entry.until_end.push(send);
        Some(receive)
    }

    /// A unit that is being put together here; the keeper does not know it yet.
    pub fn starting(&self, id: &UnitId, socket: Option<PathBuf>) {
        let mut inner = self.lock();
        let entry = inner.units.entry(id.clone()).or_insert(Entry::new(UnitState::Starting));
        entry.socket = socket;
    }

    pub fn not_started(&self, id: &UnitId) {
        let mut inner = self.lock();
        if inner.units.get(id).is_some_and(|entry| entry.state == UnitState::Starting) {
            inner.units.remove(id);
        }
    }

    pub fn removed(&self, id: &UnitId) {
        self.lock().units.remove(id);
    }

    pub fn event(&self, event: UnitEvent) {
        let mut inner = self.lock();
        let id = event.id().clone();
        match &event {
            UnitEvent::Started { pid, at, .. } => {
                inner.set(&id, UnitState::Running { pid: *pid, started_at: *at });
            }
            UnitEvent::Ended { exit, .. } => inner.set(&id, UnitState::Ended(exit.clone())),
            UnitEvent::Usage { .. } => {}
        }
        inner.publish(&event);
    }

    /// The keeper begins to tell all that it knows.
    pub fn begin(&self) {
        self.lock().told.clear();
    }

    pub fn told(&self, known: Known) {
        let Known { status: UnitStatus { id, state }, socket } = known;
        let mut inner = self.lock();
        inner.told.insert(id.clone());
        let changed = inner.units.get(&id).is_none_or(|entry| entry.state != state);
        if changed {
            inner.set(&id, state.clone());
            if let Some(event) = event(&id, &state) {
                inner.publish(&event);
            }
        }
        if let Some(entry) = inner.units.get_mut(&id) {
            entry.socket = socket;
        }
    }

    /// That was all: a unit that ran and is not among them is lost. Its end must be told too.
    pub fn complete(&self, now: i64) {
        let mut inner = self.lock();
        let lost: Vec<(UnitId, i64)> = inner
            .units
            .iter()
            .filter(|(id, _)| !inner.told.contains(*id))
            .filter_map(|(id, entry)| match entry.state {
                UnitState::Running { started_at, .. } => Some((id.clone(), started_at)),
                _ => None,
            })
            .collect();
        for (id, started_at) in lost {
            let message = "the machine's keeper has no record of it any more".into();
            let exit = Exit {
                started_at,
                ended_at: now.max(started_at),
                outcome: Outcome::Lost { message },
                usage: Usage::default(),
                log_bytes: 0,
            };
            inner.set(&id, UnitState::Ended(exit.clone()));
            inner.publish(&UnitEvent::Ended { id, exit });
        }
        inner.told.clear();
    }
}

impl Inner {
    fn set(&mut self, id: &UnitId, state: UnitState) {
        let ended = matches!(state, UnitState::Ended(_));
        let entry = self.units.entry(id.clone()).or_insert(Entry::new(UnitState::Starting));
        entry.state = state;
        if ended {
            entry.until_end.clear();
        }
    }

    fn publish(&mut self, event: &UnitEvent) {
        self.watchers.retain(|watcher| watcher.send(event.clone()).is_ok());
    }
}

fn event(id: &UnitId, state: &UnitState) -> Option<UnitEvent> {
    match state {
        UnitState::Starting => None,
        UnitState::Running { pid, started_at } => {
            Some(UnitEvent::Started { id: id.clone(), pid: *pid, at: *started_at })
        }
        UnitState::Ended(exit) => Some(UnitEvent::Ended { id: id.clone(), exit: exit.clone() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(id: &str) -> Known {
        let state = UnitState::Running { pid: 7, started_at: 1 };
        Known { status: UnitStatus { id: UnitId::new(id).unwrap(), state }, socket: None }
    }

    #[test]
    fn a_running_unit_that_the_next_keeper_does_not_know_is_told_as_lost() {
        let view = View::default();
        view.begin();
        view.told(running("a"));
        view.told(running("b"));
        view.complete(5);
        let mut events = view.watch();
        let until_end = view.until_end(&UnitId::new("b").unwrap()).unwrap();
        assert!(events.try_recv().is_ok() && events.try_recv().is_ok());

        view.begin();
        view.told(running("a"));
        view.complete(6);
        let Ok(UnitEvent::Ended { id, exit }) = events.try_recv() else { panic!("no end told") };
        assert_eq!(id.as_str(), "b");
        assert!(matches!(exit.outcome, Outcome::Lost { .. }));
        assert!(events.try_recv().is_err(), "what did not change is not told again");
        drop(view);
        assert!(until_end.blocking_recv().is_err());
    }
}
