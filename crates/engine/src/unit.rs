//! What a unit is, and what can become of it.
//!
//! Plain data that is also the engine's wire format; nothing here touches the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Names a unit: `<run>-<attempt>-<index>`. It names folders, sockets and containers too, so its
/// characters are those that every one of them takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitId(String);

impl UnitId {
    pub const MAX_LENGTH: usize = 63;

    pub fn new(id: impl Into<String>) -> Result<UnitId, InvalidSpec> {
        let id = id.into();
        let fits = (1..=Self::MAX_LENGTH).contains(&id.len())
            && id.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if fits {
            Ok(UnitId(id))
        } else {
            Err(InvalidSpec(format!("unit id {id:?}: it takes 1 to {} of a-z, 0-9 and -", Self::MAX_LENGTH)))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for UnitId {
    type Error = InvalidSpec;
    fn try_from(id: String) -> Result<Self, InvalidSpec> {
        UnitId::new(id)
    }
}

impl From<UnitId> for String {
    fn from(id: UnitId) -> String {
        id.0
    }
}

/// A unit that cannot be started as it is described, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidSpec(pub String);

/// Everything an engine needs to start one unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnitSpec {
    pub id: UnitId,
    /// Program and arguments; a shell line has already been turned into `/bin/sh -c`.
    pub command: Vec<String>,
    pub env: BTreeMap<String, String>,
    /// Put before everything else in `PATH`, a virtual environment's `bin` for example.
    pub path_prefix: Vec<PathBuf>,
    /// Thousandths of a core; 0 sets no limit.
    pub cpu_milli: u64,
    /// 0 sets no limit.
    pub memory_bytes: u64,
    /// The GPUs that the unit may see, by the id that the probe gave them; empty hides all.
    pub devices: Vec<String>,
    pub mounts: Vec<Mount>,
    /// Counted from the start and enforced by the engine itself, so that it holds without a
    /// control plane.
    pub timeout: Option<Duration>,
    /// Between the request to end and the kill.
    pub grace: Duration,
    /// Whether the unit answers at `DURE_LISTEN`.
    pub listen: bool,
    /// Written to the JSON file at `DURE_PARAMS` unless null.
    pub parameters: serde_json::Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub at: MountPoint,
    pub files: Vec<FileEntry>,
}

/// Where files appear. Code is a writable copy and the working directory; data and models are
/// read-only copies in `$DURE_DATA/<name>` and `$DURE_MODELS/<name>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountPoint {
    Code,
    Data(String),
    Model(String),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Relative, with `/` between its parts.
    pub path: String,
    pub executable: bool,
    pub size: u64,
    /// SHA-256 in lower-case hex.
    pub digest: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    pub id: UnitId,
    pub state: UnitState,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitState {
    Starting,
    Running { pid: u32, started_at: i64 },
    Ended(Exit),
}

/// How a unit ended. Times are microseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub started_at: i64,
    pub ended_at: i64,
    pub outcome: Outcome,
    pub usage: Usage,
    /// The log's length, so that nobody reads the log of a unit that wrote none.
    pub log_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Exited {
        code: i32,
    },
    Signalled {
        signal: i32,
    },
    OutOfMemory {
        limit: u64,
    },
    TimedOut,
    /// It was told to stop and did, by itself or killed after the grace.
    Stopped,
    FailedToStart {
        program: String,
        message: String,
    },
    /// What became of it cannot be known.
    Lost {
        message: String,
    },
}

impl Outcome {
    pub fn succeeded(&self) -> bool {
        matches!(self, Outcome::Exited { code: 0 })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    pub cpu_micros: u64,
    pub peak_memory_bytes: u64,
}

/// What was seen of a unit. The same may be told twice, an end is never left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitEvent {
    Started { id: UnitId, pid: u32, at: i64 },
    Usage { id: UnitId, cpu_micros: u64, memory_bytes: u64, at: i64 },
    Ended { id: UnitId, exit: Exit },
}

impl UnitEvent {
    pub fn id(&self) -> &UnitId {
        match self {
            UnitEvent::Started { id, .. } | UnitEvent::Usage { id, .. } | UnitEvent::Ended { id, .. } => id,
        }
    }
}

impl UnitSpec {
    /// Refuses what could not start or would reach outside the unit's folder.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        let invalid = |message: String| Err(InvalidSpec(message));
        if self.command.first().is_none_or(|program| program.is_empty()) {
            return invalid("the command is empty".into());
        }
        if self.command.iter().any(|argument| argument.contains('\0')) {
            return invalid("the command has a NUL byte".into());
        }
        for (name, value) in &self.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return invalid(format!("{name:?} is no name for an environment variable"));
            }
            if value.contains('\0') {
                return invalid(format!("environment variable {name} has a NUL byte"));
            }
        }
        let mut points = BTreeSet::new();
        for mount in &self.mounts {
            mount.validate()?;
            if !points.insert(&mount.at) {
                return invalid(format!("{} is mounted twice", mount.at));
            }
        }
        Ok(())
    }
}

