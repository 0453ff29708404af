//! Metrics that programs reported. A point is known by where in the log it stood, so a log that is read again after
//! a crash adds nothing.

use std::collections::{BTreeMap, HashMap};

use dure_types::{RunId, Timestamp};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::{
    Store, StoreError, Tx,
    dialect::{Int, Text},
    row::{Columns, Conditions, clean, sql, to_json, whole},
};

#[derive(Debug, Clone, PartialEq)]
pub struct MetricRow {
    pub run: RunId,
    pub attempt: u32,
    /// Where in the attempt's log, in bytes.
    pub offset: u64,
    pub name: String,
    pub value: f64,
    pub step: Option<i64>,
    pub at: Timestamp,
}

/// The place of a point in its run's metrics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricCursor {
    pub attempt: u32,
    pub offset: u64,
    pub name: String,
}

impl MetricRow {
    pub fn cursor(&self) -> MetricCursor {
        MetricCursor { attempt: self.attempt, offset: self.offset, name: self.name.clone() }
    }
}

#[derive(Serialize, Clone)]
struct Insert {
    run: String,
    attempt: u32,
    position: i64,
    name: String,
    /// Rust's own text of a number reads back as the same number, NaN and infinities too.
    value: String,
    step: Option<i64>,
    at: i64,
}

impl Tx {
    /// Points of runs that do not exist are left out.
    pub async fn insert_metrics(&mut self, metrics: &[MetricRow]) -> Result<(), StoreError> {
        if metrics.is_empty() {
            return Ok(());
        }
        let inserts: Vec<_> = metrics.iter().map(insert).collect();
        let rows = self.dialect().rows(&[
            ("run", Text),
            ("attempt", Int),
            ("position", Int),
            ("name", Text),
            ("value", Text),
            ("step", Int),
            ("at", Int),
        ]);
        sql(format!(
            "INSERT INTO metrics (run, attempt, position, name, value, step, domain, project, created_by, created_at) \
             SELECT j.run, j.attempt, j.position, j.name, j.value, j.step, r.domain, r.project, r.created_by, j.at \
             FROM {rows} JOIN runs r ON r.id = j.run WHERE TRUE ON CONFLICT DO NOTHING"
        ))
        .bind(to_json(&inserts)?)
        .execute(self.connection())
        .await?;
        sql(format!(
            "INSERT INTO last_metrics (run, name, attempt, position, value, domain, project, created_by, created_at) \
             SELECT j.run, j.name, j.attempt, j.position, j.value, r.domain, r.project, r.created_by, j.at \
             FROM {rows} JOIN runs r ON r.id = j.run WHERE TRUE \
             ON CONFLICT (run, name) DO UPDATE SET attempt = excluded.attempt, position = excluded.position, \
             value = excluded.value, created_at = excluded.created_at \
             WHERE (excluded.attempt, excluded.position) > (last_metrics.attempt, last_metrics.position)"
        ))
        .bind(to_json(&last(inserts))?)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

fn insert(metric: &MetricRow) -> Insert {
    Insert {
        run: metric.run.to_string(),
        attempt: metric.attempt,
        position: whole(metric.offset),
        name: clean(&metric.name),
        value: metric.value.to_string(),
        step: metric.step,
        at: metric.at.micros(),
    }
}

/// The last of each name of each run: one statement may write a row once.
fn last(inserts: Vec<Insert>) -> Vec<Insert> {
    let mut last: HashMap<(String, String), Insert> = HashMap::new();
    for each in inserts {
        let key = (each.run.clone(), each.name.clone());
        if last.get(&key).is_none_or(|other| (other.attempt, other.position) <= (each.attempt, each.position)) {
            last.insert(key, each);
        }
    }
    last.into_values().collect()
}

impl Store {
    /// A run's points in the order in which they were reported, after one of them.
    pub async fn metrics(
        &self,
        run: &RunId,
        after: Option<&MetricCursor>,
        limit: u32,
    ) -> Result<Vec<MetricRow>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.add("run = ?", [run.as_str().into()]);
        self.points(conditions, after, limit).await
    }

    /// Only what the program itself reported. Dure's own samples stand elsewhere in the order, so that somebody who
    /// goes on after one of them would miss what the program reports next.
    pub async fn reported_metrics(
        &self,
        run: &RunId,
        after: Option<&MetricCursor>,
        limit: u32,
    ) -> Result<Vec<MetricRow>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.add("run = ? AND substr(name, 1, 5) <> 'dure.'", [run.as_str().into()]);
        self.points(conditions, after, limit).await
    }

    async fn points(
        &self,
        mut conditions: Conditions,
        after: Option<&MetricCursor>,
        limit: u32,
    ) -> Result<Vec<MetricRow>, StoreError> {
        if let Some(after) = after {
            conditions.add(
                "(attempt, position, name) > (?, ?, ?)",
                [i64::from(after.attempt).into(), whole(after.offset).into(), after.name.as_str().into()],
            );
        }
        let query = conditions.query(
            "SELECT run, attempt, position, name, value, step, created_at FROM metrics",
            &format!(" ORDER BY attempt, position, name LIMIT {limit}"),
        );
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    /// The last value of each metric, of each of these runs that has any.
    pub async fn last_metrics(&self, runs: &[RunId]) -> Result<BTreeMap<RunId, BTreeMap<String, f64>>, StoreError> {
        #[derive(Serialize)]
        struct Wanted<'a> {
            run: &'a RunId,
        }
        let wanted: Vec<_> = runs.iter().map(|run| Wanted { run }).collect();
        let rows = self.dialect.rows(&[("run", Text)]);
        let query =
            sql(format!("SELECT m.run, m.name, m.value FROM last_metrics m WHERE m.run IN (SELECT j.run FROM {rows})"));
        let mut found: BTreeMap<RunId, BTreeMap<String, f64>> = BTreeMap::new();
        for row in query.bind(to_json(&wanted)?).fetch_all(&self.readers).await? {
            found.entry(row.parsed("run")?).or_default().insert(row.text("name")?, row.parsed("value")?);
        }
        Ok(found)
    }
}

fn read(row: &AnyRow) -> Result<MetricRow, StoreError> {
    Ok(MetricRow {
        run: row.parsed("run")?,
        attempt: row.number("attempt")?,
        offset: row.number("position")?,
        name: row.text("name")?,
        value: row.parsed("value")?,
        step: row.maybe_int("step")?,
        at: row.time("created_at")?,
    })
}
