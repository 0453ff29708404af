//! What can go wrong: with a model or its server (`ModelError`), and with one request (`Refusal`).

use std::{io, path::PathBuf};

use dure_types::problem::{Code, Problem};

/// Why a file is not a model that can be served, or why its server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("not an ONNX model: this is {found}; {advice}")]
    NotOnnx { found: &'static str, advice: &'static str },
    #[error("this looks like an ONNX model, but it is cut short or damaged: {0}")]
    Damaged(String),
    #[error("this ONNX model cannot be served: {0}")]
    Unsupported(String),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("ONNX Runtime cannot be loaded from {}: {reason}", path.display())]
    Library { path: PathBuf, reason: String },
    #[error("ONNX Runtime does not take this model: {0}")]
    Load(String),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("the model server cannot start: {0}")]
    Start(String),
}

impl ModelError {
    /// The public code that goes with it.
    pub fn code(&self) -> Code {
        match self {
            Self::NotOnnx { .. } | Self::Damaged(_) | Self::Unsupported(_) => Code::NotOnnx,
            Self::File { .. } => Code::SpecFile,
            Self::Library { .. } | Self::Load(_) | Self::Listen { .. } | Self::Start(_) => Code::NotReady,
        }
    }
}

/// Why one request is not answered; it becomes a problem document.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub code: Code,
    pub detail: String,
    pub next: Option<String>,
    /// The status, where it is not the code's own.
    pub status: Option<u16>,
}

impl Refusal {
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), next: None, status: None }
    }

    /// The request itself is wrong: JSON, fields, names.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(Code::RequestInvalid, detail)
    }

    /// The values do not fit the model's signature.
    pub fn input(detail: impl Into<String>) -> Self {
        Self::new(Code::InputShape, detail)
    }

    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new(Code::Internal, detail)
    }

    pub fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    pub fn problem(self) -> Problem {
        let mut problem = Problem::new(self.code, self.detail);
        problem.next = self.next;
        if let Some(status) = self.status {
            problem.status = status;
        }
        problem
    }
}

impl From<serde_json::Error> for Refusal {
    fn from(error: serde_json::Error) -> Self {
        match error.classify() {
            // Raised by our own readers: the JSON is sound, its values are not.
            serde_json::error::Category::Data => Self::input(error.to_string()),
            _ => Self::invalid(format!("the body is not valid JSON: {error}")),
        }
    }
}
