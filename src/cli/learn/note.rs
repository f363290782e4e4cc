//! One call of the program: what it is about, noted.
//!
//! What its pointers lead to is the program's own memory and may change before the kernel looks: then
//! something else is learned than was done. Nothing is decided by it.

use std::fs;

use rustix::fs::FileType;
use rustix::process::Pid;

use super::address::{self, Address};
use super::paths::{Place, Resolver, on_host};
use super::peaks::Watch;
use crate::policy::plan::FileRight;
use crate::policy::syscall::name_of;
use crate::review::learn::Seen;
use crate::sockaddr;
use crate::sys::notify::Notification;

/// What is learned of the calls.
pub(super) struct Notes {
    pub(super) seen: Seen,
    resolver: Resolver,
    watch: Watch,
    /// Whether root learns for a layer that is nobody yet.
    as_root: bool,
    /// Whether the program's own exec was seen: before it, it is still this program of ours.
    runs: bool,
}

/// The longest path that is read, in bytes.
const PATH_MAX: usize = 4096;

/// linux/openat2.h: `flags` is the first field of `struct open_how`.
const HOW: usize = 8;

impl Notes {
    pub(super) fn new(resolver: Resolver, watch: Watch, as_root: bool) -> Self {
        Self { seen: Seen::default(), resolver, watch, as_root, runs: false }
    }

