//! A granted directory: what is opened here lies beneath the one that was there when the daemon
//! began, whatever its path leads to by now.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, statat};
use rustix::io::Errno;

use crate::mark;
use crate::sys::reopen::Proc;
use crate::sys::resolve::openat2;

/// Every name is looked up beneath the directory, through no link, and on its file system.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Nothing waits, becomes a terminal, or is inherited.
const ALWAYS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// What is made here is nobody else's.
const OWN: Mode = Mode::RUSR.union(Mode::WUSR);

/// What a file that is made finds in its way: another, made and removed again and again.
const TRIES: usize = 8;

/// A list of names has at most this many bytes.
const MAX_LIST: usize = 1 << 20;

/// How the name of a draft begins between its link and its rename; the daemon's name follows.
const DRAFT: &str = ".cofferdam-draft-";

/// A granted directory. Threads share it.
#[derive(Debug)]
pub(super) struct Folder {
    root: OwnedFd,
    /// What a draft is called between its link and its rename.
    draft: String,
    /// One draft at a time has the name.
    replacing: Mutex<()>,
    maker: Arc<Maker>,
}

/// What all folders of a helper have in common.
#[derive(Debug)]
pub(super) struct Maker {
    /// By which a descriptor is opened once more.
    pub proc: Proc,
    /// Whom all that is made is given to, where that isn't the helper's own user.
    pub owner: Option<u32>,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    /// `O_RDONLY`, `O_WRONLY` or `O_RDWR`, with or without `O_APPEND`; `None` opens nothing.
    pub flags: Option<OFlags>,
    /// Cut it to nothing first.
    pub cut: bool,
    /// Make it if it isn't there; `Some(true)` refuses it if it is.
    pub make: Option<bool>,
    /// Whether who gets it may truncate it.
    pub truncates: bool,
}

/// Why something isn't done.
#[derive(Debug)]
pub(super) enum FolderError {
    /// It is no regular file.
    NotRegular,
    /// The system refused.
    System(Errno),
}

impl From<Errno> for FolderError {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

impl From<io::Error> for FolderError {
    fn from(error: io::Error) -> Self {
        Self::System(Errno::from_io_error(&error).unwrap_or(Errno::IO))
    }
}

impl Folder {
    /// Opens the directory at `path`, if it is still the one with these numbers.
    pub fn open_root(
        path: &str,
        (device, inode): (u64, u64),
        daemon: &str,
        maker: Arc<Maker>,
    ) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let root = openat2(CWD, path, flags, Mode::empty(), resolve)?;
        let stat = rustix::fs::fstat(&root)?;
        if (stat.st_dev, stat.st_ino) != (device, inode) {
            return Err(Errno::STALE.into());
        }
        Ok(Self { root, draft: format!("{DRAFT}{daemon}"), replacing: Mutex::default(), maker })
    }

    /// Opens, makes or cuts a regular file.
    pub fn open(&self, path: &[u8], access: Access) -> Result<Option<OwnedFd>, FolderError> {
        let pinned = self.pin(path, access.make)?;
        mark::reached("file.open.pinned");
        let open = |flags| self.open_pinned(&pinned, flags, access.truncates);
        let file = access.flags.map(open).transpose()?;
        if access.cut {
            let writing = self.open_pinned(&pinned, OFlags::WRONLY, true)?;
            mark::reached("file.truncate.begun");
            rustix::fs::ftruncate(&writing, 0)?;
            mark::reached("file.truncate.cut");
        }
        Ok(file)
    }

