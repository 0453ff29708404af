//! Runs: what was asked for and where it stands. How they change is in `transition`.

use std::time::Duration;

use dure_types::{
    Cpu, Digest, Memory, Money, Name, Page, RunId, Span, Timestamp,
    run::{Attempt, Reason, ReasonCode, RunKind, RunOutput, RunQuery, RunState},
    spec::Retries,
};
use serde::Serialize;
use sqlx::any::AnyRow;

use crate::{
    Scope, Store, StoreError, Tx,
    dialect::{Int, Kind, Text},
    event::NewEvent,
    page,
    row::{Columns, Conditions, Link, clean, sql, to_json, whole},
};

/// A run as it is asked for.
#[derive(Debug, Clone)]
pub struct NewRun {
    pub id: RunId,
    pub scope: Scope,
    pub kind: RunKind,
    /// The job's, environment's or service's name.
    pub name: Name,
    pub spec: serde_json::Value,
    pub identity: Option<String>,
    pub code: Option<Digest>,
    /// The environment's digest.
    pub environment: Option<Digest>,
    pub inputs: serde_json::Value,
    /// The dataset versions among the inputs: none of them can be deleted until the run is over.
    pub datasets: Vec<(Name, u32)>,
    pub waits_for: Vec<RunId>,
    /// Of a replica: its service and which revision of it.
    pub service: Option<(Name, u32)>,
    pub cpu: Cpu,
    pub memory: Memory,
    pub gpu: u32,
    pub timeout: Option<Span>,
    pub retries: Retries,
}

/// That a run shall end, and for whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopRequest {
    pub actor: String,
    pub code: ReasonCode,
    pub at: Timestamp,
}

/// A run with where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct RunRow {
    pub id: RunId,
    pub domain: Name,
    pub project: Name,
    pub created_by: String,
    pub created_at: Timestamp,
    pub kind: RunKind,
    pub name: Name,
    pub spec: serde_json::Value,
    pub identity: Option<String>,
    pub code: Option<Digest>,
    pub environment: Option<Digest>,
    pub inputs: serde_json::Value,
    pub waits_for: Vec<RunId>,
    pub service: Option<(Name, u32)>,
    pub cpu: Cpu,
    pub memory: Memory,
    pub gpu: u32,
    pub timeout: Option<Span>,
    pub retries: Retries,
    pub state: RunState,
    pub reason: Option<Reason>,
    pub node: Option<Name>,
    /// 0 before the first.
    pub attempt: u32,
    /// The GPUs that it has, by the ids of its node.
    pub devices: Vec<String>,
    /// When this attempt started.
    pub attempt_started_at: Option<Timestamp>,
    pub stop: Option<StopRequest>,
    /// When its first attempt started.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    /// Of all its attempts that have ended.
    pub cost: Money,
    /// Attempts that ended because their machine was lost, and for any other reason but success or a stop.
    pub failures_lost: u32,
    pub failures_failed: u32,
}

const COLUMNS: &str = "id, kind, name, spec, identity, code, environment, inputs, waits_for, service, revision, cpu, memory, \
    gpu, timeout, retries_lost, retries_failed, state, reason_code, reason_message, node, attempt, devices, attempt_started_at, stop_actor, stop_code, \
    stop_at, started_at, ended_at, cost, failures_lost, failures_failed, domain, project, created_by, created_at";

#[derive(Serialize)]
struct Insert<'a> {
    id: &'a str,
    kind: &'a str,
    name: &'a str,
    spec: String,
    identity: Option<&'a str>,
    code: Option<&'a str>,
    environment: Option<&'a str>,
    inputs: String,
    waits_for: String,
    service: Option<&'a str>,
    revision: Option<u32>,
    cpu: i64,
    memory: i64,
    gpu: u32,
    timeout: Option<String>,
    retries_lost: u32,
    retries_failed: u32,
    domain: &'a str,
    project: &'a str,
    created_by: String,
    created_at: i64,
}

const INSERT: &[(&str, Kind)] = &[
    ("id", Text),
    ("kind", Text),
    ("name", Text),
    ("spec", Text),
    ("identity", Text),
    ("code", Text),
    ("environment", Text),
    ("inputs", Text),
    ("waits_for", Text),
    ("service", Text),
    ("revision", Int),
    ("cpu", Int),
    ("memory", Int),
    ("gpu", Int),
    ("timeout", Text),
    ("retries_lost", Int),
    ("retries_failed", Int),
    ("domain", Text),
    ("project", Text),
    ("created_by", Text),
    ("created_at", Int),
];

