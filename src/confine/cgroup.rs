//! Control groups, made by the supervisor: limits on memory, tasks and processor time.
//!
//! Both versions of the kernel's interface work, also mixed: version 2 where it has the controller
//! for us, else version 1. Every instance has a group `cofferdam/DAEMON-PID/INSTANCE` beneath the
//! supervisor's own, so what limits the supervisor limits its layers, and what an earlier
//! supervisor left behind can be told from what is in use.

mod hierarchy;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use serde::{Deserialize, Serialize};

use self::hierarchy::{Hierarchy, Version};
use super::receipt::Got;
use crate::policy::plan::Limits;
use crate::sys::pidfd;

/// What a layer's control group limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouped {
    /// Memory, with what the kernel keeps for it.
    pub memory: Got,
    /// Tasks.
    pub tasks: Got,
    /// Processor time.
    pub cpu: Got,
}

impl Grouped {
    /// No group at all, for this errno.
    pub const fn none(errno: u16) -> Self {
        let missing = Got::Missing(errno);
        Self { memory: missing, tasks: missing, cpu: missing }
    }

    const fn set(&mut self, controller: Controller, got: Got) {
        match controller {
            Controller::Memory => self.memory = got,
            Controller::Pids => self.tasks = got,
            Controller::Cpu => self.cpu = got,
        }
    }
}

/// A controller that limits something of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Controller {
    /// `memory`.
    Memory,
    /// `pids`: tasks.
    Pids,
    /// `cpu`: processor time.
    Cpu,
}

impl Controller {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Pids, Self::Cpu];

    /// The kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Cpu => "cpu",
        }
    }

    /// The files to write, in order, with their values; `true` where the kernel may lack the file.
    fn settings(self, version: Version, limits: &Limits) -> Vec<(&'static str, String, bool)> {
        let memory = limits.memory.to_string();
        match (self, version) {
            (Self::Memory, Version::V1) => vec![
                ("memory.limit_in_bytes", memory.clone(), false),
                // With swap, so that it isn't a way around; kernels without swap accounting lack it.
                ("memory.memsw.limit_in_bytes", memory, true),
            ],
            (Self::Memory, Version::V2) => vec![
                ("memory.max", memory, false),
                ("memory.swap.max", "0".to_owned(), true),
                // Out of memory ends the whole layer, not one process of it.
                ("memory.oom.group", "1".to_owned(), true),
            ],
            (Self::Pids, _) => vec![("pids.max", limits.tasks.to_string(), false)],
            (Self::Cpu, version) => {
                let Some(percent) = limits.cpu else { return Vec::new() };
                let quota = u64::from(percent) * PERIOD_US / 100;
                match version {
                    Version::V1 => vec![
                        ("cpu.cfs_period_us", PERIOD_US.to_string(), false),
                        ("cpu.cfs_quota_us", quota.to_string(), false),
                    ],
                    Version::V2 => vec![("cpu.max", format!("{quota} {PERIOD_US}"), false)],
                }
            }
        }
    }
}

/// The kernel's own default period, in microseconds.
const PERIOD_US: u64 = 100_000;

/// Where this supervisor can make groups.
#[derive(Debug)]
pub struct Hierarchies {
    usable: Vec<(Controller, Hierarchy)>,
    refused: Vec<Refusal>,
}

/// Why a controller can't be had.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", path.display())]
pub struct Refusal {
    /// Which.
    pub controller: Controller,
    /// Where it was tried.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub error: io::Error,
}

impl Hierarchies {
    /// Looks for each controller, and makes the daemon's group where it can. Removes what
    /// supervisors that have died left behind.
    ///
    /// The calling process may be moved into a group of its own beside its layers': version 2
    /// wants processes at the leaves only.
    pub fn find(daemon: &str) -> Self {
        let own = format!("{daemon}-{}", std::process::id());
        let mut found = Self { usable: Vec::new(), refused: Vec::new() };
        for controller in Controller::ALL {
            match Hierarchy::open(controller, &own) {
                Ok(hierarchy) => found.usable.push((controller, hierarchy)),
                Err(refusal) => found.refused.push(refusal),
            }
        }
        found
    }

