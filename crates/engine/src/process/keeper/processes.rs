//! Processes as `/proc` shows them: who is whose child, who is of which unit, who still lives.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// The variable that marks a unit's processes, also those that left its session.
pub const MARKER: &str = "DURE_UNIT";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    pub state: char,
    pub parent: i32,
    pub session: i32,
    /// Of itself and of the children it has waited for.
    pub cpu_ticks: u64,
    /// Ticks since boot; with the pid and the boot it names a process for good.
    pub start_time: u64,
    /// As `wait` would give it; only a zombie has one.
    pub wait_status: i32,
}

impl Stat {
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// A line of `/proc/<pid>/stat`. The name in it may hold anything, brackets and newlines too.
pub fn parse_stat(text: &str) -> Option<Stat> {
    let open = text.find('(')?;
    let close = text.rfind(')')?;
    let pid = text[..open].trim().parse().ok()?;
    let fields: Vec<&str> = text.get(close + 1..)?.split_ascii_whitespace().collect();
    // The first of `fields` is the third of proc(5)'s list.
    let number = |nth: usize| fields.get(nth - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        cpu_ticks: number(14)? + number(15)? + number(16)? + number(17)?,
        start_time: number(22)?,
        wait_status: fields.get(49).and_then(|code| code.parse().ok()).unwrap_or(0),
    })
}

