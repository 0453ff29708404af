//! Events: one row for each thing that happened, written in the transaction that made it happen. Sequences have no
//! gaps and are in the order of the commits, because there is one writer.

use dure_types::{Name, Timestamp, event::Event};
use serde::Serialize;
use sqlx::any::AnyRow;
use tokio::sync::watch;

use crate::{
    Scope, Store, StoreError, Tx,
    dialect::{Int, Text},
    row::{Columns, Conditions, clean, sql, to_json},
};

/// An event that has no sequence yet.
#[derive(Serialize)]
pub(crate) struct NewEvent {
    pub sequence: i64,
    pub resource: &'static str,
    pub subject: String,
    pub action: String,
    pub message: Option<String>,
    pub domain: String,
    pub project: String,
    pub created_by: String,
    pub created_at: i64,
}

impl Tx {
    /// Says that something happened to a thing of the scope's project; returns the event's sequence.
    pub async fn add_event(
        &mut self,
        scope: &Scope,
        resource: &'static str,
        subject: &str,
        action: &str,
        message: Option<&str>,
    ) -> Result<i64, StoreError> {
        self.sequence += 1;
        sql("INSERT INTO events (sequence, resource, subject, action, message, domain, project, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            .to_owned())
        .bind(self.sequence)
        .bind(resource)
        .bind(clean(subject))
        .bind(action.to_owned())
        .bind(message.map(clean))
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        Ok(self.sequence)
    }

    /// Many at once, numbered in their order.
    pub(crate) async fn add_events(&mut self, events: &mut [NewEvent]) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        for event in &mut *events {
            self.sequence += 1;
            event.sequence = self.sequence;
        }
        let rows = self.dialect().rows(&[
            ("sequence", Int),
            ("resource", Text),
            ("subject", Text),
            ("action", Text),
            ("message", Text),
            ("domain", Text),
            ("project", Text),
            ("created_by", Text),
            ("created_at", Int),
        ]);
        sql(format!(
            "INSERT INTO events (sequence, resource, subject, action, message, domain, project, created_by, created_at) \
             SELECT sequence, resource, subject, action, message, domain, project, created_by, created_at FROM {rows}"
        ))
        .bind(to_json(events)?)
        .execute(self.connection())
        .await?;
        Ok(())
    }
}

impl Store {
    /// A project's events after a sequence, in order; `subject` is a resource's word or the id or name of one thing.
    pub async fn events(
        &self,
        project: &Name,
        after: i64,
        subject: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        self.select_events(project, Some(after), subject, &format!(" ORDER BY sequence LIMIT {limit}")).await
    }

    /// A project's last events, in order.
    pub async fn newest_events(
        &self,
        project: &Name,
        subject: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let rest = format!(" ORDER BY sequence DESC LIMIT {limit}");
        let mut events = self.select_events(project, None, subject, &rest).await?;
        events.reverse();
        Ok(events)
    }

    async fn select_events(
        &self,
        project: &Name,
        after: Option<i64>,
        subject: Option<&str>,
        rest: &str,
    ) -> Result<Vec<Event>, StoreError> {
        let mut conditions = Conditions::default();
        conditions.add("project = ?", [project.as_str().into()]);
        if let Some(after) = after {
            conditions.add("sequence > ?", [after.into()]);
        }
        if let Some(subject) = subject {
            conditions.add("(subject = ? OR resource = ?)", [subject.into(), subject.into()]);
        }
        let columns =
            "SELECT sequence, resource, subject, action, message, project, created_by, created_at FROM events";
        let query = conditions.query(columns, rest);
        let mut reader = self.reader().await?;
        query.fetch_all(&mut *reader.link().connection).await?.iter().map(read).collect()
    }

    /// Changes with every commit, also of what is no event, such as metrics.
    pub fn written(&self) -> watch::Receiver<u64> {
        self.writer.written.clone()
    }

    /// The sequence of the last committed event. It changes when there are new ones, so followers wait for that
    /// instead of asking again and again. It knows of what this process wrote.
    pub fn subscribe(&self) -> watch::Receiver<i64> {
        self.sequence.clone()
    }
}

fn read(row: &AnyRow) -> Result<Event, StoreError> {
    Ok(Event {
        sequence: row.int("sequence")?,
        at: Timestamp::from_micros(row.int("created_at")?),
        project: row.parsed("project")?,
        resource: row.text("resource")?,
        subject: row.text("subject")?,
        action: row.text("action")?,
        message: row.maybe_text("message")?,
        actor: row.text("created_by")?,
    })
}