    /// The controllers that can't be had, each with the reason.
    pub fn refused(&self) -> &[Refusal] {
        &self.refused
    }

    /// The controllers that can be had, each with the version of the interface and the daemon's
    /// directory.
    pub fn usable(&self) -> impl Iterator<Item = (Controller, u8, &Path)> {
        self.usable.iter().map(|(controller, hierarchy)| {
            let version = match hierarchy.version {
                Version::V1 => 1,
                Version::V2 => 2,
            };
            (*controller, version, hierarchy.base.as_path())
        })
    }

    /// What an instance without a group has: nothing, for these reasons.
    pub fn without_group(&self) -> Grouped {
        let mut grouped = Grouped::none(0);
        for refusal in &self.refused {
            grouped.set(refusal.controller, Got::missing(&refusal.error));
        }
        grouped
    }

    /// Makes the group `name` with `limits`; `None` where no controller can be had.
    ///
    /// An error if one that can be had fails now. `name` is one plain component of a path.
    pub fn make(&self, name: &str, limits: &Limits) -> io::Result<Option<Group>> {
        if self.usable.is_empty() {
            return Ok(None);
        }
        let mut group = Group {
            directories: Vec::new(),
            unified: None,
            tasks: Vec::new(),
            grouped: self.without_group(),
        };
        for (controller, hierarchy) in &self.usable {
            let settings = controller.settings(hierarchy.version, limits);
            if settings.is_empty() {
                group.grouped.set(*controller, Got::NotApplicable);
                continue;
            }
            group.enter(hierarchy, name)?;
            for (file, value, may_lack) in settings {
                match write(&hierarchy.base.join(name).join(file), &value) {
                    Err(error) if may_lack && error.kind() == ErrorKind::NotFound => {}
                    result => result?,
                }
            }
            group.grouped.set(*controller, Got::Enforced);
        }
        Ok(Some(group))
    }
}

/// What a program must know of the hierarchies that the one before it in the same process has found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CarriedHierarchies {
    /// By controller: whether its interface is version 2, and the daemon's directory.
    usable: Vec<(Controller, bool, PathBuf)>,
    /// Why a controller can't be had: where it was tried, and the errno if there is one.
    refused: Vec<(Controller, PathBuf, Option<i32>, String)>,
}

impl Hierarchies {
    /// What another program in this process must know, and the locks that it must hold.
    pub fn carry(&self) -> (CarriedHierarchies, impl Iterator<Item = BorrowedFd<'_>>) {
        let usable = |(controller, it): &(Controller, Hierarchy)| {
            (*controller, it.version == Version::V2, it.base.clone())
        };
        let refused = |it: &Refusal| {
            let errno = it.error.raw_os_error();
            (it.controller, it.path.clone(), errno, it.error.to_string())
        };
        let carried = CarriedHierarchies {
            usable: self.usable.iter().map(usable).collect(),
            refused: self.refused.iter().map(refused).collect(),
        };
        (carried, self.usable.iter().map(|(_, hierarchy)| hierarchy.claim.as_fd()))
    }

    /// Those that the program before has found, and their locks.
    pub fn carried(from: CarriedHierarchies, claims: Vec<OwnedFd>) -> Self {
        let usable = from.usable.into_iter().zip(claims);
        let usable = usable.map(|((controller, is_second, base), claim)| {
            let version = if is_second { Version::V2 } else { Version::V1 };
            (controller, Hierarchy { version, base, claim: claim.into() })
        });
        let refused = from.refused.into_iter().map(|(controller, path, errno, text)| {
            let error = errno.map_or_else(|| io::Error::other(text), io::Error::from_raw_os_error);
            Refusal { controller, path, error }
        });
        Self { usable: usable.collect(), refused: refused.collect() }
    }
}

