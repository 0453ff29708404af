//! Limits on what a unit may use, by what the machine allows: a delegated cgroup v2, else a
//! writable cgroup v1, else watching the memory of its processes and ending them.
//!
//! Never RLIMIT_AS: it counts addresses, and CUDA or a JVM reserve hundreds of gigabytes of those.

mod v1;
mod v2;
pub mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::unit::UnitId;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// 0 for none, both.
    pub cpu_milli: u64,
    pub memory_bytes: u64,
}

impl Limit {
    /// Stops a fork bomb, and no program.
    fn processes(&self) -> u64 {
        4096.max(self.cpu_milli.div_ceil(1000) * 256)
    }

    /// Of a period of 100 ms, in microseconds; the kernel takes no less than a millisecond.
    fn cpu_quota(&self) -> Option<u64> {
        (self.cpu_milli > 0).then(|| (self.cpu_milli * 100).max(1000))
    }
}

/// Where this process is in the hierarchies of cgroups.
#[derive(Debug, Default, PartialEq)]
pub struct Groups {
    /// The mount of v2 and this process's folder in it.
    v2: Option<(PathBuf, PathBuf)>,
    /// This process's folder for each controller of v1, up to that hierarchy's mount.
    v1: BTreeMap<String, (PathBuf, PathBuf)>,
}

impl Groups {
    pub fn of_this_process() -> Groups {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Groups::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"))
    }

    fn parse(cgroup: &str, mountinfo: &str) -> Groups {
        let mut groups = Groups::default();
        for line in cgroup.lines() {
            let mut fields = line.splitn(3, ':');
            let (_, Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let controllers: Vec<&str> = controllers.split(',').filter(|c| !c.is_empty()).collect();
            let Some((mount, root)) = mount_of(mountinfo, &controllers) else { continue };
            // In a container, the mount shows a part of the hierarchy and the path may be of
            // the whole.
            let below = Path::new(path).strip_prefix(&root).unwrap_or(Path::new(""));
            let own = mount.join(below.strip_prefix("/").unwrap_or(below));
            if controllers.is_empty() {
                groups.v2 = Some((mount, own));
            } else {
                for controller in controllers {
                    groups.v1.insert(controller.into(), (mount.clone(), own.clone()));
                }
            }
        }
        groups
    }

    /// The least memory limit of this process's cgroups and those above them.
    pub fn memory_limit(&self) -> Option<u64> {
        let v2 = self.v2.iter().map(|place| (place, "memory.max"));
        let v1 = self.v1.get("memory").into_iter().map(|place| (place, "memory.limit_in_bytes"));
        v2.chain(v1)
            .flat_map(|((mount, own), file)| {
                let inside = own.ancestors().take_while(move |folder| folder.starts_with(mount));
                inside.filter_map(move |folder| read_number(&folder.join(file)))
            })
            .min()
    }
}

fn mount_of(mountinfo: &str, controllers: &[&str]) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, mount) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let fits = match controllers.first() {
            None => kind == "cgroup2",
            Some(controller) => kind == "cgroup" && options.split(',').any(|option| option == *controller),
        };
        fits.then(|| (PathBuf::from(mount), PathBuf::from(root)))
    })
}

/// The way that this machine allows.
pub enum Limits {
    V2(v2::Tree),
    V1(v1::Pool),
    Watched,
}

impl Limits {
    /// `name` is that of this keeper's own part of the hierarchy.
    pub fn detect(groups: &Groups, name: &str) -> Limits {
        if let Some((mount, own)) = &groups.v2
            && let Some(tree) = v2::Tree::open(mount, own, name)
        {
            return Limits::V2(tree);
        }
        let own = |controller: &str| groups.v1.get(controller).map(|(_, own)| own.clone());
        match v1::Pool::open(own, name) {
            Some(pool) => Limits::V1(pool),
            None => Limits::Watched,
        }
    }

