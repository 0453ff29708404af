//! Processes that belong to a test: those that name its folder in their command line, environment or working folder.

use std::{fs, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};

use crate::command::wait_for_end;

/// What is being ended takes this long at most.
const ENDING: Duration = Duration::from_secs(15);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub command: String,
}

/// Every process that names the folder; what has ended already names nothing.
pub fn of(folder: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let me = std::process::id().cast_signed();
    let mut found: Vec<Process> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != me)
        .filter_map(|pid| look(pid, folder))
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

fn look(pid: i32, folder: &Path) -> Option<Process> {
    let place = Path::new("/proc").join(pid.to_string());
    let wanted = folder.as_os_str().as_encoded_bytes();
    let names = |bytes: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
    let command = fs::read(place.join("cmdline")).unwrap_or_default();
    let is_ours = names(&command)
        || fs::read(place.join("environ")).is_ok_and(|bytes| names(&bytes))
        || fs::read_link(place.join("cwd")).is_ok_and(|path| names(path.as_os_str().as_encoded_bytes()));
    is_ours.then(|| Process { pid, command: String::from_utf8_lossy(&command).replace('\0', " ") })
}

/// Waits for the ends of all of them; returns those that do not end, which are killed.
pub fn wait_until_none(folder: &Path) -> Vec<Process> {
    let mut left = Vec::new();
    for process in of(folder) {
        let Some(pid) = Pid::from_raw(process.pid) else { continue };
        // Between being found and being looked at, its number may have become another's.
        if !wait_for_end(pid, ENDING) && look(process.pid, folder).is_some() {
            left.push(process);
        }
    }
    // Started while the others ended.
    left.extend(of(folder).into_iter().filter(|process| !left.contains(process)).collect::<Vec<_>>());
    kill(folder);
    left
}

/// SIGKILL to whatever names the folder, until nothing does.
pub fn kill(folder: &Path) {
    for _ in 0..10 {
        let found = of(folder);
        if found.is_empty() {
            return;
        }
        for pid in found.iter().filter_map(|process| Pid::from_raw(process.pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        for pid in found.iter().filter_map(|process| Pid::from_raw(process.pid)) {
            wait_for_end(pid, Duration::from_secs(2));
        }
    }
}

/// Removes a folder in which environments are closed against writing.
pub fn remove(folder: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fn open(folder: &Path) {
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open(&entry.path());
            }
        }
    }
    if fs::remove_dir_all(folder).is_err() {
        open(folder);
        let _ = fs::remove_dir_all(folder);
    }
}
