//! The one writer. It takes all changes that wait, begins one transaction, runs each inside a savepoint of its own,
//! commits once and then answers all: a wait for the disk is shared, and one change that fails takes nothing along.
//!
//! Changes see the state as it will be committed, one after another, so they may read and then decide. One that
//! nobody waits for any more is carried out all the same. No change may swallow a database error and go on:
//! PostgreSQL refuses everything after one.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{AnyConnection, Connection};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    Store, StoreError, connect,
    dialect::Dialect,
    row::{Columns, Link},
};

/// How many changes go into one transaction at most.
const GROUP: usize = 256;
/// How many may wait before callers do.
const WAITING: usize = 1024;

/// The transaction that a change writes in.
pub struct Tx {
    connection: AnyConnection,
    dialect: Dialect,
    /// Of the last event.
    pub(crate) sequence: i64,
}

impl Tx {
    pub(crate) fn link(&mut self) -> Link<'_> {
        Link { connection: &mut self.connection, dialect: self.dialect }
    }

    pub(crate) fn connection(&mut self) -> &mut AnyConnection {
        &mut self.connection
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    async fn execute(&mut self, text: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(text).execute(&mut self.connection).await?;
        Ok(())
    }

    async fn begin(&mut self) -> Result<(), StoreError> {
        let text = format!("{}; {LAST_SEQUENCE}", self.dialect.begin());
        let rows = sqlx::raw_sql(sqlx::AssertSqlSafe(text)).fetch_all(&mut self.connection).await?;
        self.sequence = rows.last().ok_or(StoreError::Closed)?.int("last")?;
        Ok(())
    }
}

const LAST_SEQUENCE: &str = "SELECT COALESCE(MAX(sequence), 0) AS last FROM events";

/// A change that waits, whatever it returns.
trait Change: Send {
    /// Whether it succeeded; what it returned is kept until the commit.
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool>;
    fn answer(self: Box<Self>, failure: Option<StoreError>);
}

struct Waiting<T, F> {
    change: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Change for Waiting<T, F>
where
    T: Send + 'static,
    F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
{
    fn run<'t>(&'t mut self, tx: &'t mut Tx) -> BoxFuture<'t, bool> {
        Box::pin(async move {
            let Some(change) = self.change.take() else { return false };
            let outcome = match AssertUnwindSafe(async move { change(tx).await }).catch_unwind().await {
                Ok(outcome) => outcome,
                Err(_) => Err(StoreError::Corrupt("a change panicked; nothing of it was written".to_owned())),
            };
            let succeeded = outcome.is_ok();
            self.outcome = Some(outcome);
            succeeded
        })
    }

    fn answer(self: Box<Self>, failure: Option<StoreError>) {
        let outcome = match (self.outcome, failure) {
            (Some(Err(error)), _) | (_, Some(error)) => Err(error),
            (Some(Ok(value)), None) => Ok(value),
            (None, None) => Err(StoreError::Closed),
        };
        // Whoever asked may have gone away.
        let _ = self.answer.send(outcome);
    }
}

#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Change>>,
    ended: watch::Receiver<bool>,
    closing: Arc<tokio::sync::Notify>,
    pub written: watch::Receiver<u64>,
}

impl Writer {
    pub async fn start(
        mut connection: AnyConnection,
        url: Arc<str>,
        dialect: Dialect,
    ) -> Result<(Self, watch::Receiver<i64>), StoreError> {
        let sequence = sqlx::query(LAST_SEQUENCE).fetch_one(&mut connection).await?.int("last")?;
        let (published, sequence_seen) = watch::channel(sequence);
        let (queue, waiting) = mpsc::channel(WAITING);
        let (end, ended) = watch::channel(false);
        let closing = Arc::new(tokio::sync::Notify::new());
        let (groups, written) = watch::channel(0);
        let task = Task { url, dialect, tx: Some(Tx { connection, dialect, sequence }), published, groups };
        tokio::spawn(task.run(waiting, Arc::clone(&closing), end));
        Ok((Self { queue, ended, closing, written }, sequence_seen))
    }

