//! What a service should do next: which replicas to start and end, which answer, what to say of it.
//!
//! Traffic moves only to a revision all of whose replicas are ready; the revision that answers stays until
//! then, and stays for good when the new one never gets there.

use std::time::Duration;

use dure_types::{
    RunId, Timestamp,
    run::{Reason, ReasonCode, RunState},
    service::ServiceState,
};

/// One replica, of any revision, alive or ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub run: RunId,
    pub revision: u32,
    pub state: RunState,
    pub ready: bool,
    pub was_ready: bool,
    pub stopping: bool,
    pub ended_at: Option<Timestamp>,
    pub reason: Option<Reason>,
}

impl Replica {
    fn is_alive(&self) -> bool {
        !self.state.is_over() && !self.stopping
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    pub wanted: Wanted,
    /// The revision that answers.
    pub serving: Option<u32>,
    pub state: ServiceState,
    pub replicas: Vec<Replica>,
}

/// The newest revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub revision: u32,
    pub replicas: u32,
    /// Why it cannot start yet: its model is still being made, its environment built.
    pub waits: Option<Reason>,
    /// Why it never will.
    pub broken: Option<Reason>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    Start {
        revision: u32,
    },
    Stop {
        run: RunId,
    },
    /// Requests go to this revision from now on.
    Serve {
        revision: u32,
    },
    Become {
        state: ServiceState,
        reason: Option<Reason>,
    },
    /// Decide again then.
    WakeAt(Timestamp),
}

/// A revision whose replicas ended this often without one getting ready is given up.
const TRIES: usize = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

pub fn decide(service: &Service, now: Timestamp) -> Vec<Action> {
    let mut actions = Vec::new();
    if service.state == ServiceState::Stopping {
        actions.extend(alive(service, |_| true).map(|replica| Action::Stop { run: replica.run.clone() }));
        return actions;
    }
    let wanted = &service.wanted;
    let ready = alive(service, |revision| revision == wanted.revision).filter(|replica| replica.ready).count();
    let failures = failures_in_a_row(service, wanted.revision);
    let given_up = given_up(service, wanted.revision, failures);

    let (state, reason) = if let Some(reason) = wanted.broken.clone().or(given_up.clone()) {
        (ServiceState::Failed, Some(reason))
    } else if ready >= wanted.replicas as usize {
        (ServiceState::Ready, None)
    } else {
        (ServiceState::Rolling, wanted.waits.clone().or_else(|| last_reason(service, wanted.revision)))
    };
    let may_start = wanted.broken.is_none() && wanted.waits.is_none() && given_up.is_none();
    if may_start {
        keep_at(service, wanted.revision, wanted.replicas, failures, now, &mut actions);
    }
    let serving = if state == ServiceState::Ready { Some(wanted.revision) } else { service.serving };
    if serving != service.serving
        && let Some(revision) = serving
    {
        actions.push(Action::Serve { revision });
    }
    // The revision that answers is kept whole as well while a newer one comes up.
    if let Some(revision) = serving.filter(|revision| *revision != wanted.revision) {
        let count = alive(service, |other| other == revision).count().max(1) as u32;
        keep_at(service, revision, count, failures_in_a_row(service, revision), now, &mut actions);
    }
    let useless = |revision: u32| Some(revision) != serving && (revision != wanted.revision || given_up.is_some());
    actions.extend(alive(service, useless).map(|replica| Action::Stop { run: replica.run.clone() }));
    if state != service.state || state == ServiceState::Rolling {
        actions.push(Action::Become { state, reason });
    }
    actions
}

/// Starts what is missing of a revision, after a pause that grows with its failures, and ends what is too many.
fn keep_at(service: &Service, revision: u32, count: u32, failures: usize, now: Timestamp, actions: &mut Vec<Action>) {
    let running: Vec<_> = alive(service, |other| other == revision).collect();
    for surplus in running.iter().skip(count as usize) {
        actions.push(Action::Stop { run: surplus.run.clone() });
    }
    let missing = (count as usize).saturating_sub(running.len());
    if missing == 0 {
        return;
    }
    let last_end =
        service.replicas.iter().filter(|replica| replica.revision == revision).filter_map(|r| r.ended_at).max();
    let again_at = last_end.map(|end| end.plus(pause(failures)));
    match again_at {
        Some(at) if at > now => actions.push(Action::WakeAt(at)),
        _ => actions.extend((0..missing).map(|_| Action::Start { revision })),
    }
}

/// 1 s, 2 s, 4 s ... a minute; none before the first failure.
fn pause(failures: usize) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => LONGEST_PAUSE.min(Duration::from_secs(1 << (n - 1).min(10))),
    }
}

fn alive(service: &Service, revision: impl Fn(u32) -> bool) -> impl Iterator<Item = &Replica> {
    service.replicas.iter().filter(move |replica| replica.is_alive() && revision(replica.revision))
}

