//! Starts one program: its own session and process group, nothing inherited.
//!
//! The child shares the keeper's memory until it becomes its program and the keeper waits for
//! that (as in `posix_spawn`): copying page tables would cost more than everything else here.
//! So the child's function only makes system calls on what was prepared for it: it must not
//! allocate, lock, or panic.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

const STACK_BYTES: usize = 64 * 1024;

/// The stack that children use one after the other.
pub struct Spawner {
    stack: Vec<u8>,
    null: File,
}

pub struct Program<'a> {
    pub command: &'a [String],
    pub env: &'a BTreeMap<String, String>,
    pub folder: &'a Path,
    /// Files to write a `0` to, which moves the writer into a cgroup.
    pub join: &'a [PathBuf],
    pub log: &'a File,
    pub journal: &'a File,
    /// What goes before the new process's own line there.
    pub started: &'a [u8],
}

#[derive(Debug)]
pub enum SpawnError {
    /// The program is missing or cannot be run: whoever wrote the command mends it.
    Program(String),
    /// The machine lacks something now.
    Machine(String),
}

/// Where the child was when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Step {
    Session = 1,
    Cgroup,
    Journal,
    Output,
    Folder,
    Execute,
}

struct Child {
    program: *const libc::c_char,
    argv: *const *const libc::c_char,
    envp: *const *const libc::c_char,
    folder: *const libc::c_char,
    join: *const *const libc::c_char,
    null: RawFd,
    log: RawFd,
    journal: RawFd,
    started: *const u8,
    started_length: usize,
    failed: i32,
    errno: i32,
}

impl Spawner {
    pub fn new() -> io::Result<Spawner> {
        let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        Ok(Spawner { stack: vec![0; STACK_BYTES], null })
    }

    pub fn spawn(&mut self, program: &Program) -> Result<i32, SpawnError> {
        let found = find(program.command, program.env, program.folder)?;
        let path = c_string(found.as_os_str().as_bytes())?;
        let argv = strings(program.command.iter().map(|argument| argument.as_bytes().to_vec()))?;
        let envp = strings(program.env.iter().map(|(name, value)| format!("{name}={value}").into()))?;
        let join = strings(program.join.iter().map(|path| path.as_os_str().as_bytes().to_vec()))?;
        let folder = c_string(program.folder.as_os_str().as_bytes())?;
        let (argv_pointers, envp_pointers, join_pointers) = (pointers(&argv), pointers(&envp), pointers(&join));
        let mut child = Child {
            program: path.as_ptr(),
            argv: argv_pointers.as_ptr(),
            envp: envp_pointers.as_ptr(),
            folder: folder.as_ptr(),
            join: join_pointers.as_ptr(),
            null: self.null.as_raw_fd(),
            log: program.log.as_raw_fd(),
            journal: program.journal.as_raw_fd(),
            started: program.started.as_ptr(),
            started_length: program.started.len().min(256),
            failed: 0,
            errno: 0,
        };

        // SAFETY: every signal is blocked meanwhile, so none of our handlers runs in the child;
        // the stack is ours alone and only one child uses it, since CLONE_VFORK holds us until
        // the child has left it; all that `child` points to outlives the call.
        let pid = unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            let top = self.stack.as_mut_ptr().add(STACK_BYTES);
            let top = top.sub(top.addr() % 16);
            let pid = libc::clone(
                run,
                top.cast(),
                libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
                (&raw mut child).cast(),
            );
            let error = io::Error::last_os_error();
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
            if pid < 0 {
                return Err(SpawnError::Machine(format!("no process could be made: {error}")));
            }
            pid
        };
        // SAFETY: the child wrote these, if at all, before it let us go on.
        let (failed, errno) =
            unsafe { ((&raw const child.failed).read_volatile(), (&raw const child.errno).read_volatile()) };
        if failed == 0 {
            return Ok(pid);
        }
        // SAFETY: it is our child, and it exits at once.
        unsafe { libc::waitpid(pid, ptr::null_mut(), 0) };
        Err(explain(failed, errno, &found))
    }
}

extern "C" fn run(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `spawn` passes a `Child` and waits; only async-signal-safe calls are made.
    unsafe {
        let child = &mut *argument.cast::<Child>();
        let step = prepare(child);
        child.errno = *libc::__errno_location();
        (&raw mut child.failed).write_volatile(step as i32);
        libc::_exit(127)
    }
}

