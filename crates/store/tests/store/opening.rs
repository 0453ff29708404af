//! Opening: what is there already, and what cannot be opened.

use std::os::unix::fs::PermissionsExt;

use dure_store::{Store, StoreConfig, StoreError};
use sqlx::{Connection, Executor, SqliteConnection};

use crate::{insert, name, new_run, runtime};

#[test]
fn what_was_written_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dure.db");
    runtime().block_on(async {
        let run = new_run("vision");
        let store = Store::open(StoreConfig::sqlite(&path).unwrap()).await.unwrap();
        assert!(store.is_empty().await.unwrap());
        insert(&store, &run).await;
        store.close().await;
        assert!(matches!(
            store.write(|tx| Box::pin(async move { tx.insert_runs(&[]).await })).await,
            Err(StoreError::Closed)
        ));

        let store = Store::open(StoreConfig::sqlite(&path).unwrap()).await.unwrap();
        let row = store.run(&name("vision"), &run.id).await.unwrap();
        assert_eq!(row, run.into());
        store.close().await;
    });
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "others can read it: {mode:o}");
}

#[test]
fn a_store_that_a_newer_version_wrote_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dure.db");
    runtime().block_on(async {
        Store::open(StoreConfig::sqlite(&path).unwrap()).await.unwrap().close().await;
        let mut connection = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        connection.execute("INSERT INTO schema_version (version) VALUES (1000)").await.unwrap();
        connection.close().await.unwrap();
        let error = Store::open(StoreConfig::sqlite(&path).unwrap()).await.err().unwrap();
        assert!(matches!(error, StoreError::Newer { found: 1000, .. }), "{error}");
    });
}

#[test]
fn urls_and_files_that_are_no_database_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "this is no database, and stays as it is. ".repeat(100)).unwrap();
    let missing = folder.path().join("missing/dure.db");
    runtime().block_on(async {
        for url in ["mysql://localhost/x", "", "sqlite:", "sqlite::memory:"] {
            let error = Store::open(StoreConfig { url: url.to_owned() }).await.err().unwrap();
            assert!(matches!(error, StoreError::Invalid(_)), "{url}: {error}");
        }
        assert!(Store::open(StoreConfig::sqlite(&text).unwrap()).await.is_err());
        assert!(Store::open(StoreConfig::sqlite(&missing).unwrap()).await.is_err());
    });
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("this is no database"));
}