pub fn stat(pid: i32) -> Option<Stat> {
    parse_stat(&String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/stat")).ok()?))
}

/// All processes of the machine at one moment, with the units that they are marked for.
pub struct Snapshot {
    processes: Vec<Stat>,
    marks: HashMap<i32, String>,
}

impl Snapshot {
    pub fn take() -> Snapshot {
        let pids: Vec<i32> = std::fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        let processes: Vec<Stat> = pids.into_iter().filter_map(stat).collect();
        let marks = processes.iter().filter_map(|process| Some((process.pid, mark(process.pid)?))).collect();
        Snapshot { processes, marks }
    }

    /// The living processes of a unit, found without a cgroup: those in the session of its first
    /// process, those that carry its mark, and all descendants of either. `first` is none when
    /// that number may mean another process by now.
    pub fn of_unit(&self, first: Option<i32>, unit: &str) -> Vec<i32> {
        family(&self.processes, |process| {
            Some(process.session) == first || self.marks.get(&process.pid).is_some_and(|mark| mark == unit)
        })
    }

    /// Those and their descendants.
    pub fn families(&self, of: &[i32]) -> Vec<i32> {
        family(&self.processes, |process| of.contains(&process.pid))
    }
}

/// The children of this process. It has one thread that starts any, its first.
pub fn own_children() -> Option<Vec<i32>> {
    let pid = std::process::id();
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    Some(text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

fn mark(pid: i32) -> Option<String> {
    let environ = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    environ.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

fn family(processes: &[Stat], is_root: impl Fn(&Stat) -> bool) -> Vec<i32> {
    let mut children: HashMap<i32, Vec<&Stat>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let mut seen = HashSet::new();
    let mut open: Vec<&Stat> = processes.iter().filter(|process| is_root(process)).collect();
    let mut living = Vec::new();
    while let Some(process) = open.pop() {
        if !seen.insert(process.pid) {
            continue;
        }
        if !process.is_dead() {
            living.push(process.pid);
        }
        open.extend(children.get(&process.pid).into_iter().flatten());
    }
    living.sort_unstable();
    living
}

/// A process held by a descriptor, so that its number cannot come to mean another.
pub struct Held {
    pub pid: i32,
    fd: OwnedFd,
}

impl Held {
    /// None if it is gone.
    pub fn open(pid: i32) -> io::Result<Option<Held>> {
        let Some(number) = Pid::from_raw(pid) else { return Ok(None) };
        match pidfd_open(number, PidfdFlags::NONBLOCK) {
            Ok(fd) => Ok(Some(Held { pid, fd })),
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub fn signal(&self, signal: Signal) {
        // It may have ended meanwhile, which is what a signal was to bring about.
        let _ = pidfd_send_signal(&self.fd, signal);
    }

    /// Returns when the process is dead, reaped or not.
    pub async fn ended(&self) -> io::Result<()> {
        // SAFETY: the borrowed descriptor stays open for as long as it is watched.
        let watched = unsafe { AsyncFd::register_with_interest(self.fd.as_fd(), Interest::READABLE) }?;
        watched.readable().await.map(drop)
    }

    /// The status that `wait` would give, of a process that need not be our child: from its
    /// zombie, or from the kernel's memory of it (Linux 6.15 and later). None if neither tells.
    pub fn wait_status(&self, start_time: u64) -> Option<i32> {
        if let Some(stat) = stat(self.pid)
            && stat.start_time == start_time
            && stat.is_dead()
        {
            return Some(stat.wait_status);
        }
        self.remembered_status()
    }

    fn remembered_status(&self) -> Option<i32> {
        use std::os::fd::AsRawFd;
        /// The kernel's `struct pidfd_info` in its first published size.
        #[repr(C)]
        #[derive(Default)]
        struct PidfdInfo {
            mask: u64,
            cgroup: u64,
            pid: u32,
            tgid: u32,
            ppid: u32,
            ids: [u32; 8],
            exit_code: i32,
        }
        const EXIT: u64 = 1 << 3;
        /// `_IOWR(0xff, 11, struct pidfd_info)`.
        const GET_INFO: libc::Ioctl = (3 << 30) | ((size_of::<PidfdInfo>() as libc::Ioctl) << 16) | (0xff << 8) | 11;
        let mut info = PidfdInfo { mask: EXIT, ..PidfdInfo::default() };
        // SAFETY: the request carries the size of the structure that it fills.
        let done = unsafe { libc::ioctl(self.fd.as_raw_fd(), GET_INFO, &raw mut info) };
        (done == 0 && info.mask & EXIT != 0).then_some(info.exit_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, session: i32, state: char) -> Stat {
        Stat { pid, state, parent, session, cpu_ticks: 0, start_time: 1, wait_status: 0 }
    }

    #[test]
    fn a_name_with_brackets_and_newlines_does_not_confuse() {
        let line = "42 (a) R 9 (\n) S 7 42 41 0 -1 4194560 100 200 0 0 5 6 7 8 20 0 1 0 9911 1 2";
        let stat = parse_stat(line).unwrap();
        assert_eq!((stat.pid, stat.state, stat.parent, stat.session), (42, 'S', 7, 41));
        assert_eq!((stat.cpu_ticks, stat.start_time), (26, 9911));
        assert_eq!(parse_stat("42 (x"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn a_family_is_its_roots_and_their_living_descendants() {
        let processes = [
            process(10, 1, 10, 'S'),
            process(11, 10, 10, 'Z'),
            process(12, 11, 12, 'S'), // left the session below a dead parent
            process(20, 1, 20, 'S'),
            process(21, 20, 10, 'R'), // another's child in the session
        ];
        assert_eq!(family(&processes, |process| process.session == 10), [10, 12, 21]);
    }

    #[test]
    fn this_process_is_alive_and_known() {
        let me = std::process::id() as i32;
        let stat = stat(me).unwrap();
        assert!(!stat.is_dead());
        let all = Snapshot::take();
        assert!(all.processes.iter().any(|other| (other.pid, other.start_time) == (me, stat.start_time)));
        assert!(Held::open(me).unwrap().is_some());
    }

    #[tokio::test]
    async fn the_end_of_a_process_is_seen_before_and_after_it_is_reaped() {
        let mut child = std::process::Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
        let pid = child.id() as i32;
        let held = Held::open(pid).unwrap().unwrap();
        held.ended().await.unwrap();
        let start_time = stat(pid).unwrap().start_time;
        assert_eq!(held.wait_status(start_time), Some(7 << 8));
        child.wait().unwrap();
        // Only newer kernels remember; none may make something up.
        assert!(matches!(held.wait_status(start_time), None | Some(0x700)));
    }
}