#[derive(Serialize)]
struct InsertDataset<'a> {
    run: &'a str,
    name: &'a str,
    version: u32,
    domain: &'a str,
    project: &'a str,
    created_by: String,
    created_at: i64,
}

impl From<NewRun> for RunRow {
    /// As it is once it was written.
    fn from(new: NewRun) -> Self {
        Self {
            id: new.id,
            domain: new.scope.domain,
            project: new.scope.project,
            created_by: new.scope.actor,
            created_at: new.scope.at,
            kind: new.kind,
            name: new.name,
            spec: new.spec,
            identity: new.identity,
            code: new.code,
            environment: new.environment,
            inputs: new.inputs,
            waits_for: new.waits_for,
            service: new.service,
            cpu: new.cpu,
            memory: new.memory,
            gpu: new.gpu,
            timeout: new.timeout,
            retries: new.retries,
            state: RunState::Queued,
            reason: None,
            node: None,
            attempt: 0,
            devices: Vec::new(),
            attempt_started_at: None,
            stop: None,
            started_at: None,
            ended_at: None,
            cost: Money::default(),
            failures_lost: 0,
            failures_failed: 0,
        }
    }
}

impl NewRun {
    fn insert(&self) -> Result<Insert<'_>, StoreError> {
        Ok(Insert {
            id: self.id.as_str(),
            kind: self.kind.as_str(),
            name: self.name.as_str(),
            spec: to_json(&self.spec)?,
            identity: self.identity.as_deref(),
            code: self.code.as_ref().map(Digest::as_str),
            environment: self.environment.as_ref().map(Digest::as_str),
            inputs: to_json(&self.inputs)?,
            waits_for: to_json(&self.waits_for)?,
            service: self.service.as_ref().map(|(name, _)| name.as_str()),
            revision: self.service.as_ref().map(|(_, revision)| *revision),
            cpu: whole(self.cpu.milli()),
            memory: whole(self.memory.bytes()),
            gpu: self.gpu,
            timeout: self.timeout.map(|timeout| timeout.to_string()),
            retries_lost: self.retries.lost,
            retries_failed: self.retries.failed,
            domain: self.scope.domain.as_str(),
            project: self.scope.project.as_str(),
            created_by: clean(&self.scope.actor),
            created_at: self.scope.at.micros(),
        })
    }

    fn queued(&self) -> NewEvent {
        NewEvent {
            sequence: 0,
            resource: "run",
            subject: self.id.to_string(),
            action: RunState::Queued.as_str().to_owned(),
            message: None,
            domain: self.scope.domain.to_string(),
            project: self.scope.project.to_string(),
            created_by: clean(&self.scope.actor),
            created_at: self.scope.at.micros(),
        }
    }
}

impl Tx {
    /// All of them or none, each with its `queued` event.
    pub async fn insert_runs(&mut self, runs: &[NewRun]) -> Result<(), StoreError> {
        if runs.is_empty() {
            return Ok(());
        }
        let inserts = runs.iter().map(NewRun::insert).collect::<Result<Vec<_>, _>>()?;
        let columns = INSERT.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let rows = self.dialect().rows(INSERT);
        // `WHERE TRUE`: without it SQLite reads the conflict clause as a join's.
        let made = sql(format!(
            "INSERT INTO runs ({columns}, state, active, attempt, cost, failures_lost, failures_failed) \
             SELECT {columns}, 'queued', 1, 0, 0, 0, 0 FROM {rows} WHERE TRUE ON CONFLICT DO NOTHING"
        ))
        .bind(to_json(&inserts)?)
        .execute(self.connection())
        .await?;
        if made.rows_affected() != runs.len() as u64 {
            return Err(StoreError::Exists { what: "a run of this id".to_owned() });
        }
        for run in runs.iter().filter(|run| !run.datasets.is_empty()) {
            self.set_datasets(&run.id, &run.scope, &run.datasets).await?;
        }
        let mut events: Vec<_> = runs.iter().map(NewRun::queued).collect();
        self.add_events(&mut events).await
    }

