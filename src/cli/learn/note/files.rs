//! Calls on files, and what they need.

use rustix::fs::FileType;

use super::{Notes, low};
use crate::cli::learn::paths::{Place, above, on_host};
use crate::policy::plan::FileRight;
use crate::sys::notify::Notification;

/// What it takes to run a program, or to map a library.
const RUN: [FileRight; 2] = [FileRight::Read, FileRight::Execute];

impl Notes {
    pub(super) fn opens(&mut self, call: &Notification, path: (i32, u64), flags: u64, by: &str) {
        if flags & PATH != 0 {
            return;
        }
        let follow = flags & NOFOLLOW == 0 && flags & (CREAT | EXCL) != CREAT | EXCL;
        let Some(place) = self.place(call, path, follow, by) else { return };
        let mut rights = Vec::new();
        if flags & TMPFILE == TMPFILE {
            rights.extend([FileRight::Create, FileRight::Write]);
        } else if place.kind == Some(FileType::Directory) {
            rights.push(FileRight::List);
        } else if place.kind.is_none() && !place.is_proc && flags & CREAT == 0 {
            // It isn't there, and will not be made.
            return;
        } else {
            match flags & ACCMODE {
                WRONLY => rights.push(FileRight::Write),
                RDWR => rights.extend([FileRight::Read, FileRight::Write]),
                _ => rights.push(FileRight::Read),
            }
            if flags & TRUNC != 0 {
                rights.push(FileRight::Truncate);
            }
            if place.kind.is_none() && flags & CREAT != 0 {
                rights.push(FileRight::Create);
            }
        }
        if flags & ACCMODE != 0 {
            self.watch.writes(&place.path);
        }
        self.file(&place, &rights, by);
    }

    /// Something is done with what is at a path.
    pub(super) fn does(
        &mut self,
        call: &Notification,
        path: (i32, u64),
        rights: &[FileRight],
        by: &str,
    ) {
        if let Some(place) = self.place(call, path, true, by).filter(|place| place.kind.is_some()) {
            self.watch.writes(&place.path);
            self.file(&place, rights, by);
        }
    }

    /// An entry of a directory is made or removed.
    pub(super) fn changes(
        &mut self,
        call: &Notification,
        path: (i32, u64),
        right: FileRight,
        by: &str,
    ) {
        let Some(place) = self.place(call, path, false, by) else { return };
        let removes = matches!(right, FileRight::Remove | FileRight::Rmdir);
        // What fails anyway needs no grant.
        if right == FileRight::Mkdir && place.kind.is_none() && self.makes_own(&place.path, by) {
            return;
        }
        if removes == place.kind.is_some() {
            self.watch.writes(&place.path);
            self.entry(&place, &[right], by);
        }
    }

    /// An entry of a directory gets another name: a new one, or, if it `leaves`, one in place of the
    /// old one.
    pub(super) fn moves(
        &mut self,
        call: &Notification,
        from: (i32, u64),
        to: (i32, u64),
        leaves: bool,
        by: &str,
    ) {
        let (Some(from), Some(to)) =
            (self.place(call, from, false, by), self.place(call, to, false, by))
        else {
            return;
        };
        let Some(kind) = from.kind else { return };
        self.watch.writes(&from.path);
        self.watch.writes(&to.path);
        let (out, into) = match kind {
            FileType::Directory => (FileRight::Rmdir, FileRight::Mkdir),
            FileType::Symlink => (FileRight::Remove, FileRight::Symlink),
            _ => (FileRight::Remove, FileRight::Create),
        };
        let stays = parent(&from.path) == parent(&to.path);
        let further = (!stays).then_some(FileRight::Move);
        if leaves {
            let rights: Vec<FileRight> = [out].into_iter().chain(further).collect();
            self.entry(&from, &rights, by);
        }
        let rights: Vec<FileRight> = [into].into_iter().chain(further).collect();
        self.entry(&to, &rights, by);
    }

    /// A program is started: it is read and executed, and so is what interprets it.
    pub(super) fn executes(&mut self, call: &Notification, name: &str, by: &str) {
        let [first, second, ..] = call.arguments;
        let path = if name == "execve" { (libc::AT_FDCWD, first) } else { (low(first), second) };
        let Some(place) = self.place(call, path, true, by).filter(|place| place.kind.is_some())
        else {
            return;
        };
        self.file(&place, &RUN, by);
        let mut script = place;
        // The kernel goes on so often (execve(2)).
        for _ in 0..4 {
            let Some(interpreter) = self.resolver.interpreter(&script.path) else { return };
            let at = self.resolver.resolve(call.thread, libc::AT_FDCWD, &interpreter, true);
            let Some(next) = at.filter(|place| place.kind.is_some()) else { return };
            self.file(&next, &RUN, by);
            script = next;
        }
    }

    /// Code of a file is mapped: from where nothing is granted to be executed, it couldn't be.
    pub(super) fn maps(&mut self, call: &Notification, by: &str) {
        let [_, _, protection, flags, descriptor, _] = call.arguments;
        if protection & PROT_EXEC == 0 || flags & MAP_ANONYMOUS != 0 {
            return;
        }
        if let Some(path) = above(call.thread, low(descriptor)) {
            let place = Place { path, kind: Some(FileType::RegularFile), is_proc: false };
            // The kernel asks for no permission to execute what is mapped: libraries have none.
            self.file_by(&place, &RUN, &[FileRight::Read], by);
        }
    }

    /// A directory is made where services have theirs, and the host has none.
    fn makes_own(&mut self, path: &str, by: &str) -> bool {
        let is_new = on_host(path).is_none_or(|host| host.path != path);
        is_new && self.seen.made(path, by)
    }
}

/// open(2), of the kernel's interface on x86-64 and aarch64 alike but for the last three.
const ACCMODE: u64 = 3;
pub(super) const WRONLY: u64 = 1;
const RDWR: u64 = 2;
pub(super) const CREAT: u64 = 0o100;
const EXCL: u64 = 0o200;
pub(super) const TRUNC: u64 = 0o1000;
const PATH: u64 = 0o10_000_000;
const TMPFILE: u64 = libc::O_TMPFILE.cast_unsigned() as u64;
const NOFOLLOW: u64 = libc::O_NOFOLLOW.cast_unsigned() as u64;
/// unlinkat(2), inode(7).
pub(super) const REMOVEDIR: u64 = 0x200;
const S_IFMT: u64 = 0o170_000;
const S_IFIFO: u64 = 0o010_000;
const S_IFSOCK: u64 = 0o140_000;
/// mmap(2), of the kernel's interface on every architecture.
const PROT_EXEC: u64 = 4;
const MAP_ANONYMOUS: u64 = 0x20;

/// What it takes to make a node of this mode.
pub(super) fn node(mode: u64) -> FileRight {
    match mode & S_IFMT {
        S_IFIFO => FileRight::Fifo,
        S_IFSOCK => FileRight::Socket,
        _ => FileRight::Create,
    }
}

/// The directory that a path is in.
fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some((above, _)) if !above.is_empty() => above,
        _ => "/",
    }
}
