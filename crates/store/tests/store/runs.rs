//! Runs: transitions that repeat themselves, what is billed, lists that grow while they are read.

use std::time::Duration;

use dure_store::{AttemptStep, NewRun, RunRow, StopRequest, Store, StoreError, Transition};
use dure_types::{
    Digest, Money, RunId,
    run::{Reason, ReasonCode, RunKind, RunOutput, RunQuery, RunState},
    spec::OutputKind,
};

use crate::{at, insert, name, new_run, on_both};

on_both!(
    a_run_is_read_as_it_was_written,
    an_attempt_is_billed_once_however_often_it_is_reported,
    steps_of_an_attempt_that_is_past_change_nothing,
    many_runs_change_together_each_by_its_own_state,
    a_stop_is_asked_for_once,
    pages_stay_the_same_while_runs_are_added,
    runs_are_found_only_in_their_own_project,
);

fn step(run: &RunId, to: RunState, attempt: AttemptStep) -> Transition {
    Transition { run: run.clone(), to, reason: None, at: at(9), actor: "dure".to_owned(), node: None, attempt }
}

fn begin(run: &RunId, number: u32) -> Transition {
    step(run, RunState::Preparing, AttemptStep::Begin { number, node: name("here"), devices: vec!["0".to_owned()] })
}

fn started(run: &RunId, number: u32) -> Transition {
    let rate = Money::from_nanos(36_000);
    step(run, RunState::Running, AttemptStep::Started { number, at: at(10), rate })
}

fn ended(run: &RunId, number: u32, to: RunState, code: Option<ReasonCode>) -> Transition {
    let reason = code.map(|code| Reason::new(code, "why\0"));
    let attempt = AttemptStep::Ended {
        number,
        at: at(20),
        exit_code: Some(3),
        signal: None,
        reason: reason.clone(),
        cpu_seconds: Some(1.25),
        peak_memory: Some(1 << 40),
        cost: Money::from_nanos(100),
    };
    Transition { reason, ..step(run, to, attempt) }
}

async fn transition(store: &Store, transitions: Vec<Transition>) -> Vec<RunId> {
    store.write(move |tx| Box::pin(async move { tx.transition(&transitions).await })).await.unwrap()
}

async fn run(store: &Store, id: &RunId) -> RunRow {
    store.run(&name("vision"), id).await.unwrap()
}

async fn a_run_is_read_as_it_was_written(store: Store) {
    let other = insert(&store, &new_run("vision")).await;
    let full = NewRun {
        identity: Some("an identity".to_owned()),
        code: Some(Digest::of(b"code")),
        environment: Some(Digest::of(b"environment")),
        inputs: serde_json::json!({"d": "digits@1", "größe": [1, 2.5, null]}),
        waits_for: vec![other],
        service: Some((name("digits"), 7)),
        kind: RunKind::Replica,
        gpu: 2,
        ..new_run("vision")
    };
    insert(&store, &full).await;
    assert_eq!(run(&store, &full.id).await, full.clone().into());
    assert_eq!(store.replicas(&name("vision"), &name("digits")).await.unwrap().len(), 1);
    assert_eq!(store.runs_by_identity(&name("vision"), "an identity").await.unwrap()[0].id, full.id);
    assert!(store.runs_by_identity(&name("speech"), "an identity").await.unwrap().is_empty());
    let again = store.write(move |tx| Box::pin(async move { tx.insert_runs(&[new_run("vision"), full]).await })).await;
    assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
    assert_eq!(store.active_runs().await.unwrap().len(), 2);
}

