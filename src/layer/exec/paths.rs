//! What calls ask of paths, beside what the layer's view shows and its policy grants there.
//!
//! The kernel answers such a call, and tells nobody why it refused one. So this is what it will most
//! likely say, by the path's letters: symbolic links, and paths that don't begin with a slash, aren't
//! looked at. Nothing is decided by it.

use rustix::fs::FileType;

use crate::confine::paths::{Kind, ViewEntry};
use crate::policy::plan::FileRight;
use crate::policy::syscall::name_of;

/// The calls that are looked at. Not those that ask what is there, of which there are too many, nor
/// `execveat`, by which init starts the program.
pub(crate) const CALLS: [&str; 20] = [
    "chdir",
    "creat",
    "execve",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "open",
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "symlink",
    "symlinkat",
    "truncate",
    "unlink",
    "unlinkat",
];

/// A path, and what is to be done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub path: String,
    pub rights: Vec<FileRight>,
}

/// What the policy doesn't grant of a need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lack {
    /// Where it would have to be granted.
    pub path: String,
    pub rights: Vec<FileRight>,
    /// Whether the layer sees it.
    pub is_seen: bool,
}

/// The process's memory, and what there is in its view.
pub(super) trait Look {
    /// The text at an address.
    fn text(&self, address: u64) -> Option<String>;

    /// What is at a path; `None` if nothing is.
    fn kind(&self, path: &str) -> Option<FileType>;
}

/// What a call asks of paths.
pub(super) fn needs(number: u32, arguments: &[u64; 6], look: &dyn Look) -> Vec<Need> {
    let path = |at: usize| {
        let text = look.text(arguments[at])?;
        text.starts_with('/').then(|| plain(&text))
    };
    let found = match name_of(number).unwrap_or_default() {
        "open" => path(0).map(|path| opened(path, arguments[1], look)),
        "openat" => path(1).map(|path| opened(path, arguments[2], look)),
        "creat" => path(0).map(|path| opened(path, WRONLY | CREAT | TRUNC, look)),
        "chdir" => path(0).map(|path| vec![Need { path, rights: Vec::new() }]),
        "execve" => path(0)
            .map(|path| vec![Need { path, rights: vec![FileRight::Read, FileRight::Execute] }]),
        "truncate" => path(0)
            .map(|path| vec![Need { path, rights: vec![FileRight::Write, FileRight::Truncate] }]),
        "mkdir" => path(0).map(|path| within(&path, FileRight::Mkdir)),
        "mkdirat" => path(1).map(|path| within(&path, FileRight::Mkdir)),
        "rmdir" => path(0).map(|path| within(&path, FileRight::Rmdir)),
        "unlink" => path(0).map(|path| within(&path, FileRight::Remove)),
        "unlinkat" if arguments[2] & REMOVEDIR != 0 => {
            path(1).map(|path| within(&path, FileRight::Rmdir))
        }
        "unlinkat" => path(1).map(|path| within(&path, FileRight::Remove)),
        "symlink" => path(1).map(|path| within(&path, FileRight::Symlink)),
        "symlinkat" => path(2).map(|path| within(&path, FileRight::Symlink)),
        "mknod" => path(0).and_then(|path| made(&path, arguments[1])),
        "mknodat" => path(1).and_then(|path| made(&path, arguments[2])),
        "rename" => moved(path(0), path(1), look),
        "renameat" | "renameat2" => moved(path(1), path(3), look),
        "link" => linked(path(0), path(1)),
        "linkat" => linked(path(1), path(3)),
        _ => None,
    };
    found.unwrap_or_default()
}

/// open(2): what it does to the file, and to its directory where it makes it.
fn opened(path: String, flags: u64, look: &dyn Look) -> Vec<Need> {
    let kind = look.kind(&path);
    let mut rights = match flags & 3 {
        _ if flags & PATH != 0 => Vec::new(),
        0 if kind == Some(FileType::Directory) => vec![FileRight::List],
        0 => vec![FileRight::Read],
        1 => vec![FileRight::Write],
        _ => vec![FileRight::Read, FileRight::Write],
    };
    if flags & TRUNC != 0 && flags & 3 != 0 {
        rights.push(FileRight::Truncate);
    }
    if kind.is_none() && flags & CREAT != 0 {
        // Nothing is cut of what is new.
        rights.retain(|right| *right != FileRight::Truncate);
        rights.push(FileRight::Create);
        return vec![Need { path: parent(&path).to_owned(), rights }];
    }
    vec![Need { path, rights }]
}

