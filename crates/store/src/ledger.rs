//! The ledger: what each attempt used, from its start to its end. Rows are written with the transitions that open
//! and close them; here they are only read.

use dure_types::{Money, Name, RunId, Timestamp, run::RunKind};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::{
    Store, StoreError,
    dialect::Text,
    row::{Columns, sql, to_json},
};

/// One attempt's time on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    pub run: RunId,
    pub attempt: u32,
    pub project: Name,
    pub user: String,
    pub kind: RunKind,
    pub name: Name,
    pub service: Option<Name>,
    pub node: Name,
    pub started_at: Timestamp,
    /// None while it runs.
    pub ended_at: Option<Timestamp>,
    /// For an hour of its share of the node.
    pub rate: Money,
    /// None while it runs.
    pub cost: Option<Money>,
}

#[derive(Serialize)]
struct Wanted<'a> {
    project: &'a str,
}

impl Store {
    /// What an attempt is billed per hour, once it has started.
    pub async fn attempt_rate(&self, run: &RunId, attempt: u32) -> Result<Option<Money>, StoreError> {
        let query = sql("SELECT rate FROM ledger WHERE run = $1 AND attempt = $2".to_owned());
        let query = query.bind(run.to_string()).bind(i64::from(attempt));
        let row = query.fetch_optional(&self.readers).await?;
        row.map(|row| row.int("rate").map(Money::from_nanos)).transpose()
    }

    /// The intervals of these projects that lie at least partly after a moment, in the order of their starts.
    pub async fn ledger(&self, projects: &[Name], since: Option<Timestamp>) -> Result<Vec<Interval>, StoreError> {
        let wanted: Vec<_> = projects.iter().map(|project| Wanted { project: project.as_str() }).collect();
        let rows = self.dialect.rows(&[("project", Text)]);
        let query = sql(format!(
            "SELECT l.run, l.attempt, l.project, l.created_by, l.kind, l.name, l.service, l.node, l.started_at, l.ended_at, \
             l.rate, l.cost FROM ledger l WHERE l.project IN (SELECT j.project FROM {rows}) \
             AND (l.ended_at IS NULL OR l.ended_at > $2) ORDER BY l.started_at, l.run, l.attempt"
        ));
        let query = query.bind(to_json(&wanted)?).bind(since.map_or(i64::MIN, Timestamp::micros));
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }
}

fn read(row: &AnyRow) -> Result<Interval, StoreError> {
    Ok(Interval {
        run: row.parsed("run")?,
        attempt: row.number("attempt")?,
        project: row.parsed("project")?,
        user: row.text("created_by")?,
        kind: row.word("kind")?,
        name: row.parsed("name")?,
        service: row.maybe_parsed("service")?,
        node: row.parsed("node")?,
        started_at: row.time("started_at")?,
        ended_at: row.maybe_time("ended_at")?,
        rate: Money::from_nanos(row.int("rate")?),
        cost: row.maybe_int("cost")?.map(Money::from_nanos),
    })
}
