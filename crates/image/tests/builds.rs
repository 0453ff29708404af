//! Real builds of a tiny package, by a real uv, from a real index. Where the index cannot be
//! reached they are skipped and say so; uv and its cache stay below the target folder.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use dure_image::{Blame, BuildConfig, BuildError, BuildFailure, BuildRequest, Built, Host, Progress, build, remove};
use dure_types::environment::EnvironmentInput;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal};
use tempfile::TempDir;

const REQUEST: &str = "DURE_TEST_BUILD_REQUEST";

/// A place for one test. What a build closed against writing is opened again before it goes.
struct Place {
    folder: TempDir,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = remove(&self.folder.path().join("environments"));
    }
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn config(&self) -> BuildConfig {
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR"));
        BuildConfig {
            into: self.folder.path().join("environments/one"),
            cache: shared.join("uv-cache"),
            tools: shared.join("tools"),
            index_url: None,
            host: Host {
                path: vec!["/usr/bin".into(), "/bin".into()],
                home: Some(self.folder.path().join("home")),
                ..Host::default()
            },
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn packages(names: &[&str]) -> EnvironmentInput {
    EnvironmentInput { packages: names.iter().map(|&name| name.to_owned()).collect(), ..EnvironmentInput::default() }
}

async fn run(input: &EnvironmentInput, config: &BuildConfig) -> (Result<Built, BuildError>, Vec<Progress>) {
    let mut said = Vec::new();
    let result = build(input, config, &mut |progress| said.push(progress)).await;
    (result, said)
}

/// Whether uv is here or can be fetched, and the index answers.
async fn reachable() -> bool {
    let place = Place::new();
    match run(&packages(&["six"]), &place.config()).await.0 {
        Ok(_) => true,
        Err(error @ (BuildError::Index { .. } | BuildError::NoUv { .. })) => {
            eprintln!("skipped: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn imports(built: &Built, module: &str) -> bool {
    let mut command = Command::new(&built.python_path);
    command.env_clear().args(["-c", &format!("import {module}")]).stderr(Stdio::null());
    command.status().expect("python runs").success()
}

fn each_file(folder: &Path, look: &mut dyn FnMut(&Path, &fs::Metadata)) {
    for entry in fs::read_dir(folder).expect("read") {
        let path = entry.expect("entry").path();
        let metadata = fs::symlink_metadata(&path).expect("metadata");
        if !metadata.is_symlink() {
            look(&path, &metadata);
        }
        if metadata.is_dir() {
            each_file(&path, look);
        }
    }
}

#[tokio::test]
async fn a_package_is_locked_installed_closed_and_then_reused() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let config = place.config();
    let (built, said) = run(&packages(&["six"]), &config).await;
    let built = built.expect("built");
    assert!(imports(&built, "six"));
    assert_eq!(built.packages.len(), 1);
    assert_eq!(built.packages[0].name, "six");
    assert!(built.lock.starts_with("six==") && built.lock.contains("--hash=sha256:"));
    assert!(matches!(said.last(), Some(Progress::Ready { .. })));
    let mut compiled = false;
    each_file(&config.into.join("venv"), &mut |path, metadata| {
        assert_eq!(metadata.permissions().mode() & 0o222, 0, "{path:?} is open");
        // A second name would be the cache's, and a run could change it through this one.
        assert!(metadata.is_dir() || metadata.nlink() == 1, "{path:?}");
        compiled |= path.extension().is_some_and(|ending| ending == "pyc");
    });
    assert!(compiled, "no bytecode");
    assert!(!config.into.join("work").exists());

    let (again, said) = run(&packages(&["six"]), &config).await;
    assert_eq!(again.expect("reused"), built);
    assert_eq!(said, [Progress::Reused]);
}

#[tokio::test]
async fn no_packages_are_an_environment_too() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let built = run(&packages(&[]), &place.config()).await.0.expect("built");
    assert!(built.packages.is_empty());
    assert!(imports(&built, "json") && !imports(&built, "six"));
}

#[tokio::test]
async fn a_package_that_nobody_has_is_named_and_leaves_nothing() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let config = place.config();
    let input = packages(&["dure-there-is-no-such-package"]);
    let error = run(&input, &config).await.0.expect_err("no such package");
    assert!(matches!(error, BuildError::Resolution { .. }), "{error}");
    assert!(error.to_string().contains("dure-there-is-no-such-package"));
    assert!(!config.into.exists());
    let left = BuildFailure::load(&config.into).expect("the failure is left for the server");
    assert_eq!((left.kind.as_str(), left.blame), ("resolution", Blame::User));
    assert_eq!(left.message, error.to_string());

    run(&packages(&["six"]), &config).await.0.expect("built");
    assert_eq!(BuildFailure::load(&config.into), None);
}

#[tokio::test]
async fn an_index_that_does_not_answer_is_named() {
    let place = Place::new();
    let mut config = place.config();
    config.index_url = Some("http://me:secret@127.0.0.1:9/simple".into());
    let mut steps = vec![place.path("no-tools")];
    if reachable().await {
        // With uv there, it is uv that meets the silence.
        steps.push(place.config().tools);
    }
    config.cache = place.path("empty-cache");
    for tools in steps {
        config.tools = tools;
        let error = run(&packages(&["six"]), &config).await.0.expect_err("no index");
        let BuildError::Index { url, reason } = &error else {
            panic!("{error}");
        };
        assert_eq!(url, "http://127.0.0.1:9/simple");
        assert!(reason.contains("refused"), "{reason}");
        assert!(!config.into.exists());
    }
}

#[tokio::test]
async fn a_python_that_nobody_has_is_an_error_with_wanted_and_found() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let mut input = packages(&[]);
    input.python = Some("3.99".into());
    let error = run(&input, &place.config()).await.0.expect_err("no such Python");
    let BuildError::Interpreter { wanted, found, .. } = &error else {
        panic!("{error}");
    };
    assert!(wanted.contains("3.99"), "{wanted}");
    assert!(found.contains("/usr/bin/python3"), "{found}");
}

#[tokio::test]
async fn a_lock_that_is_given_is_used_as_it_is_and_its_hashes_count() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let resolved = run(&packages(&["six"]), &place.config()).await.0.expect("built");
    let locked = |text: String| EnvironmentInput { requirements: Some(text), ..EnvironmentInput::default() };
    let text = format!("# ours\n{}", resolved.lock);
    let second = Place::new();
    let built = run(&locked(text.clone()), &second.config()).await.0.expect("built");
    assert_eq!(built.lock, text);
    assert_eq!(built.packages, resolved.packages);

    let version = &resolved.packages[0].version;
    let wrong = format!("six=={version} --hash=sha256:{}\n", "0".repeat(64));
    let third = Place::new();
    let error = run(&locked(wrong), &third.config()).await.0.expect_err("wrong hash");
    assert!(matches!(error, BuildError::Hash { .. }), "{error}");
    // python-dateutil needs six, which this lock forgot.
    let short =
        "python-dateutil==2.9.0.post0 --hash=sha256:a8b2bc7bffae282281c8140a97d3aa9c14da0b136dfe83f850eea9a5f7470427";
    let error = run(&locked(short.into()), &third.config()).await.0.expect_err("incomplete");
    assert!(error.to_string().contains("six"), "{error}");
}