    /// Time has passed.
    pub(super) fn look(&mut self) {
        self.watch.look(false);
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
                self.executes(call, name, None);
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
            "execve" | "execveat" => self.executes(call, name, Some(&by)),
            "listen" => self.listens(call, &by),
            "bind" => self.binds(call, &by),
            "connect" => self.connects(call, second, third, &by),
            "sendto" if call.arguments[4] != 0 => {
                self.connects(call, call.arguments[4], call.arguments[5], &by);
            }
            "clone" | "clone3" | "fork" | "vfork" => self.watch.look(true),
            "exit_group" => self.watch.ends(call.thread),
            _ => {}
        }
    }

    fn opens(&mut self, call: &Notification, path: (i32, u64), flags: u64, by: &str) {
        if flags & PATH != 0 {
            return;
        }
        let follow = flags & NOFOLLOW == 0 && flags & (CREAT | EXCL) != CREAT | EXCL;
        let Some(place) = self.place(call, path, follow) else { return };
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
    fn does(&mut self, call: &Notification, path: (i32, u64), rights: &[FileRight], by: &str) {
        if let Some(place) = self.place(call, path, true).filter(|place| place.kind.is_some()) {
            self.watch.writes(&place.path);
            self.file(&place, rights, by);
        }
    }

    /// An entry of a directory is made or removed.
    fn changes(&mut self, call: &Notification, path: (i32, u64), right: FileRight, by: &str) {
        let Some(place) = self.place(call, path, false) else { return };
        let removes = matches!(right, FileRight::Remove | FileRight::Rmdir);
        // What fails anyway needs no grant.
        if removes == place.kind.is_some() {
            self.watch.writes(&place.path);
            self.entry(&place, &[right], by);
        }
    }

    /// An entry of a directory gets another name: a new one, or, if it `leaves`, one in place of the
    /// old one.
    fn moves(
        &mut self,
        call: &Notification,
        from: (i32, u64),
        to: (i32, u64),
        leaves: bool,
        by: &str,
    ) {
        let (Some(from), Some(to)) = (self.place(call, from, false), self.place(call, to, false))
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

    fn executes(&mut self, call: &Notification, name: &str, by: Option<&str>) {
        let [first, second, ..] = call.arguments;
        let path = if name == "execve" { (libc::AT_FDCWD, first) } else { (low(first), second) };
        let Some(place) = self.place(call, path, true).filter(|place| place.kind.is_some()) else {
            return;
        };
        if let Some(by) = by {
            self.seen.executed(&place.path, by);
            self.file(&place, &[FileRight::Read, FileRight::Execute], by);
        } else {
            let path = place.path.clone();
            self.file(&place, &[FileRight::Read, FileRight::Execute], &path);
        }
    }

    /// A stream socket listens: only then its address is one that others connect to.
    fn listens(&mut self, call: &Notification, by: &str) {
        let Ok(socket) = call.descriptor(low(call.arguments[0])) else { return };
        match (address::transport(&socket), address::local(&socket)) {
            (Some(transport), Some(Address::Internet { text, .. })) => {
                self.seen.bound(&format!("{transport}{text}"), by);
            }
            (_, Some(Address::Path(path))) => self.unix(call, &path, by, true),
            _ => {}
        }
    }

    /// A datagram socket is bound: it receives from then on.
    fn binds(&mut self, call: &Notification, by: &str) {
        let Ok(socket) = call.descriptor(low(call.arguments[0])) else { return };
        if let (Some("udp:"), Some(Address::Internet { text, port })) =
            (address::transport(&socket), address(call, call.arguments[1], call.arguments[2]))
            && port != 0
        {
            self.seen.bound(&format!("udp:{text}"), by);
        }
    }

    fn connects(&mut self, call: &Notification, at: u64, length: u64, by: &str) {
        let Ok(socket) = call.descriptor(low(call.arguments[0])) else { return };
        match (address::transport(&socket), address(call, at, length)) {
            (Some(transport), Some(Address::Internet { text, port })) if port != 0 => {
                self.seen.connected(&format!("{transport}{text}"), by);
            }
            (_, Some(Address::Path(path))) => self.unix(call, &path, by, false),
            _ => {}
        }
    }

    fn unix(&mut self, call: &Notification, path: &[u8], by: &str, listens: bool) {
        let Some(place) = self.resolver.resolve(call.thread, libc::AT_FDCWD, path, true) else {
            return;
        };
        // Who connects to what isn't there goes on without.
        if place.kind.is_some() || listens {
            let address = format!("unix:{}", place.path);
            if listens {
                self.seen.bound(&address, by);
            } else {
                self.seen.connected(&address, by);
            }
        }
    }

    fn place(&self, call: &Notification, path: (i32, u64), follow: bool) -> Option<Place> {
        let bytes = text(call, path.1)?;
        self.resolver.resolve(call.thread, path.0, &bytes, follow)
    }

    /// Notes what is done with a place, or with the nearest directory around it that the host has.
    fn file(&mut self, place: &Place, rights: &[FileRight], by: &str) {
        if rights.is_empty() {
            return;
        }
        if place.is_proc {
            self.seen.file(&place.path, false, rights, by);
            return;
        }
        let Some(host) = on_host(&place.path) else { return };
        self.seen.file(&host.path, host.is_directory, rights, by);
        // As root, every layer is a user of its own.
        if self.as_root && !allows(host.others, host.is_directory, rights) {
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

/// open(2), of the kernel's interface on x86-64 and aarch64 alike but for the last three.
const ACCMODE: u64 = 3;
const WRONLY: u64 = 1;
const RDWR: u64 = 2;
const CREAT: u64 = 0o100;
const EXCL: u64 = 0o200;
const TRUNC: u64 = 0o1000;
const PATH: u64 = 0o10_000_000;
const TMPFILE: u64 = libc::O_TMPFILE.cast_unsigned() as u64;
const NOFOLLOW: u64 = libc::O_NOFOLLOW.cast_unsigned() as u64;
/// unlinkat(2), inode(7).
const REMOVEDIR: u64 = 0x200;
const S_IFMT: u64 = 0o170_000;
const S_IFIFO: u64 = 0o010_000;
const S_IFSOCK: u64 = 0o140_000;

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

/// What it takes to make a node of this mode.
fn node(mode: u64) -> FileRight {
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

/// A text of the program's memory, up to its zero byte.
fn text(call: &Notification, address: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; PATH_MAX];
    let length = call.read(address, &mut bytes).ok()?;
    let end = bytes.get(..length)?.iter().position(|byte| *byte == 0)?;
    bytes.truncate(end);
    Some(bytes)
}

fn address(call: &Notification, at: u64, length: u64) -> Option<Address> {
    let mut bytes = [0; sockaddr::LONGEST];
    let length = usize::try_from(length & u64::from(u32::MAX)).ok()?.min(bytes.len());
    let length = call.read(at, &mut bytes[..length]).ok()?;
    address::read(&bytes[..length])
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
