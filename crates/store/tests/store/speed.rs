use dure_store::Store;
use crate::{new_run, on_both, insert, at, name};
use dure_store::{Transition, AttemptStep};
use dure_types::run::RunState;
on_both!(speed);
async fn speed(store: Store) {
    for (callers, each) in [(1usize, 300usize), (64, 200)] {
        let start = std::time::Instant::now();
        let tasks: Vec<_> = (0..callers).map(|_| { let store = store.clone(); tokio::spawn(async move { for _ in 0..each { insert(&store, &new_run("vision")).await; } }) }).collect();
        for t in tasks { t.await.unwrap(); }
        let n = callers * each;
        eprintln!("{callers} callers: {n} runs, {:.0}/s", n as f64 / start.elapsed().as_secs_f64());
    }
    let start = std::time::Instant::now();
    let ids: Vec<_> = store.active_runs().await.unwrap().into_iter().map(|r| r.id).collect();
    eprintln!("active_runs {} in {:?}", ids.len(), start.elapsed());
    let start = std::time::Instant::now();
    for chunk in ids.chunks(100) {
        for (to, step) in [(RunState::Preparing, AttemptStep::Begin { number: 1, node: name("here"), devices: vec![] }), (RunState::Running, AttemptStep::Started { number: 1, at: at(1), rate: Default::default() }), (RunState::Succeeded, AttemptStep::Ended { number: 1, at: at(2), exit_code: Some(0), signal: None, reason: None, cpu_seconds: None, peak_memory: None, cost: Default::default() })] {
            let ts: Vec<_> = chunk.iter().map(|id| Transition { run: id.clone(), to, reason: None, at: at(1), actor: "dure".into(), node: None, attempt: step.clone() }).collect();
            store.write(move |tx| Box::pin(async move { tx.transition(&ts).await })).await.unwrap();
        }
    }
    eprintln!("3 transitions each, 100 a change: {:.0} runs/s", ids.len() as f64 / start.elapsed().as_secs_f64());
}
