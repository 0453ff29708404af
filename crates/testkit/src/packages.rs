//! Tests that need Python packages: downloaded once for all of them, below the target folder.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use dure_types::{environment::EnvironmentState, run::RunState};

use crate::{Builder, Dure, block_on};

static SHARED: Mutex<Option<Option<Arc<Dure>>>> = Mutex::new(None);

/// One control plane for every test that needs environments and kills nothing; it ends with the process. None, and
/// a line that says why, where the package index cannot be reached.
pub fn shared(program: &str) -> Option<Arc<Dure>> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    let made = shared.get_or_insert_with(|| {
        let dure = with_packages(Dure::builder(program))?;
        // SAFETY: the function stays, unwinds nowhere, and is called once when the process exits.
        unsafe { libc::atexit(end_shared) };
        Some(Arc::new(dure))
    });
    made.clone()
}

/// What has no owner left in a test is ended, and looked at, when the process exits.
extern "C" fn end_shared() {
    let shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner).take();
    // On a thread of its own: those of the exiting one's locals that are gone already are not needed there.
    let ended = std::thread::spawn(move || drop(shared)).join();
    if ended.is_err() {
        // Too late for a test to fail; the process can.
        std::process::abort();
    }
}

/// Starts a control plane whose builds share uv and its cache with all others; None, and a line that says why,
/// where the package index cannot be reached.
pub fn with_packages(builder: Builder) -> Option<Dure> {
    static UNREACHABLE: OnceLock<Option<String>> = OnceLock::new();
    let unreachable = UNREACHABLE.get_or_init(|| probe(builder.program()));
    if let Some(reason) = unreachable {
        eprintln!("skipped: {reason}");
        return None;
    }
    Some(builder.packages().start())
}

/// Makes an environment of one tiny package, and tells what stood in the way if that was the network.
fn probe(program: &str) -> Option<String> {
    let dure = Dure::builder(program).packages().start();
    dure.write_file(
        "probe.yaml",
        "kind: job\nname: probe\nenvironment: {packages: [six]}\ncommand: python -c 'import six'\n",
    );
    dure.cli(&["apply", "-f", "probe.yaml", "--yes", "--detach"]).expect(0);
    let run = dure.run_of("probe");
    let ended = dure.wait_run(&run, |run| run.state.is_over());
    if ended.run.state == RunState::Succeeded {
        return None;
    }
    let digest = ended.environment.expect("an environment");
    let environment = block_on(dure.client().get_environment(digest.as_str())).expect("the environment");
    let error = environment.error.unwrap_or_default();
    let is_network =
        environment.state == EnvironmentState::Failed && (error.contains("package index") || error.contains("uv"));
    assert!(is_network, "the environment of the probe was not made: {error}");
    Some(error)
}

/// Lets a data folder find what earlier builds downloaded.
pub fn share_cache(program: &str, data_dir: &Path) {
    let target = Path::new(program).parent().and_then(Path::parent).map_or_else(PathBuf::new, PathBuf::from);
    for name in ["uv-cache", "tools"] {
        let shared = target.join("tmp/packages").join(name);
        fs::create_dir_all(&shared).expect("a folder for packages");
        symlink(&shared, data_dir.join(name)).expect("a link to the packages");
    }
}
