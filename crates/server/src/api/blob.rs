//! Content comes in: what is missing, its parts, and the manifests that name it.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::StatusCode};
use dure_store::StoreError;
use dure_types::{
    Code, Digest, Manifest,
    blob::{ManifestCreated, MissingBlob, MissingRequest, MissingResponse, UploadStatus},
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::InProject;
use super::extract::{Json, Path, Query};
use crate::{
    change,
    core::Core,
    error::{ApiError, ApiResult},
};

pub fn routes() -> OpenApiRouter<Arc<Core>> {
    OpenApiRouter::new()
        .routes(routes!(find_missing_blobs))
        .routes(routes!(upload_blob))
        .routes(routes!(create_manifest))
}

const MOST_DIGESTS: usize = 10_000;
/// The largest file. Larger ones are a mistake until somebody has one.
const LARGEST_BLOB: u64 = 1 << 40;

/// Which contents does the project still lack?
#[utoipa::path(
    post, path = "/projects/{project}/blobs/missing", operation_id = "find_missing_blobs", tag = "blob",
    params(("project" = String, Path)),
    request_body = MissingRequest, responses((status = 200, body = MissingResponse)),
)]
async fn find_missing_blobs(
    State(core): State<Arc<Core>>,
    InProject(_, project): InProject,
    Json(body): Json<MissingRequest>,
) -> ApiResult<Json<MissingResponse>> {
    if body.digests.len() > MOST_DIGESTS {
        return Err(ApiError::new(Code::RequestTooLarge, format!("ask for at most {MOST_DIGESTS} digests at once")));
    }
    let mut missing = Vec::new();
    for digest in core.store.missing(&project, &body.digests).await? {
        let offset = core.blobs.partial_offset(&project, &digest).await;
        missing.push(MissingBlob { digest, offset });
    }
    Ok(Json(MissingResponse { missing }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct PartQuery {
    /// Where this part begins.
    offset: u64,
    /// The size of the whole.
    size: u64,
}

/// Upload a part of a content
#[utoipa::path(
    put, path = "/projects/{project}/blobs/{digest}", operation_id = "upload_blob", tag = "blob",
    params(("project" = String, Path), ("digest" = String, Path), PartQuery),
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 200, body = UploadStatus)),
)]
async fn upload_blob(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Path((_, digest)): Path<(String, Digest)>,
    Query(part): Query<PartQuery>,
    body: Body,
) -> ApiResult<Json<UploadStatus>> {
    if part.size > LARGEST_BLOB || part.offset > part.size {
        return Err(ApiError::new(Code::RequestInvalid, "offset and size do not fit each other or are too large"));
    }
    let appended = core.blobs.append(&project, &digest, part.offset, part.size, body.into_data_stream()).await;
    if let Err(StoreError::BlobOffset { expected }) = appended {
        // No fault of the caller's, whose part before this one may have come twice: it is told where to go on.
        return Ok(Json(UploadStatus { offset: expected, complete: false }));
    }
    let status = appended.map_err(|error| match error {
        StoreError::BlobMismatch { .. } => {
            ApiError::new(Code::BlobMismatch, error.to_string()).next("upload it again from its beginning")
        }
        StoreError::Interrupted(_) => {
            ApiError::new(Code::RequestInvalid, error.to_string()).next("ask what is missing and go on there")
        }
        error => error.into(),
    })?;
    if status.complete {
        let scope = change::scope(&core, &caller, &project);
        core.store
            .write(move |tx| Box::pin(async move { tx.grant_blobs(&scope, &[(digest, part.size)]).await }))
            .await?;
    }
    Ok(Json(status))
}

/// Name uploaded contents as the files of a folder
#[utoipa::path(
    post, path = "/projects/{project}/manifests", operation_id = "create_manifest", tag = "blob",
    params(("project" = String, Path)),
    request_body = Manifest, responses((status = 201, body = ManifestCreated)),
)]
async fn create_manifest(
    State(core): State<Arc<Core>>,
    InProject(caller, project): InProject,
    Json(body): Json<Manifest>,
) -> ApiResult<(StatusCode, Json<ManifestCreated>)> {
    let invalid = |error: &dyn std::fmt::Display| ApiError::new(Code::RequestInvalid, error.to_string());
    let manifest = Manifest::new(body.files).map_err(|error| invalid(&error))?;
    let (files, bytes) = (manifest.files.len() as u64, manifest.size());
    let scope = change::scope(&core, &caller, &project);
    let digest = core
        .store
        .write(move |tx| Box::pin(async move { tx.record_manifest(&scope, &manifest).await }))
        .await
        .map_err(|error| match error {
            StoreError::BlobsMissing(_) => {
                ApiError::new(Code::BlobMissing, error.to_string()).next("upload what is missing first")
            }
            StoreError::Invalid(_) => invalid(&error),
            error => error.into(),
        })?;
    Ok((StatusCode::CREATED, Json(ManifestCreated { digest, files, bytes })))
}
