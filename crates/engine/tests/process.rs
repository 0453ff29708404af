//! The process engine against the real keeper program.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dure_engine::conformance::{self, DirectoryBlobs, Fixture, end, id, line, log, open_gate, shell};
use dure_engine::process::{Config, ProcessEngine};
use dure_engine::{Engine, Outcome, UnitEvent, UnitId, UnitState};
use futures_util::StreamExt;

struct Installation {
    folder: tempfile::TempDir,
    blobs: DirectoryBlobs,
    keeper: Vec<OsString>,
    idle: Duration,
}

impl Installation {
    fn new(arguments: &[&str]) -> Installation {
        let folder = tempfile::Builder::new().prefix("dure-").tempdir_in("/tmp").unwrap();
        std::fs::DirBuilder::new().mode(0o700).create(folder.path().join("run")).unwrap();
        let blobs = DirectoryBlobs::new(folder.path().join("blobs"));
        let mut keeper = vec![OsString::from(env!("CARGO_BIN_EXE_dure-keeper"))];
        keeper.extend(arguments.iter().map(OsString::from));
        Installation { folder, blobs, keeper, idle: Duration::from_secs(60) }
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    async fn engine(&self) -> ProcessEngine {
        let config = Config {
            state_dir: self.state(),
            runtime_dir: self.folder.path().join("run"),
            keeper_command: self.keeper.clone(),
            keeper_idle: Some(self.idle),
        };
        ProcessEngine::start(config, Arc::new(self.blobs.clone())).await.unwrap()
    }
}

#[async_trait]
impl Fixture for Installation {
    async fn connect(&self) -> Arc<dyn Engine> {
        Arc::new(self.engine().await)
    }

    fn blobs(&self) -> &DirectoryBlobs {
        &self.blobs
    }
}

/// Ends what a test left running, also one that failed.
impl Drop for Installation {
    fn drop(&mut self) {
        // A panic here would hide the one that a test ends with.
        std::thread::scope(|scope| {
            let cleaned = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                runtime.unwrap().block_on(async {
                    let engine = self.engine().await;
                    for unit in engine.list().await.unwrap() {
                        engine.remove(&unit.id).await.unwrap();
                    }
                    engine.shutdown().await.unwrap();
                });
            });
            if cleaned.join().is_err() {
                eprintln!("what the test left running could not be ended");
            }
        });
    }
}

mod as_the_machine_allows {
    use super::*;
    dure_engine::engine_conformance!(Installation::new(&[]));
}

