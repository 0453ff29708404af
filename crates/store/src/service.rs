//! Services and their revisions. A revision never changes, but for the model version that it waits for, which is
//! filled in once. Replicas are runs.

use dure_types::{
    Cpu, Memory, Name, RunId, Timestamp,
    run::Reason,
    service::{Revision, ServiceState},
};
use sqlx::any::AnyRow;

use crate::{
    Scope, Store, StoreError, Tx,
    row::{Columns, Link, clean, sql, whole},
};

/// A revision as it is made.
#[derive(Debug, Clone)]
pub struct NewRevision {
    /// As it was written: `digits@latest`.
    pub wanted: String,
    /// What that is now; none while a run that is to make it goes on.
    pub model: Option<String>,
    /// The run that is to make it.
    pub waits_for: Option<RunId>,
    pub replicas: u32,
    pub cpu: Cpu,
    pub memory: Memory,
    pub gpu: u32,
}

/// Where a service stands now.
#[derive(Debug, Clone)]
pub struct ServiceChange {
    pub state: ServiceState,
    pub reason: Option<Reason>,
    /// The revision that answers.
    pub serving: Option<u32>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceRow {
    pub name: Name,
    pub project: Name,
    pub domain: Name,
    pub state: ServiceState,
    pub reason: Option<Reason>,
    pub serving: Option<u32>,
    /// The newest one.
    pub revision: Revision,
    pub created_by: String,
    pub created_at: Timestamp,
}

const SELECT: &str = "SELECT s.name, s.project, s.domain, s.state, s.reason_code, s.reason_message, s.serving, \
    s.created_by AS service_by, s.created_at AS service_at, r.number, r.wanted, r.model, r.waits_for, r.replicas, r.cpu, r.memory, \
    r.gpu, r.created_by, r.created_at FROM services s \
    JOIN revisions r ON r.project = s.project AND r.service = s.name AND r.number = s.revision";

impl Tx {
    /// Makes the next revision, and the service where there is none; it is rolling then.
    pub async fn upsert_service(
        &mut self,
        scope: &Scope,
        name: &Name,
        revision: &NewRevision,
    ) -> Result<u32, StoreError> {
        let row = sql(
            "SELECT COALESCE(MAX(number), 0) AS last FROM revisions WHERE project = $1 AND service = $2".to_owned()
        )
        .bind(scope.project.to_string())
        .bind(name.to_string())
        .fetch_one(self.connection())
        .await?;
        let number = row.number::<u32>("last")? + 1;
        sql("INSERT INTO revisions (service, number, wanted, model, replicas, cpu, memory, gpu, domain, project, \
             created_by, created_at, waits_for) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)"
            .to_owned())
        .bind(name.to_string())
        .bind(i64::from(number))
        .bind(clean(&revision.wanted))
        .bind(revision.model.as_deref().map(clean))
        .bind(i64::from(revision.replicas))
        .bind(whole(revision.cpu.milli()))
        .bind(whole(revision.memory.bytes()))
        .bind(i64::from(revision.gpu))
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .bind(revision.waits_for.as_ref().map(RunId::to_string))
        .execute(self.connection())
        .await?;
        sql("INSERT INTO services (name, state, revision, domain, project, created_by, created_at) \
             VALUES ($1, 'rolling', $2, $3, $4, $5, $6) ON CONFLICT (project, name) DO UPDATE \
             SET state = 'rolling', reason_code = NULL, reason_message = NULL, revision = excluded.revision"
            .to_owned())
        .bind(name.to_string())
        .bind(i64::from(number))
        .bind(scope.domain.to_string())
        .bind(scope.project.to_string())
        .bind(clean(&scope.actor))
        .bind(scope.at.micros())
        .execute(self.connection())
        .await?;
        self.add_event(scope, "service", name.as_str(), "rolling", Some(&format!("revision {number}"))).await?;
        Ok(number)
    }

    /// Fills in which model version a revision waited for. Returns false where it has one already.
    pub async fn pin_revision(
        &mut self,
        project: &Name,
        service: &Name,
        number: u32,
        model: &str,
    ) -> Result<bool, StoreError> {
        let pinned = sql(
            "UPDATE revisions SET model = $4 WHERE project = $1 AND service = $2 AND number = $3 AND model IS NULL"
                .to_owned(),
        )
        .bind(project.to_string())
        .bind(service.to_string())
        .bind(i64::from(number))
        .bind(clean(model))
        .execute(self.connection())
        .await?;
        Ok(pinned.rows_affected() > 0)
    }