impl fmt::Display for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountPoint::Code => f.write_str("code"),
            MountPoint::Data(name) => write!(f, "data {name}"),
            MountPoint::Model(name) => write!(f, "model {name}"),
        }
    }
}

impl Mount {
    fn validate(&self) -> Result<(), InvalidSpec> {
        if let MountPoint::Data(name) | MountPoint::Model(name) = &self.at {
            let plain = name.len() <= 128
                && name.starts_with(|c: char| c.is_ascii_alphanumeric())
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
            if !plain {
                return Err(InvalidSpec(format!("{name:?} is no name for mounted files")));
            }
        }
        let mut files = BTreeSet::new();
        let mut folders = BTreeSet::new();
        for file in &self.files {
            check_path(&file.path)?;
            if !files.insert(file.path.as_str()) {
                return Err(InvalidSpec(format!("{:?} is there twice in {}", file.path, self.at)));
            }
            folders.extend(file.path.match_indices('/').map(|(end, _)| &file.path[..end]));
        }
        match files.intersection(&folders).next() {
            Some(both) => Err(InvalidSpec(format!("{both:?} is both a file and a folder in {}", self.at))),
            None => Ok(()),
        }
    }
}

/// A manifest comes from whoever uploaded it: its paths must stay below where they are put.
fn check_path(path: &str) -> Result<(), InvalidSpec> {
    let bad = path.is_empty()
        || path.len() > 4000
        || path.contains('\0')
        || path.split('/').any(|part| part.is_empty() || part == "." || part == "..")
        || path.split('/').any(|part| part.len() > 255);
    if bad {
        return Err(InvalidSpec(format!(
            "{path:?} is no path for a file: it must be relative and without empty, . or .. parts"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(paths: &[&str]) -> Mount {
        let files = paths
            .iter()
            .map(|path| FileEntry { path: path.to_string(), executable: false, size: 0, digest: String::new() })
            .collect();
        Mount { at: MountPoint::Code, files }
    }

    #[test]
    fn paths_that_would_leave_the_folder_or_collide_are_refused() {
        for bad in ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "a\0b", "a/"] {
            assert!(mount(&[bad]).validate().is_err(), "{bad:?}");
        }
        assert!(mount(&["a", "a"]).validate().is_err());
        assert!(mount(&["a", "a/b"]).validate().is_err());
        assert!(mount(&["a/b/c", "a-b", "a/b/d", "..a", "b.."]).validate().is_ok());
    }

    #[test]
    fn ids_are_short_and_safe_in_a_path() {
        assert!(UnitId::new("01abc-1-0").is_ok());
        for bad in ["", "A", "a/b", "..", "a.b", &"a".repeat(64)] {
            assert!(UnitId::new(bad).is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<UnitId>("\"../x\"").is_err());
    }
}
