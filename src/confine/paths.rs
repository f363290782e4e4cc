//! What a layer sees of the file system, as data: places in its root, each with its rights.
//!
//! One list serves both guards: the mounts of the empty root, and the rules of Landlock. Nothing
//! here touches the file system.

use landlock::{ABI, Access, AccessFs, BitFlags};
use serde::{Deserialize, Serialize};

use super::generated::{Content, GeneratedFile};
use crate::policy::plan::{DirectoryPlan, FileRight, LayerPlan, Program, View, ViewPart};
use crate::sys::mount::MountFlags;

/// What is in a layer's root, besides what its view shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    /// Files and directories of the host. A file that is handed over as a descriptor isn't among
    /// them.
    pub grants: Vec<Grant>,
    /// Files that are made for it.
    pub generated: Vec<GeneratedFile>,
}

/// A file or directory that the policy grants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Where it is on the host. Absolute, as the plan has it.
    pub source: String,
    /// Where the layer sees it, most often the same.
    pub path: String,
    /// What may be done with it, or with all beneath it.
    pub rights: Vec<FileRight>,
    /// It is a helper's, which opens it for others. Where it is gone the helper starts all the
    /// same, and what needs it is refused.
    pub served: bool,
    /// No symbolic link beneath it is followed: another layer may have made it.
    pub no_links: bool,
    /// It may be missing, and then isn't there.
    pub optional: bool,
}

impl Grant {
    /// A layer's own, which it sees where it is, which must be there, and in which it follows
    /// links.
    pub fn new(path: impl Into<String>, rights: &[FileRight]) -> Self {
        let (path, rights) = (path.into(), rights.to_vec());
        let source = path.clone();
        Self { source, path, rights, served: false, no_links: false, optional: false }
    }

    fn kind(&self) -> Kind {
        let source = self.source.clone();
        match (self.served, self.optional) {
            (true, _) => Kind::Served(source),
            (false, true) => Kind::Optional(source),
            (false, false) => Kind::Granted(source),
        }
    }
}

/// Something in the layer's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewEntry {
    /// Absolute path, as the layer sees it.
    pub path: String,
    /// Why it is there.
    pub kind: Kind,
    /// What may be done with it.
    pub rights: Vec<FileRight>,
    /// Whether no symbolic link beneath it is followed.
    pub no_links: bool,
}

/// Why something is in the layer's root, and what is put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The policy grants what is at this path of the host: it must exist, and be a regular file or
    /// a directory, and no component of the path may be a symbolic link.
    Granted(String),
    /// The same, but it need not exist.
    Optional(String),
    /// A helper opens it for others. It need not exist, and a link in its place is nothing.
    Served(String),
    /// `view = "system"` adds it where the machine has it; a symbolic link is copied as such.
    System,
    /// Another part of the view adds it where the machine has it; a link is followed, and what it
    /// leads to is seen in its place.
    Followed,
    /// A harmless device of `view = "system"`.
    Device,
    /// A file with this content and these permission bits is made for it.
    Generated(Content, u32),
    /// A symbolic link to there is made.
    Link(&'static str),
    /// A file system in memory, of so many bytes.
    InMemory(u64),
    /// The same, private to the layer's user.
    Private(u64),
    /// A directory of the host that belongs to the layer's user, at its own path.
    Owned,
    /// The processes of its pid namespace.
    Proc,
}

const DEVICES: [&str; 5] = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];

/// What shells and programs call the descriptors that they hold, where there is a `/proc`.
const LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
];

const READ: [FileRight; 2] = [FileRight::Read, FileRight::List];
const RUN: [FileRight; 3] = [FileRight::Read, FileRight::List, FileRight::Execute];

/// All that a layer sees, sorted by path, so that what lies within another place comes after it.
///
/// A grant at or beneath a system directory wins over it: mounts are nested, and Landlock adds up
/// what the rules above a file allow. A grant at or around a generated file takes its place.
pub fn view_entries(layer: &LayerPlan, contents: &Contents) -> Vec<ViewEntry> {
    let mut places: Vec<ViewEntry> = contents.grants.iter().map(ViewEntry::of_grant).collect();
    places.extend(layer.directories.iter().map(ViewEntry::of_directory));
    places.extend(of_view(&layer.view));
    if let Program::Exec(argv) = &layer.program
        && let Some(path) = argv.first()
        && !places.iter().any(|place| covers(place, path))
    {
        let rights = [FileRight::Read, FileRight::Execute];
        places.push(ViewEntry::of_grant(&Grant::new(path, &rights)));
    }
    let made: Vec<ViewEntry> = contents
        .generated
        .iter()
        .filter(|file| !places.iter().any(|place| place.is_around(&file.path)))
        .map(ViewEntry::of_generated)
        .collect();
    places.extend(made);
    places.sort_by(|a, b| a.path.cmp(&b.path).then_with(|| rank(&a.kind).cmp(&rank(&b.kind))));
    // Of two at one path the grant stays: it is what somebody wrote.
    places.dedup_by(|later, first| later.path == first.path);
    places
}

