//! From the errors of the parts to what the API answers.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use dure_store::StoreError;
use dure_types::{Code, Problem};

/// An answer that is a problem.
#[derive(Debug)]
pub struct ApiError(pub Box<Problem>);

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Problem::new(code, detail).into()
    }

    #[must_use]
    pub fn next(self, next: impl Into<String>) -> Self {
        self.0.next(next).into()
    }

    /// Something that is our fault: told to the log whole, to the caller in general words.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "internal error");
        Self::new(Code::Internal, "something went wrong inside Dure; its log says what")
            .next("see the output of dure up")
    }
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NotFound { .. } => Self::new(Code::NotFound, error.to_string()),
            StoreError::Exists { .. } => Self::new(Code::Exists, error.to_string()),
            StoreError::InUse { by } => {
                let error = Self::new(Code::InUse, format!("it is in use by {by}"));
                // `model digits@1` is what `dure show model/digits@1` shows.
                match by.split_once(' ') {
                    Some((kind, name)) => error.next(format!("dure show {kind}/{name}")),
                    None => error,
                }
            }
            // Nothing of ours failed: the caller asked for what cannot be.
            StoreError::Invalid(_) | StoreError::Conflict(_) => Self::new(Code::RequestInvalid, error.to_string()),
            _ if is_full(&error) => {
                tracing::error!(%error, "the disk is full");
                Self::new(Code::DiskFull, "the disk of the data directory is full; nothing was written")
                    .next("free some space there (dure doctor says how much there is), then do it again")
            }
            _ if error.is_retryable() => {
                tracing::warn!(%error, "the store cannot take this now");
                Self::new(Code::StoreBusy, "the store cannot take this now").next("try again in a moment")
            }
            _ => Self::internal(error),
        }
    }
}

/// Whether the disk has no room. Databases say so in words.
fn is_full(error: &StoreError) -> bool {
    match error {
        StoreError::Io { error, .. } => {
            matches!(error.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded)
        }
        StoreError::Unavailable(why) => why.contains("disk is full") || why.contains("No space left"),
        _ => false,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self.0)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(Problem::CONTENT_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // For what adds to it on its way out.
        response.extensions_mut().insert(*self.0);
        response
    }
}