fn ended(service: &Service, revision: u32) -> Vec<&Replica> {
    let over = |replica: &&Replica| replica.revision == revision && replica.state == RunState::Failed;
    let mut ended: Vec<_> = service.replicas.iter().filter(over).collect();
    ended.sort_by_key(|replica| replica.ended_at);
    ended
}

/// Failures since a replica of the revision was last ready.
fn failures_in_a_row(service: &Service, revision: u32) -> usize {
    ended(service, revision).iter().rev().take_while(|replica| !replica.was_ready).count()
        + usize::from(ended(service, revision).last().is_some_and(|replica| replica.was_ready))
}

fn given_up(service: &Service, revision: u32, failures: usize) -> Option<Reason> {
    let never_ready = service.replicas.iter().filter(|r| r.revision == revision).all(|r| !r.was_ready && !r.ready);
    let hopeless = |reason: &Reason| matches!(reason.code, ReasonCode::StagingFailed | ReasonCode::CommandNotFound);
    let last = last_reason(service, revision);
    // What answers, or did before a restart of the control plane, is never given up.
    let serves = service.serving == Some(revision);
    (!serves && never_ready && (failures >= TRIES || last.as_ref().is_some_and(hopeless))).then_some(last).flatten()
}

fn last_reason(service: &Service, revision: u32) -> Option<Reason> {
    ended(service, revision).last().and_then(|replica| replica.reason.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(number: u64, revision: u32, state: RunState, ready: bool) -> Replica {
        let over = state.is_over();
        Replica {
            run: format!("{number:020x}").parse().unwrap(),
            revision,
            state,
            ready,
            was_ready: ready,
            stopping: false,
            ended_at: over.then_some(Timestamp::from_micros(number as i64)),
            reason: over.then(|| Reason::new(ReasonCode::ExitCode, "exit 1")),
        }
    }

    fn service(revision: u32, serving: Option<u32>, replicas: Vec<Replica>) -> Service {
        let wanted = Wanted { revision, replicas: 1, waits: None, broken: None };
        Service { wanted, serving, state: ServiceState::Rolling, replicas }
    }

    const LATER: Timestamp = Timestamp::from_micros(3_600_000_000);

    #[test]
    fn a_new_service_starts_its_replicas() {
        let mut fresh = service(1, None, Vec::new());
        fresh.wanted.replicas = 2;
        let starts = decide(&fresh, LATER).into_iter().filter(|action| matches!(action, Action::Start { revision: 1 }));
        assert_eq!(starts.count(), 2);
    }

    #[test]
    fn it_waits_for_its_model() {
        let mut waits = service(1, None, Vec::new());
        waits.wanted.waits = Some(Reason::new(ReasonCode::InputPending, "after train-digits"));
        assert!(!decide(&waits, LATER).iter().any(|action| matches!(action, Action::Start { .. })));
    }

    #[test]
    fn the_old_revision_answers_until_the_new_one_is_ready() {
        let old = replica(1, 1, RunState::Running, true);
        let coming = service(2, Some(1), vec![old.clone(), replica(2, 2, RunState::Running, false)]);
        let actions = decide(&coming, LATER);
        assert!(
            !actions.iter().any(|action| matches!(action, Action::Stop { .. } | Action::Serve { .. })),
            "{actions:?}"
        );
        let there = service(2, Some(1), vec![old.clone(), replica(2, 2, RunState::Running, true)]);
        let actions = decide(&there, LATER);
        assert!(actions.contains(&Action::Serve { revision: 2 }));
        assert!(actions.contains(&Action::Stop { run: old.run }));
        assert!(actions.contains(&Action::Become { state: ServiceState::Ready, reason: None }));
    }

    #[test]
    fn a_revision_that_never_gets_ready_is_given_up_and_leaves_traffic_alone() {
        let mut replicas = vec![replica(1, 1, RunState::Running, true)];
        replicas.extend((2..=4).map(|number| replica(number, 2, RunState::Failed, false)));
        let actions = decide(&service(2, Some(1), replicas), LATER);
        assert!(
            matches!(actions.as_slice(), [Action::Become { state: ServiceState::Failed, reason: Some(_) }]),
            "{actions:?}"
        );
    }

    #[test]
    fn a_replica_that_dies_is_replaced_after_a_growing_pause() {
        let mut dead = replica(1, 1, RunState::Failed, false);
        dead.was_ready = true;
        let fallen = service(1, Some(1), vec![dead.clone()]);
        let soon = dead.ended_at.unwrap().plus(Duration::from_millis(10));
        assert!(decide(&fallen, soon).contains(&Action::WakeAt(dead.ended_at.unwrap().plus(Duration::from_secs(1)))));
        assert!(decide(&fallen, LATER).contains(&Action::Start { revision: 1 }));
    }

    #[test]
    fn a_service_that_stops_ends_everything() {
        let mut stopping = service(1, Some(1), vec![replica(1, 1, RunState::Running, true)]);
        stopping.state = ServiceState::Stopping;
        assert_eq!(decide(&stopping, LATER).len(), 1);
    }
}
