//! Services with their replicas.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use dure_store::{Interval, RunRow, ServiceRow, service::ServiceChange};
use dure_types::{
    Money, Name, Page,
    run::RunState,
    service::{Replica, Service, ServiceState},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::InProject;
use super::extract::{Json, Path};
use crate::{core::Core, error::ApiResult};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(list_services)).routes(routes!(get_service, delete_service))
}

/// Services by name
#[utoipa::path(
    get, path = "/projects/{project}/services", operation_id = "list_services", tag = "service",
    params(("project" = String, Path)), responses((status = 200, body = Page<Service>)),
)]
async fn list_services(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
) -> ApiResult<Json<Page<Service>>> {
    let mut items = Vec::new();
    // Read once for all of them: it holds what every run of the project has cost.
    let ledger = core.store.ledger(std::slice::from_ref(&project), None).await?;
    for row in core.store.list_services(&project).await? {
        items.push(service_of(&core, row, &ledger).await?);
    }
    Ok(Json(Page { items, next: None }))
}

/// One service
#[utoipa::path(
    get, path = "/projects/{project}/services/{name}", operation_id = "get_service", tag = "service",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 200, body = Service)),
)]
async fn get_service(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name)): Path<(String, Name)>,
) -> ApiResult<Json<Service>> {
    let row = core.store.service(&project, &name).await?;
    let ledger = core.store.ledger(std::slice::from_ref(&project), None).await?;
    service_of(&core, row, &ledger).await.map(Json)
}

async fn service_of(core: &Core, row: ServiceRow, ledger: &[Interval]) -> ApiResult<Service> {
    let replicas = core.store.replicas(&row.project, &row.name).await?;
    let path = format!("/s/{}/{}", row.project, row.name);
    let stats = core.routes.stats().remove(&format!("{}/{}", row.project, row.name));
    let live = replicas.into_iter().filter(|run| !run.state.is_over());
    Ok(Service {
        replicas: live.map(|run| replica_of(core, run)).collect(),
        requests: stats.map_or(0, |stats| stats.requests),
        cost: spent(core, &row, ledger),
        answers: answers(core, &row).await?,
        path,
        name: row.name,
        project: row.project,
        state: row.state,
        reason: row.reason,
        serving: row.serving,
        revision: row.revision,
        created_by: row.created_by,
        created_at: row.created_at,
    })
}

fn replica_of(core: &Core, run: RunRow) -> Replica {
    Replica {
        ready: run.state == RunState::Running && core.services.is_ready(&run.id),
        revision: run.service.map_or(0, |(_, revision)| revision),
        state: run.state,
        reason: run.reason,
        run: run.id,
    }
}

async fn answers(core: &Core, row: &ServiceRow) -> ApiResult<Option<String>> {
    Ok(match row.serving {
        None => None,
        Some(number) if number == row.revision.number => row.revision.model.clone(),
        Some(number) => core.store.revision(&row.project, &row.name, number).await?.model,
    })
}

fn spent(core: &Core, row: &ServiceRow, ledger: &[Interval]) -> Money {
    let now = core.now();
    ledger
        .iter()
        .filter(|interval| interval.service.as_ref() == Some(&row.name))
        .map(|interval| {
            let length = interval.ended_at.unwrap_or(now).since(interval.started_at);
            interval.cost.unwrap_or_else(|| dure_plan::price::cost(interval.rate, length))
        })
        .sum()
}

/// Delete a service; its replicas end
#[utoipa::path(
    delete, path = "/projects/{project}/services/{name}", operation_id = "delete_service", tag = "service",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 204)),
)]
async fn delete_service(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name)): Path<(String, Name)>,
) -> ApiResult<StatusCode> {
    let row = core.store.service(&project, &name).await?;
    let change = ServiceChange { state: ServiceState::Stopping, reason: None, serving: row.serving, at: core.now() };
    let (of, service) = (project.clone(), name.clone());
    core.store.write(move |tx| Box::pin(async move { tx.set_service_state(&of, &service, &change).await })).await?;
    core.services.changed(project, name);
    Ok(StatusCode::NO_CONTENT)
}