/// Something is done to a directory.
fn within(path: &str, right: FileRight) -> Vec<Need> {
    vec![Need { path: parent(path).to_owned(), rights: vec![right] }]
}

fn made(path: &str, mode: u64) -> Option<Vec<Need>> {
    match mode & 0o170_000 {
        0 | 0o100_000 => Some(within(path, FileRight::Create)),
        0o010_000 => Some(within(path, FileRight::Fifo)),
        0o140_000 => Some(within(path, FileRight::Socket)),
        _ => None,
    }
}

fn moved(from: Option<String>, to: Option<String>, look: &dyn Look) -> Option<Vec<Need>> {
    let (from, to) = (from?, to?);
    let is_directory = look.kind(&from) == Some(FileType::Directory);
    let (takes, makes) = if is_directory {
        (FileRight::Rmdir, FileRight::Mkdir)
    } else {
        (FileRight::Remove, FileRight::Create)
    };
    let (old, new) = (parent(&from), parent(&to));
    let (mut first, mut second) = (vec![takes], vec![makes]);
    if old == new {
        first.append(&mut second);
        if look.kind(&to).is_some() && !first.contains(&FileRight::Remove) {
            first.push(FileRight::Remove);
        }
        return Some(vec![Need { path: old.to_owned(), rights: first }]);
    }
    first.push(FileRight::Move);
    second.push(FileRight::Move);
    let need = |path: &str, rights| Need { path: path.to_owned(), rights };
    Some(vec![need(old, first), need(new, second)])
}

fn linked(from: Option<String>, to: Option<String>) -> Option<Vec<Need>> {
    let (from, to) = (from?, to?);
    let mut rights = vec![FileRight::Create];
    if parent(&from) != parent(&to) {
        rights.push(FileRight::Move);
    }
    Some(vec![Need { path: parent(&to).to_owned(), rights }])
}

/// What of a need isn't granted, if anything.
pub(super) fn lack(need: &Need, entries: &[ViewEntry]) -> Option<Lack> {
    let around: Vec<&ViewEntry> =
        entries.iter().filter(|entry| entry.is_around(&need.path)).collect();
    let Some(innermost) = around.iter().max_by_key(|entry| entry.path.len()) else {
        // A directory that only leads to something that is granted.
        let is_on_the_way = entries.iter().any(|entry| is_within(&entry.path, &need.path));
        let is_seen = is_on_the_way || need.path == "/";
        if is_seen && need.rights.iter().all(|right| *right == FileRight::List) {
            return None;
        }
        return Some(Lack { path: need.path.clone(), rights: need.rights.clone(), is_seen });
    };
    let all = |right: &FileRight| match innermost.kind {
        // What it leads to counts.
        Kind::Link(_) => true,
        Kind::InMemory(_) | Kind::Private(_) | Kind::Owned => *right != FileRight::Execute,
        _ => {
            // A mount within another one has its own flags; Landlock adds up.
            let here = innermost.rights.contains(right);
            let above = around.iter().any(|entry| entry.rights.contains(right));
            here || above && !right.changes() && *right != FileRight::Execute
        }
    };
    let rights: Vec<FileRight> = need.rights.iter().copied().filter(|right| !all(right)).collect();
    (!rights.is_empty()).then(|| Lack { path: need.path.clone(), rights, is_seen: true })
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) | None => "/",
        Some((parent, _)) => parent,
    }
}

/// Whether `path` lies beneath `directory`.
fn is_within(path: &str, directory: &str) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Without empty parts, `.` and `..`.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

