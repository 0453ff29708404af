//! A build from outside: where things are, what makes an environment exist, and who may build it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use dure_types::environment::EnvironmentInput;
use rustix::io::FdFlags;
use serde::{Deserialize, Serialize};

use crate::error::{BuildError, BuildFailure};
use crate::host::Host;

use crate::progress::Progress;
use crate::steps::Build;
use crate::tree;

pub(crate) const RESULT: &str = "environment.json";
const LARGEST_RESULT: u64 = 64 << 20;

/// Where things are. It can be written to a file for the process that builds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildConfig {
    /// The environment's final place, such as `environments/<digest>`. Files named like it, with
    /// an ending, lie beside it: the lock of builds and the last failure.
    pub into: PathBuf,
    /// uv's cache, shared by all environments.
    pub cache: PathBuf,
    /// Where a fetched uv and fetched interpreters are kept.
    pub tools: PathBuf,
    /// The installation's package index; else the user's, else the public one.
    #[serde(default)]
    pub index_url: Option<String>,
    #[serde(default)]
    pub host: Host,
}

/// All that the process that builds has to be told, for a file that only its owner may read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BuildRequest {
    pub input: EnvironmentInput,
    pub config: BuildConfig,
}

/// An environment that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Built {
    pub python_version: String,
    /// The interpreter that sees the packages: what a run's `python` is.
    pub python_path: PathBuf,
    pub packages: Vec<Package>,
    /// Requirements with hashes, or the uv.lock that was given.
    pub lock: String,
    pub uv_version: String,
    pub seconds: f64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub version: String,
}

impl Built {
    /// Reads the environment at `into`, if there is one whose interpreter is still there.
    pub fn load(into: &Path) -> Option<Self> {
        let file = into.join(RESULT);
        if fs::metadata(&file).ok()?.len() > LARGEST_RESULT {
            return None;
        }
        let built: Self = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
        // The link to the machine's own Python leads nowhere once that was removed.
        let expected = python_of(into);
        (built.python_path == expected && expected.exists()).then_some(built)
    }
}

impl BuildFailure {
    /// The failure of the last build of `into`, if it failed.
    pub fn load(into: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(failure_file(into)).ok()?).ok()
    }
}

/// Where a failed build of `into` leaves its [`BuildFailure`].
pub fn failure_file(into: &Path) -> PathBuf {
    beside(into, "failed.json")
}

fn beside(into: &Path, ending: &str) -> PathBuf {
    let mut name = into.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    into.with_file_name(name)
}

pub(crate) fn python_of(into: &Path) -> PathBuf {
    into.join("venv/bin/python")
}

/// Builds the environment, or finds it built. One build of a place runs at a time; others wait.
pub async fn build(
    input: &EnvironmentInput,
    config: &BuildConfig,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Built, BuildError> {
    let started = Instant::now();
    let checked = crate::input::check(input)?;
    let into = config.into.as_path();
    if let Some(built) = Built::load(into) {
        progress(Progress::Reused);
        return Ok(built);
    }
    for folder in [into.parent().unwrap_or(into), &config.cache, &config.tools] {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| BuildError::io("making", folder, error))?;
    }
    let lock = lock(into, progress).await?;
    // The one that was waited for has made it, as a rule.
    let result = match Built::load(into) {
        Some(built) => {
            progress(Progress::Reused);
            Ok(built)
        }
        None => {
            let _ = fs::remove_file(failure_file(into));
            Build::new(config, progress).make(&checked, started).await
        }
    };
    if let Err(error) = &result {
        // The error itself is what counts; a disk that is full refuses these too.
        let _ = tree::remove(into);
        if let Ok(text) = serde_json::to_vec_pretty(&BuildFailure::from(error)) {
            let _ = fs::write(failure_file(into), text);
        }
    }
    // Closing it would not do: what we started may still hold it open.
    let _ = lock.unlock();
    result
}

/// Takes the place for this build alone. The programs that we start inherit the lock: should this
/// process be killed and one of them live on, the next build waits until that one has ended.
async fn lock(into: &Path, progress: &mut (dyn FnMut(Progress) + Send)) -> Result<File, BuildError> {
    let path = beside(into, "lock");
    let failed = |error| BuildError::io("locking", &path, error);
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(failed)?;
    rustix::io::fcntl_setfd(&file, FdFlags::empty()).map_err(|error| failed(error.into()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(fs::TryLockError::WouldBlock) => progress(Progress::Waiting),
        Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
    }
    let waiting = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    match waiting.await {
        Ok(locked) => locked.map_err(failed),
        Err(error) => Err(failed(std::io::Error::other(error))),
    }
}
