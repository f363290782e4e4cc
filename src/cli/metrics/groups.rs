//! What the kernel counts of each instance, from its control groups.
//!
//! The groups are found by the supervisor's children: each says in `/proc/PID/cgroup` where it is
//! (cgroups(7)). Which instance it is says the group's name, which the supervisor gave it; nothing
//! that a layer can write is believed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::instance;
use crate::handle::numbers::Usage;
use crate::ident::Instance;

/// A daemon's groups: of each instance, its directories.
pub(super) struct Groups(BTreeMap<String, Vec<PathBuf>>);

impl Groups {
    /// Those of the daemon whose supervisor has this number.
    pub(super) fn of(supervisor: u32) -> Self {
        let children = format!("/proc/{supervisor}/task/{supervisor}/children");
        let children = fs::read_to_string(children).unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut all = BTreeMap::<_, Vec<_>>::new();
        for child in children.split_whitespace() {
            let places = fs::read_to_string(format!("/proc/{child}/cgroup")).unwrap_or_default();
            for place in places.lines() {
                if let Some((name, directory)) = group(&mounts, place) {
                    all.entry(name).or_default().push(directory);
                }
            }
        }
        Self(all)
    }

    /// What each instance uses.
    pub(super) fn usage(&self) -> Vec<(Instance, Usage)> {
        let one = |(name, directories): (&String, &Vec<PathBuf>)| {
            Some((instance(name)?, usage(directories)))
        };
        self.0.iter().filter_map(one).collect()
    }
}

/// The name of an instance's group and its directory, from a line of `/proc/PID/cgroup`; `None` for
/// one that no supervisor made.
fn group(mounts: &str, place: &str) -> Option<(String, PathBuf)> {
    let mut fields = place.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let path = Path::new(path);
    let name = path.file_name()?.to_str()?.to_owned();
    let family = path.parent()?.parent()?;
    if family.file_name()? != "cofferdam" {
        return None;
    }
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (kind, _, options) = (kind.next()?, kind.next()?, kind.next()?);
        let hit = match controllers {
            "" => kind == "cgroup2",
            names => {
                let first = names.split(',').next()?;
                kind == "cgroup" && options.split(',').any(|option| option == first)
            }
        };
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let within = path.strip_prefix(root).ok()?;
        hit.then(|| (name.clone(), Path::new(point).join(within)))
    })
}

/// What is counted in these directories, whichever version of the interface they are of.
fn usage(directories: &[PathBuf]) -> Usage {
    let read = |file: &str| {
        directories.iter().find_map(|directory| fs::read_to_string(directory.join(file)).ok())
    };
    let number = |file: &str| read(file)?.trim().parse().ok();
    // Without a limit: `max`, or a number near the largest there is.
    let limit = |file: &str| number(file).filter(|limit| *limit < 1 << 60);
    let counted = |text: String| {
        text.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse::<u64>().ok())
    };
    Usage {
        memory: number("memory.current").or_else(|| number("memory.usage_in_bytes")),
        memory_limit: limit("memory.max").or_else(|| limit("memory.limit_in_bytes")),
        cpu: read("cpu.stat")
            .and_then(counted)
            .or_else(|| number("cpuacct.usage").map(|nanoseconds: u64| nanoseconds / 1000)),
        tasks: number("pids.current"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
32 31 0:29 /box /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn an_instances_groups_are_known_by_their_place() {
        let found =
            |place| group(MOUNTS, place).map(|(name, path)| format!("{name} {}", path.display()));
        assert_eq!(
            found("4:memory:/a/cofferdam/web-7/keeper-0.g2").as_deref(),
            Some("keeper-0.g2 /sys/fs/cgroup/memory/a/cofferdam/web-7/keeper-0.g2")
        );
        assert_eq!(
            found("1:cpu,cpuacct:/box/cofferdam/web-7/a-0.g1").as_deref(),
            Some("a-0.g1 /sys/fs/cgroup/cpu,cpuacct/cofferdam/web-7/a-0.g1")
        );
        assert_eq!(
            found("0::/cofferdam/web-7/a-0.g1").as_deref(),
            Some("a-0.g1 /sys/fs/cgroup/unified/cofferdam/web-7/a-0.g1")
        );
        for other in ["0::/", "0::/user.slice/x", "4:memory:/keeper-0.g2", "nonsense", ""] {
            assert_eq!(found(other), None, "{other}");
        }
    }

    #[test]
    fn both_versions_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let directories = [folder.path().to_owned()];
        let write =
            |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
        assert_eq!(usage(&directories), Usage::default());
        write("memory.usage_in_bytes", "4096\n");
        write("memory.limit_in_bytes", "9223372036854771712\n");
        write("cpuacct.usage", "5000000\n");
        let old = Usage { memory: Some(4096), cpu: Some(5000), ..Usage::default() };
        assert_eq!(usage(&directories), old);
        write("memory.current", "8192\n");
        write("memory.max", "65536\n");
        write("cpu.stat", "usage_usec 7\nuser_usec 1\n");
        write("pids.current", "3\n");
        let new =
            Usage { memory: Some(8192), memory_limit: Some(65536), cpu: Some(7), tasks: Some(3) };
        assert_eq!(usage(&directories), new);
    }
}
