//! One suite over both databases. Each test has a database of its own: a SQLite file, and a database on the
//! PostgreSQL server that DURE_TEST_POSTGRES names (a URL); without one those tests say so and skip.

mod blobs;
mod metrics;
mod opening;
mod resources;
mod runs;
mod writing;

use std::{panic::AssertUnwindSafe, sync::atomic::AtomicU32};

use dure_store::{NewRun, Scope, Store, StoreConfig};
use dure_types::{Cpu, Memory, Name, RunId, Timestamp, run::RunKind, spec::Retries};
use futures_util::FutureExt;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

/// Tests that are given a fresh store, once for each database.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $test() { crate::on_sqlite(super::$test); })*
        }
        mod postgres {
            $(#[test] fn $test() { crate::on_postgres(super::$test); })*
        }
    };
}
pub(crate) use on_both;

pub fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn on_sqlite<F: Future<Output = ()>>(test: fn(Store) -> F) {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig::sqlite(&folder.path().join("with a % and #.db")).unwrap();
    runtime().block_on(async {
        let store = Store::open(config).await.unwrap();
        test(store.clone()).await;
        store.close().await;
    });
}

fn on_postgres<F: Future<Output = ()>>(test: fn(Store) -> F) {
    let Some(server) = std::env::var("DURE_TEST_POSTGRES").ok().filter(|url| !url.is_empty()) else {
        eprintln!("skipped: DURE_TEST_POSTGRES names no PostgreSQL server");
        return;
    };
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("dure_store_{}_{number}", std::process::id());
    let outcome = runtime().block_on(async {
        let mut connection = PgConnection::connect(&server).await.unwrap();
        connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let outcome = AssertUnwindSafe(async {
            let store = Store::open(StoreConfig { url: with_database(&server, &name) }).await.unwrap();
            test(store.clone()).await;
            store.close().await;
        })
        .catch_unwind()
        .await;
        connection.execute(AssertSqlSafe(format!("DROP DATABASE {name} WITH (FORCE)"))).await.unwrap();
        outcome
    });
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn with_database(server: &str, name: &str) -> String {
    let (address, options) = server.split_once('?').map_or((server, ""), |(address, options)| (address, options));
    let (host, _) = address.rsplit_once('/').expect("the URL names a database");
    format!("{host}/{name}?{options}")
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_700_000_000 + seconds) * 1_000_000)
}

pub fn scope(project: &str) -> Scope {
    Scope { domain: name("default"), project: name(project), actor: "lee".to_owned(), at: at(0) }
}

pub fn new_run(project: &str) -> NewRun {
    NewRun {
        id: RunId::random().unwrap(),
        scope: scope(project),
        kind: RunKind::Job,
        name: name("train"),
        spec: serde_json::json!({"command": "true \u{0}"}),
        identity: None,
        code: None,
        environment: None,
        inputs: serde_json::json!({}),
        datasets: Vec::new(),
        waits_for: Vec::new(),
        service: None,
        cpu: Cpu::from_milli(500),
        memory: Memory::from_bytes(1 << 30),
        gpu: 0,
        timeout: Some("1h30m".parse().unwrap()),
        retries: Retries::default(),
    }
}

pub async fn insert(store: &Store, run: &NewRun) -> RunId {
    let (new, id) = (run.clone(), run.id.clone());
    store.write(move |tx| Box::pin(async move { tx.insert_runs(&[new]).await })).await.unwrap();
    id
}