/// The daemon's own groups go with it, if they are empty.
impl Drop for Hierarchies {
    fn drop(&mut self) {
        for (_, hierarchy) in &self.usable {
            let _ = fs::remove_dir(&hierarchy.base);
        }
    }
}

/// The groups of one instance.
#[derive(Debug)]
pub struct Group {
    directories: Vec<PathBuf>,
    unified: Option<OwnedFd>,
    tasks: Vec<OwnedFd>,
    grouped: Grouped,
}

/// How often a limit was met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strikes {
    /// Processes that were killed for want of memory.
    pub memory: u64,
    /// Tasks that could not be made.
    pub tasks: u64,
}

/// A file in which a group counts, of either version of the interface (cgroups(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// Bytes of memory.
    Memory,
    /// The same, by version 1.
    OldMemory,
    /// Processor time, among other numbers.
    Cpu,
    /// Nanoseconds of processor time, by version 1.
    OldCpu,
    /// Processes and threads.
    Tasks,
}

impl Counter {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Memory, Self::OldMemory, Self::Cpu, Self::OldCpu, Self::Tasks];

    const fn file(self) -> &'static str {
        match self {
            Self::Memory => "memory.current",
            Self::OldMemory => "memory.usage_in_bytes",
            Self::Cpu => "cpu.stat",
            Self::OldCpu => "cpuacct.usage",
            Self::Tasks => "pids.current",
        }
    }

    /// The number in its text: bytes, microseconds or tasks.
    pub fn number(self, text: &str) -> Option<u64> {
        match self {
            Self::Cpu => event(text, "usage_usec"),
            Self::OldCpu => Some(text.trim().parse::<u64>().ok()? / 1000),
            Self::Memory | Self::OldMemory | Self::Tasks => text.trim().parse().ok(),
        }
    }
}

/// The number behind `key` in a file of events, one `key number` a line.
fn event(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.parse().ok())
}

/// How a child gets into its groups; see [`Spawn`](crate::sys::spawn::Spawn).
#[derive(Debug)]
pub struct Joins<'a> {
    /// The version 2 directory to be born in.
    pub unified: Option<BorrowedFd<'a>>,
    /// The version 1 `tasks` files.
    pub tasks: Vec<BorrowedFd<'a>>,
}

/// What a program must know of a group that the one before it in the same process has made, and whose
/// instance runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CarriedGroup {
    directories: Vec<PathBuf>,
    grouped: Grouped,
}

impl Group {
    /// What another program in this process must know.
    pub fn carry(&self) -> CarriedGroup {
        CarriedGroup { directories: self.directories.clone(), grouped: self.grouped }
    }

    /// The one that the program before has made. Nobody joins it any more.
    pub fn carried(from: CarriedGroup) -> Self {
        let CarriedGroup { directories, grouped } = from;
        Self { directories, unified: None, tasks: Vec::new(), grouped }
    }

    /// What it limits.
    pub const fn grouped(&self) -> Grouped {
        self.grouped
    }

