//! Control groups, made by the supervisor: limits on memory, tasks and processor time.
//!
//! Both versions of the kernel's interface work, also mixed: version 2 where it has the controller
//! for us, else version 1. Every instance has a group `cofferdam/DAEMON-PID/INSTANCE` beneath the
//! supervisor's own, so what limits the supervisor limits its layers, and what an earlier
//! supervisor left behind can be told from what is in use.

mod hierarchy;

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

use self::hierarchy::{Hierarchy, Version};
use super::receipt::Got;
use crate::policy::plan::Limits;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// How a child gets into its groups; see [`Spawn`](crate::sys::spawn::Spawn).
#[derive(Debug)]
pub struct Joins<'a> {
    /// The version 2 directory to be born in.
    pub unified: Option<BorrowedFd<'a>>,
    /// The version 1 `tasks` files.
    pub tasks: Vec<BorrowedFd<'a>>,
}

impl Group {
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

    /// Kills whatever is in it. For what the end of a pid namespace doesn't end.
    pub fn kill(&self) {
        self.directories.iter().for_each(|directory| kill_all(directory));
    }

    /// Removes what the kernel gives back by now; true once nothing is left. Call it again later
    /// otherwise: a group stays busy for a moment after its last process (threat G9).
    pub fn remove(&mut self) -> bool {
        self.directories.retain(|directory| match fs::remove_dir(directory) {
            Ok(()) => false,
            Err(error) => error.kind() != ErrorKind::NotFound,
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
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// Kills every process in the group at `directory`: at once where the kernel can (version 2 since
/// Linux 5.14), else one by one.
fn kill_all(directory: &Path) {
    if write(&directory.join("cgroup.kill"), "1").is_ok() {
        return;
    }
    let processes = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    let numbers = processes.lines().filter_map(|line| line.parse().ok()).filter_map(Pid::from_raw);
    for process in numbers {
        let _ = rustix::process::kill_process(process, Signal::KILL);
    }
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
    fn no_limit_on_the_processor_is_no_setting() {
        assert_eq!(Controller::Cpu.settings(Version::V1, &Limits::default()), []);
    }
}