    /// What a run reads, once that is known: for one that waited for what another made.
    pub async fn set_inputs(
        &mut self,
        run: &RunId,
        inputs: &serde_json::Value,
        datasets: &[(Name, u32)],
    ) -> Result<(), StoreError> {
        let row = self.run(run).await?;
        sql("UPDATE runs SET inputs = $1 WHERE id = $2".to_owned())
            .bind(to_json(inputs)?)
            .bind(run.to_string())
            .execute(self.connection())
            .await?;
        sql("DELETE FROM run_datasets WHERE run = $1".to_owned())
            .bind(run.to_string())
            .execute(self.connection())
            .await?;
        let scope = Scope { domain: row.domain, project: row.project, actor: row.created_by, at: row.created_at };
        self.set_datasets(run, &scope, datasets).await
    }

    async fn set_datasets(&mut self, run: &RunId, scope: &Scope, datasets: &[(Name, u32)]) -> Result<(), StoreError> {
        let mut named: Vec<_> = datasets.iter().collect();
        named.sort();
        named.dedup();
        let inserts: Vec<_> = named
            .iter()
            .map(|(name, version)| InsertDataset {
                run: run.as_str(),
                name: name.as_str(),
                version: *version,
                domain: scope.domain.as_str(),
                project: scope.project.as_str(),
                created_by: clean(&scope.actor),
                created_at: scope.at.micros(),
            })
            .collect();
        let rows = self.dialect().rows(&[
            ("run", Text),
            ("name", Text),
            ("version", Int),
            ("domain", Text),
            ("project", Text),
            ("created_by", Text),
            ("created_at", Int),
        ]);
        let made = sql(format!(
            "INSERT INTO run_datasets (run, dataset, version, domain, project, created_by, created_at) \
             SELECT j.run, d.id, j.version, j.domain, j.project, j.created_by, j.created_at FROM {rows} \
             JOIN datasets d ON d.project = j.project AND d.name = j.name \
             JOIN dataset_versions v ON v.dataset = d.id AND v.version = j.version"
        ))
        .bind(to_json(&inserts)?)
        .execute(self.connection())
        .await?;
        if made.rows_affected() == inserts.len() as u64 {
            Ok(())
        } else {
            Err(StoreError::not_found("dataset version that the run reads"))
        }
    }

    pub async fn run(&mut self, id: &RunId) -> Result<RunRow, StoreError> {
        let query = sql(format!("SELECT {COLUMNS} FROM runs WHERE id = $1")).bind(id.to_string());
        found(query.fetch_optional(self.connection()).await?, id)
    }

    /// Of this identity, the newest first.
    pub async fn runs_by_identity(&mut self, project: &Name, identity: &str) -> Result<Vec<RunRow>, StoreError> {
        self.link().runs_by_identity(project, identity).await
    }

    /// Asks for the end of a run. Asked again, or of a run that is over, it changes nothing.
    pub async fn request_stop(&mut self, run: &RunId, stop: &StopRequest) -> Result<RunRow, StoreError> {
        let changed = sql("UPDATE runs SET stop_actor = $1, stop_code = $2, stop_at = $3 \
             WHERE id = $4 AND active = 1 AND stop_at IS NULL"
            .to_owned())
        .bind(clean(&stop.actor))
        .bind(stop.code.as_str())
        .bind(stop.at.micros())
        .bind(run.to_string())
        .execute(self.connection())
        .await?;
        let row = self.run(run).await?;
        if changed.rows_affected() > 0 {
            let scope = Scope {
                domain: row.domain.clone(),
                project: row.project.clone(),
                actor: stop.actor.clone(),
                at: stop.at,
            };
            self.add_event(&scope, "run", run.as_str(), "stop_requested", None).await?;
        }
        Ok(row)
    }

    /// What a run made. Saying it again replaces it.
    pub async fn set_outputs(&mut self, run: &RunId, at: Timestamp, outputs: &[RunOutput]) -> Result<(), StoreError> {
        sql("DELETE FROM outputs WHERE run = $1".to_owned()).bind(run.to_string()).execute(self.connection()).await?;
        for output in outputs {
            sql("INSERT INTO outputs (run, kind, name, version, manifest, bytes, domain, project, created_by, created_at) \
                 SELECT id, $2, $3, $4, $5, $6, domain, project, created_by, $7 FROM runs WHERE id = $1"
                .to_owned())
            .bind(run.to_string())
            .bind(output.kind.as_str())
            .bind(output.name.to_string())
            .bind(output.version.map(i64::from))
            .bind(output.manifest.to_string())
            .bind(whole(output.bytes))
            .bind(at.micros())
            .execute(self.connection())
            .await?;
        }
        Ok(())
    }
}

