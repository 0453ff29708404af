//! What a run carries with it from its creation: what it reads, and what it is to be started as.

use dure_types::{Digest, FileEntry, Name, environment::EnvironmentInput, spec::JobSpec};
use serde::{Deserialize, Serialize};

/// One input, resolved to a version when the run was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    pub kind: InputKind,
    /// The name it appears under: `$DURE_DATA/NAME`.
    pub at: Name,
    pub name: Name,
    pub version: u32,
    pub manifest: Digest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputKind {
    Dataset,
    Model,
}

impl Input {
    pub fn reference(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }
}

/// What to start, by the run's kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Work {
    Job(Box<JobSpec>),
    Build(EnvironmentInput),
    Replica { model: Name, version: u32 },
}

/// A manifest's files in the engine's words.
pub fn engine_files(files: &[FileEntry]) -> Vec<dure_engine::FileEntry> {
    files
        .iter()
        .map(|file| dure_engine::FileEntry {
            path: file.path.clone(),
            executable: file.executable,
            size: file.size,
            digest: file.digest.to_string(),
        })
        .collect()
}
