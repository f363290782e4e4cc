//! A granted directory, pinned at the start: what the broker opens lies beneath this one, whatever
//! its path names by then.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, statat};
use rustix::io::Errno;

use crate::ident::Name;
use crate::mark;
use crate::policy::plan::{FilePlan, FileRight};
use crate::sys::reopen;

/// Every name is looked up beneath the directory, through no link, and on its file system.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Nothing waits, becomes a terminal, or is inherited.
const ALWAYS: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// What the broker makes belongs to the supervisor's user, and to nobody else.
const OWN: Mode = Mode::RUSR.union(Mode::WUSR);

/// What a file that is made finds in its way: another, made and removed again and again.
const TRIES: usize = 8;

/// A list of names has at most this many bytes.
const MAX_LIST: usize = 1 << 20;

/// A granted directory.
pub struct Folder {
    root: OwnedFd,
    /// What a draft is called between its link and its rename.
    draft: String,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug)]
pub struct Access {
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
pub enum FolderError {
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
    /// Pins the directory of a grant; `None` if it is no directory.
    pub fn make(daemon: &Name, plan: &FilePlan) -> io::Result<Option<Self>> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let root = rustix::fs::openat2(CWD, &plan.path, flags, Mode::empty(), resolve)?;
        if FileType::from_raw_mode(rustix::fs::fstat(&root)?.st_mode) != FileType::Directory {
            return Ok(None);
        }
        let folder = Self { root, draft: format!(".cofferdam-draft-{daemon}") };
        if changes(plan) {
            // What a supervisor left that was killed between link and rename.
            folder.clear();
        }
        Ok(Some(folder))
    }

    /// Opens, makes or cuts a regular file.
    pub fn open(&self, path: &[u8], access: Access) -> Result<Option<OwnedFd>, FolderError> {
        let pinned = self.pin(path, access.make)?;
        mark::reached("file.open.pinned");
        let open = |flags| open_pinned(&pinned, flags, access.truncates);
        let file = access.flags.map(open).transpose()?;
        if access.cut {
            let writing = open_pinned(&pinned, OFlags::WRONLY, true)?;
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
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDONLY | ALWAYS;
            match rustix::fs::openat2(&self.root, OsStr::from_bytes(path), flags, OWN, RESOLVE) {
                Err(Errno::EXIST) if make != Some(true) => {}
                new => {
                    let new = new?;
                    mark::reached("file.create.made");
                    return Ok(new);
                }
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// A file without a name, to take another's place.
    pub fn draft(&self) -> Result<OwnedFd, FolderError> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | ALWAYS;
        Ok(rustix::fs::openat2(&self.root, ".", flags, OWN, RESOLVE)?)
    }

    /// Gives a draft the name `path`, in place of the regular file that has it, whose mode it
    /// takes. Who looks finds the one or the other, whole.
    pub fn replace(&self, draft: &OwnedFd, path: &[u8]) -> Result<(), FolderError> {
        let (parent, name) = self.parent(path)?;
        match statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                match link(draft, &parent, name) {
                    Ok(()) => {
                        mark::reached("file.replace.made");
                        return Ok(());
                    }
                    // Somebody was faster: then it is replaced.
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
            Ok(old) if FileType::from_raw_mode(old.st_mode) == FileType::RegularFile => {
                let mode =
                    Mode::from_raw_mode(old.st_mode) & (Mode::RWXU | Mode::RWXG | Mode::RWXO);
                rustix::fs::fchmod(draft, mode)?;
            }
            Ok(_) => return Err(FolderError::NotRegular),
            Err(errno) => return Err(errno.into()),
        }
        self.clear();
        link(draft, &self.root, OsStr::new(&self.draft))?;
        mark::reached("file.replace.linked");
        let renamed = rustix::fs::renameat(&self.root, &self.draft, &parent, name);
        if renamed.is_err() {
            self.clear();
        }
        mark::reached("file.replace.renamed");
        Ok(renamed?)
    }

    /// Removes a regular file, or an empty directory.
    pub fn remove(&self, path: &[u8]) -> Result<(), FolderError> {
        let (parent, name) = self.parent(path)?;
        let what = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode;
        mark::reached("file.remove.found");
        match FileType::from_raw_mode(what) {
            FileType::RegularFile => rustix::fs::unlinkat(&parent, name, AtFlags::empty())?,
            FileType::Directory => rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR)?,
            _ => return Err(FolderError::NotRegular),
        }
        mark::reached("file.remove.removed");
        Ok(())
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
        rustix::fs::openat2(&self.root, OsStr::from_bytes(path), flags, Mode::empty(), RESOLVE)
    }

    /// The directory in which `path` lies, and its last name.
    fn parent<'p>(&self, path: &'p [u8]) -> Result<(OwnedFd, &'p OsStr), Errno> {
        let path = Path::new(OsStr::from_bytes(path));
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let above = path.parent().map_or(&b""[..], |above| above.as_os_str().as_bytes());
        let above = if above.is_empty() { b"." } else { above };
        Ok((self.look(above, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?, name))
    }

    fn clear(&self) {
        // Mostly there is nothing; what can't be removed makes the next link fail, with an errno.
        let _ = rustix::fs::unlinkat(&self.root, &self.draft, AtFlags::empty());
    }
}

/// Whether anybody may replace files in it.
fn changes(plan: &FilePlan) -> bool {
    plan.grant.values().any(|rights| rights.contains(&FileRight::Create))
}

fn regular(fd: OwnedFd) -> Result<OwnedFd, FolderError> {
    match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        FileType::RegularFile => Ok(fd),
        FileType::Directory => Err(Errno::ISDIR.into()),
        _ => Err(FolderError::NotRegular),
    }
}

/// Opens a pinned file, and no other: by its descriptor, in which nobody can put another.
fn open_pinned(pinned: &OwnedFd, flags: OFlags, truncates: bool) -> Result<OwnedFd, FolderError> {
    let flags = flags | ALWAYS;
    let writes = flags.intersects(OFlags::WRONLY | OFlags::RDWR);
    if !writes || truncates {
        return Ok(reopen::reopen(pinned, flags)?);
    }
    Ok(reopen::reopen_untruncatable(pinned, flags)?)
}

fn link(draft: &OwnedFd, parent: &OwnedFd, name: &OsStr) -> Result<(), Errno> {
    let path = reopen::path_of(draft);
    rustix::fs::linkat(CWD, path, parent, name, AtFlags::SYMLINK_FOLLOW)
}
