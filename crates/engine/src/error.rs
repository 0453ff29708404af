//! What can go wrong with an engine, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::unit::{InvalidSpec, UnitId};

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("unit {unit} cannot be started: {source}")]
    Invalid { unit: UnitId, source: InvalidSpec },
    #[error("there is no unit {0}")]
    NotFound(UnitId),
    #[error("{path} could not be put in place for unit {unit}: {source}")]
    Stage { unit: UnitId, path: String, source: io::Error },
    #[error("unit {unit} could not be started now: {message}")]
    Start { unit: UnitId, message: String },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("the folder for sockets cannot be used: {0}")]
    RuntimeFolder(String),
    #[error("the keeper of this machine could not be started: {0}")]
    KeeperStart(String),
    #[error("the keeper of this machine is away; it is being started again")]
    KeeperAway,
    #[error("{0}")]
    Incompatible(String),
    #[error("the engine is shut down")]
    ShutDown,
}

/// Whose turn it is after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The same call may succeed at once.
    Retry,
    /// The machine lacks something for now.
    Wait,
    /// What was asked for is wrong.
    User,
    /// The installation or Dure itself is wrong.
    Us,
}

impl EngineError {
    pub fn blame(&self) -> Blame {
        match self {
            EngineError::Invalid { .. } => Blame::User,
            EngineError::KeeperAway => Blame::Retry,
            EngineError::Stage { .. } | EngineError::Start { .. } => Blame::Wait,
            EngineError::NotFound(_)
            | EngineError::Io { .. }
            | EngineError::RuntimeFolder(_)
            | EngineError::KeeperStart(_)
            | EngineError::Incompatible(_)
            | EngineError::ShutDown => Blame::Us,
        }
    }
}
