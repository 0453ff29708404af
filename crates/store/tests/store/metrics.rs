//! Metrics: every number there is, read once however often its log is.

use dure_store::{MetricRow, Store};

use crate::{at, insert, new_run, on_both};

on_both!(every_number_survives, a_log_that_is_read_again_adds_nothing);

async fn every_number_survives(store: Store) {
    let run = insert(&store, &new_run("vision")).await;
    let values =
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.1 + 0.2, f64::MIN_POSITIVE / 3.0, f64::MAX, 1e300];
    let metrics: Vec<_> = (0..)
        .zip(values)
        .map(|(offset, value)| MetricRow {
            run: run.clone(),
            attempt: 1,
            offset,
            name: "genauigkeit \"ü\" \0".to_owned(),
            value,
            step: (offset % 2 == 0).then_some(offset as i64),
            at: at(1),
        })
        .collect();
    let (expected, read) = (metrics.clone(), run.clone());
    store.write(move |tx| Box::pin(async move { tx.insert_metrics(&metrics).await })).await.unwrap();
    let found = store.metrics(&read, None, 100).await.unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert!(found.value.to_bits() == expected.value.to_bits() || found.value.is_nan() && expected.value.is_nan());
        assert_eq!((found.step, found.offset, found.at), (expected.step, expected.offset, expected.at));
    }
    let last = store.last_metrics(std::slice::from_ref(&run)).await.unwrap();
    assert_eq!(last[&run].values().copied().collect::<Vec<_>>(), [1e300]);
}

async fn a_log_that_is_read_again_adds_nothing(store: Store) {
    let run = insert(&store, &new_run("vision")).await;
    let quiet = insert(&store, &new_run("vision")).await;
    let point = |attempt: u32, offset: u64, name: &str, value: f64| MetricRow {
        run: run.clone(),
        attempt,
        offset,
        name: name.to_owned(),
        value,
        step: None,
        at: at(1),
    };
    let all = vec![
        point(1, 0, "a", 1.0),
        point(1, 0, "b", 2.0),
        point(1, 50, "a", 3.0),
        point(1, 90, "a", 4.0),
        point(2, 0, "a", 5.0),
    ];
    // The last of them first, then all, then what a crash makes read again.
    for part in [&all[4..], &all[..], &all[1..3]] {
        let part = part.to_vec();
        store.write(move |tx| Box::pin(async move { tx.insert_metrics(&part).await })).await.unwrap();
    }
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let page = store.metrics(&run, after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        seen.extend(page);
    }
    assert_eq!(seen, all);
    let last = store.last_metrics(&[run.clone(), quiet]).await.unwrap();
    assert_eq!(last.len(), 1);
    assert_eq!((last[&run]["a"], last[&run]["b"]), (5.0, 2.0));
}
