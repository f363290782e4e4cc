//! Where groups can be made: the hierarchy of a controller, and our place in it.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::{Controller, Refusal, kill_all, make_directory, write};
use crate::report::AUDITOR;

/// Which of the kernel's two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V1,
    V2,
}

/// A hierarchy with a controller that we may use.
#[derive(Debug)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// The daemon's own directory, `.../cofferdam/DAEMON-PID`.
    pub(super) base: PathBuf,
    /// That directory, locked for as long as we live: so who sweeps can tell, also from another
    /// pid namespace, where our number is somebody else's.
    pub(super) claim: File,
}

/// The directory of all our daemons.
const FAMILY: &str = "cofferdam";
/// Where a supervisor of version 2 moves itself.
const LEAF: &str = "cofferdam-supervisor";

impl Hierarchy {
    /// Finds `controller` and makes the directory `own` for it.
    pub(super) fn open(controller: Controller, own: &str) -> Result<Self, Refusal> {
        let refuse = |path: &Path| {
            let path = path.to_owned();
            move |error| Refusal { controller, path, error }
        };
        let read = |path: &str| fs::read_to_string(path).map_err(refuse(Path::new(path)));
        let mounts = read("/proc/self/mountinfo")?;
        let places = read("/proc/self/cgroup")?;
        let unified = locate(&mounts, &places, None).filter(|here| offers(here, controller));
        let found = match unified {
            Some(here) => Some((Version::V2, here)),
            None => locate(&mounts, &places, Some(controller.name())).map(|at| (Version::V1, at)),
        };
        let (version, here) = found.ok_or_else(|| {
            let what = format!("no hierarchy has the controller {}", controller.name());
            let error = io::Error::new(io::ErrorKind::NotFound, what);
            refuse(Path::new("/sys/fs/cgroup"))(error)
        })?;
        let family = here.join(FAMILY);
        make_directory(&family).map_err(refuse(&here))?;
        if version == Version::V2 {
            delegate(&here, controller).map_err(refuse(&here))?;
            delegate(&family, controller).map_err(refuse(&family))?;
        }
        sweep(&family);
        let (base, claim) = claim(&family, own).map_err(refuse(&family))?;
        if version == Version::V2 {
            delegate(&base, controller).map_err(refuse(&base))?;
        }
        Ok(Self { version, base, claim })
    }
}

/// The directory of this process's group: of the version 1 hierarchy with `controller`, or of
/// version 2 for `None`. From `/proc/self/mountinfo` and `/proc/self/cgroup`, see cgroups(7).
fn locate(mounts: &str, places: &str, controller: Option<&str>) -> Option<PathBuf> {
    let own = places.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, names, path) = (fields.next()?, fields.next()?, fields.next()?);
        let hit = match controller {
            None => names.is_empty(),
            Some(name) => names.split(',').any(|other| other == name),
        };
        hit.then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (kind, _, options) = (kind.next()?, kind.next()?, kind.next()?);
        let hit = match controller {
            None => kind == "cgroup2",
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        // The part of the hierarchy that is mounted here must have our group in it.
        let within = Path::new(own).strip_prefix(root).ok()?;
        hit.then(|| Path::new(point).join(within))
    })
}

/// Whether the version 2 group at `here` may give `controller` to its children.
fn offers(here: &Path, controller: Controller) -> bool {
    fs::read_to_string(here.join("cgroup.controllers"))
        .is_ok_and(|text| text.split_whitespace().any(|name| name == controller.name()))
}

/// Gives the children of `here` the controller. A group with processes in it can't, unless it is
/// the root: if we are the only one, we move to a leaf.
fn delegate(here: &Path, controller: Controller) -> io::Result<()> {
    let control = here.join("cgroup.subtree_control");
    let value = format!("+{}", controller.name());
    let busy = Some(rustix::io::Errno::BUSY.raw_os_error());
    match write(&control, &value) {
        Err(error) if error.raw_os_error() == busy && alone(here) => {
            let leaf = here.join(LEAF);
            make_directory(&leaf)?;
            write(&leaf.join("cgroup.procs"), "0")?;
            write(&control, &value)
        }
        result => result,
    }
}

fn alone(here: &Path) -> bool {
    let own = std::process::id().to_string();
    fs::read_to_string(here.join("cgroup.procs")).is_ok_and(|text| text.lines().eq([own.as_str()]))
}

/// How long the auditor of a supervisor that was killed may take to write down what was left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Removes the groups of supervisors that don't run any more, with whatever still runs in them.
fn sweep(family: &Path) {
    let Ok(entries) = fs::read_dir(family) else { return };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    for base in entries.flatten().filter(is_directory) {
        let Ok(Some(_claim)) = lock(&base.path()) else { continue };
        let groups = fs::read_dir(base.path()).into_iter().flatten().flatten();
        for group in groups.filter(|group| group.file_type().is_ok_and(|kind| kind.is_dir())) {
            if group.file_name().to_string_lossy().starts_with(AUDITOR) {
                wait_until_empty(&group.path());
            }
            kill_all(&group.path());
            // What is still busy goes at the next start.
            let _ = fs::remove_dir(group.path());
        }
        let _ = fs::remove_dir(base.path());
    }
}

/// Waits a moment for the auditor of a supervisor that has died: it is about to write down what was
/// left, and then ends by itself.
fn wait_until_empty(group: &Path) {
    let until = Instant::now() + LAST_WORDS;
    let runs = || fs::read(group.join("cgroup.procs")).is_ok_and(|processes| !processes.is_empty());
    while runs() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes a directory `own` in `family` and locks it; another name if a living supervisor has that.
fn claim(family: &Path, own: &str) -> io::Result<(PathBuf, File)> {
    for attempt in 0..16 {
        let base = match attempt {
            0 => family.join(own),
            more => family.join(format!("{own}-{more}")),
        };
        make_directory(&base)?;
        // Between the two somebody may have swept it away: then what is locked isn't there.
        if let Some(claim) = lock(&base)?
            && base.exists()
        {
            return Ok((base, claim));
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Locks the directory at `path` (flock(2)); `None` if somebody else holds the lock.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let directory = File::open(path)?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(directory)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 /box /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
    const PLACES: &str = "4:memory:/a/b\n1:cpu,cpuacct:/\n0::/box/c\n";

    #[test]
    fn groups_are_found_in_both_versions() {
        let found =
            |controller| locate(MOUNTS, PLACES, controller).map(|path| path.display().to_string());
        assert_eq!(found(Some("memory")).as_deref(), Some("/sys/fs/cgroup/memory/a/b"));
        assert_eq!(found(Some("cpu")).as_deref(), Some("/sys/fs/cgroup/cpu,cpuacct/"));
        assert_eq!(found(None).as_deref(), Some("/sys/fs/cgroup/unified/c"));
        assert_eq!(found(Some("pids")), None);
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_is_not_found() {
        assert_eq!(locate(MOUNTS, "0::/elsewhere\n", None), None);
    }

    #[test]
    fn only_the_dead_are_swept() {
        let family = tempfile::tempdir().unwrap();
        let (base, alive) = claim(family.path(), "web-1").unwrap();
        let (other, dead) = claim(family.path(), "web-1").unwrap();
        assert_ne!(base, other);
        drop(dead);
        sweep(family.path());
        assert!(base.exists() && !other.exists());
        drop(alive);
        sweep(family.path());
        assert!(!base.exists());
    }
}
