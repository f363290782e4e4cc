//! The resolver: this program, started again for one name, confined, and gone when it has answered.
//!
//! Looking a name up blocks and parses what strangers send, so the supervisor does neither: it
//! reads addresses of fixed length from a pipe, and kills who takes too long.

use std::ffi::CString;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use super::image::Ground;
use crate::confine::helper::confine_resolver;
use crate::mark;
use crate::sys::spawn::{Namespaces, Spawn, SpawnError, spawn};

/// What the supervisor puts into `argv[0]`.
const TITLE: &str = "cofferdam-resolver:";

/// Addresses of one name that are tried.
pub const MAX_ADDRESSES: usize = 8;

/// One address: 4 or 6, then its bytes, padded.
const RECORD: usize = 17;

/// A resolver at work.
pub struct Resolver {
    /// Where its answer comes.
    pub answer: OwnedFd,
    /// Its process.
    pub process: OwnedFd,
    bytes: Vec<u8>,
}

impl Resolver {
    /// Starts one for `host`; as root it becomes the user `uid`.
    pub fn start(ground: &Ground, uid: Option<u32>, host: &str) -> Result<Self, SpawnError> {
        let (answer, far) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)
            .map_err(|errno| SpawnError::Clone(errno.into()))?;
        let user = uid.map_or("-".to_owned(), |uid| uid.to_string());
        let text = |text: &str| CString::new(text).unwrap_or_default();
        let argv = [text(TITLE), text(&user), text(host)];
        let envp = [text("RES_OPTIONS=timeout:2 attempts:2")];
        let fds = [ground.null.as_fd(), far.as_fd(), ground.null.as_fd()];
        let child = spawn(&Spawn {
            envp: &envp,
            fds: &fds,
            // The host's network is what it is for, and its files what it reads.
            namespaces: ground.namespaces.without(Namespaces::NET).without(Namespaces::MOUNT),
            ids: ground.ids.as_ref(),
            ..Spawn::new(ground.program.as_fd(), &argv)
        })?;
        mark::reached("socket.resolve.started");
        Ok(Self { answer, process: child.pidfd, bytes: Vec::new() })
    }

    /// Takes in what has come; the addresses once it has said all, `None` until then.
    pub fn hear(&mut self) -> Option<Vec<IpAddr>> {
        let mut space = [0; RECORD * MAX_ADDRESSES];
        loop {
            match rustix::io::read(&self.answer, &mut space) {
                Ok(0) => break,
                Ok(read) => {
                    self.bytes.extend_from_slice(&space[..read]);
                    if self.bytes.len() >= RECORD * MAX_ADDRESSES {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => break,
            }
        }
        mark::reached("socket.resolve.answered");
        Some(self.bytes.chunks_exact(RECORD).take(MAX_ADDRESSES).filter_map(decode).collect())
    }
}

/// Whether this process was started to look up a name.
pub fn is_resolver() -> bool {
    std::env::args_os().next().is_some_and(|title| title == TITLE)
}

/// Looks up the name in the second argument and writes its addresses to standard output.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(user), Some(host)) = (arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    if confine_resolver(user.parse().ok()).is_err() {
        return ExitCode::FAILURE;
    }
    mark::reached("socket.resolve.confined");
    let Ok(addresses) = (host.as_str(), 0).to_socket_addrs() else { return ExitCode::FAILURE };
    let mut seen = Vec::new();
    for address in addresses.map(|address| address.ip()) {
        if !seen.contains(&address) && seen.len() < MAX_ADDRESSES {
            seen.push(address);
        }
    }
    let bytes: Vec<u8> = seen.iter().flat_map(encode).collect();
    mark::reached("socket.resolve.found");
    // At most 136 bytes: a pipe takes them at once.
    match rustix::io::write(io::stdout(), &bytes) {
        Ok(_) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn encode(address: &IpAddr) -> [u8; RECORD] {
    let mut record = [0; RECORD];
    match address {
        IpAddr::V4(address) => {
            record[0] = 4;
            record[1..5].copy_from_slice(&address.octets());
        }
        IpAddr::V6(address) => {
            record[0] = 6;
            record[1..].copy_from_slice(&address.octets());
        }
    }
    record
}

fn decode(record: &[u8]) -> Option<IpAddr> {
    match record {
        [4, a, b, c, d, ..] => Some(Ipv4Addr::new(*a, *b, *c, *d).into()),
        [6, rest @ ..] => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way() {
        for address in ["192.0.2.1", "::1", "2001:db8::7"] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(decode(&encode(&address)), Some(address));
        }
        assert_eq!(decode(&[0; RECORD]), None);
        assert_eq!(decode(&[6; 5]), None);
    }
}
