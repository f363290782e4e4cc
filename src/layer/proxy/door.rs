//! The two ends of a connection within this machine: one for the proxy, one that a layer gets.
//!
//! Programs set options of TCP on what they connect, so it can't be a socket pair. The proxy connects
//! to a socket of its own, and looks for itself among those who come: whoever else of this machine
//! connects there is sent away. So there is no port at which a layer would find the proxy, and no
//! token that it could lose: who holds a connection was given it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, connect, getpeername, getsockname,
    socket_with, sockopt,
};

/// How long it may take: nothing leaves the machine.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes a connection to `door`, a listening socket that doesn't wait, and gives the end that came in
/// and the end that went out. Neither waits.
pub(super) fn pair(door: &OwnedFd) -> io::Result<(OwnedFd, OwnedFd)> {
    let until = Instant::now() + PATIENCE;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let out = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    let address: SocketAddr = getsockname(door)?.try_into()?;
    match connect(&out, &address) {
        Ok(()) => {}
        Err(Errno::INPROGRESS) => {
            wait(&out, PollFlags::OUT, until)?;
            sockopt::socket_error(&out)??;
        }
        Err(error) => return Err(error.into()),
    }
    let own: SocketAddr = getsockname(&out)?.try_into()?;
    loop {
        match accept_with(door, flags) {
            Ok(came) => {
                let from = getpeername(&came)?.and_then(|from| SocketAddr::try_from(from).ok());
                if from == Some(own) {
                    return Ok((came, out));
                }
            }
            Err(Errno::AGAIN) => {}
            Err(Errno::INTR | Errno::CONNABORTED) => continue,
            Err(error) => return Err(error.into()),
        }
        wait(door, PollFlags::IN, until)?;
    }
}

fn wait(socket: impl AsFd, events: PollFlags, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).unwrap_or_default();
    match poll(&mut [PollFd::new(&socket, events)], Some(&left)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn strangers_are_sent_away() {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        door.set_nonblocking(true).unwrap();
        let address = door.local_addr().unwrap();
        let mut strangers: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
        let (came, out) = pair(&door.into()).unwrap();
        let (mut came, mut out) = (TcpStream::from(came), TcpStream::from(out));
        for end in [&came, &out] {
            end.set_nonblocking(false).unwrap();
        }
        out.write_all(b"x").unwrap();
        drop(out);
        let mut said = Vec::new();
        came.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"x");
        for stranger in &mut strangers {
            assert_eq!(stranger.read(&mut [0]).unwrap_or(0), 0);
        }
    }
}