mod without_cgroups {
    use super::*;
    dure_engine::engine_conformance!(Installation::new(&["--no-cgroups"]));
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

async fn pid_of(engine: &dyn Engine, unit: &UnitId) -> u32 {
    let mut events = engine.watch();
    loop {
        if let Some(UnitEvent::Started { id, pid, .. }) = events.next().await
            && id == *unit
        {
            return pid;
        }
    }
}

/// Linux remembers the exit code of a process for whoever holds it, from 6.15 on.
fn kernel_remembers_exits() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_keeper_is_replaced_and_the_next_one_knows_everything() {
    for arguments in [&[][..], &["--no-cgroups"]] {
        let installation = Installation::new(arguments);
        let engine = installation.engine().await;
        let spec = shell("kept-1-0", "echo ran; until [ -e \"$DURE_OUTPUT/open\" ]; do sleep 0.02; done; exit 7");
        let done = shell("done-1-0", "exit 8");
        engine.ensure(&spec).await.unwrap();
        engine.ensure(&done).await.unwrap();
        line(&engine, &spec.id, "ran").await;
        end(&engine, &done.id).await;
        let unit = pid_of(&engine, &spec.id).await;
        let first = engine.keeper_pid().await.unwrap();
        kill(first);

        // Nobody told the engine; asking is enough.
        engine.ensure(&spec).await.unwrap();
        engine.stop(&done.id).await.unwrap();
        assert_ne!(engine.keeper_pid().await.unwrap(), first);
        assert_eq!(pid_of(&engine, &spec.id).await, unit, "the same process");
        assert_eq!(end(&engine, &done.id).await.outcome, Outcome::Exited { code: 8 });
        open_gate(&engine, &spec.id);
        let exit = end(&engine, &spec.id).await;
        match exit.outcome {
            Outcome::Lost { .. } if !kernel_remembers_exits() => {}
            outcome => assert_eq!(outcome, Outcome::Exited { code: 7 }),
        }
        assert_eq!(log(&engine, &spec.id, 0).await, "ran\n", "not started again");

        // What the earlier keeper started can be stopped, all of it.
        let mut stray = shell(
            "stray-1-0",
            "(setsid sh -c 'exec 9>\"$DURE_OUTPUT/lock\"; flock 9; echo locked; sleep 1000' &); sleep 1000",
        );
        stray.grace = Duration::from_secs(1);
        engine.ensure(&stray).await.unwrap();
        line(&engine, &stray.id, "locked").await;
        kill(engine.keeper_pid().await.unwrap());
        engine.stop(&stray.id).await.unwrap();
        assert_eq!(end(&engine, &stray.id).await.outcome, Outcome::Stopped);
        assert!(conformance::lock_is_free(&engine.outputs(&stray.id).join("lock")));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timeout_holds_without_a_control_plane() {
    let installation = Installation::new(&[]);
    let engine = installation.engine().await;
    let mut spec = shell("alone-1-0", "exec 9>\"$DURE_OUTPUT/lock\"; flock 9; echo locked; sleep 1000");
    spec.timeout = Some(Duration::from_millis(500));
    engine.ensure(&spec).await.unwrap();
    line(&engine, &spec.id, "locked").await;
    let lock = std::fs::File::open(engine.outputs(&spec.id).join("lock")).unwrap();
    drop(engine);
    let freed =
        tokio::task::spawn_blocking(move || rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive));
    freed.await.unwrap().unwrap();
    let engine = installation.engine().await;
    assert_eq!(end(&engine, &spec.id).await.outcome, Outcome::TimedOut);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_with_nothing_to_do_leaves_and_comes_back_when_asked() {
    let mut installation = Installation::new(&[]);
    installation.idle = Duration::from_millis(50);
    let engine = installation.engine().await;
    let spec = shell("first-1-0", "exit 2");
    engine.ensure(&spec).await.unwrap();
    end(&engine, &spec.id).await;
    let pid = rustix::process::Pid::from_raw(engine.keeper_pid().await.unwrap() as i32).unwrap();
    let keeper = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    drop(engine);
    let left = tokio::task::spawn_blocking(move || {
        let mut wait = [rustix::event::PollFd::new(&keeper, rustix::event::PollFlags::IN)];
        let patience = rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 };
        rustix::event::poll(&mut wait, Some(&patience))
    });
    assert_eq!(left.await.unwrap().unwrap(), 1, "it stays");

    let engine = installation.engine().await;
    assert_eq!(end(&engine, &spec.id).await.outcome, Outcome::Exited { code: 2 });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_gets_these_variables_and_open_files_and_no_others() {
    let installation = Installation::new(&[]);
    let engine = installation.engine().await;
    let mut spec = shell("bare-1-0", "");
    spec.command = vec!["env".into()];
    engine.ensure(&spec).await.unwrap();
    let text = log(&engine, &spec.id, 0).await;
    let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "BLIS_NUM_THREADS",
            "CUDA_VISIBLE_DEVICES",
            "DURE_OUTPUT",
            "DURE_UNIT",
            "GOTO_NUM_THREADS",
            "HOME",
            "LANG",
            "MKL_NUM_THREADS",
            "NUMBA_NUM_THREADS",
            "NUMEXPR_MAX_THREADS",
            "NUMEXPR_NUM_THREADS",
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "PATH",
            "PYTHONUNBUFFERED",
            "RAYON_NUM_THREADS",
            "TMPDIR",
            "VECLIB_MAXIMUM_THREADS",
        ]
    );

    let mut spec = shell("bare-2-0", "");
    // `ls` itself has the folder that it lists open, as the next number.
    spec.command = vec!["ls".into(), "/proc/self/fd".into()];
    engine.ensure(&spec).await.unwrap();
    assert_eq!(log(&engine, &spec.id, 0).await, "0\n1\n2\n3\n");

    let spec = shell(
        "bare-3-0",
        "grep -E '^Sig(Blk|Ign)' /proc/$$/status | tr -d '\\t'; umask; cat; \
         test \"$(cut -d' ' -f6 /proc/$$/stat)\" = $$ && echo leader; pwd",
    );
    engine.ensure(&spec).await.unwrap();
    let text = log(&engine, &spec.id, 0).await;
    let code = installation.state().join("units/bare-3-0/code");
    let expected = format!("SigBlk:0000000000000000\nSigIgn:0000000000000000\n0022\nleader\n{}\n", code.display());
    assert_eq!(text, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_hides_whose_it_is_ends_with_the_last_unit() {
    let installation = Installation::new(&["--no-cgroups"]);
    let engine = installation.engine().await;
    let spec = shell(
        "hidden-1-0",
        "(env -i setsid /bin/sh -c \"exec 9>$DURE_OUTPUT/lock; flock 9; echo locked; sleep 1000\" &); \
         until [ -e \"$DURE_OUTPUT/open\" ]; do sleep 0.02; done",
    );
    engine.ensure(&spec).await.unwrap();
    line(&engine, &spec.id, "locked").await;
    open_gate(&engine, &spec.id);
    assert_eq!(end(&engine, &spec.id).await.outcome, Outcome::Exited { code: 0 });
    assert!(conformance::lock_is_free(&engine.outputs(&spec.id).join("lock")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keeper_of_another_version_is_refused_in_words() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let installation = Installation::new(&[]);
    let _engine = installation.engine().await;
    let run = std::fs::read_dir(installation.folder.path().join("run")).unwrap();
    let socket = run.flatten().next().unwrap().path();
    let mut stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let hello = br#"{"protocol":999,"dure":"9.0.0","pid":1}"#;
    stream.write_all(&(hello.len() as u32).to_be_bytes()).await.unwrap();
    stream.write_all(hello).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[4..]).into_owned();
    assert!(answer.contains("refused") && answer.contains("protocol 999"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_staged_and_never_started_is_cleaned_up() {
    let installation = Installation::new(&[]);
    let engine = installation.engine().await;
    let spec = shell("real-1-0", "exit 0");
    engine.ensure(&spec).await.unwrap();
    end(&engine, &spec.id).await;
    drop(engine);
    for left in ["units/staged-1-0/code", "staging/half-1-0/code", "units/cut-1-0"] {
        std::fs::create_dir_all(installation.state().join(left)).unwrap();
    }
    let engine = installation.engine().await;
    let units = std::fs::read_dir(installation.state().join("units")).unwrap();
    let names: Vec<_> = units.flatten().map(|unit| unit.file_name()).collect();
    assert_eq!(names, ["real-1-0"]);
    assert_eq!(std::fs::read_dir(installation.state().join("staging")).unwrap().count(), 0);
    let listed = engine.list().await.unwrap();
    assert!(listed.len() == 1 && listed[0].id == id("real-1-0"));
    assert!(matches!(listed[0].state, UnitState::Ended(_)));
}

#[tokio::test]
async fn a_keeper_that_cannot_be_started_is_an_error_in_words() {
    let installation = Installation::new(&[]);
    let start = |command: &str| {
        let config = Config {
            state_dir: installation.state(),
            runtime_dir: installation.folder.path().join("run"),
            keeper_command: vec![command.into()],
            keeper_idle: None,
        };
        ProcessEngine::start(config, Arc::new(installation.blobs.clone()))
    };
    let missing = start("/no/such/keeper").await.err().unwrap().to_string();
    assert!(missing.contains("/no/such/keeper"), "{missing}");
    let silent = start("/bin/true").await.err().unwrap().to_string();
    assert!(silent.contains("keeper.log"), "{silent}");
}
