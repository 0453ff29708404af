//! The keeper: one small process per machine that starts units, waits for them, and outlives the
//! control plane that started it.
//!
//! It has one thread and little memory, so that starting a process costs little. It keeps no
//! copies of logs (units write them to files themselves), decides nothing about runs, and writes
//! only a journal, from which the next keeper knows the units if this one is killed.

mod adopt;
mod connections;
mod journal;
mod lifecycle;
pub(crate) mod limits;
pub(crate) mod processes;
pub(crate) mod protocol;
mod server;
mod spawn;
mod unit;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};

use super::places::{self, State};
use limits::{Groups, Limits};
use server::Server;

/// The first line on stdout once the socket answers.
pub const READY: &str = "ready";
/// That line where another keeper has this state folder.
pub const BUSY: &str = "busy";

const USAGE: &str = "usage: dure-keeper --state FOLDER --socket PATH [--idle-ms NUMBER] [--no-cgroups]";
const IDLE: Duration = Duration::from_secs(60);

struct Options {
    state: PathBuf,
    socket: PathBuf,
    idle: Duration,
    /// Watch memory even where the machine has cgroups to offer.
    no_cgroups: bool,
}

impl Options {
    fn parse(args: impl Iterator<Item = OsString>) -> Result<Options, String> {
        let (mut state, mut socket, mut idle, mut no_cgroups) = (None, None, IDLE, false);
        let mut args = args;
        while let Some(name) = args.next() {
            let name = name.to_string_lossy().into_owned();
            if name == "--no-cgroups" {
                no_cgroups = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{name} needs a value\n{USAGE}"))?;
            match name.as_str() {
                "--state" => state = Some(PathBuf::from(value)),
                "--socket" => socket = Some(PathBuf::from(value)),
                "--idle-ms" => {
                    let number = value.to_str().and_then(|value| value.parse().ok());
                    let millis = number.ok_or_else(|| format!("--idle-ms: a number\n{USAGE}"))?;
                    idle = Duration::from_millis(millis);
                }
                _ => return Err(format!("{name} is not known\n{USAGE}")),
            }
        }
        match (state, socket) {
            (Some(state), Some(socket)) if state.is_absolute() && socket.is_absolute() => {
                Ok(Options { state, socket, idle, no_cgroups })
            }
            (Some(_), Some(_)) => Err(format!("both paths must be absolute\n{USAGE}")),
            _ => Err(USAGE.into()),
        }
    }
}

/// `dure keeper`. Says `ready` on stdout, then nothing more there; its own words go to stderr.
pub fn main(args: impl Iterator<Item = OsString>) -> ExitCode {
    let options = match Options::parse(args) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever started us reads this instead of `ready`.
            println!("{error}");
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    detach()?;
    let state = State::new(options.state);
    // Its parent is made by whoever starts us; if that is gone, so is what we are for.
    for folder in [state.units(), state.staging()] {
        match std::fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                let shown = folder.display();
                return Err(io::Error::new(error.kind(), format!("{shown}: {error}")));
            }
            _ => {}
        }
    }
    let Some(_lock) = lock(&state.lock())? else {
        println!("{BUSY}");
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = listen(&options.socket)?;
        let limits = if options.no_cgroups {
            Limits::Watched
        } else {
            let name = places::digest(&[state.folder().as_os_str().as_encoded_bytes()], 6);
            Limits::detect(&Groups::of_this_process(), &format!("dure-{name}"))
        };
        let (mut server, records) = Server::new(state, limits, options.idle)?;
        server.adopt(records);
        let announced = announce();
        if announced.is_ok() {
            server.run(listener).await;
        }
        // First the name, so that who comes now does not come to us.
        let _ = std::fs::remove_file(&options.socket);
        server.close().await;
        announced
    })
}

/// Becomes independent of whoever started us, and keeps nothing of theirs open.
fn detach() -> io::Result<()> {
    // Fails if we lead a session already, which is as good.
    let _ = rustix::process::setsid();
    let me = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(me))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    std::env::set_current_dir("/")?;
    // SAFETY: it only marks descriptors, for the day that we start a program.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

/// Whether a keeper looks after this state folder right now.
pub fn is_alive(state_dir: &Path) -> bool {
    let lock = super::places::State::new(state_dir.to_owned()).lock();
    File::open(lock).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockExclusive).is_err())
}

fn lock(path: &Path) -> io::Result<Option<File>> {
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn listen(socket: &Path) -> io::Result<tokio::net::UnixListener> {
    // We have the lock, so whoever made this one is gone.
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = tokio::net::UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Says that we are ready and lets go of the pipe it was said on.
fn announce() -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "{READY}")?;
    out.flush()?;
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for standard in [0, 1] {
        // SAFETY: both descriptors are open, and nothing else owns the standard ones.
        if unsafe { libc::dup2(null.as_fd().as_raw_fd(), standard) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Microseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "what a keeper measures is real processes, in real time")]
pub(crate) fn now_micros() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
