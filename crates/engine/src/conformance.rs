//! What every engine must do, as one suite that each engine's tests run.
//!
//! A case sees an engine only through the interface, and a unit only through what it writes: to
//! its log and to the folder of its outputs. Cases wait for events, never for the clock.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use sha2::{Digest, Sha256};

use crate::{
    Blobs, Engine, EngineError, Exit, FileEntry, Mount, MountPoint, Outcome, UnitEvent, UnitId, UnitSpec, UnitState,
};

/// After this long an event that was to come is missing.
const MISSING: Duration = Duration::from_secs(60);

/// One installation of an engine.
#[async_trait]
pub trait Fixture: Send + Sync {
    /// A new client of it; what earlier ones started is there.
    async fn connect(&self) -> Arc<dyn Engine>;

    fn blobs(&self) -> &DirectoryBlobs;
}

/// Blobs as files in one folder, named by their digests.
#[derive(Debug, Clone)]
pub struct DirectoryBlobs {
    folder: PathBuf,
}

impl DirectoryBlobs {
    pub fn new(folder: impl Into<PathBuf>) -> DirectoryBlobs {
        DirectoryBlobs { folder: folder.into() }
    }

    pub fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(digest)
    }

    pub fn put(&self, path: &str, content: &str, executable: bool) -> FileEntry {
        let entry = entry(path, content, executable);
        std::fs::create_dir_all(&self.folder).expect("folder for blobs");
        std::fs::write(self.path(&entry.digest), content).expect("blob");
        entry
    }
}

#[async_trait]
impl Blobs for DirectoryBlobs {
    async fn copy_to(&self, digest: &str, to: &Path) -> io::Result<()> {
        let content = std::fs::read(self.path(digest))?;
        if hex::encode(Sha256::digest(&content)) != digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it was changed"));
        }
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(to)?;
        io::Write::write_all(&mut file, &content)
    }
}

pub fn entry(path: &str, content: &str, executable: bool) -> FileEntry {
    FileEntry {
        path: path.into(),
        executable,
        size: content.len() as u64,
        digest: hex::encode(Sha256::digest(content)),
    }
}

pub fn id(id: &str) -> UnitId {
    UnitId::new(id).expect("a good id")
}

/// A unit that runs a line of shell.
pub fn shell(unit: &str, line: &str) -> UnitSpec {
    UnitSpec {
        id: id(unit),
        command: vec!["/bin/sh".into(), "-c".into(), line.into()],
        env: BTreeMap::new(),
        path_prefix: vec![],
        cpu_milli: 1000,
        memory_bytes: 256 << 20,
        devices: vec![],
        mounts: vec![],
        timeout: None,
        grace: Duration::from_secs(30),
        listen: false,
        parameters: serde_json::Value::Null,
    }
}

/// Waits for the unit's end.
pub async fn end(engine: &dyn Engine, id: &UnitId) -> Exit {
    let mut events = engine.watch();
    let end = async {
        while let Some(event) = events.next().await {
            match event {
                UnitEvent::Ended { id: ended, exit } if ended == *id => return exit,
                _ => {}
            }
        }
        panic!("the engine went away before the end of {id}");
    };
    tokio::time::timeout(MISSING, end).await.unwrap_or_else(|_| panic!("{id} does not end"))
}

/// All of the log, up to the unit's end.
pub async fn log(engine: &dyn Engine, id: &UnitId, offset: u64) -> String {
    let mut stream = engine.logs(id, offset);
    let mut text = Vec::new();
    let all = async {
        while let Some(chunk) = stream.next().await {
            text.extend_from_slice(&chunk.expect("log"));
        }
    };
    tokio::time::timeout(MISSING, all).await.expect("the log does not end");
    String::from_utf8(text).expect("text")
}

/// Waits until the log has a line of this content.
pub async fn line(engine: &dyn Engine, id: &UnitId, wanted: &str) {
    let mut stream = engine.logs(id, 0);
    let mut text = String::new();
    let seen = async {
        while let Some(chunk) = stream.next().await {
            text.push_str(&String::from_utf8_lossy(&chunk.expect("log")));
            if text.lines().any(|line| line == wanted) {
                return;
            }
        }
        panic!("{id} ended without the line {wanted:?}; its log is {text:?}");
    };
    tokio::time::timeout(MISSING, seen).await.unwrap_or_else(|_| panic!("no line {wanted:?}"));
}