    pub async fn close(&self) {
        self.closing.notify_one();
        let mut ended = self.ended.clone();
        // An error says that the task is gone already.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Store {
    /// Runs a change in a transaction, and returns when it is on the disk or has failed without a trace.
    pub async fn write<T, F>(&self, change: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> BoxFuture<'t, Result<T, StoreError>> + Send + 'static,
    {
        let (answer, outcome) = oneshot::channel();
        let waiting = Waiting { change: Some(change), outcome: None, answer };
        self.writer.queue.send(Box::new(waiting)).await.map_err(|_| StoreError::Closed)?;
        outcome.await.map_err(|_| StoreError::Closed)?
    }
}

struct Task {
    url: Arc<str>,
    dialect: Dialect,
    tx: Option<Tx>,
    published: watch::Sender<i64>,
    groups: watch::Sender<u64>,
}

impl Task {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Box<dyn Change>>,
        closing: Arc<tokio::sync::Notify>,
        end: watch::Sender<bool>,
    ) {
        let mut changes = Vec::with_capacity(GROUP);
        loop {
            tokio::select! {
                biased;
                count = queue.recv_many(&mut changes, GROUP) => if count == 0 { break },
                // No new ones from here on; those that wait are still written.
                () = closing.notified() => { queue.close(); continue }
            }
            let failure = self.commit(&mut changes).await.err();
            if let Some(error) = &failure {
                tracing::warn!(%error, changes = changes.len(), "a group of changes was not written");
            }
            for change in changes.drain(..) {
                change.answer(failure.as_ref().map(StoreError::of_batch));
            }
        }
        if let Some(tx) = self.tx.take() {
            // Nothing is open in it any more; what goes wrong while it closes harms nothing.
            let _ = tx.connection.close().await;
        }
        let _ = end.send(true);
    }

    async fn commit(&mut self, changes: &mut [Box<dyn Change>]) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        match group(&mut tx, changes).await {
            Ok(()) => {
                self.published.send_if_modified(|last| std::mem::replace(last, tx.sequence) != tx.sequence);
                self.groups.send_modify(|groups| *groups += 1);
                self.tx = Some(tx);
                Ok(())
            }
            Err(error) => {
                // Where even a rollback fails the connection is of no use: dropping it rolls back.
                if tx.execute("ROLLBACK").await.is_ok() {
                    self.tx = Some(tx);
                }
                Err(error)
            }
        }
    }

    /// A transaction, on a new connection when the old one broke in between.
    async fn begin(&mut self) -> Result<Tx, StoreError> {
        if let Some(mut tx) = self.tx.take() {
            match tx.begin().await {
                Ok(()) => return Ok(tx),
                Err(StoreError::Busy) => {
                    self.tx = Some(tx);
                    return Err(StoreError::Busy);
                }
                Err(error) => tracing::warn!(%error, "the store's connection broke; connecting again"),
            }
        }
        let connection = connect(&self.url, self.dialect).await?;
        let mut tx = Tx { connection, dialect: self.dialect, sequence: 0 };
        tx.begin().await?;
        Ok(tx)
    }
}

async fn group(tx: &mut Tx, changes: &mut [Box<dyn Change>]) -> Result<(), StoreError> {
    if let [only] = changes {
        let sequence = tx.sequence;
        if only.run(tx).await {
            return commit(tx).await;
        }
        tx.sequence = sequence;
        return tx.execute("ROLLBACK").await;
    }
    // One way to the database between two changes: the savepoint of one that failed serves the next, and the commit
    // releases the last.
    let mut savepoint = Some("SAVEPOINT change");
    for change in changes {
        if let Some(text) = savepoint {
            tx.execute(text).await?;
        }
        let sequence = tx.sequence;
        savepoint = if change.run(tx).await {
            Some("RELEASE SAVEPOINT change; SAVEPOINT change")
        } else {
            tx.execute("ROLLBACK TO SAVEPOINT change").await?;
            tx.sequence = sequence;
            None
        };
    }
    commit(tx).await
}

async fn commit(tx: &mut Tx) -> Result<(), StoreError> {
    let dialect = tx.dialect;
    tx.execute("COMMIT").await.map_err(|error| match (error, dialect) {
        // SQLite is in this process: what it did not commit is rolled back. A server may have heard us.
        (StoreError::Unavailable(why), Dialect::Postgres) => StoreError::Uncertain(why),
        (error, _) => error,
    })
}