#[tokio::test]
async fn a_project_is_built_with_and_without_its_lock() {
    if !reachable().await {
        return;
    }
    let text = "[project]\nname = 'x'\nversion = '0'\nrequires-python = '>=3.8'\ndependencies = ['six']\n[dependency-groups]\ndev = ['dure-there-is-no-such-package']\n";
    let mut input = EnvironmentInput { pyproject: Some(text.into()), ..EnvironmentInput::default() };
    let place = Place::new();
    let built = run(&input, &place.config()).await.0.expect("built");
    assert!(built.lock.starts_with("six=="));

    let folder = place.path("project");
    fs::create_dir(&folder).expect("made");
    let alone = text.split("[dependency-groups]").next().expect("first part");
    fs::write(folder.join("pyproject.toml"), alone).expect("written");
    let config = place.config();
    let found = fs::read_dir(&config.tools).expect("tools").flatten();
    let fetched = found.map(|entry| entry.path().join("uv")).find(|uv| uv.is_file());
    // A machine with its own uv on the PATH fetched none.
    let uv = fetched.unwrap_or_else(|| "uv".into());
    let locked = Command::new(uv)
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("UV_SYSTEM_CERTS", "1")])
        .env("HOME", place.path("home"))
        .env("UV_CACHE_DIR", &config.cache)
        .current_dir(&folder)
        .args(["lock", "--quiet"])
        .status()
        .expect("uv runs");
    assert!(locked.success());
    input.pyproject = Some(alone.into());
    input.uv_lock = Some(fs::read_to_string(folder.join("uv.lock")).expect("a lock"));
    let second = Place::new();
    let built = run(&input, &second.config()).await.0.expect("built");
    assert_eq!(Some(built.lock), input.uv_lock);
    assert_eq!(built.packages.len(), 1, "the project itself is not installed");
    assert_eq!(built.packages[0].name, "six");
}

#[tokio::test]
async fn a_package_that_no_python_here_can_use_says_so() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let empty = run(&packages(&[]), &place.config()).await.0.expect("built");
    // The exact version keeps uv from fetching an older Python. This release has wheels up to 3.7.
    let mut input = packages(&["tensorflow==2.0.0"]);
    input.python = Some(empty.python_version);
    let second = Place::new();
    let (result, said) = run(&input, &second.config()).await;
    let error = result.expect_err("too old");
    assert!(matches!(error, BuildError::Resolution { .. }), "{error}");
    assert!(error.to_string().contains("tensorflow"), "{error}");
    assert!(said.iter().any(|p| matches!(p, Progress::PythonRefused { .. })), "{said:?}");
}

