//! A manifest's files as a zip, made while it is sent.

use axum::{body::Body, response::Response};
use dure_types::Manifest;

use super::run::saved_as;
use crate::core::Core;

pub fn answer(core: &Core, name: &str, manifest: &Manifest) -> Response {
    saved_as(&format!("{name}.zip"), "application/zip", Body::from_stream(core.blobs.zip_manifest(manifest)))
}
