//! Datasets and their versions.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode, response::Response};
use dure_types::{
    Code, Name, Page, Reference, Selector,
    dataset::{CreateDatasetVersion, Dataset, DatasetQuery, DatasetVersion, Rename},
    page::PageQuery,
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::extract::{Json, Path, Query};
use super::{InProject, zip};
use crate::{
    change::{self, missing_manifest},
    core::Core,
    error::{ApiError, ApiResult},
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new()
        .routes(routes!(list_datasets))
        .routes(routes!(get_dataset, rename_dataset, delete_dataset))
        .routes(routes!(list_dataset_versions, create_dataset_version))
        .routes(routes!(get_dataset_version))
        .routes(routes!(download_dataset))
}

/// What a version is called in a path: a number or an alias.
pub(super) fn selector(text: &str) -> ApiResult<Selector> {
    text.parse().map_err(|error: dure_types::name::NameError| ApiError::new(Code::RequestInvalid, error.to_string()))
}

/// Datasets by name
#[utoipa::path(
    get, path = "/projects/{project}/datasets", operation_id = "list_datasets", tag = "dataset",
    params(("project" = String, Path), DatasetQuery), responses((status = 200, body = Page<Dataset>)),
)]
async fn list_datasets(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Query(query): Query<DatasetQuery>,
) -> ApiResult<Json<Page<Dataset>>> {
    Ok(Json(core.store.list_datasets(&project, &query).await?))
}

/// One dataset
#[utoipa::path(
    get, path = "/projects/{project}/datasets/{name}", operation_id = "get_dataset", tag = "dataset",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 200, body = Dataset)),
)]
async fn get_dataset(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name)): Path<(String, Name)>,
) -> ApiResult<Json<Dataset>> {
    Ok(Json(core.store.dataset(&project, &name).await?))
}

/// Give a dataset another name
#[utoipa::path(
    patch, path = "/projects/{project}/datasets/{name}", operation_id = "rename_dataset", tag = "dataset",
    params(("project" = String, Path), ("name" = String, Path)),
    request_body = Rename, responses((status = 200, body = Dataset)),
)]
async fn rename_dataset(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, name)): Path<(String, Name)>,
    Json(body): Json<Rename>,
) -> ApiResult<Json<Dataset>> {
    let scope = change::scope(&core, &caller, &project);
    Ok(Json(
        core.store.write(move |tx| Box::pin(async move { tx.rename_dataset(&scope, &name, &body.name).await })).await?,
    ))
}

/// Delete a dataset with all its versions
#[utoipa::path(
    delete, path = "/projects/{project}/datasets/{name}", operation_id = "delete_dataset", tag = "dataset",
    params(("project" = String, Path), ("name" = String, Path)), responses((status = 204)),
)]
async fn delete_dataset(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, name)): Path<(String, Name)>,
) -> ApiResult<StatusCode> {
    let scope = change::scope(&core, &caller, &project);
    core.store.write(move |tx| Box::pin(async move { tx.delete_dataset(&scope, &name).await })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The versions of a dataset, the newest first
#[utoipa::path(
    get, path = "/projects/{project}/datasets/{name}/versions", operation_id = "list_dataset_versions", tag = "dataset",
    params(("project" = String, Path), ("name" = String, Path), PageQuery),
    responses((status = 200, body = Page<DatasetVersion>)),
)]
async fn list_dataset_versions(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name)): Path<(String, Name)>,
    Query(page): Query<PageQuery>,
) -> ApiResult<Json<Page<DatasetVersion>>> {
    Ok(Json(core.store.dataset_versions(&project, &name, &page).await?))
}

/// Make a version from uploaded files
#[utoipa::path(
    post, path = "/projects/{project}/datasets/{name}/versions", operation_id = "create_dataset_version", tag = "dataset",
    params(("project" = String, Path), ("name" = String, Path)),
    request_body = CreateDatasetVersion, responses((status = 201, body = DatasetVersion)),
)]
async fn create_dataset_version(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, name)): Path<(String, Name)>,
    Json(body): Json<CreateDatasetVersion>,
) -> ApiResult<(StatusCode, Json<DatasetVersion>)> {
    let scope = change::scope(&core, &caller, &project);
    let manifest = core.store.manifest(&project, &body.manifest).await.map_err(missing_manifest)?;
    Ok((
        StatusCode::CREATED,
        Json(
            core.store
                .write(move |tx| {
                    Box::pin(async move {
                        let (files, bytes) = (manifest.files.len() as u64, manifest.size());
                        let (version, _) =
                            tx.create_dataset_version(&scope, &name, &body.manifest, files, bytes).await?;
                        tx.resolve_dataset(&scope.project, &Reference::version(name, version)).await
                    })
                })
                .await?,
        ),
    ))
}

/// One version with its files
#[utoipa::path(
    get, path = "/projects/{project}/datasets/{name}/versions/{selector}", operation_id = "get_dataset_version", tag = "dataset",
    params(("project" = String, Path), ("name" = String, Path), ("selector" = String, Path, description = "a number or latest")),
    responses((status = 200, body = DatasetVersion)),
)]
async fn get_dataset_version(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name, version)): Path<(String, Name, String)>,
) -> ApiResult<Json<DatasetVersion>> {
    let mut version = core.store.resolve_dataset(&project, &Reference { name, selector: selector(&version)? }).await?;
    version.contents = Some(core.store.manifest(&project, &version.manifest).await?);
    Ok(Json(version))
}

/// The files of a version, as a zip
#[utoipa::path(
    get, path = "/projects/{project}/datasets/{name}/versions/{selector}/archive", operation_id = "download_dataset", tag = "dataset",
    params(("project" = String, Path), ("name" = String, Path), ("selector" = String, Path)),
    responses((status = 200, content_type = "application/zip", body = Vec<u8>)),
)]
async fn download_dataset(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Path((_, name, version)): Path<(String, Name, String)>,
) -> ApiResult<Response> {
    let version = core.store.resolve_dataset(&project, &Reference { name, selector: selector(&version)? }).await?;
    let manifest = core.store.manifest(&project, &version.manifest).await?;
    Ok(zip::answer(&core, &format!("{}-{}", version.name, version.version), &manifest))
}
