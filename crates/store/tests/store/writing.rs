//! The writer: groups of changes, and events in the order of their commits.

use dure_store::{Store, StoreError};
use futures_util::{FutureExt, future::join_all, poll};
use tokio::sync::oneshot;

use crate::{insert, name, new_run, on_both, scope};

on_both!(
    a_change_that_fails_takes_nothing_along_that_was_written_with_it,
    events_have_no_gaps_and_are_in_order_whoever_writes,
    a_change_is_carried_out_even_when_nobody_waits_any_more,
    followers_are_woken_after_a_change_that_failed,
);

async fn a_change_that_fails_takes_nothing_along_that_was_written_with_it(store: Store) {
    let (groups, (open, gate), (begun, holds)) = (store.written(), oneshot::channel::<()>(), oneshot::channel());
    let held = tokio::spawn({
        let store = store.clone();
        async move {
            let hold = store.write(|_| {
                Box::pin(async move {
                    begun.send(()).ok();
                    gate.await.ok();
                    Ok(())
                })
            });
            hold.await
        }
    });
    holds.await.unwrap();
    // All of these wait until the writer is let go, and then go into one transaction.
    let taken = new_run("vision");
    let runs: Vec<_> = (0..8).map(|number| if number == 5 { taken.clone() } else { new_run("vision") }).collect();
    let mut writes: Vec<_> = runs
        .iter()
        .enumerate()
        .map(|(number, run)| {
            let run = run.clone();
            store
                .write(move |tx| {
                    Box::pin(async move {
                        tx.insert_runs(std::slice::from_ref(&run)).await?;
                        match number {
                            2 => Err(StoreError::Conflict("it thought better of it".to_owned())),
                            3 => panic!("a fault in the middle of a change"),
                            // The database itself refuses: the same run again.
                            4 => tx.insert_runs(&[run]).await,
                            _ => Ok(()),
                        }
                    })
                })
                .boxed()
        })
        .collect();
    for write in &mut writes {
        assert!(poll!(write).is_pending());
    }
    let before = *groups.borrow();
    open.send(()).unwrap();
    let (first, outcomes) = futures_util::join!(held, join_all(writes));
    first.unwrap().unwrap();
    assert_eq!(*groups.borrow() - before, 2, "the one that was held, and one group of all the others");
    for (number, (outcome, run)) in outcomes.iter().zip(&runs).enumerate() {
        let failed = matches!(number, 2..=4);
        assert_eq!(outcome.is_err(), failed, "{number}: {outcome:?}");
        assert_eq!(store.run(&name("vision"), &run.id).await.is_err(), failed, "{number}");
    }
    let events = store.events(&name("vision"), 0, None, 100).await.unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
}

async fn events_have_no_gaps_and_are_in_order_whoever_writes(store: Store) {
    let mut seen = store.subscribe();
    let writers = (0..16).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for round in 0..10 {
                let subject = format!("{writer}.{round}");
                let outcome = store
                    .write(move |tx| {
                        Box::pin(async move {
                            tx.add_event(&scope("vision"), "job", &subject, "created", Some("a\0b")).await?;
                            if round == 3 { Err(StoreError::Conflict(subject)) } else { Ok(()) }
                        })
                    })
                    .await;
                assert_eq!(outcome.is_err(), round == 3);
            }
        })
    });
    // A follower reads what it is woken for, and must miss nothing that becomes visible.
    let follower = async {
        let mut events = Vec::new();
        while events.len() < 16 * 9 {
            seen.changed().await.unwrap();
            let last = *seen.borrow_and_update();
            let after = events.last().map_or(0, |event: &dure_types::event::Event| event.sequence);
            let more = store.events(&name("vision"), after, None, 1000).await.unwrap();
            assert!(more.last().is_none_or(|event| event.sequence >= last), "woken for {last}, which is not there");
            events.extend(more);
        }
        events
    };
    let (events, written) = futures_util::join!(follower, join_all(writers));
    written.into_iter().for_each(|outcome| outcome.unwrap());
    let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=16 * 9).collect::<Vec<_>>());
    for writer in 0..16 {
        let of_one = store.events(&name("vision"), 0, Some(&format!("{writer}.7")), 10).await.unwrap();
        assert_eq!(of_one.len(), 1);
    }
    assert_eq!(store.events(&name("speech"), 0, None, 10).await.unwrap(), []);
}

async fn a_change_is_carried_out_even_when_nobody_waits_any_more(store: Store) {
    let (run, (open, gate)) = (new_run("vision"), oneshot::channel::<()>());
    let (id, mut seen) = (run.id.clone(), store.subscribe());
    {
        let write = store.write(move |tx| {
            Box::pin(async move {
                gate.await.ok();
                tx.insert_runs(&[run]).await
            })
        });
        assert!(poll!(std::pin::pin!(write)).is_pending());
    }
    open.send(()).unwrap();
    seen.changed().await.unwrap();
    store.run(&name("vision"), &id).await.unwrap();
}

async fn followers_are_woken_after_a_change_that_failed(store: Store) {
    let mut seen = store.subscribe();
    let failed: Result<(), _> = store
        .write(|tx| {
            Box::pin(async move {
                tx.add_event(&scope("vision"), "job", "train", "created", None).await?;
                Err(StoreError::Conflict("no".to_owned()))
            })
        })
        .await;
    assert!(failed.is_err() && !seen.has_changed().unwrap());
    insert(&store, &new_run("vision")).await;
    assert!(seen.has_changed().unwrap(), "nobody was told of the run that was written after it");
    assert_eq!(*seen.borrow_and_update(), 1);
}
