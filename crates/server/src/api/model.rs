//! Models, their versions and aliases.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::StatusCode, response::Response};
use dure_store::model::NewModelVersion;
use dure_types::{
    Code, Name, Page, Reference,
    dataset::DatasetQuery,
    model::{Lineage, Model, ModelVersion, RegisterModel, SetAlias},
    page::PageQuery,
};
use tokio_util::io::ReaderStream;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Json, Path, Query};
use super::{InProject, dataset::selector, run::saved_as};
use crate::{
    change::{self, missing_manifest},
    controllers::run::read_signature,
    core::Core,
    error::{ApiError, ApiResult},
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new()
        .routes(routes!(list_models))
        .routes(routes!(get_model))
        .routes(routes!(list_model_versions, register_model))
        .routes(routes!(get_model_version))
        .routes(routes!(download_model))
        .routes(routes!(set_alias))
}

/// Models by name
#[utoipa::path(
    get, path = "/projects/{project}/models", operation_id = "list_models", tag = "model",
    params(("project" = String, Path), DatasetQuery), responses((status = 200, body = Page<Model>)),
)]
async fn list_models(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Query(query): Query<DatasetQuery>,
) -> ApiResult<Json<Page<Model>>> {
    let page = PageQuery { cursor: query.cursor, limit: query.limit };
    Ok(Json(core.store.list_models(&project, query.search.as_deref(), &page).await?))
}

/// One model with its aliases
#[utoipa::path(
    get, path = "/projects/{project}/models/{name}", operation_id = "get_model", tag = "model",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 200, body = Model)),
)]
async fn get_model(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name)): Path<(String, Name)>,
) -> ApiResult<Json<Model>> {
    Ok(Json(core.store.model(&project, &name).await?))
}

/// The versions of a model, the newest first
#[utoipa::path(
    get, path = "/projects/{project}/models/{name}/versions", operation_id = "list_model_versions", tag = "model",
    params(("project" = String, Path), ("name" = String, Path), PageQuery),
    responses((status = 200, body = Page<ModelVersion>)),
)]
async fn list_model_versions(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name)): Path<(String, Name)>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Json<Page<ModelVersion>>> {
    Ok(Json(core.store.model_versions(&project, &name, &page).await?))
}

/// Register an uploaded ONNX file as a version
#[utoipa::path(
    post, path = "/projects/{project}/models/{name}/versions", operation_id = "register_model", tag = "model",
    params(("project" = String, Path), ("name" = String, Path)),
    request_body = RegisterModel, responses((status = 201, body = ModelVersion)),
)]
async fn register_model(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, name)): Path<(String, Name)>,
    Json(body): Json<RegisterModel>,
) -> ApiResult<(StatusCode, Json<ModelVersion>)> {
    let manifest = core.store.manifest(&project, &body.manifest).await.map_err(missing_manifest)?;
    let [file] = manifest.files.as_slice() else {
        let detail = format!("a model is one .onnx file; this has {}", manifest.files.len());
        return Err(ApiError::new(Code::NotOnnx, detail));
    };
    let signature = read_signature(core.blobs.path(&file.digest)).await.map_err(|error| {
        // What it is comes first, what to do about it last.
        let (what, next) = error.split_once("; ").unwrap_or((error.as_str(), "export the model as ONNX"));
        ApiError::new(Code::NotOnnx, format!("{}: {what}", file.path)).next(next)
    })?;
    let new = NewModelVersion {
        name,
        manifest: body.manifest,
        size: file.size,
        format: "onnx".to_owned(),
        signature,
        lineage: Lineage::default(),
        metrics: Default::default(),
    };
    let scope = change::scope(&core, &caller, &project);
    Ok((
        StatusCode::CREATED,
        Json(
            core.store
                .write(move |tx| {
                    Box::pin(async move {
                        let version = tx.create_model_version(&scope, &new).await?;
                        tx.resolve_model(&scope.project, &Reference::version(new.name, version)).await
                    })
                })
                .await?,
        ),
    ))
}

/// One version with its signature, metrics and lineage
#[utoipa::path(
    get, path = "/projects/{project}/models/{name}/versions/{selector}", operation_id = "get_model_version", tag = "model",
    params(("project" = String, Path), ("name" = String, Path), ("selector" = String, Path, description = "a number or an alias")),
    responses((status = 200, body = ModelVersion)),
)]
async fn get_model_version(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name, version)): Path<(String, Name, String)>,
) -> ApiResult<Json<ModelVersion>> {
    let mut version = core.store.resolve_model(&project, &Reference { name, selector: selector(&version)? }).await?;
    version.files = Some(core.store.manifest(&project, &version.manifest).await?);
    Ok(Json(version))
}

/// The file of a version
#[utoipa::path(
    get, path = "/projects/{project}/models/{name}/versions/{selector}/file", operation_id = "download_model", tag = "model",
    params(("project" = String, Path), ("name" = String, Path), ("selector" = String, Path)),
    responses((status = 200, content_type = "application/octet-stream", body = Vec<u8>)),
)]
async fn download_model(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name, version)): Path<(String, Name, String)>,
) -> ApiResult<Response> {
    let version = core.store.resolve_model(&project, &Reference { name, selector: selector(&version)? }).await?;
    let manifest = core.store.manifest(&project, &version.manifest).await?;
    let file = manifest.files.first().ok_or_else(|| ApiError::internal("a model without a file"))?;
    let content = core.blobs.open_blob(&file.digest).await?;
    let name = format!("{}-{}.onnx", version.name, version.version);
    Ok(saved_as(&name, "application/octet-stream", Body::from_stream(ReaderStream::new(content))))
}

/// Point an alias at a version
#[utoipa::path(
    put, path = "/projects/{project}/models/{name}/aliases/{alias}", operation_id = "set_alias", tag = "model",
    params(("project" = String, Path), ("name" = String, Path), ("alias" = String, Path)),
    request_body = SetAlias, responses((status = 200, body = Model)),
)]
async fn set_alias(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, name, alias)): Path<(String, Name, Name)>,
    Json(body): Json<SetAlias>,
) -> ApiResult<Json<Model>> {
    let scope = change::scope(&core, &caller, &project);
    Ok(Json(
        core.store
            .write(move |tx| Box::pin(async move { tx.set_alias(&scope, &name, &alias, body.version).await }))
            .await?,
    ))
}