/// Builds in a process of its own, held at a step of uv, so that it can be killed there.
struct Held {
    child: Child,
    gate: PathBuf,
    /// Open until the end: a program whose output is gone would fail.
    output: BufReader<ChildStdout>,
}

impl Held {
    /// Starts a build and returns once uv was called with `pip sync`.
    fn start(place: &Place) -> Self {
        let (reached, gate) = (place.path("reached"), place.path("gate"));
        for fifo in [&reached, &gate] {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            let kind = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(rustix::fs::CWD, fifo, kind, mode, 0).expect("a fifo");
        }
        let tools = place.config().tools;
        let found = fs::read_dir(tools).expect("tools").flatten();
        let real = found.map(|entry| entry.path().join("uv")).find(|uv| uv.is_file());
        let real = real.unwrap_or_else(|| "/usr/bin/uv".into());
        let programs = place.path("programs");
        fs::create_dir(&programs).expect("made");
        let script = format!(
            "#!/bin/sh\nif [ \"$1 $2\" = 'pip sync' ]; then\n  echo here > {}\n  read line < {}\nfi\nexec {} \"$@\"\n",
            reached.display(),
            gate.display(),
            real.display()
        );
        fs::write(programs.join("uv"), script).expect("written");
        fs::set_permissions(programs.join("uv"), fs::Permissions::from_mode(0o755)).expect("set");
        let mut config = place.config();
        config.host.path.insert(0, programs);
        let request = place.path("request.json");
        let text = serde_json::to_vec(&BuildRequest { input: packages(&["six"]), config }).expect("json");
        fs::write(&request, text).expect("written");

        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut signal = File::options().read(true).custom_flags(flags).open(&reached).expect("opened");
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "child_that_builds", "--ignored", "--nocapture"])
            .env(REQUEST, &request)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .expect("started");
        let output = child.stdout.take().expect("piped");
        // Either the step is reached or the build ends; nothing else can happen.
        let mut output = BufReader::new(output);
        let mut text = String::new();
        loop {
            let mut fds = [PollFd::new(&signal, PollFlags::IN), PollFd::new(output.get_ref(), PollFlags::IN)];
            poll(&mut fds, None).expect("polled");
            let (arrived, spoke) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if arrived {
                let mut word = [0; 5];
                signal.read_exact(&mut word).expect("read");
                return Self { child, gate, output };
            }
            if spoke && output.read_line(&mut text).expect("read") == 0 {
                break;
            }
        }
        child.wait().expect("ended");
        panic!("the build ended before the step: {text}");
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

#[tokio::test]
#[ignore = "started by the tests that kill it"]
async fn child_that_builds() {
    let Some(request) = std::env::var_os(REQUEST) else {
        return;
    };
    let text = fs::read(request).expect("read");
    let BuildRequest { input, config } = serde_json::from_slice(&text).expect("json");
    let result = build(&input, &config, &mut |progress| println!("{progress}")).await;
    println!("{result:?}");
}

#[tokio::test]
async fn a_build_that_was_killed_is_cleared_and_made_again() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let config = place.config();
    let mut held = Held::start(&place);
    rustix::process::kill_process_group(held.pid(), Signal::KILL).expect("killed");
    held.child.wait().expect("ended");
    assert!(config.into.join("venv").exists(), "it was in the middle");
    assert_eq!(Built::load(&config.into), None);
    fs::write(config.into.join("venv/left-over"), "x").expect("written");

    let built = run(&packages(&["six"]), &config).await.0.expect("built");
    assert!(imports(&built, "six"));
    assert!(!config.into.join("venv/left-over").exists());
}

#[tokio::test]
async fn a_second_build_waits_for_what_a_killed_one_left_running() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let config = place.config();
    let mut held = Held::start(&place);
    rustix::process::kill_process(held.pid(), Signal::KILL).expect("killed");
    held.child.wait().expect("ended");

    let gate = held.gate.clone();
    let mut said = Vec::new();
    let built = build(&packages(&["six"]), &config, &mut |progress| {
        if progress == Progress::Waiting {
            // It waits for the uv that lives on; now that one may go on and end.
            fs::write(&gate, "go\n").expect("written");
        }
        said.push(progress);
    })
    .await
    .expect("built");
    assert_eq!(said.first(), Some(&Progress::Waiting));
    assert!(imports(&built, "six"));
}

#[tokio::test]
async fn two_builds_of_one_environment_make_it_once() {
    if !reachable().await {
        return;
    }
    let place = Place::new();
    let config = place.config();
    let mut held = Held::start(&place);
    let gate = held.gate.clone();
    let mut said = Vec::new();
    let built = build(&packages(&["six"]), &config, &mut |progress| {
        if progress == Progress::Waiting {
            fs::write(&gate, "go\n").expect("written");
        }
        said.push(progress);
    })
    .await
    .expect("built");
    assert_eq!(said, [Progress::Waiting, Progress::Reused]);
    assert!(imports(&built, "six"));
    let mut rest = String::new();
    held.output.read_to_string(&mut rest).expect("read");
    assert!(rest.contains("ready "), "{rest}");
    held.child.wait().expect("ended");
}
