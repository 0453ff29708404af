//! Memory and CPU of a set of processes, as `/proc` tells them: for usage everywhere, and for the
//! limit where the machine allows no cgroup.

use crate::process::keeper::processes;

/// What the processes hold for themselves. Cheap; counts twice what a fork shares.
fn own_memory(pids: &[i32]) -> u64 {
    pids.iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .map(|status| kib(&status, "RssAnon:") + kib(&status, "RssShmem:"))
        .sum()
}

/// What the processes hold, shared pages split among those that share them. Dear: the kernel
/// walks all their page tables.
fn fair_memory(pids: &[i32]) -> u64 {
    pids.iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok())
        .map(|rollup| kib(&rollup, "Pss_Anon:") + kib(&rollup, "Pss_Shmem:"))
        .sum()
}

pub fn memory(pids: &[i32]) -> u64 {
    own_memory(pids)
}

/// Only when the cheap count is above the limit is the dear one made.
pub fn is_above(pids: &[i32], limit: u64) -> bool {
    own_memory(pids) > limit && fair_memory(pids) > limit
}

pub fn cpu_micros(pids: &[i32]) -> u64 {
    let ticks: u64 = pids.iter().filter_map(|pid| processes::stat(*pid)).map(|stat| stat.cpu_ticks).sum();
    ticks * (1_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

fn kib(text: &str, name: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse().ok())
        .map_or(0, |kib: u64| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_only_a_low_limit_is_passed() {
        let me = [std::process::id() as i32];
        assert!(memory(&me) > 100 * 1024);
        assert!(is_above(&me, 4096));
        assert!(!is_above(&me, 1 << 40));
        assert_eq!(kib("RssAnon:\t     12 kB\n", "RssAnon:"), 12 * 1024);
        assert_eq!(kib("", "RssAnon:"), 0);
    }
}
