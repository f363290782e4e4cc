//! A named pipe into which programs outside of the daemon write.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::geteuid;

use crate::mark;
use crate::policy::plan::FifoPlan;
use crate::sys::reopen::reopen;
use crate::sys::resolve::openat2;

/// A named pipe at its path. Dropping it removes the name, unless something else bears it by then.
pub(crate) struct FifoAtPath {
    /// Open for both, so that no writer waits or fails while nobody else reads, and no reader
    /// meets an end of file.
    held: OwnedFd,
    directory: OwnedFd,
    name: OsString,
    made: Stat,
    /// Somebody else removes it.
    given_away: bool,
}

impl FifoAtPath {
    /// Makes the named pipe, in place of one that a daemon which was killed has left.
    pub(super) fn make(plan: &FifoPlan) -> io::Result<Self> {
        let path = Path::new(&plan.path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refuse(&plan.path, "it names no file"));
        };
        let directory = directory(parent)?;
        clear_stale(&directory, name.as_ref(), plan)?;
        mark::reached("fifo.make.cleared");
        // Nobody else may open it before its mode is what the policy says.
        let private = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(&directory, name, FileType::Fifo, private, 0)
            .map_err(|errno| said(&plan.path, errno))?;
        mark::reached("fifo.make.made");
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let held = rustix::fs::openat(&directory, name, flags, Mode::empty())
            .map_err(|errno| said(&plan.path, errno))?;
        mark::reached("fifo.make.held");
        let fifo = Self::of_descriptors(plan, held, directory)?;
        if FileType::from_raw_mode(fifo.made.st_mode) != FileType::Fifo
            || fifo.made.st_uid != geteuid().as_raw()
        {
            return Err(refuse(&plan.path, "somebody has put something else in its place"));
        }
        fifo.give(plan).map_err(|errno| said(&plan.path, errno))?;
        mark::reached("fifo.make.ready");
        Ok(fifo)
    }

    /// The named pipe that another process has made and handed over.
    pub(crate) fn of_descriptors(
        plan: &FifoPlan,
        held: OwnedFd,
        directory: OwnedFd,
    ) -> io::Result<Self> {
        let name = Path::new(&plan.path).file_name().unwrap_or_default().to_owned();
        let made = rustix::fs::fstat(&held)?;
        Ok(Self { held, directory, name, made, given_away: false })
    }

    /// Itself and its directory.
    pub(crate) fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.held.as_fd(), self.directory.as_fd()]
    }

    /// Itself and its directory, for another process, which removes it from now on.
    pub(super) fn give_away(&mut self) -> [BorrowedFd<'_>; 2] {
        self.given_away = true;
        self.descriptors()
    }

    /// Sets mode and owner. Nobody else reads it: that would take lines away from the layer. The
    /// supervisor's own user must be able to, for every new life of the layer.
    fn give(&self, plan: &FifoPlan) -> rustix::io::Result<()> {
        let write_bits = plan.mode & 0o222;
        let foreign = plan.owner.filter(|&owner| owner != geteuid().as_raw());
        let mode = if foreign.is_some() { write_bits } else { write_bits | 0o600 };
        rustix::fs::fchmod(&self.held, Mode::from_raw_mode(mode.into()))?;
        mark::reached("fifo.make.moded");
        match foreign {
            Some(owner) => rustix::fs::fchown(&self.held, Some(Uid::from_raw(owner)), None::<Gid>),
            None => Ok(()),
        }
    }

    /// What the layer that reads it holds: a reading end of its own, and a small pipe by which it
    /// looks at what comes next without taking it.
    pub(crate) fn reader(&self) -> io::Result<[OwnedFd; 3]> {
        let reader = reopen(&self.held, OFlags::RDONLY | OFlags::NONBLOCK)?;
        mark::reached("fifo.hand.opened");
        let (look, copy) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        rustix::fs::fchmod(&look, Mode::empty())?;
        mark::reached("fifo.hand.made");
        Ok([reader, look, copy])
    }

    /// Whether the name still belongs to what was made.
    fn is_there(&self) -> bool {
        rustix::fs::statat(&self.directory, &*self.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (self.made.st_dev, self.made.st_ino))
    }
}

impl Drop for FifoAtPath {
    fn drop(&mut self) {
        if self.given_away {
            return;
        }
        mark::reached("fifo.end.before");
        if self.is_there() {
            let _ = rustix::fs::unlinkat(&self.directory, &*self.name, AtFlags::empty());
        }
        mark::reached("fifo.end.removed");
    }
}

/// Opens the directory, in which nobody else may make, remove or rename anything.
fn directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let shown = path.display().to_string();
    let directory =
        openat2(CWD, path, flags, Mode::empty(), resolve).map_err(|errno| match errno {
            Errno::LOOP => {
                refuse(&shown, "a part of it is a symbolic link; write the path that it leads to")
            }
            errno => said(&shown, errno),
        })?;
    let stat = rustix::fs::fstat(&directory)?;
    let own = geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != own {
        return Err(refuse(
            &shown,
            "the directory belongs to somebody else, who could put \
            something in the place of the fifo; make one of your own for it",
        ));
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(refuse(
            &shown,
            "others may write to the directory, and so put something in \
            the place of the fifo; run `chmod go-w` on it, or make another",
        ));
    }
    Ok(directory)
}

/// Removes what a killed daemon has left, and nothing else.
fn clear_stale(directory: &OwnedFd, name: &Path, plan: &FifoPlan) -> io::Result<()> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(said(&plan.path, errno)),
        Ok(stat) => stat,
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(refuse(&plan.path, "something that is no fifo is there already: move it away"));
    }
    let own = geteuid().as_raw();
    if stat.st_uid != own && Some(stat.st_uid) != plan.owner {
        return Err(refuse(&plan.path, "a fifo of another user is there already: move it away"));
    }
    // Who reads it holds it open: so without a reader it belongs to nobody who lives.
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Err(Errno::NXIO) => {}
        Err(errno) => return Err(said(&plan.path, errno)),
        Ok(_) => {
            return Err(refuse(
                &plan.path,
                "another process reads the fifo that is there already; \
                is this daemon running twice?",
            ));
        }
    }
    mark::reached("fifo.make.stale");
    // Writers that wait in their open(2) for a reader would wait on a FIFO without a name for ever:
    // they are let go, and told that nobody reads.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    drop(rustix::fs::openat(directory, name, flags, Mode::empty()));
    mark::reached("fifo.make.freed");
    rustix::fs::unlinkat(directory.as_fd(), name, AtFlags::empty())
        .map_err(|errno| said(&plan.path, errno))
}

fn refuse(path: &str, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{path}: {why}"))
}

fn said(path: &str, errno: Errno) -> io::Error {
    io::Error::new(errno.kind(), format!("{path}: {errno}"))
}