    /// A handle on a regular file that opens nothing yet, so that a device or a FIFO notices
    /// nothing of it.
    fn pin(&self, path: &[u8], make: Option<bool>) -> Result<OwnedFd, FolderError> {
        for _ in 0..TRIES {
            if make != Some(true) {
                match self.look(path, OFlags::PATH | OFlags::CLOEXEC) {
                    Err(Errno::NOENT) if make.is_some() => {}
                    found => return regular(found?),
                }
            }
            match self.make(path) {
                Err(FolderError::System(Errno::EXIST)) if make != Some(true) => {}
                new => {
                    let new = new?;
                    mark::reached("file.create.made");
                    return Ok(new);
                }
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Makes an empty file that isn't there yet. Whoever sees it sees it with its owner.
    fn make(&self, path: &[u8]) -> Result<OwnedFd, FolderError> {
        if self.maker.owner.is_some() {
            let (parent, name) = self.parent(path)?;
            let flags = OFlags::TMPFILE | OFlags::WRONLY | ALWAYS;
            match openat2(&parent, ".", flags, OWN, RESOLVE) {
                Ok(new) => {
                    self.give(&new)?;
                    self.link(&new, &parent, name)?;
                    return Ok(new);
                }
                // A file system without nameless files.
                Err(Errno::OPNOTSUPP | Errno::ISDIR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | ALWAYS;
        let new = openat2(&self.root, OsStr::from_bytes(path), flags, OWN, RESOLVE)?;
        self.give(&new)?;
        Ok(new)
    }

    /// Gives what was made here to whom it belongs. Its group stays where the directory gives it
    /// its own (inode(7), set-group-ID).
    fn give(&self, new: &OwnedFd) -> Result<(), Errno> {
        let Some(owner) = self.maker.owner else { return Ok(()) };
        let stat = rustix::fs::fstat(new)?;
        let own = stat.st_gid == rustix::process::getegid().as_raw();
        let group = own.then(|| Gid::from_raw(owner));
        // By an empty path: a directory is a handle alone.
        rustix::fs::chownat(new, "", Some(Uid::from_raw(owner)), group, AtFlags::EMPTY_PATH)
    }

    /// A file without a name, to take another's place.
    pub fn draft(&self) -> Result<OwnedFd, FolderError> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | ALWAYS;
        Ok(openat2(&self.root, ".", flags, OWN, RESOLVE)?)
    }

    /// Gives a draft the name `path`, in place of the regular file that has it, whose mode it
    /// takes. Who looks finds the one or the other, whole.
    pub fn replace(&self, draft: &OwnedFd, path: &[u8]) -> Result<(), FolderError> {
        let (parent, name) = self.parent(path)?;
        let old = match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(old) if FileType::from_raw_mode(old.st_mode) != FileType::RegularFile => {
                return Err(FolderError::NotRegular);
            }
            Err(errno) if errno != Errno::NOENT => return Err(errno.into()),
            old => old.ok(),
        };
        if let Some(old) = old {
            // As long as it is ours: only an owner may.
            let mode = Mode::from_raw_mode(old.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
            rustix::fs::fchmod(draft, mode)?;
        }
        self.give(draft)?;
        if old.is_none() {
            match self.link(draft, &parent, name) {
                Ok(()) => {
                    mark::reached("file.replace.made");
                    return Ok(());
                }
                // Somebody was faster: then it is replaced.
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let _one = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        self.clear();
        self.link(draft, &self.root, OsStr::new(&self.draft))?;
        mark::reached("file.replace.linked");
        let renamed = rustix::fs::renameat(&self.root, &self.draft, &parent, name);
        if renamed.is_err() {
            self.clear();
        }
        mark::reached("file.replace.renamed");
        Ok(renamed?)
    }

    /// Removes a regular file.
    pub fn remove(&self, path: &[u8]) -> Result<(), FolderError> {
        let (parent, name) = self.parent(path)?;
        expect(&parent, name, FileType::RegularFile)?;
        mark::reached("file.remove.found");
        rustix::fs::unlinkat(&parent, name, AtFlags::empty())?;
        mark::reached("file.remove.removed");
        Ok(())
    }

    /// Makes a directory. As root it is the helper's for a moment.
    pub fn make_directory(&self, path: &[u8]) -> Result<(), FolderError> {
        let (parent, name) = self.parent(path)?;
        rustix::fs::mkdirat(&parent, name, Mode::RWXU)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let new = openat2(&parent, name, flags, Mode::empty(), RESOLVE)?;
        // Another that has its name by now keeps its owner.
        if rustix::fs::fstat(&new)?.st_uid == rustix::process::geteuid().as_raw() {
            self.give(&new)?;
        }
        Ok(())
    }

    /// Removes an empty directory.
    pub fn remove_directory(&self, path: &[u8]) -> Result<(), FolderError> {
        let (parent, name) = self.parent(path)?;
        Ok(rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?)
    }

    /// Renames a regular file, or a directory if that is said, in place of what has the new name:
    /// a regular file, or an empty directory.
    pub fn rename(&self, from: &[u8], to: &[u8], directory: bool) -> Result<(), FolderError> {
        let kind = if directory { FileType::Directory } else { FileType::RegularFile };
        let (old_parent, old) = self.parent(from)?;
        let (new_parent, new) = self.parent(to)?;
        expect(&old_parent, old, kind)?;
        match expect(&new_parent, new, kind) {
            Err(FolderError::System(Errno::NOENT)) => {}
            found => found?,
        }
        Ok(rustix::fs::renameat(&old_parent, old, &new_parent, new)?)
    }

    /// The names in a directory but for those that `hidden` names, each with a zero after it, in
    /// memory that can't be changed. `E2BIG` if they are more than a mebibyte.
    pub fn list(
        &self,
        path: &[u8],
        hidden: impl Fn(&[u8]) -> bool,
    ) -> Result<OwnedFd, FolderError> {
        use rustix::fs::SealFlags;
        let path = if path.is_empty() { b"." } else { path };
        let directory = self.look(path, OFlags::RDONLY | OFlags::DIRECTORY | ALWAYS)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") || name == self.draft.as_bytes() || hidden(name) {
                continue;
            }
            if names.len() + name.len() >= MAX_LIST {
                return Err(Errno::TOOBIG.into());
            }
            names.extend_from_slice(entry.file_name().to_bytes_with_nul());
        }
        mark::reached("file.list.read");
        let memory = crate::sys::memory::create("cofferdam-names")?;
        let mut rest = names.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(&memory, rest)?;
            rest = &rest[written..];
        }
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        rustix::fs::fcntl_add_seals(&memory, seals)?;
        mark::reached("file.list.sealed");
        Ok(memory)
    }

    /// Whether `path` leads to a name that only the broker uses.
    pub fn is_own(&self, path: &[u8]) -> bool {
        path == self.draft.as_bytes()
    }

    fn look(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), RESOLVE)
    }

    /// The directory in which `path` lies, and its last name.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p OsStr), Errno> {
        let path = Path::new(OsStr::from_bytes(path));
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let above = path.parent().map_or(&b""[..], |above| above.as_os_str().as_bytes());
        let above = if above.is_empty() { b"." } else { above };
        Ok((self.look(above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?, name))
    }

    /// Opens a pinned file, and no other: by its descriptor, in which nobody can put another.
    fn open_pinned(
        &self,
        pinned: &OwnedFd,
        flags: OFlags,
        truncates: bool,
    ) -> Result<OwnedFd, FolderError> {
        let (flags, proc) = (flags | ALWAYS, &self.maker.proc);
        let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        if !writes || truncates {
            return Ok(proc.reopen(pinned, flags)?);
        }
        Ok(proc.reopen_untruncatable(pinned, flags)?)
    }

    fn link(&self, file: &OwnedFd, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
        let (proc, path) = self.maker.proc.path_of(file);
        rustix::fs::linkat(proc, path, parent, name, AtFlags::SYMLINK_FOLLOW)
    }

    /// Removes what a life of the helper has left that was killed between link and rename.
    pub fn clear(&self) {
        // Mostly there is nothing; what can't be removed makes the next link fail, with an errno.
        let _ = rustix::fs::unlinkat(&self.root, &self.draft, AtFlags::empty());
    }
}

/// Whether something of this kind has the name.
fn expect(parent: &OwnedFd, name: &OsStr, kind: FileType) -> Result<(), FolderError> {
    let found = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
    match (FileType::from_raw_mode(found), kind) {
        (found, kind) if found == kind => Ok(()),
        (FileType::Directory, _) => Err(Errno::ISDIR.into()),
        (_, FileType::Directory) => Err(Errno::NOTDIR.into()),
        _ => Err(FolderError::NotRegular),
    }
}

fn regular(fd: OwnedFd) -> Result<OwnedFd, FolderError> {
    match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        FileType::RegularFile => Ok(fd),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(FolderError::NotRegular),
    }
}
