//! What a process has used so far, and a fraction of a CPU for it, as Linux counts and gives them.

use std::path::{Path, PathBuf};

use xtask::error::{Error, Result};

/// CPU time of all threads that a process has, user and system, in milliseconds
/// (<https://docs.kernel.org/scheduler/sched-stats.html#proc-pid-schedstat>): exact where `getrusage` counts ticks.
pub(crate) fn cpu_millis(process_id: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{process_id}/task"));
    let nanos: u64 = tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
        .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .sum();
    nanos as f64 / 1e6
}

/// The most memory that a process has held so far, in MB (`VmHWM`). Not `ru_maxrss`, which a child inherits.
pub(crate) fn peak_memory_mb(process_id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    kilobytes.unwrap_or_default() / 1024.0
}

/// A control group that holds its processes to a share of one CPU, as Lambda does after the start
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>: 1,769 MB are one vCPU).
pub(crate) struct CpuShare {
    group: PathBuf,
}

/// Lambda does not publish its period; 20 ms is what others have measured.
const PERIOD_MICROS: u64 = 20_000;

impl CpuShare {
    /// A share as of a function with this much memory.
    pub(crate) fn of_memory(megabytes: u64) -> Result<Self> {
        let quota = PERIOD_MICROS * megabytes / 1769;
        let first = Path::new("/sys/fs/cgroup/cpu");
        let (parent, version_1) = if first.is_dir() {
            (first, true)
        } else {
            (Path::new("/sys/fs/cgroup"), false)
        };
        let group = parent.join(format!("latchkey-bench-{}", std::process::id()));
        std::fs::create_dir_all(&group).map_err(|source| Error::File {
            action: "emulate 128 MB (run as root, with a writable control group): create",
            path: group.clone(),
            source,
        })?;
        let share = Self { group };
        if version_1 {
            share.write("cpu.cfs_period_us", &PERIOD_MICROS.to_string())?;
            share.write("cpu.cfs_quota_us", &quota.to_string())?;
        } else {
            share.write("cpu.max", &format!("{quota} {PERIOD_MICROS}"))?;
        }
        Ok(share)
    }

    /// Holds a process to the share from now on.
    pub(crate) fn hold(&self, process_id: u32) -> Result<()> {
        self.write("cgroup.procs", &process_id.to_string())
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let path = self.group.join(file);
        std::fs::write(&path, text).map_err(|source| Error::File {
            action: "emulate 128 MB (run as root, with a writable control group): write",
            path,
            source,
        })
    }
}

impl Drop for CpuShare {
    fn drop(&mut self) {
        // An ended process leaves its group a moment later; an empty group that stays harms nobody.
        let _ = std::fs::remove_dir(&self.group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_has_used_cpu_and_memory() {
        let own = std::process::id();
        let before = cpu_millis(own);
        let mut sum = 0_u64;
        while cpu_millis(own) < before + 2.0 {
            sum = sum.wrapping_add(1);
        }
        assert!(sum > 0 && peak_memory_mb(own) > 1.0);
    }
}
