//! Where everything of the process engine lies: the state folder, which is kept, and the runtime
//! folder, which holds sockets and must have a short path.

use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::EngineError;
use crate::unit::UnitId;

pub const CODE: &str = "code";
pub const DATA: &str = "data";
pub const MODELS: &str = "models";
pub const OUTPUT: &str = "output";
pub const TMP: &str = "tmp";
pub const HOME: &str = "home";
/// Every unit has these, and more if it asks for it.
pub const FOLDERS: [&str; 4] = [CODE, OUTPUT, TMP, HOME];
pub const PARAMETERS: &str = "params.json";
pub const LOG: &str = "log";

/// A Unix socket's path may have 107 bytes; some programs append to it.
const LONGEST_SOCKET_PATH: usize = 99;

/// The state folder's parts.
#[derive(Debug, Clone)]
pub struct State {
    folder: PathBuf,
}

impl State {
    pub fn new(folder: PathBuf) -> State {
        State { folder }
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// One folder for each unit. What is here is complete.
    pub fn units(&self) -> PathBuf {
        self.folder.join("units")
    }

    pub fn unit(&self, id: &UnitId) -> PathBuf {
        self.units().join(id.as_str())
    }

    /// What is being put together or taken apart; whatever an engine finds here when it starts
    /// was left by a crash.
    pub fn staging(&self) -> PathBuf {
        self.folder.join("staging")
    }

    /// Folders of units that are gone, empty again, for the next units.
    pub fn spare(&self) -> PathBuf {
        self.folder.join("spare")
    }

    /// The keeper's.
    pub fn journal(&self) -> PathBuf {
        self.folder.join("journal")
    }

    pub fn lock(&self) -> PathBuf {
        self.folder.join("keeper.lock")
    }

    pub fn keeper_log(&self) -> PathBuf {
        self.folder.join("keeper.log")
    }
}

/// The sockets of one state folder in the runtime folder.
#[derive(Debug, Clone)]
pub struct Sockets {
    folder: PathBuf,
    state: String,
}

impl Sockets {
    /// Makes the runtime folder, private to this user, and refuses one that somebody else could
    /// have prepared: `/tmp` is everybody's.
    pub fn prepare(folder: &Path, state: &Path) -> Result<Sockets, EngineError> {
        let failed = |why: String| EngineError::RuntimeFolder(format!("{} {why}", folder.display()));
        match std::fs::DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(format!("cannot be made: {error}"))),
        }
        let facts = std::fs::symlink_metadata(folder).map_err(|error| failed(error.to_string()))?;
        let me = rustix::process::geteuid().as_raw();
        if !facts.is_dir() {
            return Err(failed("is not a folder".into()));
        }
        if facts.uid() != me {
            return Err(failed(format!("belongs to user {}, not to {me}", facts.uid())));
        }
        if facts.mode() & 0o077 != 0 {
            return Err(failed("is open to other users: its mode must be 0700".into()));
        }
        let state = digest(&[state.as_os_str().as_encoded_bytes()], 5);
        let sockets = Sockets { folder: folder.to_path_buf(), state };
        let longest = sockets.of_any_unit("longest").as_os_str().len();
        if longest > LONGEST_SOCKET_PATH {
            return Err(failed(format!("has too long a path for sockets: by {} bytes", longest - LONGEST_SOCKET_PATH)));
        }
        Ok(sockets)
    }

    pub fn keeper(&self) -> PathBuf {
        self.folder.join(format!("{}.sock", self.state))
    }

    pub fn unit(&self, id: &UnitId) -> PathBuf {
        self.of_any_unit(id.as_str())
    }

    fn of_any_unit(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{}-{}.sock", self.state, digest(&[id.as_bytes()], 8)))
    }
}

/// Where sockets go unless told otherwise. Read from the environment once, by whoever starts.
pub fn default_runtime_folder(xdg_runtime_dir: Option<PathBuf>) -> PathBuf {
    match xdg_runtime_dir {
        Some(folder) if folder.is_absolute() && folder.is_dir() => folder.join("dure"),
        _ => PathBuf::from(format!("/tmp/dure-{}", rustix::process::geteuid().as_raw())),
    }
}

/// The first `bytes` of a digest over all parts, in hex.
pub fn digest(parts: &[&[u8]], bytes: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(&hash.finalize()[..bytes])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[test]
    fn a_runtime_folder_that_others_can_reach_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let state = Path::new("/state");
        let made = temp.path().join("made");
        assert!(Sockets::prepare(&made, state).is_ok());
        assert!(Sockets::prepare(&made, state).is_ok(), "a second time too");
        std::fs::set_permissions(&made, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Sockets::prepare(&made, state).is_err());

        let target = temp.path().join("target");
        std::fs::DirBuilder::new().mode(0o700).create(&target).unwrap();
        symlink(&target, temp.path().join("link")).unwrap();
        assert!(Sockets::prepare(&temp.path().join("link"), state).is_err());
        assert!(Sockets::prepare(&temp.path().join("x".repeat(90)), state).is_err());
    }
}