async fn an_attempt_is_billed_once_however_often_it_is_reported(store: Store) {
    let id = insert(&store, &new_run("vision")).await;
    // A machine that was lost, then a success; every report comes twice, in one change and in later ones.
    let life = [
        begin(&id, 1),
        started(&id, 1),
        ended(&id, 1, RunState::Queued, Some(ReasonCode::MachineLost)),
        begin(&id, 2),
        started(&id, 2),
        ended(&id, 2, RunState::Succeeded, None),
    ];
    for (number, transitions) in life.iter().enumerate() {
        let twice = vec![transitions.clone(), transitions.clone()];
        assert_eq!(transition(&store, twice).await, std::slice::from_ref(&id), "{number}");
        assert!(transition(&store, vec![transitions.clone()]).await.is_empty(), "{number}");
        if number == 2 {
            let row = run(&store, &id).await;
            assert_eq!((row.state, row.attempt, row.node, row.ended_at), (RunState::Queued, 1, None, None));
        }
    }
    let row = run(&store, &id).await;
    assert_eq!((row.state, row.attempt, row.reason), (RunState::Succeeded, 2, None));
    assert_eq!((row.failures_lost, row.failures_failed, row.cost), (1, 0, Money::from_nanos(200)));
    assert_eq!((row.started_at, row.ended_at, row.node), (Some(at(10)), Some(at(9)), Some(name("here"))));
    let ledger = store.ledger(&[name("speech"), name("vision")], None).await.unwrap();
    assert_eq!(ledger.iter().map(|each| each.attempt).collect::<Vec<_>>(), [1, 2]);
    for interval in &ledger {
        assert_eq!((interval.started_at, interval.ended_at), (at(10), Some(at(20))));
        assert_eq!((interval.rate, interval.cost), (Money::from_nanos(36_000), Some(Money::from_nanos(100))));
        assert_eq!((interval.user.as_str(), &interval.name), ("lee", &name("train")));
    }
    assert_eq!(store.ledger(&[name("vision")], Some(at(20))).await.unwrap(), []);
    assert_eq!(store.ledger(&[name("vision")], Some(at(19))).await.unwrap().len(), 2);
    assert_eq!(store.ledger(&[], None).await.unwrap(), []);
    let attempts = store.run_attempts(&id).await.unwrap();
    assert_eq!(attempts[0].reason, Some(Reason::new(ReasonCode::MachineLost, "why\u{fffd}")));
    assert_eq!((attempts[1].exit_code, attempts[1].cpu_seconds), (Some(3), Some(1.25)));
    assert_eq!((attempts[1].peak_memory_bytes, attempts[1].signal), (Some(1 << 40), None));
    let events = store.events(&name("vision"), 0, Some(id.as_str()), 100).await.unwrap();
    let actions: Vec<_> = events.iter().map(|event| event.action.as_str()).collect();
    let expected = ["queued", "preparing", "running", "queued", "preparing", "running", "succeeded"];
    assert_eq!(actions, expected);
    let durations = store.recent_durations(&name("vision"), &name("train"), RunKind::Job, 5).await.unwrap();
    assert_eq!(durations, [Duration::ZERO]);
}

async fn steps_of_an_attempt_that_is_past_change_nothing(store: Store) {
    let id = insert(&store, &new_run("vision")).await;
    transition(&store, vec![begin(&id, 1), ended(&id, 1, RunState::Queued, Some(ReasonCode::StagingFailed))]).await;
    transition(&store, vec![begin(&id, 2)]).await;
    for late in [begin(&id, 1), started(&id, 1), ended(&id, 1, RunState::Failed, None), started(&id, 3)] {
        assert!(transition(&store, vec![late]).await.is_empty());
    }
    let row = run(&store, &id).await;
    assert_eq!((row.state, row.attempt, row.failures_failed), (RunState::Preparing, 2, 1));
    assert!(store.ledger(&[name("vision")], None).await.unwrap().is_empty(), "nothing ran");
    // Cancelled by a person counts as no failure, and then it is over whatever is still reported.
    let stopped = Some(ReasonCode::StoppedByUser);
    assert_eq!(transition(&store, vec![ended(&id, 2, RunState::Cancelled, stopped)]).await.len(), 1);
    for late in [begin(&id, 3), step(&id, RunState::Queued, AttemptStep::None), started(&id, 2)] {
        assert!(transition(&store, vec![late]).await.is_empty());
    }
    let row = run(&store, &id).await;
    assert_eq!((row.state, row.failures_failed, row.failures_lost), (RunState::Cancelled, 1, 0));
    assert!(store.active_runs().await.unwrap().is_empty());
}

async fn many_runs_change_together_each_by_its_own_state(store: Store) {
    let runs: Vec<_> = (0..300).map(|_| new_run("vision")).collect();
    let ids: Vec<_> = runs.iter().map(|run| run.id.clone()).collect();
    store.write(move |tx| Box::pin(async move { tx.insert_runs(&runs).await })).await.unwrap();
    transition(&store, ids.iter().step_by(3).map(|id| step(id, RunState::Cancelled, AttemptStep::None)).collect())
        .await;
    let mut all: Vec<_> = ids.iter().map(|id| begin(id, 1)).collect();
    all.push(begin(&RunId::random().unwrap(), 1));
    assert_eq!(transition(&store, all).await.len(), 200);
    assert_eq!(store.active_runs().await.unwrap().len(), 200);
    // The same state with another wording of the same reason is written, but is no event.
    let waits = |message: &str| Transition {
        reason: Some(Reason::new(ReasonCode::Staging, message)),
        ..step(&ids[1], RunState::Preparing, AttemptStep::None)
    };
    let before = *store.subscribe().borrow();
    transition(&store, vec![waits("1 of 3 files")]).await;
    transition(&store, vec![waits("2 of 3 files")]).await;
    assert_eq!(run(&store, &ids[1]).await.reason.unwrap().message, "2 of 3 files");
    assert_eq!(*store.subscribe().borrow(), before + 1);
}