    pub fn words(&self) -> &'static str {
        match self {
            Limits::V2(_) => "cgroup v2",
            Limits::V1(_) => "cgroup v1",
            Limits::Watched => "watched memory",
        }
    }

    /// A place for one unit, with its limits set and nothing in it.
    pub fn enter(&mut self, id: &UnitId, limit: Limit) -> io::Result<Slot> {
        match self {
            Limits::V2(tree) => tree.enter(id, limit),
            Limits::V1(pool) => pool.enter(limit),
            Limits::Watched => Ok(Slot::none()),
        }
    }

    /// The place of a unit that an earlier keeper started.
    pub fn adopt(&mut self, folders: Vec<PathBuf>, kills_before: u64) -> Slot {
        let kind = match folders.first() {
            Some(first) if first.join("cgroup.controllers").exists() => Kind::V2,
            Some(first) if first.join("cgroup.procs").exists() => Kind::V1,
            _ => return Slot::none(),
        };
        if let Limits::V1(pool) = self {
            pool.take(&folders);
        }
        Slot { kind, folders, kills_before }
    }

    /// Gives a place back; all that was in it has ended.
    pub fn leave(&mut self, slot: Slot) {
        match self {
            Limits::V1(pool) if slot.kind == Kind::V1 => pool.leave(slot.folders),
            _ => slot.folders.iter().for_each(|folder| drop(std::fs::remove_dir(folder))),
        }
    }

    /// Takes away what this keeper made and nothing uses.
    pub fn close(&mut self) {
        match self {
            Limits::V2(tree) => tree.close(),
            Limits::V1(pool) => pool.close(),
            Limits::Watched => {}
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V2,
    V1,
    None,
}

/// One unit's cgroups; none of them where memory is watched.
#[derive(Debug)]
pub struct Slot {
    kind: Kind,
    /// The one that counts memory first.
    pub folders: Vec<PathBuf>,
    pub kills_before: u64,
}

impl Slot {
    pub fn none() -> Slot {
        Slot { kind: Kind::None, folders: vec![], kills_before: 0 }
    }

    pub fn is_watched(&self) -> bool {
        self.kind == Kind::None
    }

    /// The files that a process writes `0` to, to be in it.
    pub fn join_files(&self) -> Vec<PathBuf> {
        // In v1 a process with one thread moves that thread: moving "the process" takes a lock
        // that waits for every processor.
        let file = if self.kind == Kind::V1 { "tasks" } else { "cgroup.procs" };
        self.folders.iter().map(|folder| folder.join(file)).collect()
    }

    /// None where no cgroup says.
    pub fn members(&self) -> Option<Vec<i32>> {
        let first = self.folders.first()?;
        let text = std::fs::read_to_string(first.join("cgroup.procs")).ok()?;
        Some(text.lines().filter_map(|pid| pid.trim().parse().ok()).collect())
    }

    pub fn memory(&self) -> Option<u64> {
        let (used, cache) = match self.kind {
            Kind::V2 => ("memory.current", "inactive_file"),
            Kind::V1 => ("memory.usage_in_bytes", "total_inactive_file"),
            Kind::None => return None,
        };
        let first = self.folders.first()?;
        let used = read_number(&first.join(used))?;
        // What the kernel would drop first is not the unit's need.
        Some(used.saturating_sub(read_field(&first.join("memory.stat"), cache).unwrap_or(0)))
    }

    /// The highest that memory was, file cache included.
    pub fn peak(&self) -> Option<u64> {
        let file = match self.kind {
            Kind::V2 => "memory.peak",
            Kind::V1 => "memory.max_usage_in_bytes",
            Kind::None => return None,
        };
        read_number(&self.folders.first()?.join(file))
    }

    pub fn cpu_micros(&self) -> Option<u64> {
        match self.kind {
            Kind::V2 => read_field(&self.folders.first()?.join("cpu.stat"), "usage_usec"),
            Kind::V1 | Kind::None => None,
        }
    }

    /// Whether the kernel killed something of this unit for want of memory.
    pub fn was_out_of_memory(&self) -> bool {
        self.kills() > self.kills_before
    }

    fn kills(&self) -> u64 {
        let file = match self.kind {
            Kind::V2 => "memory.events",
            Kind::V1 => "memory.oom_control",
            Kind::None => return 0,
        };
        let Some(first) = self.folders.first() else { return 0 };
        read_field(&first.join(file), "oom_kill").unwrap_or(0)
    }

    /// Kills all at once where the kernel can; whether it did.
    pub fn kill(&self) -> bool {
        match (self.kind, self.folders.first()) {
            (Kind::V2, Some(folder)) => std::fs::write(folder.join("cgroup.kill"), "1").is_ok(),
            _ => false,
        }
    }
}

fn read_number(path: &Path) -> Option<u64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The number after a word, in a file of such lines.
fn read_field(path: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

fn make_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_are_found_also_within_a_container() {
        let mounts = "\
24 1 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
25 1 0:23 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
26 1 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
";
        let groups = Groups::parse("4:memory:/docker/abc/in\n2:cpu,cpuacct:/\n0::/u\n", mounts);
        assert_eq!(groups.v1["memory"].1, Path::new("/sys/fs/cgroup/memory/in"));
        assert_eq!(groups.v1["cpu"].1, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(groups.v2.as_ref().unwrap().1, Path::new("/sys/fs/cgroup/unified/u"));
        assert_eq!(Groups::parse("0::/x\n", ""), Groups::default());
    }

    #[test]
    fn the_least_limit_above_counts() {
        let temp = tempfile::tempdir().unwrap();
        let own = temp.path().join("a/b");
        std::fs::create_dir_all(&own).unwrap();
        std::fs::write(temp.path().join("a/memory.max"), "1000\n").unwrap();
        std::fs::write(own.join("memory.max"), "max\n").unwrap();
        let groups = Groups { v2: Some((temp.path().into(), own)), v1: BTreeMap::new() };
        assert_eq!(groups.memory_limit(), Some(1000));
    }
}
