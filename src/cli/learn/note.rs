//! One call of the program: what it is about, noted.
//!
//! What its pointers lead to is the program's own memory and may change before the kernel looks: then
//! something else is learned than was done. Nothing is decided by it.

mod files;
mod sockets;

use std::fs;
use std::path::Path;

use rustix::fs::FileType;
use rustix::process::{Pid, Resource, getrlimit};

use self::files::{CREAT, REMOVEDIR, TRUNC, WRONLY, node};
use super::paths::{Place, Resolver, above, on_host};
use super::peaks::{Growth, Watch};
use crate::policy::plan::FileRight;
use crate::policy::syscall::name_of;
use crate::review::learn::Seen;
use crate::sys::notify::Notification;

/// What is learned of the calls.
pub(super) struct Notes {
    pub(super) seen: Seen,
    resolver: Resolver,
    watch: Watch,
    /// Where the program started.
    cwd: String,
    /// Whether root learns for a layer that is nobody yet.
    as_root: bool,
    /// Whether the program's own exec was seen: before it, it is still this program of ours.
    runs: bool,
}

/// The longest path that is read, in bytes.
const PATH_MAX: usize = 4096;

/// `RLIMIT_NOFILE` of getrlimit(2), on every architecture that is known here.
const NOFILE: u64 = 7;

/// localtime(3).
const ZONE: &[u8] = b"/etc/localtime";

/// clone(2), whose flags come first on `x86_64` and `aarch64`; `clone3` there is none (`ENOSYS`).
const THREAD: u64 = libc::CLONE_THREAD as u64;

/// linux/openat2.h: `flags` is the first field of `struct open_how`.
const HOW: usize = 8;

impl Notes {
    pub(super) fn new(resolver: Resolver, watch: Watch, cwd: &Path, as_root: bool) -> Self {
        let cwd = cwd.to_string_lossy().into_owned();
        Self { seen: Seen::default(), resolver, watch, cwd, as_root, runs: false }
    }

    /// Time has passed.
    pub(super) fn look(&mut self) {
        self.watch.look(None);
    }

    /// All has ended, and its files are still there.
    pub(super) fn measure(&mut self) {
        self.watch.measure();
    }

    /// All that was noted.
    pub(super) fn finish(mut self) -> Seen {
        self.seen.peaks = self.watch.finish();
        self.seen
    }

    /// Notes a call.
    pub(super) fn note(&mut self, call: &Notification) {
        let Some(name) = name_of(call.number) else { return };
        let by = program(call.thread);
        if !self.runs {
            // What is done up to the program's exec isn't its own doing.
            if name.starts_with("execve") {
                self.runs = true;
                self.executes(call, name, "the learner");
            }
            return;
        }
        self.seen.call(call.number, call.arguments, &by);
        let [first, second, third, fourth, ..] = call.arguments;
        let here = libc::AT_FDCWD;
        match name {
            "open" => self.opens(call, (here, first), second, &by),
            "openat" => self.opens(call, (low(first), second), third, &by),
            "openat2" => {
                let mut how = [0; HOW];
                if call.read(third, &mut how).is_ok_and(|length| length == HOW) {
                    self.opens(call, (low(first), second), u64::from_ne_bytes(how), &by);
                }
            }
            "creat" => self.opens(call, (here, first), CREAT | TRUNC | WRONLY, &by),
            "truncate" => self.does(call, (here, first), &[FileRight::Truncate], &by),
            "unlink" => self.changes(call, (here, first), FileRight::Remove, &by),
            "unlinkat" if third & REMOVEDIR == 0 => {
                self.changes(call, (low(first), second), FileRight::Remove, &by);
            }
            "unlinkat" => self.changes(call, (low(first), second), FileRight::Rmdir, &by),
            "rmdir" => self.changes(call, (here, first), FileRight::Rmdir, &by),
            "mkdir" => self.changes(call, (here, first), FileRight::Mkdir, &by),
            "mkdirat" => self.changes(call, (low(first), second), FileRight::Mkdir, &by),
            "symlink" => self.changes(call, (here, second), FileRight::Symlink, &by),
            "symlinkat" => self.changes(call, (low(second), third), FileRight::Symlink, &by),
            "mknod" => self.changes(call, (here, first), node(second), &by),
            "mknodat" => self.changes(call, (low(first), second), node(third), &by),
            "rename" => self.moves(call, (here, first), (here, second), true, &by),
            "renameat" | "renameat2" => {
                self.moves(call, (low(first), second), (low(third), fourth), true, &by);
            }
            "link" => self.moves(call, (here, first), (here, second), false, &by),
            "linkat" => self.moves(call, (low(first), second), (low(third), fourth), false, &by),
            "execve" | "execveat" => self.executes(call, name, &by),
            "mmap" => self.maps(call, &by),
            "listen" => self.listens(call, &by),
            "bind" => self.binds(call, &by),
            "connect" => self.connects(call, second, third, &by),
            "sendto" if call.arguments[4] != 0 => {
                self.connects(call, call.arguments[4], call.arguments[5], &by);
            }
            "clone" if first & THREAD != 0 => self.watch.look(Some(Growth::Thread)),
            "clone" | "fork" | "vfork" => self.watch.look(Some(Growth::Process)),
            "prlimit64" if second == NOFILE => self.limits(call, third),
            "setrlimit" if first == NOFILE => self.limits(call, second),
            "exit_group" => self.watch.ends(call.thread),
            _ => {}
        }
    }