/// Whether a process that took this lock has ended.
pub fn lock_is_free(path: &Path) -> bool {
    let file = std::fs::File::open(path).expect("the file that was locked");
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// Shell: a process of its own session, whose parent is gone, that ignores SIGTERM and holds a
/// lock until it is killed.
const STRAY: &str = r#"(setsid sh -c 'trap "" TERM; exec 9>"$DURE_OUTPUT/lock"; flock 9; echo locked; sleep 1000' &)"#;

/// Shell: waits for a file that the test makes.
const GATE: &str = r#"until [ -e "$DURE_OUTPUT/open" ]; do sleep 0.02; done"#;

pub fn open_gate(engine: &dyn Engine, id: &UnitId) {
    std::fs::write(engine.outputs(id).join("open"), "").expect("gate");
}

pub async fn output_and_exit_code_are_told(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let spec = shell("out-1-0", "echo one; echo two >&2; exit 3");
    engine.ensure(&spec).await.unwrap();
    let exit = end(&*engine, &spec.id).await;
    assert_eq!(exit.outcome, Outcome::Exited { code: 3 });
    assert!(exit.started_at > 0 && exit.ended_at >= exit.started_at);
    assert!(exit.usage.peak_memory_bytes > 0);
    assert_eq!(exit.log_bytes, 8);
    assert_eq!(log(&*engine, &spec.id, 0).await, "one\ntwo\n");
    assert_eq!(log(&*engine, &spec.id, 4).await, "two\n");
}

pub async fn a_log_is_followed_while_it_is_written(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let spec = shell("follow-1-0", &format!("echo first; {GATE}; printf last"));
    engine.ensure(&spec).await.unwrap();
    line(&*engine, &spec.id, "first").await;
    let rest = tokio::spawn({
        let (engine, id) = (engine.clone(), spec.id.clone());
        async move { log(&*engine, &id, 6).await }
    });
    open_gate(&*engine, &spec.id);
    assert_eq!(rest.await.unwrap(), "last");
}

pub async fn a_unit_is_started_once(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let spec = shell("once-1-0", &format!("echo ran; {GATE}"));
    let (one, two) = tokio::join!(engine.ensure(&spec), engine.ensure(&spec));
    one.unwrap();
    two.unwrap();
    line(&*engine, &spec.id, "ran").await;
    engine.ensure(&spec).await.unwrap();
    open_gate(&*engine, &spec.id);
    end(&*engine, &spec.id).await;
    engine.ensure(&spec).await.unwrap();
    assert_eq!(log(&*engine, &spec.id, 0).await, "ran\n");
    let listed = engine.list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert!(matches!(listed[0].state, UnitState::Ended(_)));
}

pub async fn what_runs_is_adopted_by_the_next_client(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let spec = shell("adopt-1-0", &format!("echo ran; {GATE}; exit 4"));
    let done = shell("done-1-0", "exit 5");
    engine.ensure(&spec).await.unwrap();
    engine.ensure(&done).await.unwrap();
    line(&*engine, &spec.id, "ran").await;
    end(&*engine, &done.id).await;
    let before = engine.list().await.unwrap();
    drop(engine);

    let engine = fixture.connect().await;
    let after = engine.list().await.unwrap();
    assert_eq!(after.len(), 2);
    assert!(before.iter().all(|unit| after.contains(unit)), "{before:?} {after:?}");
    assert_eq!(end(&*engine, &done.id).await.outcome, Outcome::Exited { code: 5 });
    engine.ensure(&spec).await.unwrap();
    open_gate(&*engine, &spec.id);
    assert_eq!(end(&*engine, &spec.id).await.outcome, Outcome::Exited { code: 4 });
    assert_eq!(log(&*engine, &spec.id, 0).await, "ran\n", "not started again");
}

pub async fn a_unit_is_asked_to_stop_before_it_is_killed(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let polite = "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.02; done";
    let polite = shell("polite-1-0", polite);
    let mut stubborn = shell("stubborn-1-0", "trap '' TERM; echo up; sleep 1000; sleep 1000");
    stubborn.grace = Duration::from_millis(50);
    for spec in [&polite, &stubborn] {
        engine.ensure(spec).await.unwrap();
        line(&*engine, &spec.id, "up").await;
        engine.stop(&spec.id).await.unwrap();
        engine.stop(&spec.id).await.unwrap();
        assert_eq!(end(&*engine, &spec.id).await.outcome, Outcome::Stopped);
    }
    // The shell may say of its child that it was terminated, too.
    assert!(log(&*engine, &polite.id, 0).await.ends_with("asked\n"));
    engine.stop(&polite.id).await.unwrap();
    let stranger = engine.stop(&id("stranger-1-0")).await;
    assert!(matches!(stranger, Err(EngineError::NotFound(_))));
}

pub async fn stopping_reaches_what_left_the_session(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let mut spec = shell("stray-1-0", &format!("{STRAY}; {GATE}"));
    spec.grace = Duration::from_millis(50);
    engine.ensure(&spec).await.unwrap();
    line(&*engine, &spec.id, "locked").await;
    engine.stop(&spec.id).await.unwrap();
    assert_eq!(end(&*engine, &spec.id).await.outcome, Outcome::Stopped);
    assert!(lock_is_free(&engine.outputs(&spec.id).join("lock")));
}

pub async fn what_a_unit_leaves_behind_ends_with_it(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let spec = shell("left-1-0", &format!("{STRAY}; {GATE}; exit 6"));
    engine.ensure(&spec).await.unwrap();
    line(&*engine, &spec.id, "locked").await;
    open_gate(&*engine, &spec.id);
    assert_eq!(end(&*engine, &spec.id).await.outcome, Outcome::Exited { code: 6 });
    assert!(lock_is_free(&engine.outputs(&spec.id).join("lock")));
}

pub async fn a_timeout_ends_a_unit_and_is_named(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let mut spec = shell("late-1-0", "trap 'echo asked; exit 0' TERM; while :; do sleep 0.02; done");
    spec.timeout = Some(Duration::from_millis(300));
    engine.ensure(&spec).await.unwrap();
    assert_eq!(end(&*engine, &spec.id).await.outcome, Outcome::TimedOut);
    assert!(log(&*engine, &spec.id, 0).await.ends_with("asked\n"));
}

pub async fn out_of_memory_is_named(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let mut spec = shell("greedy-1-0", "exec tail /dev/zero");
    spec.memory_bytes = 48 << 20;
    engine.ensure(&spec).await.unwrap();
    let exit = end(&*engine, &spec.id).await;
    assert_eq!(exit.outcome, Outcome::OutOfMemory { limit: 48 << 20 });
    // Whoever comes after it has its own memory, and is not blamed.
    let next = shell("modest-1-0", "exit 9");
    engine.ensure(&next).await.unwrap();
    assert_eq!(end(&*engine, &next.id).await.outcome, Outcome::Exited { code: 9 });
}

pub async fn a_program_that_cannot_be_run_is_named(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let mut spec = shell("missing-1-0", "");
    spec.command = vec!["no-such-program".into(), "x".into()];
    engine.ensure(&spec).await.unwrap();
    let exit = end(&*engine, &spec.id).await;
    let Outcome::FailedToStart { program, message } = &exit.outcome else { panic!("{exit:?}") };
    assert_eq!(program, "no-such-program");
    assert!(message.contains("not found"), "{message}");
    engine.remove(&spec.id).await.unwrap();

    let mut spec = shell("plain-1-0", "");
    spec.command = vec!["./plain".into()];
    let file = fixture.blobs().put("plain", "#!/bin/sh\n", false);
    spec.mounts = vec![Mount { at: MountPoint::Code, files: vec![file] }];
    engine.ensure(&spec).await.unwrap();
    let exit = end(&*engine, &spec.id).await;
    let Outcome::FailedToStart { message, .. } = &exit.outcome else { panic!("{exit:?}") };
    assert!(message.contains("not executable"), "{message}");
}

pub async fn the_environment_is_made_from_nothing(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let mut spec = shell("env-1-0", "");
    spec.command = vec!["env".into()];
    spec.cpu_milli = 2500;
    spec.path_prefix = vec!["/venv/bin".into()];
    spec.env = [("GREETING".to_string(), "a\nb = c".to_string())].into();
    engine.ensure(&spec).await.unwrap();
    let text = log(&*engine, &spec.id, 0).await;
    let has = |line: &str| assert!(text.lines().any(|own| own == line), "{line} in {text}");
    has("GREETING=a");
    has("b = c");
    has("LANG=C.UTF-8");
    has("PYTHONUNBUFFERED=1");
    has("OMP_NUM_THREADS=3");
    has("CUDA_VISIBLE_DEVICES=");
    assert!(text.lines().any(|line| line.starts_with("PATH=/venv/bin:")));
    // Set for every test that cargo runs, so here too.
    assert!(!text.contains("CARGO"), "{text}");

    spec.id = id("env-2-0");
    spec.env = [("DURE_OUTPUT".to_string(), "/".to_string())].into();
    assert!(matches!(engine.ensure(&spec).await, Err(EngineError::Invalid { .. })));
}

pub async fn files_are_put_in_place_and_cannot_change_the_original(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let blobs = fixture.blobs();
    let script = "#!/bin/sh\n\
        cat \"$DURE_DATA/d/deep/er/x.csv\" \"$DURE_MODELS/m/model\" \"$DURE_PARAMS\"; echo\n\
        chmod -R u+w \"$DURE_DATA/d\"; echo changed > \"$DURE_DATA/d/deep/er/x.csv\"\n\
        cat \"$DURE_DATA/d/deep/er/x.csv\"; echo mine > here; ls\n";
    let mut spec = shell("files-1-0", "");
    spec.command = vec!["./run.sh".into()];
    spec.parameters = serde_json::json!({"epochs": 2});
    let data = blobs.put("deep/er/x.csv", "1,2\n", false);
    spec.mounts = vec![
        Mount { at: MountPoint::Code, files: vec![blobs.put("run.sh", script, true)] },
        Mount { at: MountPoint::Data("d".into()), files: vec![data.clone()] },
        Mount { at: MountPoint::Model("m".into()), files: vec![blobs.put("model", "onnx\n", false)] },
    ];
    engine.ensure(&spec).await.unwrap();
    assert_eq!(log(&*engine, &spec.id, 0).await, "1,2\nonnx\n{\"epochs\":2}\nchanged\nhere\nrun.sh\n");
    assert_eq!(std::fs::read_to_string(blobs.path(&data.digest)).unwrap(), "1,2\n");
    engine.remove(&spec.id).await.unwrap();

    spec.id = id("files-2-0");
    spec.mounts[1].files[0].path = "../x.csv".into();
    assert!(matches!(engine.ensure(&spec).await, Err(EngineError::Invalid { .. })));
}

pub async fn a_unit_whose_files_are_missing_is_not_there(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let mut spec = shell("absent-1-0", "cat absent");
    let files = vec![entry("absent", "here now\n", false)];
    spec.mounts = vec![Mount { at: MountPoint::Code, files }];
    let failed = engine.ensure(&spec).await;
    assert!(matches!(failed, Err(EngineError::Stage { .. })), "{failed:?}");
    assert_eq!(engine.list().await.unwrap(), []);
    fixture.blobs().put("absent", "here now\n", false);
    engine.ensure(&spec).await.unwrap();
    assert_eq!(log(&*engine, &spec.id, 0).await, "here now\n");
}

pub async fn removing_leaves_nothing(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let line_of_shell = format!("mkdir -m 000 locked; {STRAY}; {GATE}");
    let spec = shell("gone-1-0", &line_of_shell);
    engine.ensure(&spec).await.unwrap();
    line(&*engine, &spec.id, "locked").await;
    let lock = std::fs::File::open(engine.outputs(&spec.id).join("lock")).unwrap();
    engine.remove(&spec.id).await.unwrap();
    let free = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    assert!(free.is_ok(), "it still runs");
    assert_eq!(engine.list().await.unwrap(), []);
    assert!(!engine.outputs(&spec.id).exists());
    engine.remove(&spec.id).await.unwrap();
    assert!(engine.logs(&spec.id, 0).next().await.unwrap().is_err());

    let again = shell("gone-1-0", "echo anew");
    engine.ensure(&again).await.unwrap();
    assert_eq!(log(&*engine, &again.id, 0).await, "anew\n");
}

pub async fn only_who_listens_has_an_address(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let mut spec = shell("listen-1-0", &format!("{GATE}; test -n \"$DURE_LISTEN\""));
    spec.listen = true;
    engine.ensure(&spec).await.unwrap();
    let address = engine.address(&spec.id).await.unwrap();
    assert!(address.is_some());
    drop(engine);
    let engine = fixture.connect().await;
    assert_eq!(engine.address(&spec.id).await.unwrap(), address);
    open_gate(&*engine, &spec.id);
    assert_eq!(end(&*engine, &spec.id).await.outcome, Outcome::Exited { code: 0 });

    let silent = shell("silent-1-0", "test -z \"$DURE_LISTEN\"");
    engine.ensure(&silent).await.unwrap();
    assert_eq!(engine.address(&silent.id).await.unwrap(), None);
    assert_eq!(end(&*engine, &silent.id).await.outcome, Outcome::Exited { code: 0 });
}

pub async fn many_units_run_side_by_side(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let mut events = engine.watch();
    let specs: Vec<UnitSpec> =
        (0..100).map(|number| shell(&format!("many-{number}"), &format!("exit {}", number % 7))).collect();
    let started = specs.iter().map(|spec| engine.ensure(spec));
    for result in futures_util::future::join_all(started).await {
        result.unwrap();
    }
    let mut codes = BTreeMap::new();
    while codes.len() < specs.len() {
        let event = tokio::time::timeout(MISSING, events.next()).await.expect("ends");
        if let Some(UnitEvent::Ended { id, exit }) = event {
            codes.insert(id, exit.outcome);
        }
    }
    for (number, spec) in specs.iter().enumerate() {
        assert_eq!(codes[&spec.id], Outcome::Exited { code: number as i32 % 7 });
    }
}

pub async fn the_machine_is_described(fixture: &dyn Fixture) {
    let facts = fixture.connect().await.probe().await.unwrap();
    assert!(facts.cores > 0 && facts.memory_bytes > 0);
    assert!(!facts.hostname.is_empty() && !facts.os.is_empty() && !facts.limits.is_empty());
}

pub async fn shutting_down_ends_everything_and_says_what(fixture: &dyn Fixture) {
    let engine = fixture.connect().await;
    let ended = shell("over-1-0", "exit 0");
    let runs = shell("runs-1-0", &format!("{STRAY}; {GATE}"));
    let runs = UnitSpec { grace: Duration::from_millis(50), ..runs };
    engine.ensure(&ended).await.unwrap();
    end(&*engine, &ended.id).await;
    engine.ensure(&runs).await.unwrap();
    line(&*engine, &runs.id, "locked").await;
    assert_eq!(engine.shutdown().await.unwrap(), std::slice::from_ref(&runs.id));
    assert!(lock_is_free(&engine.outputs(&runs.id).join("lock")));
    assert_eq!(end(&*engine, &runs.id).await.outcome, Outcome::Stopped);
    assert!(matches!(engine.ensure(&runs).await, Err(EngineError::ShutDown) | Ok(())));
    let new = shell("new-1-0", "exit 0");
    assert!(matches!(engine.ensure(&new).await, Err(EngineError::ShutDown)));
}

/// Makes a test of every case. `$fixture` is an expression that makes a new installation.
#[macro_export]
macro_rules! engine_conformance {
    ($fixture:expr) => {
        $crate::engine_conformance!(
            $fixture;
            output_and_exit_code_are_told,
            a_log_is_followed_while_it_is_written,
            a_unit_is_started_once,
            what_runs_is_adopted_by_the_next_client,
            a_unit_is_asked_to_stop_before_it_is_killed,
            stopping_reaches_what_left_the_session,
            what_a_unit_leaves_behind_ends_with_it,
            a_timeout_ends_a_unit_and_is_named,
            out_of_memory_is_named,
            a_program_that_cannot_be_run_is_named,
            the_environment_is_made_from_nothing,
            files_are_put_in_place_and_cannot_change_the_original,
            a_unit_whose_files_are_missing_is_not_there,
            removing_leaves_nothing,
            only_who_listens_has_an_address,
            many_units_run_side_by_side,
            the_machine_is_described,
            shutting_down_ends_everything_and_says_what,
        );
    };
    ($fixture:expr; $($case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let fixture = $fixture;
                $crate::conformance::$case(&fixture).await;
            }
        )*
    };
}
