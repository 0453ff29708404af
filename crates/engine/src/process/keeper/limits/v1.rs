//! cgroup v1: a pool of cgroups that units use one after the other.
//!
//! Making three of them costs as much as starting a process; giving one to the next unit costs a
//! fifth of that. They lie below the keeper's own, so that a limit on the keeper holds for all.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use super::{Kind, Limit, Slot, make_folder, read_number};

/// What the last unit may leave behind in memory, mostly file cache, before it is thrown out.
const LEFT_BEHIND: u64 = 4 * 1024 * 1024;

pub struct Pool {
    /// The keeper's folders for memory (first), cpu and pids, where the machine has them.
    bases: Vec<PathBuf>,
    free: Vec<u32>,
    next: u32,
    set: HashMap<u32, Limit>,
}

impl Pool {
    /// None where memory cannot be limited.
    pub fn open(own: impl Fn(&str) -> Option<PathBuf>, name: &str) -> Option<Pool> {
        let mut bases: Vec<PathBuf> = Vec::new();
        for controller in ["memory", "cpu", "pids"] {
            let base = own(controller).map(|own| own.join(name));
            match base {
                Some(base) if bases.contains(&base) => {}
                Some(base) if make_folder(&base).is_ok() => bases.push(base),
                _ if controller == "memory" => return None,
                _ => {}
            }
        }
        // Ours all together would weigh as much as one process beside them.
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        for base in bases.iter().map(|base| base.join("cpu.shares")).filter(|file| file.exists()) {
            let _ = std::fs::write(base, (1024 * cores).min(262_144).to_string());
        }
        let mut pool = Pool { bases, free: vec![], next: 0, set: HashMap::new() };
        for entry in std::fs::read_dir(&pool.bases[0]).ok()?.flatten() {
            if let Some(number) = entry.file_name().to_str().and_then(number_of) {
                pool.next = pool.next.max(number + 1);
                pool.free.push(number);
            }
        }
        // A limit must be writable too, not only a folder makeable.
        // Tried on a new one: what is there may be in use.
        let probe = pool.make(Limit { cpu_milli: 1000, memory_bytes: 1 << 30 });
        match probe {
            Ok(slot) => pool.leave(slot.folders),
            Err(_) => {
                pool.close();
                return None;
            }
        }
        Some(pool)
    }

    pub fn enter(&mut self, limit: Limit) -> io::Result<Slot> {
        while let Some(number) = self.free.pop() {
            let folders = self.folders(number);
            if self.set.get(&number) == Some(&limit) || set(&folders, limit).is_ok() {
                self.set.insert(number, limit);
                return Ok(slot(folders));
            }
            // Somebody is still in there, or it was taken away.
            self.set.remove(&number);
        }
        self.make(limit)
    }

    fn make(&mut self, limit: Limit) -> io::Result<Slot> {
        let number = self.next;
        self.next += 1;
        let folders = self.folders(number);
        folders.iter().try_for_each(|folder| make_folder(folder))?;
        set(&folders, limit)?;
        self.set.insert(number, limit);
        Ok(slot(folders))
    }

    /// Marks a place as in use.
    pub fn take(&mut self, folders: &[PathBuf]) {
        let number = self.number(folders);
        self.free.retain(|free| Some(*free) != number);
    }

    pub fn leave(&mut self, folders: Vec<PathBuf>) {
        let occupied =
            |folder: &PathBuf| std::fs::read_to_string(folder.join("tasks")).is_ok_and(|tasks| !tasks.is_empty());
        match self.number(&folders) {
            Some(_) if occupied(&folders[0]) => {}
            Some(number) => {
                let used = read_number(&folders[0].join("memory.usage_in_bytes"));
                if used.is_some_and(|used| used > LEFT_BEHIND) {
                    // If it cannot be emptied the next unit starts with some cache, no more.
                    let _ = std::fs::write(folders[0].join("memory.force_empty"), "0");
                }
                self.free.push(number);
            }
            None => folders.iter().for_each(|folder| drop(std::fs::remove_dir(folder))),
        }
    }

