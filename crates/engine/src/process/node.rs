//! What this machine has: cores, memory, GPUs.
//!
//! The parsers are pure; only `facts` reads the machine. Within a container the machine is what
//! the container's limits leave of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keeper::limits;
use crate::engine::{Gpu, NodeFacts};

pub async fn facts(limits: String) -> NodeFacts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let groups = limits::Groups::of_this_process();
    let total = memory_total(&read("/proc/meminfo")).unwrap_or(0);
    let memory_bytes = groups.memory_limit().map_or(total, |limit| limit.min(total));
    let allowed = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
    NodeFacts {
        hostname: read("/proc/sys/kernel/hostname").trim().to_string(),
        os: os_name(&read("/etc/os-release")).unwrap_or_else(|| "Linux".into()),
        // Heeds both the affinity mask and a container's quota.
        cores: allowed,
        memory_bytes,
        gpus: nvidia_gpus().await,
        limits,
    }
}

fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

fn os_name(os_release: &str) -> Option<String> {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(value.trim().trim_matches('"').to_string())
}

/// Asks the driver's own tool, which says what a program using the driver will see. A machine
/// without the tool has no usable NVIDIA GPU.
async fn nvidia_gpus() -> Vec<Gpu> {
    let Some(tool) = nvidia_tool() else { return Vec::new() };
    let asked = tokio::process::Command::new(&tool)
        .args(["--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"])
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(Duration::from_secs(20), asked).await {
        Ok(Ok(output)) if output.status.success() => parse_nvidia(&String::from_utf8_lossy(&output.stdout)),
        Ok(Ok(output)) => {
            let message = String::from_utf8_lossy(&output.stdout).trim().to_string();
            tracing::warn!(%message, "nvidia-smi failed: no GPU is used");
            Vec::new()
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "nvidia-smi cannot be run: no GPU is used");
            Vec::new()
        }
        Err(_) => {
            tracing::warn!("nvidia-smi did not answer in 20 s: no GPU is used");
            Vec::new()
        }
    }
}

fn nvidia_tool() -> Option<PathBuf> {
    ["/usr/bin", "/usr/local/bin", "/usr/lib/wsl/lib", "/run/current-system/sw/bin"]
        .iter()
        .map(|folder| Path::new(folder).join("nvidia-smi"))
        .find(|path| path.is_file())
}

fn parse_nvidia(csv: &str) -> Vec<Gpu> {
    csv.lines()
        .filter_map(|line| {
            let mut fields = line.split(',').map(str::trim);
            let (id, model, mib) = (fields.next()?, fields.next()?, fields.next()?);
            let memory_bytes = mib.parse::<u64>().ok()?.checked_mul(1024 * 1024)?;
            Some(Gpu { id: id.to_string(), model: model.to_string(), memory_bytes })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_says_is_understood() {
        assert_eq!(memory_total("MemTotal:       24659452 kB\nMemFree: 1 kB\n"), Some(25251278848));
        assert_eq!(memory_total("nothing"), None);
        assert_eq!(os_name("ID=debian\nPRETTY_NAME=\"Debian 12\"\n").unwrap(), "Debian 12");
        let gpus = parse_nvidia(
            "GPU-5a1c, NVIDIA H100 80GB HBM3, 81559\nGPU-77, NVIDIA GeForce RTX 4090, 24564\nNo devices were found\n",
        );
        assert_eq!(gpus.len(), 2);
        assert_eq!(gpus[0].model, "NVIDIA H100 80GB HBM3");
        assert_eq!(gpus[1].memory_bytes, 24564 * 1024 * 1024);
    }
}