// open(2) and unlinkat(2), of the kernel's interface on every architecture.
const WRONLY: u64 = 1;
const CREAT: u64 = 0o100;
const TRUNC: u64 = 0o1000;
const PATH: u64 = 0o10_000_000;
const REMOVEDIR: u64 = 0x200;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::confine::paths::Grant;
    use crate::policy::syscall::by_name;

    struct Fake(BTreeMap<u64, &'static str>, BTreeMap<&'static str, FileType>);

    impl Look for Fake {
        fn text(&self, address: u64) -> Option<String> {
            self.0.get(&address).map(|&text| text.to_owned())
        }

        fn kind(&self, path: &str) -> Option<FileType> {
            self.1.get(path).copied()
        }
    }

    fn fake() -> Fake {
        Fake(
            BTreeMap::from([
                (1, "/srv/there"),
                (2, "/srv/new"),
                (3, "/srv//sub/../sub/./x"),
                (4, "relative"),
                (5, "/srv"),
            ]),
            BTreeMap::from([("/srv/there", FileType::RegularFile), ("/srv", FileType::Directory)]),
        )
    }

    fn asked(call: &str, arguments: &[u64]) -> String {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let needs = needs(by_name(call).unwrap(), &all, &fake());
        let one = |need: &Need| {
            let rights: Vec<&str> = need.rights.iter().map(|right| right.name()).collect();
            format!("{}: {}", need.path, rights.join(" "))
        };
        needs.iter().map(one).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn each_call_asks_for_what_it_does() {
        let here = 0xffff_ff9c;
        assert_eq!(asked("openat", &[here, 1, 0]), "/srv/there: read");
        assert_eq!(asked("openat", &[here, 5, 0o200_000]), "/srv: list");
        assert_eq!(asked("openat", &[here, 1, 0o1101]), "/srv/there: write truncate");
        assert_eq!(asked("openat", &[here, 2, 0o1102]), "/srv: read write create");
        assert_eq!(asked("openat", &[here, 3, 0]), "/srv/sub/x: read");
        assert_eq!(asked("openat", &[here, 4, 0]), "");
        assert_eq!(asked("openat", &[here, 9, 0]), "");
        assert_eq!(asked("unlinkat", &[here, 1, 0]), "/srv: remove");
        assert_eq!(asked("unlinkat", &[here, 1, 0x200]), "/srv: rmdir");
        assert_eq!(asked("mknodat", &[here, 2, 0o010_644]), "/srv: fifo");
        assert_eq!(asked("mknodat", &[here, 2, 0o020_644]), "");
        assert_eq!(asked("renameat", &[here, 1, here, 2]), "/srv: remove create");
        assert_eq!(
            asked("renameat", &[here, 1, here, 3]),
            "/srv: remove move; /srv/sub: create move"
        );
        assert_eq!(asked("renameat", &[here, 5, here, 2]), "/: rmdir move; /srv: mkdir move");
        assert_eq!(asked("linkat", &[here, 1, here, 2]), "/srv: create");
        assert_eq!(asked("symlinkat", &[1, here, 2]), "/srv: symlink");
    }

    #[test]
    fn what_isn_t_granted_is_lacking() {
        let entry =
            |path: &str, rights: &[FileRight]| ViewEntry::of_grant(&Grant::new(path, rights));
        let entries = [
            entry("/srv", &[FileRight::Read, FileRight::Create]),
            entry("/srv/deep", &[FileRight::Write]),
            entry("/usr/bin", &[FileRight::Read, FileRight::Execute]),
        ];
        let lacks = |path: &str, rights: &[FileRight]| {
            let need = Need { path: path.to_owned(), rights: rights.to_vec() };
            lack(&need, &entries).map(|lack| (lack.rights, lack.is_seen))
        };
        assert_eq!(lacks("/srv/x", &[FileRight::Read]), None);
        let write = vec![FileRight::Write];
        assert_eq!(lacks("/srv/x", &[FileRight::Read, FileRight::Write]), Some((write, true)));
        assert_eq!(lacks("/srv/deep/x", &[FileRight::Read, FileRight::Write]), None);
        // A mount of its own, which isn't one to make files in.
        let create = vec![FileRight::Create];
        assert_eq!(lacks("/srv/deep", &[FileRight::Create]), Some((create, true)));
        let read = vec![FileRight::Read];
        assert_eq!(lacks("/etc/x", &[FileRight::Read]), Some((read, false)));
        assert_eq!(lacks("/etc", &[]), Some((Vec::new(), false)));
        assert_eq!(lacks("/usr", &[FileRight::List]), None);
    }
}