/// What the parts of a view show.
fn of_view(view: &View) -> Vec<ViewEntry> {
    let entry = |path: &str, kind, rights: &[FileRight]| ViewEntry {
        path: path.to_owned(),
        kind,
        rights: rights.to_vec(),
        no_links: false,
    };
    let mut places = Vec::new();
    for part in view.parts() {
        match part {
            ViewPart::System => {
                places.extend(part.paths().iter().map(|path| {
                    let is_code = !path.starts_with("/etc/");
                    entry(path, Kind::System, if is_code { &RUN } else { &READ })
                }));
                let device =
                    |path: &&str| entry(path, Kind::Device, &[FileRight::Read, FileRight::Write]);
                places.extend(DEVICES.iter().map(device));
            }
            ViewPart::Tls | ViewPart::Zone | ViewPart::Resolve | ViewPart::Locale => {
                let seen =
                    |path: &&&str| !places.iter().any(|place: &ViewEntry| place.is_around(path));
                let more: Vec<_> = part.paths().iter().filter(seen).collect();
                places.extend(more.into_iter().map(|path| entry(path, Kind::Followed, &READ)));
            }
            ViewPart::Proc => {
                places.push(entry("/proc", Kind::Proc, &READ));
                places.extend(LINKS.map(|(path, to)| entry(path, Kind::Link(to), &[])));
            }
            ViewPart::Tmp(size) => places.push(entry("/tmp", Kind::InMemory(*size), &[])),
            ViewPart::Shm(size) => places.push(entry("/dev/shm", Kind::InMemory(*size), &[])),
        }
    }
    places
}

/// Whether the program at `path` can be executed thanks to `place`.
fn covers(place: &ViewEntry, path: &str) -> bool {
    place.is_around(path) && place.rights.contains(&FileRight::Execute)
}

const fn rank(kind: &Kind) -> u8 {
    match kind {
        Kind::Granted(_) | Kind::Optional(_) | Kind::Served(_) | Kind::Owned | Kind::Private(_) => {
            0
        }
        Kind::System | Kind::Followed => 1,
        Kind::Device | Kind::InMemory(_) | Kind::Proc => 2,
        Kind::Generated(..) | Kind::Link(_) => 3,
    }
}

impl ViewEntry {
    pub(crate) fn of_grant(grant: &Grant) -> Self {
        let (path, rights) = (grant.path.clone(), grant.rights.clone());
        Self { path, kind: grant.kind(), rights, no_links: grant.no_links }
    }

    fn of_directory(directory: &DirectoryPlan) -> Self {
        let kind = directory.size.map_or(Kind::Owned, Kind::Private);
        Self { path: directory.path.clone(), kind, rights: Vec::new(), no_links: false }
    }

    fn of_generated(file: &GeneratedFile) -> Self {
        let kind = Kind::Generated(file.content.clone(), file.mode);
        let rights = vec![FileRight::Read];
        Self { path: file.path.clone(), kind, rights, no_links: false }
    }

