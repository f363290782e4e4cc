//! Standard error, written to without ever waiting.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
};

/// Where the journal listens (systemd-journald.service(8)).
const JOURNAL: &str = "/run/systemd/journal/socket";

/// From linux/limits.h. A pipe that polls writable takes so much (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Standard error, written to without ever waiting.
///
/// The flags of an open file are shared with everybody who has it, a shell for example, so it isn't
/// switched to non-blocking. And that it polls writable doesn't say for how much: a terminal that was
/// stopped takes some bytes and blocks for the rest, and of a pipe another writer may take the room
/// in between. So a terminal or a pipe is opened anew, with flags of our own, by its entry in
/// `/proc/self/fd` (proc(5)); a socket has a flag for each call. A file never keeps anybody waiting
/// for a reader.
#[derive(Debug)]
pub(super) struct Stderr {
    passed: io::Stderr,
    /// In place of what was passed to this process.
    file: Option<OwnedFd>,
    way: Way,
}

/// How it is written to.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// It is non-blocking.
    NonBlocking,
    /// It is a socket.
    Socket,
    /// In pieces of so many bytes that fit by what poll says: a regular file, or what another user
    /// has opened, which then can't be opened again.
    Pieces(usize),
}

impl Stderr {
    /// This process's own.
    pub(super) fn own() -> Self {
        let passed = io::stderr();
        if matches!(kind(&passed), Some(FileType::Fifo | FileType::CharacterDevice)) {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let own = rustix::fs::open("/proc/self/fd/2", flags, Mode::empty());
            if let Ok(own) = own {
                return Self { passed, file: Some(own), way: Way::NonBlocking };
            }
        }
        Self { way: way(&passed), passed, file: None }
    }

    /// What another process has [opened](Self::own).
    pub(super) fn handed(file: OwnedFd) -> Self {
        let way = way(&file);
        Self { passed: io::stderr(), file: Some(file), way }
    }

    /// The journal's socket, to which each write is a datagram.
    ///
    /// # Errors
    /// That there is none, or that it takes nothing from this process.
    pub(super) fn journal() -> io::Result<Self> {
        let refused = |what: &str, errno: Errno| {
            io::Error::other(format!("{what} the journal's socket {JOURNAL}: {errno}"))
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
            .map_err(|errno| refused("making a socket for", errno))?;
        let address =
            SocketAddrUnix::new(JOURNAL).map_err(|errno| refused("the address of", errno))?;
        connect(&socket, &address).map_err(|errno| refused("connecting to", errno))?;
        Ok(Self::handed(socket))
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_ref().map_or_else(|| self.passed.as_fd(), AsFd::as_fd)
    }

    /// Writes what it takes.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self.way {
            Way::NonBlocking => rustix::io::write(self.fd(), bytes),
            Way::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::net::send(self.fd(), bytes, flags)
            }
            Way::Pieces(most) => {
                let mut fds = [PollFd::from_borrowed_fd(self.fd(), PollFlags::OUT)];
                match rustix::event::poll(&mut fds, Some(&Timespec::default()))? {
                    0 => Err(Errno::AGAIN),
                    _ => rustix::io::write(self.fd(), &bytes[..bytes.len().min(most)]),
                }
            }
        }
    }
}

fn kind(file: impl AsFd) -> Option<FileType> {
    rustix::fs::fstat(file).ok().map(|stat| FileType::from_raw_mode(stat.st_mode))
}

/// How an open file is written to that nothing can be changed about.
fn way(file: impl AsFd) -> Way {
    let is_free = |flags: OFlags| flags.contains(OFlags::NONBLOCK);
    match kind(&file) {
        Some(FileType::Socket) => Way::Socket,
        _ if rustix::fs::fcntl_getfl(&file).is_ok_and(is_free) => Way::NonBlocking,
        // A terminal that polls writable takes a character.
        Some(FileType::CharacterDevice) => Way::Pieces(1),
        _ => Way::Pieces(PIPE_BUF),
    }
}