async fn a_stop_is_asked_for_once(store: Store) {
    let id = insert(&store, &new_run("vision")).await;
    let ask = async |actor: &str| {
        let (id, stop) =
            (id.clone(), StopRequest { actor: actor.to_owned(), code: ReasonCode::StoppedByUser, at: at(5) });
        store.write(move |tx| Box::pin(async move { tx.request_stop(&id, &stop).await })).await.unwrap()
    };
    assert_eq!(ask("lee").await.stop.unwrap().actor, "lee");
    assert_eq!(ask("kim").await.stop.unwrap().actor, "lee");
    assert_eq!(store.events(&name("vision"), 0, None, 10).await.unwrap().len(), 2);
    let output = RunOutput {
        kind: OutputKind::Model,
        name: name("digits"),
        version: Some(1),
        manifest: Digest::of(b"m"),
        bytes: 5,
    };
    for _ in 0..2 {
        let (id, output) = (id.clone(), output.clone());
        store.write(move |tx| Box::pin(async move { tx.set_outputs(&id, at(6), &[output]).await })).await.unwrap();
    }
    assert_eq!(store.outputs(&id).await.unwrap(), [output]);
}

async fn pages_stay_the_same_while_runs_are_added(store: Store) {
    let make = |seconds: i64, job: &str| {
        let mut run = NewRun { name: name(job), ..new_run("vision") };
        run.scope.at = at(seconds);
        run
    };
    // Several of one moment, so that pages end between them.
    let runs: Vec<_> = (0..25).map(|number| make(number / 4, if number % 2 == 0 { "even" } else { "odd" })).collect();
    let expected: Vec<_> = store.list(&runs).await;
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let wanted = RunQuery { cursor, limit: Some(4), ..RunQuery::default() };
        let page = store.list_runs(&name("vision"), &wanted).await.unwrap();
        assert!(page.items.len() <= 4);
        seen.extend(page.items.into_iter().map(|run| run.id));
        insert(&store, &make(100, "late")).await;
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, expected);
    let only = |query: RunQuery| {
        let store = store.clone();
        async move { store.list_runs(&name("vision"), &query).await.unwrap().items.len() }
    };
    assert_eq!(only(RunQuery { name: Some("odd".to_owned()), ..RunQuery::default() }).await, 12);
    assert_eq!(only(RunQuery { state: Some("active".to_owned()), ..RunQuery::default() }).await, 32);
    assert_eq!(only(RunQuery { state: Some("failed".to_owned()), ..RunQuery::default() }).await, 0);
    assert_eq!(only(RunQuery { id: Some(seen[0].as_str()[..12].to_owned()), ..RunQuery::default() }).await, 1);
    assert_eq!(only(RunQuery { kind: Some(RunKind::Build), ..RunQuery::default() }).await, 0);
    for cursor in ["", "x", "1", "x.y", "'; DROP TABLE runs"] {
        let wanted = RunQuery { cursor: Some(cursor.to_owned()), ..RunQuery::default() };
        let error = store.list_runs(&name("vision"), &wanted).await.unwrap_err();
        assert!(matches!(error, StoreError::Invalid(_)), "{cursor}: {error}");
    }
    let wanted = RunQuery { state: Some("sleeping".to_owned()), ..RunQuery::default() };
    assert!(matches!(store.list_runs(&name("vision"), &wanted).await, Err(StoreError::Invalid(_))));
}

trait List {
    async fn list(&self, runs: &[NewRun]) -> Vec<RunId>;
}

impl List for Store {
    /// Inserts them, and says in which order they are to be listed.
    async fn list(&self, runs: &[NewRun]) -> Vec<RunId> {
        let mut order: Vec<_> = runs.iter().map(|run| (run.scope.at, run.id.clone())).collect();
        order.sort();
        let runs = runs.to_vec();
        self.write(move |tx| Box::pin(async move { tx.insert_runs(&runs).await })).await.unwrap();
        order.into_iter().rev().map(|(_, id)| id).collect()
    }
}

async fn runs_are_found_only_in_their_own_project(store: Store) {
    let id = insert(&store, &new_run("vision")).await;
    let prefix = &id.as_str()[..8];
    assert_eq!(store.find_runs_by_prefix(&name("vision"), prefix, 10).await.unwrap()[0].id, id);
    assert_eq!(store.find_runs_by_prefix(&name("speech"), prefix, 10).await.unwrap(), []);
    assert!(matches!(store.run(&name("speech"), &id).await, Err(StoreError::NotFound { .. })));
    let wanted = RunQuery::default();
    assert!(store.list_runs(&name("speech"), &wanted).await.unwrap().items.is_empty());
}