    pub async fn set_service_state(
        &mut self,
        project: &Name,
        name: &Name,
        change: &ServiceChange,
    ) -> Result<(), StoreError> {
        let before = self.link().service(project, name).await?;
        sql("UPDATE services SET state = $3, reason_code = $4, reason_message = $5, serving = $6 \
             WHERE project = $1 AND name = $2"
            .to_owned())
        .bind(project.to_string())
        .bind(name.to_string())
        .bind(change.state.as_str())
        .bind(change.reason.as_ref().map(|reason| reason.code.as_str()))
        .bind(change.reason.as_ref().map(|reason| clean(&reason.message)))
        .bind(change.serving.map(i64::from))
        .execute(self.connection())
        .await?;
        if before.state != change.state || before.serving != change.serving {
            let scope =
                Scope { domain: before.domain, project: project.clone(), actor: "dure".to_owned(), at: change.at };
            let message = match (&change.reason, change.serving) {
                (Some(reason), _) => Some(reason.message.clone()),
                (None, Some(serving)) => Some(format!("revision {serving}")),
                (None, None) => None,
            };
            self.add_event(&scope, "service", name.as_str(), change.state.as_str(), message.as_deref()).await?;
        }
        Ok(())
    }

    /// Takes away the service; its revisions stay, for the runs that were their replicas.
    pub async fn delete_service(&mut self, scope: &Scope, name: &Name) -> Result<(), StoreError> {
        let deleted = sql("DELETE FROM services WHERE project = $1 AND name = $2".to_owned())
            .bind(scope.project.to_string())
            .bind(name.to_string())
            .execute(self.connection())
            .await?;
        if deleted.rows_affected() == 0 {
            return Err(StoreError::not_found(format!("service {name}")));
        }
        self.add_event(scope, "service", name.as_str(), "deleted", None).await?;
        Ok(())
    }

    pub async fn service(&mut self, project: &Name, name: &Name) -> Result<ServiceRow, StoreError> {
        self.link().service(project, name).await
    }
}

impl Store {
    pub async fn service(&self, project: &Name, name: &Name) -> Result<ServiceRow, StoreError> {
        self.reader().await?.link().service(project, name).await
    }

    pub async fn list_services(&self, project: &Name) -> Result<Vec<ServiceRow>, StoreError> {
        let query = sql(format!("{SELECT} WHERE s.project = $1 ORDER BY s.name")).bind(project.to_string());
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    /// Of every project.
    pub async fn all_services(&self) -> Result<Vec<ServiceRow>, StoreError> {
        let query = sql(format!("{SELECT} ORDER BY s.project, s.name"));
        query.fetch_all(&self.readers).await?.iter().map(read).collect()
    }

    pub async fn revision(&self, project: &Name, service: &Name, number: u32) -> Result<Revision, StoreError> {
        let query = sql("SELECT * FROM revisions WHERE project = $1 AND service = $2 AND number = $3".to_owned());
        let query = query.bind(project.to_string()).bind(service.to_string()).bind(i64::from(number));
        let row = query.fetch_optional(&self.readers).await?;
        row.as_ref()
            .map(read_revision)
            .transpose()?
            .ok_or_else(|| StoreError::not_found(format!("revision {number} of service {service}")))
    }
}

impl Link<'_> {
    async fn service(&mut self, project: &Name, name: &Name) -> Result<ServiceRow, StoreError> {
        let query = sql(format!("{SELECT} WHERE s.project = $1 AND s.name = $2"));
        let query = query.bind(project.to_string()).bind(name.to_string());
        let row = query.fetch_optional(&mut *self.connection).await?;
        row.as_ref().map(read).transpose()?.ok_or_else(|| StoreError::not_found(format!("service {name}")))
    }
}

fn read(row: &AnyRow) -> Result<ServiceRow, StoreError> {
    Ok(ServiceRow {
        name: row.parsed("name")?,
        project: row.parsed("project")?,
        domain: row.parsed("domain")?,
        state: row.word("state")?,
        reason: row.reason()?,
        serving: row.maybe_number("serving")?,
        revision: read_revision(row)?,
        created_by: row.text("service_by")?,
        created_at: row.time("service_at")?,
    })
}

fn read_revision(row: &AnyRow) -> Result<Revision, StoreError> {
    Ok(Revision {
        number: row.number("number")?,
        wanted: row.text("wanted")?,
        model: row.maybe_text("model")?,
        waits_for: row.maybe_parsed("waits_for")?,
        replicas: row.number("replicas")?,
        cpu: Cpu::from_milli(row.number("cpu")?),
        memory: Memory::from_bytes(row.number("memory")?),
        gpu: row.number("gpu")?,
        created_by: row.text("created_by")?,
        created_at: row.time("created_at")?,
    })
}