    fn place(
        &mut self,
        call: &Notification,
        path: (i32, u64),
        follow: bool,
        by: &str,
    ) -> Option<Place> {
        let bytes = text(call, path.1)?;
        if bytes == ZONE {
            // A link, by whose own name the part of the view goes.
            self.seen.file("/etc/localtime", false, &[FileRight::Read], by);
        }
        let is_relative = path.0 == libc::AT_FDCWD && !bytes.starts_with(b"/");
        let place = self.resolver.resolve(call.thread, path.0, &bytes, follow)?;
        if is_relative && self.cwd != "/" && above(call.thread, path.0).as_ref() == Some(&self.cwd)
        {
            self.seen.relative(&self.cwd, by);
        }
        Some(place)
    }

    /// More descriptors are asked for. Who only raises what it has to what it may have is content with
    /// less.
    fn limits(&mut self, call: &Notification, at: u64) {
        let mut current = [0; size_of::<u64>()];
        if at != 0 && call.read(at, &mut current).is_ok_and(|length| length == current.len()) {
            let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
            let wanted = u64::from_ne_bytes(current);
            if wanted < most {
                self.watch.wants_files(wanted);
            }
        }
    }

    /// Notes what is done with a place, or with the nearest directory around it that the host has.
    fn file(&mut self, place: &Place, rights: &[FileRight], by: &str) {
        self.file_by(place, rights, rights, by);
    }

    /// The same of what takes other permissions of a user than it takes rights.
    fn file_by(
        &mut self,
        place: &Place,
        rights: &[FileRight],
        permissions: &[FileRight],
        by: &str,
    ) {
        if rights.is_empty() {
            return;
        }
        if place.is_proc {
            self.seen.file(&place.path, false, rights, by);
            return;
        }
        if self.seen.made.keys().any(|made| Path::new(&place.path).starts_with(made)) {
            return;
        }
        let Some(host) = on_host(&place.path) else { return };
        self.seen.file(&host.path, host.is_directory, rights, by);
        // As root, every layer is a user of its own.
        if self.as_root && !allows(host.others, host.is_directory, permissions) {
            self.seen.owned(host.owner, by);
        }
    }

    /// Notes that an entry of a directory is made or removed.
    fn entry(&mut self, place: &Place, rights: &[FileRight], by: &str) {
        let Some((above, _)) = place.path.rsplit_once('/') else { return };
        let above = if above.is_empty() { "/" } else { above };
        let above =
            Place { path: above.to_owned(), kind: Some(FileType::Directory), is_proc: false };
        self.file(&above, rights, by);
    }
}

/// Whether permissions, as one digit of a mode, do for rights.
fn allows(permissions: u32, is_directory: bool, rights: &[FileRight]) -> bool {
    let wanted = rights.iter().map(|right| match right {
        FileRight::Read | FileRight::List => 4,
        FileRight::Execute => 1,
        _ if is_directory => 3,
        _ => 2,
    });
    wanted.fold(0, |all, one| all | one) & !permissions == 0
}

/// A text of the program's memory, up to its zero byte.
fn text(call: &Notification, address: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; PATH_MAX];
    let length = call.read(address, &mut bytes).ok()?;
    let end = bytes.get(..length)?.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    Some(bytes)
}

/// The path of the program that a thread runs.
fn program(thread: Pid) -> String {
    let link = format!("/proc/{}/exe", thread.as_raw_nonzero());
    let path = fs::read_link(link).map(|path| path.to_string_lossy().into_owned());
    path.unwrap_or_else(|_| "a program that had ended".to_owned())
}

/// An `int` of the kernel's.
fn low(argument: u64) -> i32 {
    u32::try_from(argument & u64::from(u32::MAX)).unwrap_or_default().cast_signed()
}
