//! What is remembered: rows in SQLite or PostgreSQL, one file of SQL per resource, and content on disk in `blobs`.
//!
//! One writer commits what many callers ask for as one group, so that a change costs a share of one wait for the
//! disk; readers never wait for it. Every change writes its event in the same transaction.
//! It decides nothing (`dure-plan` does), reads no clock (callers say when), and checks no rights (the API does);
//! it does keep projects apart: everything that is scoped is looked up by its project.

pub mod blob;
pub mod blobs;
pub mod dataset;
mod dialect;
pub mod environment;
mod error;
pub mod event;
pub mod ledger;
pub mod metric;
pub mod model;
pub mod node;
mod page;
mod row;
pub mod run;
mod schema;
pub mod service;
pub mod transition;
pub mod user;
mod writer;

use std::{path::Path, sync::Arc};

use dure_types::{Name, Timestamp};
use sqlx::{Any, AnyConnection, AnyPool, Connection, any::AnyPoolOptions, pool::PoolConnection};
use tokio::sync::watch;

pub use self::{
    blobs::Blobs,
    error::StoreError,
    ledger::Interval,
    metric::{MetricCursor, MetricRow},
    node::NodeRow,
    run::{NewRun, RunRow, StopRequest},
    service::ServiceRow,
    transition::{AttemptStep, Transition},
    user::TokenRow,
    writer::Tx,
};
use self::{dialect::Dialect, row::Link, writer::Writer};

/// Where the rows are.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// `sqlite:/path/dure.db` or `postgres://...`
    pub url: String,
}

impl StoreConfig {
    /// A SQLite file at any path, whatever characters it has.
    pub fn sqlite(path: &Path) -> Result<Self, StoreError> {
        use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
        const KEPT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
        let text = path.to_str().ok_or_else(|| StoreError::Invalid(format!("{} is not UTF-8", path.display())))?;
        Ok(Self { url: format!("sqlite:{}", utf8_percent_encode(text, KEPT)) })
    }
}

/// In whose name something is written, where and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub domain: Name,
    pub project: Name,
    pub actor: String,
    pub at: Timestamp,
}

/// The rows. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    readers: AnyPool,
    dialect: Dialect,
    writer: Writer,
    sequence: watch::Receiver<i64>,
}

impl Store {
    /// Opens the database, makes it or brings its schema up to date; refuses one that a newer version wrote.
    pub async fn open(config: StoreConfig) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let (url, dialect) = read_url(&config.url)?;
        let mut connection = connect(&url, dialect).await?;
        schema::migrate(&mut connection, dialect).await?;
        let (writer, sequence) = Writer::start(connection, url.clone(), dialect).await?;
        let readers = AnyPoolOptions::new()
            .max_connections(4)
            .after_connect(move |connection, _| {
                Box::pin(async move { sqlx::raw_sql(dialect.prepare_reader()).execute(connection).await.map(drop) })
            })
            .connect(&url)
            .await?;
        Ok(Self { readers, dialect, writer, sequence })
    }

    /// Whether the database still answers.
    pub async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Ends after what was accepted is written.
    pub async fn close(&self) {
        self.writer.close().await;
        self.readers.close().await;
    }

    pub(crate) async fn reader(&self) -> Result<Reader, StoreError> {
        Ok(Reader { connection: self.readers.acquire().await?, dialect: self.dialect })
    }
}

pub(crate) struct Reader {
    connection: PoolConnection<Any>,
    dialect: Dialect,
}

impl Reader {
    pub fn link(&mut self) -> Link<'_> {
        Link { connection: &mut self.connection, dialect: self.dialect }
    }
}

fn read_url(url: &str) -> Result<(Arc<str>, Dialect), StoreError> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok((url.into(), Dialect::Postgres));
    }
    let Some(path) = url.strip_prefix("sqlite:") else {
        return Err(StoreError::Invalid("a database URL begins with sqlite: or postgres://".to_owned()));
    };
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path.contains(":memory:") {
        return Err(StoreError::Invalid("a SQLite database needs a file: sqlite:/path/dure.db".to_owned()));
    }
    create_private(path.strip_prefix("//").unwrap_or(path))?;
    Ok((format!("sqlite:{path}?mode=rwc").into(), Dialect::Sqlite))
}

/// The file holds hashes of tokens and what users gave their programs: it is its owner's alone. SQLite gives the
/// files that it makes beside it the same mode.
fn create_private(encoded: &str) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = percent_encoding::percent_decode_str(encoded).decode_utf8_lossy().into_owned();
    let made = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match made {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(StoreError::io(path)(error)),
        _ => Ok(()),
    }
}

async fn connect(url: &str, dialect: Dialect) -> Result<AnyConnection, StoreError> {
    let mut connection = AnyConnection::connect(url).await?;
    sqlx::raw_sql(dialect.prepare_writer()).execute(&mut connection).await?;
    Ok(connection)
}