impl Link<'_> {
    async fn runs_by_identity(&mut self, project: &Name, identity: &str) -> Result<Vec<RunRow>, StoreError> {
        let query = sql(format!(
            "SELECT {COLUMNS} FROM runs WHERE project = $1 AND identity = $2 ORDER BY created_at DESC, id DESC"
        ));
        let query = query.bind(project.to_string()).bind(identity.to_owned());
        query.fetch_all(&mut *self.connection).await?.iter().map(read).collect()
    }
}

impl Store {
    pub async fn run(&self, project: &Name, id: &RunId) -> Result<RunRow, StoreError> {
        let query = sql(format!("SELECT {COLUMNS} FROM runs WHERE id = $1 AND project = $2"));
        let query = query.bind(id.to_string()).bind(project.to_string());
        found(query.fetch_optional(&self.readers).await?, id)
    }

    /// Runs whose id begins like this, in the order of their ids.
    pub async fn find_runs_by_prefix(
        &self,
        project: &Name,
        prefix: &str,
        limit: u32,
    ) -> Result<Vec<RunRow>, StoreError> {
        // `g` comes after every hexadecimal digit, in any collation.
        let query = sql(format!(
            "SELECT {COLUMNS} FROM runs WHERE id >= $1 AND id < $2 AND project = $3 ORDER BY id LIMIT {limit}"
        ));
        let query = query.bind(prefix.to_owned()).bind(format!("{prefix}g")).bind(project.to_string());
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    /// The newest first.
    pub async fn list_runs(&self, project: &Name, wanted: &RunQuery) -> Result<Page<RunRow>, StoreError> {
        let limit = page::limit(wanted.limit);
        let mut conditions = Conditions::default();
        conditions.add("project = ?", [project.as_str().into()]);
        match wanted.state.as_deref() {
            None => {}
            Some("active") => conditions.add("active = 1", []),
            Some(word) => {
                let state = RunState::ALL.into_iter().find(|state| state.as_str() == word);
                let state = state.ok_or_else(|| StoreError::Invalid(format!("`{word}` is not a state of a run")))?;
                conditions.add("state = ?", [state.as_str().into()]);
            }
        }
        if let Some(kind) = wanted.kind {
            conditions.add("kind = ?", [kind.as_str().into()]);
        }
        if let Some(name) = &wanted.name {
            conditions.add("name = ?", [name.as_str().into()]);
        }
        if let Some(prefix) = &wanted.id {
            conditions.add("id >= ? AND id < ?", [prefix.as_str().into(), format!("{prefix}g").as_str().into()]);
        }
        if let Some(cursor) = &wanted.cursor {
            let (at, id) = cursor.split_once('.').ok_or_else(page::bad_cursor)?;
            let at: i64 = at.parse().map_err(|_| page::bad_cursor())?;
            conditions.add("(created_at, id) < (?, ?)", [at.into(), id.into()]);
        }
        let query = conditions.query(
            &format!("SELECT {COLUMNS} FROM runs"),
            &format!(" ORDER BY created_at DESC, id DESC LIMIT {}", page::fetch(limit)),
        );
        let rows = query.fetch_all(&self.readers).await?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(page::page(rows, limit, |row| format!("{}.{}", row.created_at.micros(), row.id)))
    }

    /// All that are not over, of every project, the oldest first.
    pub async fn active_runs(&self) -> Result<Vec<RunRow>, StoreError> {
        let query = sql(format!("SELECT {COLUMNS} FROM runs WHERE active = 1 ORDER BY created_at, id"));
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    /// The replicas of a service that are not over, the oldest first.
    pub async fn replicas(&self, project: &Name, service: &Name) -> Result<Vec<RunRow>, StoreError> {
        let query = sql(format!(
            "SELECT {COLUMNS} FROM runs WHERE project = $1 AND service = $2 AND active = 1 ORDER BY created_at, id"
        ));
        let query = query.bind(project.to_string()).bind(service.to_string());
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    /// Of this identity, the newest first.
    pub async fn runs_by_identity(&self, project: &Name, identity: &str) -> Result<Vec<RunRow>, StoreError> {
        self.reader().await?.link().runs_by_identity(project, identity).await
    }

    /// How long the last ones that succeeded took, the newest first.
    pub async fn recent_durations(
        &self,
        project: &Name,
        name: &Name,
        kind: RunKind,
        limit: u32,
    ) -> Result<Vec<Duration>, StoreError> {
        let query = sql(format!(
            "SELECT started_at, ended_at FROM runs WHERE project = $1 AND name = $2 AND kind = $3 AND state = 'succeeded' \
             AND started_at IS NOT NULL ORDER BY created_at DESC LIMIT {limit}"
        ));
        let query = query.bind(project.to_string()).bind(name.to_string()).bind(kind.as_str());
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(|row| Ok(row.time("ended_at")?.since(row.time("started_at")?))).collect()
    }

    pub async fn run_attempts(&self, run: &RunId) -> Result<Vec<Attempt>, StoreError> {
        let query = sql("SELECT * FROM attempts WHERE run = $1 ORDER BY number".to_owned()).bind(run.to_string());
        query.fetch_all(&self.readers).await?.iter().map(read_attempt).collect()
    }

    pub async fn outputs(&self, run: &RunId) -> Result<Vec<RunOutput>, StoreError> {
        let query = sql("SELECT * FROM outputs WHERE run = $1 ORDER BY kind, name".to_owned()).bind(run.to_string());
        query.fetch_all(&self.readers).await?.iter().map(read_output).collect()
    }
}

fn found(row: Option<AnyRow>, id: &RunId) -> Result<RunRow, StoreError> {
    row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(format!("run {id}")))
}

fn read(row: &AnyRow) -> Result<RunRow, StoreError> {
    let stop = match row.maybe_text("stop_actor")? {
        None => None,
        Some(actor) => Some(StopRequest { actor, code: row.word("stop_code")?, at: row.time("stop_at")? }),
    };
    let service = match row.maybe_parsed("service")? {
        None => None,
        Some(name) => Some((name, row.number("revision")?)),
    };
    Ok(RunRow {
        id: row.parsed("id")?,
        domain: row.parsed("domain")?,
        project: row.parsed("project")?,
        created_by: row.text("created_by")?,
        created_at: row.time("created_at")?,
        kind: row.word("kind")?,
        name: row.parsed("name")?,
        spec: row.json("spec")?,
        identity: row.maybe_text("identity")?,
        code: row.maybe_parsed("code")?,
        environment: row.maybe_parsed("environment")?,
        inputs: row.json("inputs")?,
        waits_for: row.json("waits_for")?,
        service,
        cpu: Cpu::from_milli(row.number("cpu")?),
        memory: Memory::from_bytes(row.number("memory")?),
        gpu: row.number("gpu")?,
        timeout: row.maybe_parsed("timeout")?,
        retries: Retries { lost: row.number("retries_lost")?, failed: row.number("retries_failed")? },
        state: row.word("state")?,
        reason: row.reason()?,
        node: row.maybe_parsed("node")?,
        attempt: row.number("attempt")?,
        devices: row.json("devices")?,
        attempt_started_at: row.maybe_time("attempt_started_at")?,
        stop,
        started_at: row.maybe_time("started_at")?,
        ended_at: row.maybe_time("ended_at")?,
        cost: Money::from_nanos(row.int("cost")?),
        failures_lost: row.number("failures_lost")?,
        failures_failed: row.number("failures_failed")?,
    })
}

fn read_attempt(row: &AnyRow) -> Result<Attempt, StoreError> {
    Ok(Attempt {
        number: row.number("number")?,
        node: row.parsed("node")?,
        created_at: row.time("created_at")?,
        started_at: row.maybe_time("started_at")?,
        ended_at: row.maybe_time("ended_at")?,
        exit_code: row.maybe_number("exit_code")?,
        signal: row.maybe_number("signal")?,
        reason: row.reason()?,
        cpu_seconds: row.maybe_float("cpu_seconds")?,
        peak_memory_bytes: row.maybe_number("peak_memory")?,
        cost: Money::from_nanos(row.int("cost")?),
    })
}

fn read_output(row: &AnyRow) -> Result<RunOutput, StoreError> {
    Ok(RunOutput {
        kind: row.word("kind")?,
        name: row.parsed("name")?,
        version: row.maybe_number("version")?,
        manifest: row.parsed("manifest")?,
        bytes: row.number("bytes")?,
    })
}
