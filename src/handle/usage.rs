//! What an instance uses of the machine, as the kernel counts it.

use std::fs;
use std::path::{Path, PathBuf};

use super::Usage;

/// Of the process `pid` and all in its cgroup, if that isn't the supervisor's as well; otherwise of
/// the process alone. `None` if it has ended.
pub(super) fn of(pid: u32, supervisor: u32) -> Option<Usage> {
    let own = cgroup_of(pid)?;
    let alone = cgroup_of(supervisor).is_none_or(|group| group != own);
    alone.then(|| of_group(&own)).flatten().or_else(|| of_process(pid))
}

/// Where the process's cgroup is (cgroups(7), version 2).
fn cgroup_of(pid: u32) -> Option<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')))
}

fn of_group(group: &Path) -> Option<Usage> {
    let memory = fs::read_to_string(group.join("memory.current")).ok()?;
    let cpu = fs::read_to_string(group.join("cpu.stat")).ok()?;
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    Some(Usage { memory: memory.trim().parse().ok()?, cpu: cpu.trim().parse().ok()? })
}

/// By `proc_pid_stat(5)`, whose fields 14 and 15 are processor time in ticks and 24 is memory in pages.
fn of_process(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold anything, parentheses too.
    let fields: Vec<u64> = stat
        .rsplit_once(')')?
        .1
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let page = rustix::param::page_size() as u64;
    let cpu = (field(14)? + field(15)?).saturating_mul(1_000_000) / ticks;
    Some(Usage { memory: field(24)?.saturating_mul(page), cpu })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let own = std::process::id();
        let used = of(own, own).unwrap();
        assert!(used.memory > 0);
        assert_eq!(of_process(u32::MAX), None);
    }
}