    /// Whether it is what is at `path`, or a directory above that.
    pub fn is_around(&self, path: &str) -> bool {
        let rest = path.strip_prefix(self.path.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Whether the host has it at this very path. What else there is stands in the layer's root
    /// alone.
    pub fn is_of_host(&self) -> bool {
        match &self.kind {
            Kind::Granted(source) | Kind::Optional(source) | Kind::Served(source) => {
                *source == self.path
            }
            Kind::System | Kind::Followed | Kind::Device | Kind::Owned => true,
            Kind::Generated(..)
            | Kind::Link(_)
            | Kind::InMemory(_)
            | Kind::Private(_)
            | Kind::Proc => false,
        }
    }

    /// What its mount refuses.
    pub fn mount_flags(&self) -> MountFlags {
        // What grants only to append is brokered.
        let changes = |right: &FileRight| right.changes() && *right != FileRight::Append;
        MountFlags {
            // A device is written to through a read-only mount all the same.
            read_only: match self.kind {
                Kind::Device => true,
                Kind::InMemory(_) | Kind::Private(_) | Kind::Owned => false,
                _ => !self.rights.iter().any(changes),
            },
            no_links: self.no_links,
            no_devices: self.kind != Kind::Device,
            no_exec: !self.rights.contains(&FileRight::Execute),
        }
    }

    /// What Landlock of version `abi` allows on it. A right that `abi` doesn't know isn't handled
    /// by it either, so it needs no rule.
    pub fn access(&self, abi: ABI, directory: bool) -> BitFlags<AccessFs> {
        let mut access =
            self.rights.iter().fold(BitFlags::empty(), |all, right| all | bits(*right));
        match self.kind {
            // A draft is put in place of a file in another directory of the same grant.
            Kind::Served(_) if self.rights.contains(&FileRight::Create) => {
                access |= AccessFs::Refer;
            }
            Kind::InMemory(_) | Kind::Private(_) | Kind::Owned => access = of_owner(abi),
            _ => {}
        }
        let known = if directory { AccessFs::from_all(abi) } else { AccessFs::from_file(abi) };
        access & known
    }
}

/// All that an owner may do with files of his own: not run them, and make no devices.
fn of_owner(abi: ABI) -> BitFlags<AccessFs> {
    let never = AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
    AccessFs::from_all(abi) & !never
}

fn bits(right: FileRight) -> BitFlags<AccessFs> {
    match right {
        FileRight::Read => AccessFs::ReadFile.into(),
        FileRight::Write => AccessFs::WriteFile.into(),
        FileRight::Truncate => AccessFs::Truncate.into(),
        FileRight::Create => AccessFs::MakeReg.into(),
        FileRight::Remove => AccessFs::RemoveFile.into(),
        FileRight::List => AccessFs::ReadDir.into(),
        FileRight::Execute => AccessFs::Execute.into(),
        // It has no such right: what grants it is brokered.
        FileRight::Append => BitFlags::empty(),
        FileRight::Mkdir => AccessFs::MakeDir.into(),
        FileRight::Rmdir => AccessFs::RemoveDir.into(),
        FileRight::Move => AccessFs::Refer.into(),
        FileRight::Symlink => AccessFs::MakeSym.into(),
        FileRight::Socket => AccessFs::MakeSock.into(),
        FileRight::Fifo => AccessFs::MakeFifo.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::confine::receipt::tests::layer;

    fn grant(path: &str, rights: &[FileRight]) -> Grant {
        Grant::new(path, rights)
    }

    fn granted(grants: &[Grant]) -> Contents {
        Contents { grants: grants.to_vec(), ..Contents::default() }
    }

    #[test]
    fn a_grant_takes_the_place_of_a_generated_file() {
        let file = |path: &str| GeneratedFile {
            path: path.into(),
            mode: 0o444,
            content: Content::Text("made".into()),
        };
        let made = |grants: &[Grant]| -> Vec<String> {
            let generated = vec![file("/etc/hosts"), file("/etcetera")];
            let contents = Contents { generated, ..granted(grants) };
            let places = view_entries(&layer(), &contents).into_iter();
            places.filter(|place| !place.is_of_host()).map(|place| place.path).collect()
        };
        assert_eq!(made(&[]), ["/etc/hosts", "/etcetera"]);
        assert_eq!(made(&[grant("/etc/hosts", &[FileRight::Read])]), ["/etcetera"]);
        // Or it would be written into the directory that is granted.
        assert_eq!(made(&[grant("/etc", &[FileRight::List])]), ["/etcetera"]);
        assert_eq!(made(&[grant("/etc/hosts/x", &[FileRight::Read])]).len(), 2);
    }

    #[test]
    fn a_run_layer_sees_its_grants_alone() {
        let grants = granted(&[grant("/srv/site", &[FileRight::Read])]);
        let places = view_entries(&layer(), &grants);
        assert_eq!(places.len(), 1);
        assert_eq!(places[0].path, "/srv/site");
        let flags =
            MountFlags { read_only: true, no_devices: true, no_exec: true, no_links: false };
        assert_eq!(places[0].mount_flags(), flags);
    }

    #[test]
    fn what_lies_within_comes_after() {
        let mut layer = layer();
        layer.view = View::system();
        let rights = [FileRight::Read];
        let grants = granted(&[
            grant("/usr/share/x", &rights),
            grant("/srv/a/b", &rights),
            grant("/srv/a", &rights),
        ]);
        let paths: Vec<String> =
            view_entries(&layer, &grants).into_iter().map(|place| place.path).collect();
        let at = |path: &str| paths.iter().position(|other| other == path).expect(path);
        assert!(at("/srv/a") < at("/srv/a/b"));
        assert!(at("/usr") < at("/usr/share/x"));
    }

    #[test]
    fn a_grant_of_a_system_directory_is_what_counts() {
        let mut layer = layer();
        layer.view = View::system();
        let places = view_entries(&layer, &granted(&[grant("/usr", &[FileRight::Read])]));
        let usr: Vec<&ViewEntry> = places.iter().filter(|place| place.path == "/usr").collect();
        assert_eq!(usr.len(), 1);
        assert!(usr[0].mount_flags().no_exec);
    }

    #[test]
    fn a_program_outside_of_the_view_is_added() {
        let mut layer = layer();
        layer.view = View::system();
        layer.program = Program::Exec(vec!["/opt/x/bin/tool".into()]);
        let nothing = Contents::default();
        let with = view_entries(&layer, &nothing);
        assert!(with.iter().any(|place| place.path == "/opt/x/bin/tool"));
        layer.program = Program::Exec(vec!["/usr/bin/true".into()]);
        assert!(!view_entries(&layer, &nothing).iter().any(|place| place.path == "/usr/bin/true"));
    }

    #[test]
    fn every_writing_right_makes_a_writable_mount() {
        let direct = FileRight::ALL.into_iter().filter(|right| *right != FileRight::Append);
        for right in direct {
            let places = view_entries(&layer(), &granted(&[grant("/var/x", &[right])]));
            assert_eq!(places[0].mount_flags().read_only, !right.changes(), "{right:?}");
        }
    }

    #[test]
    fn each_right_is_one_of_the_kernel_s() {
        let mut all = BitFlags::empty();
        for right in FileRight::ALL.into_iter().filter(|right| *right != FileRight::Append) {
            let places = view_entries(&layer(), &granted(&[grant("/var/x", &[right])]));
            let access = places[0].access(ABI::V7, true);
            assert_eq!(access.len(), 1, "{right:?}");
            assert!(!all.intersects(access), "{right:?}");
            all |= access;
        }
        let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
        assert_eq!(all, AccessFs::from_all(ABI::V7) & !devices);
    }

    #[test]
    fn files_get_no_rights_of_directories() {
        let rights = [FileRight::Read, FileRight::List, FileRight::Create];
        let place = &view_entries(&layer(), &granted(&[grant("/var/x", &rights)]))[0];
        assert_eq!(place.access(ABI::V7, false), AccessFs::ReadFile);
        assert_eq!(
            place.access(ABI::V7, true),
            AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::MakeReg
        );
    }

    #[test]
    fn devices_can_be_opened_and_nothing_executed_from_them() {
        let mut layer = layer();
        layer.view = View::system();
        let places = view_entries(&layer, &Contents::default());
        let null = places.iter().find(|place| place.path == "/dev/null").expect("/dev/null");
        let flags =
            MountFlags { read_only: true, no_devices: false, no_exec: true, no_links: false };
        assert_eq!(null.mount_flags(), flags);
    }

    #[test]
    fn parts_of_a_view_are_read_and_what_is_in_memory_is_its_own() {
        let mut layer = layer();
        layer.view = View::of([ViewPart::Zone, ViewPart::Tmp(4096), ViewPart::Proc]);
        let places = view_entries(&layer, &Contents::default());
        let at = |path: &str| places.iter().find(|place| place.path == path).expect(path);
        assert!(at("/etc/localtime").mount_flags().read_only);
        assert_eq!(at("/etc/localtime").access(ABI::V7, false), AccessFs::ReadFile);
        assert!(at("/proc").mount_flags().read_only);
        let tmp = at("/tmp").access(ABI::V7, true);
        assert!(tmp.contains(AccessFs::MakeDir | AccessFs::MakeSock | AccessFs::Refer));
        assert!(!tmp.intersects(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock));
        // Nothing that only the layer's own root has is the host's.
        let host: Vec<_> = places.iter().filter(|place| place.is_of_host()).collect();
        assert!(host.iter().all(|place| place.kind == Kind::Followed), "{host:?}");
        // Where programs are seen, what lies among them needs no place of its own.
        layer.view = View::of([ViewPart::System, ViewPart::Zone]);
        let places = view_entries(&layer, &Contents::default());
        assert!(!places.iter().any(|place| place.path == "/usr/share/zoneinfo"));
    }
}
