//! Environments: one row for each content, and names that point at one. A name that is declared again with another
//! content points at that; the old one stays for the runs that were made with it.

use dure_types::{
    Digest, Name, Page, RunId, Timestamp,
    environment::{Environment, EnvironmentInput, EnvironmentState, Package},
    page::PageQuery,
};
use sqlx::any::AnyRow;

use crate::{
    Scope, Store, StoreError, Tx, page,
    row::{Columns, Conditions, Link, clean, sql, to_json},
};

/// Where an environment stands now. What is `None` stays as it is.
#[derive(Debug, Clone)]
pub struct EnvironmentChange {
    pub state: EnvironmentState,
    pub build: Option<RunId>,
    pub python: Option<String>,
    pub packages: Option<Vec<Package>>,
    pub lock: Option<String>,
    /// Why it failed; taken away with any other state.
    pub error: Option<String>,
    pub at: Timestamp,
}

const SELECT: &str = "SELECT e.*, n.name AS name FROM environments e \
    LEFT JOIN environment_names n ON n.project = e.project AND n.digest = e.digest";

fn word(state: EnvironmentState) -> &'static str {
    match state {
        EnvironmentState::Declared => "declared",
        EnvironmentState::Building => "building",
        EnvironmentState::Ready => "ready",
        EnvironmentState::Failed => "failed",
    }
}

impl Tx {
    /// Makes the row of this content where there is none, and points the name at it. Returns whether anything changed.
    pub async fn declare_environment(
        &mut self,
        scope: &Scope,
        name: Option<&Name>,
        digest: &Digest,
        input: &EnvironmentInput,
    ) -> Result<bool, StoreError> {
        let made =
            sql("INSERT INTO environments (digest, input, state, packages, domain, project, created_by, created_at) \
             VALUES ($1, $2, 'declared', '[]', $3, $4, $5, $6) ON CONFLICT DO NOTHING"
                .to_owned())
            .bind(digest.to_string())
            .bind(to_json(input)?)
            .bind(scope.domain.to_string())
            .bind(scope.project.to_string())
            .bind(clean(&scope.actor))
            .bind(scope.at.micros())
            .execute(self.connection())
            .await?;
        let Some(name) = name else { return Ok(made.rows_affected() > 0) };
        let pointed = sql("INSERT INTO environment_names (name, digest, domain, project, created_by, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (project, name) DO UPDATE SET digest = excluded.digest, \
             created_by = excluded.created_by, created_at = excluded.created_at \
             WHERE environment_names.digest <> excluded.digest"
            .to_owned())
        .bind(name.to_string())
        .bind(digest.to_string())
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        if pointed.rows_affected() > 0 {
            self.add_event(scope, "environment", name.as_str(), "declared", Some(digest.short())).await?;
        }
        Ok(made.rows_affected() + pointed.rows_affected() > 0)
    }

    pub async fn set_environment_state(
        &mut self,
        project: &Name,
        digest: &Digest,
        change: &EnvironmentChange,
    ) -> Result<(), StoreError> {
        let before = sql("SELECT state, domain FROM environments WHERE project = $1 AND digest = $2".to_owned())
            .bind(project.to_string())
            .bind(digest.to_string())
            .fetch_optional(self.connection())
            .await?;
        let Some(before) = before else {
            return Err(StoreError::not_found(format!("environment {}", digest.short())));
        };
        sql("UPDATE environments SET state = $3, build = COALESCE($4, build), python = COALESCE($5, python), \
             packages = COALESCE($6, packages), lock_text = COALESCE($7, lock_text), error = $8 \
             WHERE project = $1 AND digest = $2"
            .to_owned())
        .bind(project.to_string())
        .bind(digest.to_string())
        .bind(word(change.state))
        .bind(change.build.as_ref().map(RunId::to_string))
        .bind(change.python.as_deref().map(clean))
        .bind(change.packages.as_ref().map(to_json).transpose()?)
        .bind(change.lock.as_deref().map(clean))
        .bind(change.error.as_deref().map(clean))
        .execute(self.connection())
        .await?;
        if before.text("state")? != word(change.state) {
            let scope = Scope {
                domain: before.parsed("domain")?,
                project: project.clone(),
                actor: "dure".to_owned(),
                at: change.at,
            };
            let names =
                sql("SELECT name FROM environment_names WHERE project = $1 AND digest = $2 ORDER BY name".to_owned())
                    .bind(project.to_string())
                    .bind(digest.to_string())
                    .fetch_optional(self.connection())
                    .await?;
            let subject = names.map(|row| row.text("name")).transpose()?.unwrap_or_else(|| digest.to_string());
            self.add_event(&scope, "environment", &subject, word(change.state), change.error.as_deref()).await?;
        }
        Ok(())
    }

    /// By name or digest.
    pub async fn environment(&mut self, project: &Name, which: &str) -> Result<Environment, StoreError> {
        self.link().environment(project, which).await
    }
}

impl Store {
    /// By name or digest.
    pub async fn environment(&self, project: &Name, which: &str) -> Result<Environment, StoreError> {
        self.reader().await?.link().environment(project, which).await
    }

    /// By name, those without one by digest.
    pub async fn list_environments(&self, project: &Name, wanted: &PageQuery) -> Result<Page<Environment>, StoreError> {
        let limit = wanted.limit();
        let mut conditions = Conditions::default();
        conditions.add("e.project = ?", [project.as_str().into()]);
        if let Some(cursor) = &wanted.cursor {
            conditions.add("COALESCE(n.name, e.digest) > ?", [clean(cursor).as_str().into()]);
        }
        let query =
            conditions.query(SELECT, &format!(" ORDER BY COALESCE(n.name, e.digest) LIMIT {}", page::fetch(limit)));
        let items = query.fetch_all(&self.readers).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(page::page(items, limit, |environment| {
            environment.name.as_ref().map_or_else(|| environment.digest.to_string(), Name::to_string)
        }))
    }

    /// Of every project, those that are being built: what a controller takes up again after a restart.
    pub async fn building_environments(&self) -> Result<Vec<(Name, Environment)>, StoreError> {
        let query = sql(format!("{SELECT} WHERE e.state = 'building' ORDER BY e.created_at"));
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok((row.parsed("project")?, read(row)?))).collect()
    }
}

impl Link<'_> {
    async fn environment(&mut self, project: &Name, which: &str) -> Result<Environment, StoreError> {
        // A name has 63 characters at most, so it is never a digest.
        let query =
            sql(format!("{SELECT} WHERE e.project = $1 AND (n.name = $2 OR e.digest = $2) ORDER BY n.name LIMIT 1"));
        let row = query.bind(project.to_string()).bind(clean(which)).fetch_optional(&mut *self.connection).await?;
        row.as_ref()
            .map(read)
            .transpose()?
            .ok_or_else(|| StoreError::not_found(format!("environment {}", which.chars().take(80).collect::<String>())))
    }
}

fn read(row: &AnyRow) -> Result<Environment, StoreError> {
    Ok(Environment {
        name: row.maybe_parsed("name")?,
        digest: row.parsed("digest")?,
        input: row.json("input")?,
        state: row.word("state")?,
        python: row.maybe_text("python")?,
        packages: row.json("packages")?,
        lock: row.maybe_text("lock_text")?,
        build: row.maybe_parsed("build")?,
        error: row.maybe_text("error")?,
        created_by: row.text("created_by")?,
        created_at: row.time("created_at")?,
    })
}
