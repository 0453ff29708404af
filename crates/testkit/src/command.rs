//! Programs run with an environment made from nothing, and their ends.

use std::{
    fmt,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use crate::DEADLINE;

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// The exit code; minus the signal where one ended it.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Fails the test unless the command ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"))
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit {}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}

/// A command of this user's with nothing of the environment that the tests run in.
pub fn command(program: &Path, root: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("HOME", root.join("home"))
        .env("DURE_CONFIG_DIR", root.join("config"))
        .current_dir(root.join("work"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
#[track_caller]
pub fn output(mut command: Command) -> Output {
    let shown = format!("{command:?}");
    let child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
    Background::new(child, shown).wait()
}

/// A command that goes on while the test does something else; killed when it is dropped.
pub struct Background {
    child: Child,
    shown: String,
    stdout: Arc<Text>,
    stderr: Arc<Text>,
    readers: Vec<JoinHandle<()>>,
    ended: bool,
}

/// What was read so far, and a bell for more.
#[derive(Default)]
struct Text {
    state: Mutex<(String, bool)>,
    more: Condvar,
}

impl Text {
    fn state(&self) -> MutexGuard<'_, (String, bool)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(self: Arc<Self>, from: impl Read) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = from.read_until(b'\n', &mut line);
            let mut state = self.state();
            if !matches!(read, Ok(bytes) if bytes > 0) {
                state.1 = true;
                self.more.notify_all();
                return;
            }
            state.0.push_str(&String::from_utf8_lossy(&line));
            self.more.notify_all();
        }
    }

    /// Waits until the text says it, or has ended without it.
    fn wait(&self, has: impl Fn(&str) -> bool) -> bool {
        let state = self.state();
        let waiting = |state: &mut (String, bool)| !has(&state.0) && !state.1;
        let (state, _) = self.more.wait_timeout_while(state, DEADLINE, waiting).unwrap_or_else(PoisonError::into_inner);
        has(&state.0)
    }
}

impl Background {
    pub(crate) fn new(mut child: Child, shown: String) -> Self {
        let (stdout, stderr) = (Arc::new(Text::default()), Arc::new(Text::default()));
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            let text = Arc::clone(&stdout);
            readers.push(std::thread::spawn(move || text.read(pipe)));
        }
        if let Some(pipe) = child.stderr.take() {
            let text = Arc::clone(&stderr);
            readers.push(std::thread::spawn(move || text.read(pipe)));
        }
        Self { child, shown, stdout, stderr, readers, ended: false }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.state().0.clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.state().0.clone()
    }

    /// Waits until this stands in its standard output; false if that ended without it.
    pub fn wait_stdout(&self, text: &str) -> bool {
        self.stdout.wait(|said| said.contains(text))
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for its end by itself.
    #[track_caller]
    pub fn wait(mut self) -> Output {
        let Some(status) = end_of(&mut self.child) else {
            let _ = self.child.kill();
            panic!("{} does not end\n--- stdout\n{}\n--- stderr\n{}", self.shown, self.stdout(), self.stderr());
        };
        self.ended = true;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Output { code: code_of(status), stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Waits for its end, but not for long.
    pub(crate) fn wait_briefly(&self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            wait_for_end(pid, Duration::from_secs(15));
        }
    }

    /// SIGKILL, and nothing of it is left as a zombie.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.ended = true;
    }

    /// Its exit code once it has ended by itself.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let status = end_of(&mut self.child)?;
        self.ended = true;
        Some(code_of(status))
    }

    pub(crate) fn is_running(&mut self) -> bool {
        !self.ended && matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
        }
    }
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt as _;
    status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap_or(i32::MIN)
}

fn end_of(child: &mut Child) -> Option<ExitStatus> {
    let pid = Pid::from_raw(child.id().cast_signed())?;
    wait_for_end(pid, DEADLINE).then(|| child.wait().ok()).flatten()
}

/// Waits until a process has ended; false if it does not.
pub fn wait_for_end(pid: Pid, deadline: Duration) -> bool {
    // A process that cannot be found has ended.
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return true };
    let until = Instant::now() + deadline;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
