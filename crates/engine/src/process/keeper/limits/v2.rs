//! cgroup v2, where a part of it is delegated to this user, or all of it is root's.
//!
//! One cgroup for each unit: in v2 that is one folder, and its counters begin at nothing.

use std::io;
use std::path::{Path, PathBuf};

use super::{Kind, Limit, Slot, make_folder};
use crate::unit::UnitId;

pub struct Tree {
    base: PathBuf,
}

impl Tree {
    /// None where memory cannot be limited this way.
    pub fn open(mount: &Path, own: &Path, name: &str) -> Option<Tree> {
        if rustix::process::geteuid().is_root() {
            // Nothing says whether root's own cgroup is its to divide; the top always is, and
            // that is where container engines without systemd put theirs.
            Tree::below(mount, name)
        } else {
            has_memory(own).then(|| clear(own).ok())??;
            Tree::below(own, name)
        }
    }

    fn below(parent: &Path, name: &str) -> Option<Tree> {
        let has = controllers(parent);
        if !has_memory(parent) {
            return None;
        }
        let base = parent.join(name);
        let divide = |folder: &Path| {
            for controller in ["memory", "cpu", "pids"] {
                if has.iter().any(|one| one == controller) {
                    std::fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"))?;
                }
            }
            io::Result::Ok(())
        };
        let made = divide(parent).and_then(|()| make_folder(&base)).and_then(|()| divide(&base));
        match made {
            Ok(()) => {
                // Ours all together would weigh as much as one process beside them.
                let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
                let _ = std::fs::write(base.join("cpu.weight"), (100 * cores).min(10_000).to_string());
                Some(Tree { base })
            }
            Err(_) => {
                let _ = std::fs::remove_dir(&base);
                None
            }
        }
    }

    pub fn enter(&mut self, id: &UnitId, limit: Limit) -> io::Result<Slot> {
        let folder = self.base.join(id.as_str());
        // A crash may have left one; with its counters it would blame this unit.
        let _ = std::fs::remove_dir(&folder);
        make_folder(&folder)?;
        let write = |file: &str, value: String| std::fs::write(folder.join(file), value);
        let set = || {
            if limit.memory_bytes > 0 {
                write("memory.max", limit.memory_bytes.to_string())?;
                // Absent where the machine has no swap.
                let _ = write("memory.swap.max", "0".into());
                // One process of a unit killed leaves the others waiting for it.
                let _ = write("memory.oom.group", "1".into());
            }
            if let Some(quota) = limit.cpu_quota() {
                let _ = write("cpu.max", format!("{quota} 100000"));
                let _ = write("cpu.weight", (limit.cpu_milli / 10).clamp(1, 10_000).to_string());
            }
            let _ = write("pids.max", limit.processes().to_string());
            io::Result::Ok(())
        };
        if let Err(error) = set() {
            let _ = std::fs::remove_dir(&folder);
            return Err(error);
        }
        Ok(Slot { kind: Kind::V2, folders: vec![folder], kills_before: 0 })
    }

    pub fn close(&mut self) {
        let _ = std::fs::remove_dir(&self.base);
    }
}

fn controllers(folder: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(String::from).collect()
}

fn has_memory(folder: &Path) -> bool {
    controllers(folder).iter().any(|controller| controller == "memory")
}

/// Moves what is in a delegated cgroup into a leaf of it: one that has processes of its own
/// cannot be divided.
fn clear(own: &Path) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    if std::fs::metadata(own)?.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let processes = std::fs::read_to_string(own.join("cgroup.procs"))?;
    if processes.trim().is_empty() {
        return Ok(());
    }
    let leaf = own.join("dure-supervisor");
    make_folder(&leaf)?;
    for process in processes.lines() {
        match std::fs::write(leaf.join("cgroup.procs"), process) {
            // It has ended meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            other => other?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_gets_a_cgroup_with_its_limits() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        assert!(Tree::below(root, "dure-x").is_none(), "no cgroup here");
        std::fs::write(root.join("cgroup.controllers"), "cpu io\n").unwrap();
        assert!(Tree::below(root, "dure-x").is_none(), "no memory controller");
        std::fs::write(root.join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
        let mut tree = Tree::below(root, "dure-x").unwrap();

        let id = UnitId::new("a-1-0").unwrap();
        let limit = Limit { cpu_milli: 1500, memory_bytes: 1 << 20 };
        let slot = tree.enter(&id, limit).unwrap();
        let folder = root.join("dure-x/a-1-0");
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap();
        assert_eq!(read("memory.max"), "1048576");
        assert_eq!(read("memory.oom.group"), "1");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert_eq!(read("cpu.weight"), "150");
        assert_eq!(read("pids.max"), "4096");
        assert_eq!(slot.join_files(), [folder.join("cgroup.procs")]);

        std::fs::write(folder.join("cgroup.procs"), "12\n13\n").unwrap();
        std::fs::write(folder.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        std::fs::write(folder.join("memory.peak"), "900\n").unwrap();
        std::fs::write(folder.join("memory.current"), "800\n").unwrap();
        std::fs::write(folder.join("memory.stat"), "anon 1\ninactive_file 300\n").unwrap();
        std::fs::write(folder.join("cpu.stat"), "usage_usec 77\nuser_usec 1\n").unwrap();
        assert_eq!(slot.members().unwrap(), [12, 13]);
        assert!(slot.was_out_of_memory());
        assert_eq!((slot.peak(), slot.memory(), slot.cpu_micros()), (Some(900), Some(500), Some(77)));
        assert!(slot.kill() && read("cgroup.kill") == "1");
    }
}