    pub fn close(&mut self) {
        for number in std::mem::take(&mut self.free) {
            self.folders(number).iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
        }
        self.bases.iter().for_each(|base| drop(std::fs::remove_dir(base)));
    }

    fn folders(&self, number: u32) -> Vec<PathBuf> {
        self.bases.iter().map(|base| base.join(format!("u{number}"))).collect()
    }

    fn number(&self, folders: &[PathBuf]) -> Option<u32> {
        let folder = folders.first()?;
        (folder.parent() == Some(self.bases.first()?)).then(|| folder.file_name()?.to_str().and_then(number_of))?
    }
}

fn number_of(name: &str) -> Option<u32> {
    name.strip_prefix('u')?.parse().ok()
}

fn slot(folders: Vec<PathBuf>) -> Slot {
    // Setting the highest use to 0 makes it the current use.
    let _ = std::fs::write(folders[0].join("memory.max_usage_in_bytes"), "0");
    let mut slot = Slot { kind: Kind::V1, folders, kills_before: 0 };
    slot.kills_before = slot.kills();
    slot
}

fn set(folders: &[PathBuf], limit: Limit) -> io::Result<()> {
    let find = |file: &str| folders.iter().map(|folder| folder.join(file)).find(|f| f.exists());
    let write = |path: &Path, value: String| std::fs::write(path, value);

    let memory = match limit.memory_bytes {
        0 => "-1".to_string(),
        bytes => bytes.to_string(),
    };
    // Memory with swap may never be less than memory alone, so it goes out of the way first.
    let with_swap = folders[0].join("memory.memsw.limit_in_bytes");
    let counts_swap = write(&with_swap, "-1".into()).is_ok();
    write(&folders[0].join("memory.limit_in_bytes"), memory.clone())?;
    if counts_swap {
        write(&with_swap, memory)?;
    }
    if let Some(quota) = find("cpu.cfs_quota_us") {
        let micros = limit.cpu_quota().map_or("-1".into(), |quota| quota.to_string());
        write(&quota, micros)?;
    }
    if let Some(shares) = find("cpu.shares") {
        let milli = if limit.cpu_milli == 0 { 1000 } else { limit.cpu_milli };
        write(&shares, (milli * 1024 / 1000).clamp(2, 262_144).to_string())?;
    }
    if let Some(most) = find("pids.max") {
        write(&most, limit.processes().to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_used_again_with_the_next_units_limits() {
        let temp = tempfile::tempdir().unwrap();
        let own = |controller: &str| (controller == "memory").then(|| temp.path().to_path_buf());
        let mut pool = Pool::open(own, "dure-x").unwrap();
        let first = pool.enter(Limit { cpu_milli: 0, memory_bytes: 4096 }).unwrap();
        let second = pool.enter(Limit { cpu_milli: 0, memory_bytes: 0 }).unwrap();
        assert_ne!(first.folders, second.folders);
        let read = |slot: &Slot| read_number(&slot.folders[0].join("memory.limit_in_bytes"));
        assert_eq!((read(&first), read(&second)), (Some(4096), None));
        assert!(!first.was_out_of_memory());
        std::fs::write(first.folders[0].join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
            .unwrap();
        assert!(first.was_out_of_memory());

        let folders = first.folders.clone();
        pool.leave(first.folders);
        let again = pool.enter(Limit { cpu_milli: 0, memory_bytes: 8192 }).unwrap();
        assert_eq!((&again.folders, read(&again)), (&folders, Some(8192)));
        assert!(!again.was_out_of_memory(), "the earlier unit's kills are not its own");

        // A keeper that comes later finds the pool, and leaves alone what is in use.
        let mut later = Pool::open(own, "dure-x").unwrap();
        later.take(&again.folders);
        for _ in 0..3 {
            let slot = later.enter(Limit { cpu_milli: 0, memory_bytes: 1 }).unwrap();
            assert_ne!(slot.folders, again.folders);
        }
    }
}
