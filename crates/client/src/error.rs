//! What can go wrong between here and the control plane.

use std::{error::Error, io, path::PathBuf};

use dure_types::{Code, Problem};

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The control plane answered, and this is what it objects to.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// No connection, or it broke and stayed broken.
    #[error("the control plane at {url} cannot be reached: {why}")]
    Unreachable { url: String, why: String, next: String },
    /// Something answered, but not as Dure does.
    #[error("{url} does not answer as a Dure control plane: {why}")]
    Protocol { url: String, why: String },
    /// What was asked for cannot be sent.
    #[error("{0}")]
    Input(String),
    #[error("{}: {}", path.display(), innermost(source))]
    File { path: PathBuf, source: io::Error },
}

impl ClientError {
    pub fn is(&self, code: Code) -> bool {
        matches!(self, Self::Problem(problem) if problem.is(code))
    }

    /// The stable code, where there is one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.code),
            Self::Unreachable { .. } => Some(Code::Unreachable.as_str()),
            _ => None,
        }
    }

    /// What to do next.
    pub fn next(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => problem.next.as_deref(),
            Self::Unreachable { next, .. } => Some(next),
            _ => None,
        }
    }

    /// Whether the same request may well succeed in a moment: nobody answered, or only to say "not now".
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Problem(problem) => matches!(problem.status, 429 | 502 | 503 | 504),
            _ => false,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File { path: path.into(), source }
    }
}

/// The innermost cause says what happened; those around it say where in the library.
pub(crate) fn innermost(error: &dyn Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
