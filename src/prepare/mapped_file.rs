//! Mapped files: opening them so that nobody cuts them.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, FlockOperation, Mode, OFlags, ResolveFlags, SealFlags};
use rustix::io::Errno;

use crate::ipc::mapped_file::format::{self, Kind};
use crate::mark::reached;
use crate::policy::plan::MappedFilePlan;
use crate::sys::memory::create_sized;
use crate::sys::reopen::{reopen, reopen_untruncatable};
use crate::sys::resolve::openat2;

/// How long the layers of a killed daemon may take to end.
const FOLLOWING: Duration = Duration::from_secs(1);

/// Opens or makes the file. If a layer writes it: the file for writing, the file for reading, and
/// the one that holds the lock; otherwise a sealed copy of what it holds now.
pub(super) fn make(plan: &MappedFilePlan) -> io::Result<Vec<OwnedFd>> {
    let made =
        if plan.is_written() { live(plan).map(Vec::from) } else { copy(plan).map(|fd| vec![fd]) };
    made.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", plan.path)))
}

/// A file for layers to write: the daemon's own, locked, of its size, with valid headers.
fn live(plan: &MappedFilePlan) -> io::Result<[OwnedFd; 3]> {
    let lock = File::from(
        open(&plan.path, OFlags::RDWR)
            .or_else(|errno| match errno {
                Errno::NOENT => open(&plan.path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL),
                other => Err(other),
            })
            .map_err(explain)?,
    );
    reached("mapped-file.make.opened");
    must_be_own(&lock)?;
    lock_alone(&lock)?;
    reached("mapped-file.make.locked");
    prepare(&lock, plan.size)?;
    let lock = OwnedFd::from(lock);
    let writing = reopen_untruncatable(&lock, OFlags::RDWR).map_err(|error| {
        if error.raw_os_error() == Some(libc::EOPNOTSUPP) {
            return refused(
                "only Landlock (version 3, Linux 6.2) can keep layers from cutting it, and it isn't \
                 there: see `cofferdam doctor`; or grant only \"r\"",
            );
        }
        error
    })?;
    let reading = reopen(&lock, OFlags::RDONLY)?;
    // From here on everybody who holds the file shares the lock: the next daemon waits for the last
    // layer of this one, also when this supervisor has been killed before them.
    for fd in [&lock, &writing, &reading] {
        rustix::fs::flock(fd, FlockOperation::NonBlockingLockShared).map_err(|_| taken())?;
    }
    reached("mapped-file.make.ready");
    Ok([writing, reading, lock])
}

/// Makes sure that no other daemon has the file. The layers of one that was killed just now take a
/// moment to follow it.
fn lock_alone(file: &File) -> io::Result<()> {
    let until = Instant::now() + FOLLOWING;
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(Errno::WOULDBLOCK) => return Err(taken()),
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn taken() -> io::Error {
    refused("another daemon has it: one file, one daemon")
}

/// Gives a new file its size and first header; looks whether an old one has them.
fn prepare(file: &File, size: u64) -> io::Result<()> {
    if size < format::SMALLEST {
        let smallest = format::SMALLEST >> 10;
        return Err(refused(&format!(
            "`size` must be {smallest} KiB at least for a file that is written"
        )));
    }
    let found = file.metadata()?.len();
    let mut head = vec![0; format::HEAD];
    let read = file.read_at(&mut head, 0)?;
    head.truncate(read);
    match format::kind(&head) {
        // One whose making was interrupted may have its size already.
        Kind::Blank if found == 0 || found == size => {
            rustix::fs::ftruncate(file, size)?;
            reached("mapped-file.make.sized");
            allocate(file, size)?;
            reached("mapped-file.make.allocated");
            let bytes = usize::try_from(size).map_err(io::Error::other)?;
            file.write_all_at(&format::blank(bytes), 0)?;
            file.sync_all()?;
            reached("mapped-file.make.formatted");
        }
        Kind::Ours if found == size => allocate(file, size)?,
        Kind::Ours | Kind::Blank => {
            return Err(refused(&format!(
                "it has {found} bytes, and `size` says {size}: its size is fixed; write {found}, or \
                 move the file away to begin with an empty one"
            )));
        }
        Kind::OtherVersion => {
            return Err(refused("its header is of another version of cofferdam: use that one"));
        }
        Kind::Foreign => {
            return Err(refused(
                "it is no mapped file of cofferdam, and would be overwritten: move it away, or \
                 grant only \"r\" to have its content as it is",
            ));
        }
    }
    // Whoever wrote it in the daemon's last life writes it no more.
    file.write_all_at(&[0; 8], format::AT_WRITER as u64)
}

/// Takes all of the file's room from the disk now: a layer that touches a page for which there is
/// none would lose the commit.
fn allocate(file: &File, size: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, size) {
        // A file system that can't; a full disk is then found out by the layer, as an error.
        Ok(()) | Err(Errno::OPNOTSUPP) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Refuses a file that somebody else could write or cut while layers map it.
fn must_be_own(file: &File) -> io::Result<()> {
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(refused("it is no regular file"));
    }
    let me = rustix::process::geteuid().as_raw();
    if about.uid() != me || about.mode() & 0o022 != 0 || about.nlink() != 1 {
        return Err(refused(&format!(
            "others can write it (owner {}, mode {:o}, {} names): for a layer to write it, have user \
             {me} own it, with mode 0600 and one name; or grant only \"r\", and layers get a copy",
            about.uid(),
            about.mode() & 0o7777,
            about.nlink()
        )));
    }
    Ok(())
}

/// What the file holds now, in memory that nobody changes any more.
fn copy(plan: &MappedFilePlan) -> io::Result<OwnedFd> {
    let file = File::from(open(&plan.path, OFlags::RDONLY).map_err(explain)?);
    if !file.metadata()?.is_file() {
        return Err(refused("it is no regular file"));
    }
    let length = file.metadata()?.len();
    if length > plan.size {
        return Err(refused(&format!("it has {length} bytes, more than `size` allows")));
    }
    let memory = File::from(create_sized(plan.name.as_str(), length)?);
    // What is added or cut meanwhile is not our loss: the copy has the length that it had.
    let (mut at, mut block) = (0, vec![0; 1 << 20]);
    while at < length {
        let want = usize::try_from(length - at).map_or(block.len(), |left| left.min(block.len()));
        match file.read_at(&mut block[..want], at)? {
            0 => return Err(refused("it got shorter while it was copied")),
            read => {
                memory.write_all_at(&block[..read], at)?;
                at += read as u64;
            }
        }
    }
    reached("mapped-file.make.copied");
    let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&memory, seals)?;
    reached("mapped-file.make.sealed");
    Ok(memory.into())
}

/// Opens a path without following symbolic links and without waiting for anybody.
fn open(path: &str, access: OFlags) -> Result<OwnedFd, Errno> {
    let flags = access | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let mode =
        if access.contains(OFlags::CREATE) { Mode::RUSR | Mode::WUSR } else { Mode::empty() };
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(rustix::fs::CWD, path, flags, mode, resolve)
}

fn explain(errno: Errno) -> io::Error {
    match errno {
        Errno::LOOP => {
            refused("a part of this path is a symbolic link; write the path that it leads to")
        }
        Errno::NXIO => refused("it is no regular file"),
        other => other.into(),
    }
}

fn refused(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why.to_owned())
}
