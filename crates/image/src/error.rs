//! What can go wrong, in words that say whose move is next.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why an environment could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// What the user wrote cannot be built by anyone; nothing was run.
    #[error("{0}")]
    Input(#[from] InputError),

    #[error("uv, which installs the packages, is not here and could not be fetched: {reason}")]
    NoUv { reason: String },

    #[error(
        "the package index {url} cannot be reached: {reason}; check the network, and PIP_INDEX_URL where `dure up` was started"
    )]
    Index { url: String, reason: String },

    #[error("no Python for this environment: wanted {wanted}, found {found}. {advice}")]
    Interpreter { wanted: String, found: String, advice: String },

    #[error("the packages cannot be resolved for Python {python}: {reason}")]
    Resolution { python: String, reason: String },

    #[error("a package could not be built from source for Python {python}: {reason}")]
    SourceBuild { python: String, reason: String },

    #[error("what the index served is not what the lock names: {reason}")]
    Hash { reason: String },

    #[error("no space left on the disk of {path}", path = path.display())]
    DiskFull { path: PathBuf },

    #[error("uv failed while {step}: {reason}")]
    Uv { step: &'static str, reason: String },

    #[error("{doing} {path}: {source}", path = path.display())]
    Io { doing: &'static str, path: PathBuf, source: std::io::Error },
}

/// What is wrong with an environment's description.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{place}: {problem}")]
pub struct InputError {
    /// `packages[1]`, `requirements line 4`, `pyproject`, `python`.
    pub place: String,
    pub problem: String,
}

impl InputError {
    pub(crate) fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), problem: problem.into() }
    }
}

/// Who can change the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Blame {
    /// The environment's description has to change.
    User,
    /// The same build may work later, or once the machine or network is mended.
    Machine,
}

impl BuildError {
    pub(crate) fn io(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull { path: path.into() },
            _ => Self::Io { doing, path: path.into(), source },
        }
    }

    pub fn blame(&self) -> Blame {
        match self {
            Self::Input(_) | Self::Resolution { .. } | Self::SourceBuild { .. } => Blame::User,
            Self::Hash { .. } => Blame::User,
            Self::NoUv { .. }
            | Self::Index { .. }
            | Self::Interpreter { .. }
            | Self::DiskFull { .. }
            | Self::Uv { .. }
            | Self::Io { .. } => Blame::Machine,
        }
    }

    /// A stable word for programs: `resolution`, `index`, `disk_full` ...
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::NoUv { .. } => "no_uv",
            Self::Index { .. } => "index",
            Self::Interpreter { .. } => "interpreter",
            Self::Resolution { .. } => "resolution",
            Self::SourceBuild { .. } => "source_build",
            Self::Hash { .. } => "hash",
            Self::DiskFull { .. } => "disk_full",
            Self::Uv { .. } => "uv",
            Self::Io { .. } => "io",
        }
    }

    /// Whether another interpreter may do where this one did not.
    pub(crate) fn depends_on_interpreter(&self) -> bool {
        match self {
            Self::SourceBuild { .. } => true,
            Self::Resolution { reason, .. } => crate::failure::names_interpreter(reason),
            _ => false,
        }
    }
}

/// The failure of a build as it is left beside the environment's place for whoever started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildFailure {
    pub kind: String,
    pub message: String,
    pub blame: Blame,
}

impl From<&BuildError> for BuildFailure {
    fn from(error: &BuildError) -> Self {
        Self { kind: error.kind().into(), message: error.to_string(), blame: error.blame() }
    }
}
