//! Connecting to a Unix socket at a path of the host: to exactly the socket that the policy's path
//! names, through no symbolic link.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::mark;
use crate::sys::reopen::Proc;
use crate::sys::resolve::openat2;

/// The host's file system, as far as it takes to find sockets there.
#[derive(Debug)]
pub(super) struct Host {
    root: OwnedFd,
    proc: Proc,
}

impl Host {
    /// Takes the host's root, and makes its `/proc` the working directory of this process: a
    /// socket's address can only be a path, and the one by which the kernel gives what a descriptor
    /// holds lies there.
    pub fn enter(root: OwnedFd) -> rustix::io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::openat(&root, "proc", flags, Mode::empty())?;
        rustix::process::fchdir(&proc)?;
        Ok(Self { root, proc: Proc::new(proc) })
    }

    /// Connects to the socket at an absolute path, which the kernel does at once or not at all.
    ///
    /// Whoever may change a directory on the way could otherwise choose, by a link, to which
    /// socket of somebody else a layer gets. `ELOOP`: a part of it is a link; `ENOTSOCK`: something
    /// else is there, or a socket with a second name.
    pub fn connect(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let pinned = openat2(&self.root, path, flags, Mode::empty(), resolve)?;
        let stat = rustix::fs::fstat(&pinned)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Socket || stat.st_nlink != 1 {
            return Err(Errno::NOTSOCK);
        }
        mark::reached("socket.connect.pinned");
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let (_, beneath_proc) = self.proc.path_of(&pinned);
        connect(&socket, &SocketAddrUnix::new(beneath_proc)?)?;
        Ok(socket)
    }
}