/// Returns only if a step failed.
unsafe fn prepare(child: &Child) -> Step {
    unsafe {
        if libc::setsid() < 0 {
            return Step::Session;
        }
        let mut file = child.join;
        while !(*file).is_null() {
            let fd = libc::open(*file, libc::O_WRONLY | libc::O_CLOEXEC);
            if fd < 0 || libc::write(fd, c"0".as_ptr().cast(), 1) != 1 {
                return Step::Cgroup;
            }
            libc::close(fd);
            file = file.add(1);
        }

        // The journal gets our own line of /proc, which ends with a newline, in one write.
        let mut line = [0u8; 1024];
        let word = child.started_length;
        ptr::copy_nonoverlapping(child.started, line.as_mut_ptr(), word);
        let fd = libc::open(c"/proc/self/stat".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if fd < 0 {
            return Step::Journal;
        }
        let length = libc::read(fd, line.as_mut_ptr().add(word).cast(), 1024 - word);
        libc::close(fd);
        if length <= 0 {
            return Step::Journal;
        }
        let length = word + length as usize;
        if libc::write(child.journal, line.as_ptr().cast(), length) != length as isize {
            return Step::Journal;
        }

        if libc::dup2(child.null, 0) < 0 || libc::dup2(child.log, 1) < 0 || libc::dup2(child.log, 2) < 0 {
            return Step::Output;
        }
        if libc::chdir(child.folder) < 0 {
            return Step::Folder;
        }
        libc::umask(0o022);

        // Handlers would go with exec, but what is ignored would stay ignored.
        // The kernel's call, since libc's does not take the two that libc keeps for itself, and
        // those too can come ignored from whoever started us. All zeroes is SIG_DFL.
        let default = [0u64; 8];
        let mut signal = 1;
        while signal <= 64 {
            let none = ptr::null_mut::<libc::c_void>();
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), none, 8usize);
            signal += 1;
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(child.program, child.argv, child.envp);
        Step::Execute
    }
}

fn explain(step: i32, errno: i32, program: &Path) -> SpawnError {
    let error = io::Error::from_raw_os_error(errno);
    let doing = match step {
        step if step == Step::Execute as i32 => {
            let shown = program.display();
            return match errno {
                libc::ENOENT => SpawnError::Program(format!(
                    "{shown} is there, but the interpreter that its first line names is not"
                )),
                libc::ENOEXEC => SpawnError::Program(format!(
                    "{shown} is neither a program of this machine nor a script with a #! line"
                )),
                libc::EACCES => SpawnError::Program(format!("{shown} may not be executed")),
                libc::E2BIG => SpawnError::Program("its arguments and environment are too long".into()),
                libc::ENOMEM | libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ETXTBSY => {
                    SpawnError::Machine(format!("{shown} cannot be executed now: {error}"))
                }
                _ => SpawnError::Program(format!("{shown} cannot be executed: {error}")),
            };
        }
        step if step == Step::Session as i32 => "begin a session",
        step if step == Step::Cgroup as i32 => "enter its cgroup",
        step if step == Step::Journal as i32 => "write to the journal",
        step if step == Step::Output as i32 => "open its log",
        _ => "enter its folder",
    };
    SpawnError::Machine(format!("the new process could not {doing}: {error}"))
}

/// Looks where the unit's own PATH says, as a shell in the unit would.
fn find(command: &[String], env: &BTreeMap<String, String>, folder: &Path) -> Result<PathBuf, SpawnError> {
    let Some(name) = command.first().filter(|name| !name.is_empty()) else {
        return Err(SpawnError::Program("the command is empty".into()));
    };
    if name.contains('/') {
        let path = folder.join(name);
        return match std::fs::metadata(&path) {
            Ok(facts) if facts.is_dir() => Err(SpawnError::Program(format!("{name} is a folder"))),
            Ok(_) if !is_executable(&path) => Err(SpawnError::Program(format!("{name} is not executable (chmod +x)"))),
            Ok(_) => Ok(path),
            Err(_) => Err(SpawnError::Program(format!("{name}: there is no such file"))),
        };
    }
    let search = env.get("PATH").map(String::as_str).unwrap_or_default();
    search
        .split(':')
        .filter(|part| !part.is_empty())
        .map(|part| folder.join(part).join(name))
        .find(|path| path.is_file() && is_executable(path))
        .ok_or_else(|| SpawnError::Program(format!("{name}: command not found in {search}")))
}

fn is_executable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

fn c_string(bytes: &[u8]) -> Result<CString, SpawnError> {
    CString::new(bytes).map_err(|_| SpawnError::Program("a NUL byte in the command".into()))
}

fn strings(items: impl Iterator<Item = Vec<u8>>) -> Result<Vec<CString>, SpawnError> {
    items.map(|item| c_string(&item)).collect()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    let strings = strings.iter().map(CString::as_c_str).map(CStr::as_ptr);
    strings.chain([ptr::null()]).collect()
}