    /// How to join it.
    pub fn joins(&self) -> Joins<'_> {
        Joins {
            unified: self.unified.as_ref().map(AsFd::as_fd),
            tasks: self.tasks.iter().map(AsFd::as_fd).collect(),
        }
    }

    /// What the group's limits have done to those in it so far.
    pub fn strikes(&self) -> Strikes {
        let count = |file: &str, key: &str| {
            let texts = self.directories.iter().map(|directory| directory.join(file));
            let texts = texts.filter_map(|path| fs::read_to_string(path).ok());
            texts.filter_map(|text| event(&text, key)).sum()
        };
        Strikes {
            memory: count("memory.events", "oom_kill") + count("memory.oom_control", "oom_kill"),
            tasks: count("pids.events", "max"),
        }
    }

    /// What the group counts of those in it, open to be read again and again: which of
    /// [`Counter::ALL`], and the file.
    pub fn counters(&self) -> Vec<(u8, OwnedFd)> {
        let open = |(number, counter): (u8, &Counter)| {
            let mut paths = self.directories.iter().map(|directory| directory.join(counter.file()));
            Some((number, paths.find_map(|path| File::open(path).ok())?.into()))
        };
        (0..).zip(&Counter::ALL).filter_map(open).collect()
    }

    /// Removes what the kernel gives back by now; true once nothing is left. Call it again later
    /// otherwise: a group stays busy for a moment after its last process (threat G9).
    ///
    /// Whatever still runs in it is killed: without a pid namespace, what a layer has started
    /// doesn't end with it.
    pub fn remove(&mut self) -> bool {
        self.directories.retain(|directory| match fs::remove_dir(directory) {
            Ok(()) => false,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(_) => {
                kill_all(directory);
                true
            }
        });
        self.directories.is_empty()
    }

    /// Makes the directory in `hierarchy`, once where several controllers share it.
    fn enter(&mut self, hierarchy: &Hierarchy, name: &str) -> io::Result<()> {
        let directory = hierarchy.base.join(name);
        if self.directories.contains(&directory) {
            return Ok(());
        }
        make_directory(&directory)?;
        self.directories.push(directory.clone());
        match hierarchy.version {
            Version::V2 => self.unified = Some(File::open(&directory)?.into()),
            Version::V1 => {
                let tasks = OpenOptions::new().write(true).open(directory.join("tasks"))?;
                self.tasks.push(tasks.into());
            }
        }
        Ok(())
    }
}

/// A group that can't be made in full, or is forgotten, doesn't stay.
impl Drop for Group {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Writes a value into a control file, which the kernel takes or refuses as a whole.
fn write(path: &Path, value: &str) -> io::Result<()> {
    use io::Write;
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

fn make_directory(path: &Path) -> io::Result<()> {
    // Nobody else has business in it: who could open it could lock it, and make its supervisor look
    // alive for ever.
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// How often [`kill_all`] looks again for what was made meanwhile.
const ROUNDS: usize = 8;

/// Kills every process in the group at `directory`: at once where the kernel can (version 2 since
/// Linux 5.14), else one by one, with no more of them made meanwhile where the group counts tasks.
///
/// What is left then is found by the next call.
fn kill_all(directory: &Path) {
    if write(&directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let _ = write(&directory.join("pids.max"), "0");
    for _ in 0..ROUNDS {
        let members = members(directory);
        if members.is_empty() {
            return;
        }
        // A number can be another process's by the time that it is used. One that is still in the
        // group once there is a descriptor of it is the one that was meant, or as good.
        let pinned: Vec<(Pid, OwnedFd)> = members
            .into_iter()
            .filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?)))
            .collect();
        let still = self::members(directory);
        for (_, process) in pinned.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = pidfd::signal(process, Signal::KILL);
        }
    }
}

/// The processes in a group.
fn members(directory: &Path) -> Vec<Pid> {
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    processes.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_in_the_kernels_units() {
        let limits = Limits { memory: 1 << 20, tasks: 7, cpu: Some(150), ..Limits::default() };
        let settings = |controller: Controller, version| controller.settings(version, &limits);
        assert_eq!(settings(Controller::Pids, Version::V1)[0].1, "7");
        assert_eq!(settings(Controller::Memory, Version::V2)[0].1, "1048576");
        assert_eq!(settings(Controller::Cpu, Version::V2)[0].1, "150000 100000");
        assert_eq!(settings(Controller::Cpu, Version::V1)[1].1, "150000");
    }

    #[test]
    fn events_are_found_by_their_whole_name() {
        let text = "low 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n";
        assert_eq!((event(text, "oom_kill"), event(text, "max")), (Some(2), Some(7)));
        assert_eq!(event(text, "oom_"), None);
    }

    #[test]
    fn no_limit_on_the_processor_is_no_setting() {
        assert_eq!(Controller::Cpu.settings(Version::V1, &Limits::default()), []);
    }
}
