//! Where a path of the program leads, in what it sees and on the host.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::process::Pid;

/// What is at a path at the moment.
pub(super) struct Place {
    /// The path without links and dots; of what isn't there, that of its directory and its name.
    pub path: String,
    /// What is there.
    pub kind: Option<FileType>,
    /// Whether the path can lead elsewhere for each process: it is of `/proc`.
    pub is_proc: bool,
}

/// How much of a script's first line the kernel reads (`BINPRM_BUF_SIZE`), in bytes.
const LONGEST_LINE: usize = 256;

/// Resolves paths of the program's processes.
pub(super) struct Resolver {
    /// The root of what the program sees.
    root: OwnedFd,
}

impl Resolver {
    pub(super) fn new(root: OwnedFd) -> Self {
        Self { root }
    }

    /// Where `path` leads for a thread whose descriptor `directory` it is relative to. With
    /// `follow` a link at its end is followed. `None` where that can't be told.
    pub(super) fn resolve(
        &self,
        thread: Pid,
        directory: i32,
        path: &[u8],
        follow: bool,
    ) -> Option<Place> {
        // Policies have no names that aren't text.
        let path = str::from_utf8(path).ok()?;
        let whole = if path.starts_with('/') {
            path.to_owned()
        } else {
            let above = above(thread, directory)?;
            if path.is_empty() { above } else { format!("{above}/{path}") }
        };
        if whole == "/proc" || whole.starts_with("/proc/") {
            return Some(Place { path: whole, kind: None, is_proc: true });
        }
        self.look(&whole, follow)
    }

    /// What a script's first line names to run it by, if a file is a script.
    pub(super) fn interpreter(&self, path: &str) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let fd = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).ok()?;
        let mut bytes = [0; LONGEST_LINE];
        let length = rustix::io::pread(&fd, &mut bytes, 0).ok()?;
        let line = bytes.get(..length)?.strip_prefix(b"#!")?;
        let line = line.split(|byte| *byte == b'\n').next()?.trim_ascii_start();
        let end = line.iter().position(|byte| b" \t".contains(byte)).unwrap_or(line.len());
        Some(line[..end].to_vec())
    }

    fn look(&self, whole: &str, follow: bool) -> Option<Place> {
        let end = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        if let Some(fd) = self.open(whole, end) {
            let kind = FileType::from_raw_mode(rustix::fs::fstat(&fd).ok()?.st_mode);
            return Some(Place { path: own_path(&fd)?, kind: Some(kind), is_proc: false });
        }
        let (above, name) = whole.trim_end_matches('/').rsplit_once('/')?;
        if name.is_empty() || name == "." || name == ".." {
            return None;
        }
        let fd = self.open(if above.is_empty() { "/" } else { above }, OFlags::DIRECTORY)?;
        let above = own_path(&fd)?;
        let path = if above == "/" { format!("/{name}") } else { format!("{above}/{name}") };
        Some(Place { path, kind: None, is_proc: false })
    }

    fn open(&self, path: &str, flags: OFlags) -> Option<OwnedFd> {
        let flags = flags | OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).ok()
    }
}

/// What the host has at a path, or the innermost directory around it: what the policy can name, for
/// what the program makes is gone after the learning.
pub(super) struct OnHost {
    pub path: String,
    pub is_directory: bool,
    /// Who owns it.
    pub owner: u32,
    /// What somebody else may do with it, as one digit of a mode.
    pub others: u32,
}

/// Finds it. `None` only where not even the root can be looked at.
pub(super) fn on_host(path: &str) -> Option<OnHost> {
    Path::new(path).ancestors().find_map(|at| {
        let found = rustix::fs::statat(CWD, at, AtFlags::SYMLINK_NOFOLLOW).ok()?;
        Some(OnHost {
            path: at.to_string_lossy().into_owned(),
            is_directory: FileType::from_raw_mode(found.st_mode) == FileType::Directory,
            owner: found.st_uid,
            others: found.st_mode & 7,
        })
    })
}

/// What a descriptor of a thread is open on, or its working directory.
pub(super) fn above(thread: Pid, directory: i32) -> Option<String> {
    let process = format!("/proc/{}", thread.as_raw_nonzero());
    let link = if directory == libc::AT_FDCWD {
        format!("{process}/cwd")
    } else {
        format!("{process}/fd/{directory}")
    };
    let target = fs::read_link(link).ok()?.into_os_string().into_string().ok()?;
    target.starts_with('/').then_some(target)
}

/// The path of a descriptor of this process. What was removed has none.
fn own_path(fd: &OwnedFd) -> Option<String> {
    let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let path = fs::read_link(link).ok()?.into_os_string().into_string().ok()?;
    (path.starts_with('/') && !path.ends_with(" (deleted)")).then_some(path)
}
