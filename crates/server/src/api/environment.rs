//! Environments.

use std::sync::Arc;

use axum::extract::State;
use dure_types::{Page, environment::Environment, page::PageQuery};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::InProject;
use super::extract::{Json, Path, Query};
use crate::{core::Core, error::ApiResult};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new().routes(routes!(list_environments)).routes(routes!(get_environment))
}

/// Environments
#[utoipa::path(
    get, path = "/projects/{project}/environments", operation_id = "list_environments", tag = "environment",
    params(("project" = String, Path), PageQuery), responses((status = 200, body = Page<Environment>)),
)]
async fn list_environments(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Query(page): Query<PageQuery>,
) -> ApiResult<Json<Page<Environment>>> {
    Ok(Json(core.store.list_environments(&project, &page).await?))
}

/// One environment, by name or digest, with its lock
#[utoipa::path(
    get, path = "/projects/{project}/environments/{name}", operation_id = "get_environment", tag = "environment",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 200, body = Environment)),
)]
async fn get_environment(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name)): Path<(String, String)>,
) -> ApiResult<Json<Environment>> {
    Ok(Json(core.store.environment(&project, &name).await?))
}
