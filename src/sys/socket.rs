//! What no safe wrapper has about sockets.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `SO_PASSRIGHTS`, Linux 6.16; the generic number, which x86-64 and aarch64 share.
const SO_PASSRIGHTS: i32 = 83;

/// Makes the kernel refuse descriptors on their way to this socket: who sends one gets `EPERM`.
///
/// `Ok(false)` where the kernel has no such switch (before Linux 6.16).
pub fn refuse_descriptors(socket: impl AsFd) -> io::Result<bool> {
    let off: libc::c_int = 0;
    let length = libc::socklen_t::try_from(size_of_val(&off)).map_err(io::Error::other)?;
    // SAFETY: the pointer and length name `off`, which lives until the call returns.
    let answer = unsafe {
        let socket = socket.as_fd().as_raw_fd();
        libc::setsockopt(socket, libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const off).cast(), length)
    };
    if answer == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
        error => Err(error),
    }
}

/// Gives one socket the value that another has of an option, for options of at most 16 bytes without
/// pointers: numbers, and times.
pub fn carry_option(from: impl AsFd, to: impl AsFd, level: i32, option: i32) -> io::Result<()> {
    let mut value = [0_u64; 2];
    let mut length = libc::socklen_t::try_from(size_of_val(&value)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes into `value`, and says how many.
    check(unsafe {
        let from = from.as_fd().as_raw_fd();
        libc::getsockopt(from, level, option, (&raw mut value).cast(), &raw mut length)
    })?;
    // SAFETY: the kernel reads `length` bytes of `value`, which is no more than it has.
    check(unsafe {
        let to = to.as_fd().as_raw_fd();
        libc::setsockopt(to, level, option, (&raw const value).cast(), length)
    })
}

/// Names the network namespace that a socket was made in (`SO_NETNS_COOKIE`, Linux 5.14). No two
/// have the same name as long as the machine runs.
pub fn network_of(socket: impl AsFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).map_err(io::Error::other)?;
    // SAFETY: the kernel writes at most `length` bytes into `cookie`.
    check(unsafe {
        let (level, option) = (libc::SOL_SOCKET, libc::SO_NETNS_COOKIE);
        let socket = socket.as_fd().as_raw_fd();
        libc::getsockopt(socket, level, option, (&raw mut cookie).cast(), &raw mut length)
    })?;
    Ok(cookie)
}

fn check(answer: libc::c_int) -> io::Result<()> {
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the loopback device of this process's network namespace up, as `ip link set lo up` does
/// (netdevice(7)). Its addresses come along.
pub fn raise_loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: a structure of numbers alone, for which all zeros are a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
    // SAFETY: the kernel reads one `ifreq` with a terminated name and its flags.
    let set =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Registers a nonblocking descriptor with the running tokio runtime, for both directions.
///
/// Panics outside of a runtime, as [`AsyncFd`] does.
pub fn watch(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    watch_for(fd, Interest::READABLE | Interest::WRITABLE)
}

/// The same, for a descriptor that is only read.
pub fn watch_readable(fd: Arc<OwnedFd>) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    watch_for(fd, Interest::READABLE)
}

fn watch_for(fd: Arc<OwnedFd>, interest: Interest) -> io::Result<AsyncFd<Arc<OwnedFd>>> {
    // SAFETY: the raw descriptor of an `Arc<OwnedFd>` is the same at every call, and stays open
    // until the `Arc`, which the `AsyncFd` keeps to its end, is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}
