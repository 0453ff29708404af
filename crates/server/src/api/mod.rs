//! The HTTP API: one file per resource. Handlers read, check and write rows and wake controllers; nothing
//! slow happens in them.

mod blob;
mod cost;
mod dataset;
mod environment;
mod event;
mod extract;
mod guard;
mod log;
mod metric;
mod model;
pub(crate) mod nearest;
mod node;
mod run;
mod service;
mod sse;
mod user;
mod zip;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, State},
    http::Uri,
    middleware,
    routing::get,
};
use dure_types::{
    Code,
    change::{ChangeRequest, ChangeSet, Ended},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::extract::Json;
pub(crate) use self::guard::{InProject, Who};
use crate::{
    change,
    core::Core,
    error::{ApiError, ApiResult},
};

/// Bodies but for uploads; an upload's part has its own limit.
const LARGEST_BODY: usize = 16 << 20;

#[derive(OpenApi)]
#[openapi(
    info(title = "Dure", description = "Pool the compute there is, and take a model from data to a served endpoint on it."),
    servers((url = "/api/v1")),
)]
struct Document;

fn operations() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(user::routes())
        .merge(node::routes())
        .merge(cost::routes())
        .merge(blob::routes())
        .merge(run::routes())
        .merge(log::routes())
        .merge(metric::routes())
        .merge(dataset::routes())
        .merge(model::routes())
        .merge(environment::routes())
        .merge(service::routes())
        .merge(event::routes())
        .routes(routes!(plan_changes))
        .routes(routes!(apply_changes))
        .routes(routes!(shut_down))
}

/// The whole of what is not the gateway's own.
pub fn router(core: &Arc<Core>) -> Router {
    let (router, document) = operations().split_for_parts();
    let guard = guard::Guard::new(Arc::clone(core), &document);
    let api = router
        .layer(middleware::from_fn_with_state(guard, guard::guard))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .route("/openapi.json", get(|| async { Json(openapi()) }))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_path)
        .with_state(Arc::clone(core));
    Router::new()
        .nest("/api/v1", api)
        .route("/healthz", get(healthz).with_state(Arc::clone(core)))
        .fallback(no_such_path)
}

/// The document as it is published, with the JSON Schema of the spec in it.
pub fn openapi() -> serde_json::Value {
    let (_, document) = operations().split_for_parts();
    let mut document = serde_json::to_value(document).unwrap_or_default();
    document["components"]["schemas"]["Spec"] = dure_types::spec::schema::schema();
    document["components"]["securitySchemes"] = serde_json::json!({"token": {"type": "http", "scheme": "bearer"}});
    document["security"] = serde_json::json!([{"token": []}]);
    document
}

async fn no_such_path(uri: Uri) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is nothing at {}", uri.path()))
        .next("GET /api/v1/openapi.json lists what is there")
}

async fn healthz(State(core): State<Arc<Core>>) -> ApiResult<&'static str> {
    core.store.check().await?;
    Ok("ok\n")
}

/// What a file would change
#[utoipa::path(
    post, path = "/projects/{project}/plan", operation_id = "plan_changes", tag = "change",
    params(("project" = String, Path)),
    request_body = ChangeRequest, responses((status = 200, body = ChangeSet)),
)]
async fn plan_changes(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Json(request): Json<ChangeRequest>,
) -> ApiResult<Json<ChangeSet>> {
    let scope = change::scope(&core, &caller, &project);
    change::plan(&core, &scope, &request).await.map(Json)
}

/// Make the changes of a file
#[utoipa::path(
    post, path = "/projects/{project}/apply", operation_id = "apply_changes", tag = "change",
    params(("project" = String, Path)),
    request_body = ChangeRequest, responses((status = 200, body = ChangeSet)),
)]
async fn apply_changes(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Json(request): Json<ChangeRequest>,
) -> ApiResult<Json<ChangeSet>> {
    let scope = change::scope(&core, &caller, &project);
    change::apply(&core, &scope, &request).await.map(Json)
}

/// End everything that runs, then Dure itself
#[utoipa::path(
    post, path = "/shutdown", operation_id = "shut_down", tag = "system",
    responses((status = 200, body = Ended)),
)]
async fn shut_down(State(core): State<Arc<Core>>, Who(caller): Who) -> ApiResult<Json<Ended>> {
    let ended = crate::shutdown::everything(&core, caller.user.as_str()).await?;
    core.end();
    Ok(Json(ended))
}
