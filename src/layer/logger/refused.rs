//! What the init of an `exec` layer tells of refused calls: the reading end of its pipe.

use std::os::fd::OwnedFd;

use rustix::io::Errno;

use crate::wire::refusal::{MOST, Refusal};

/// Read in one turn, in bytes.
const TURN: usize = 4 * MOST;

/// Turns in which what an init left is read: more than a pipe holds that nobody has enlarged.
const LAST_TURNS: usize = 8;

/// The refusals of one instance.
#[derive(Debug)]
pub(super) struct Refusals {
    fd: OwnedFd,
    read: Vec<u8>,
    ended: bool,
}

impl Refusals {
    /// Takes the reading end (non-blocking).
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, read: Vec::new(), ended: false }
    }

    /// The descriptor to poll; `None` once there is nothing more to come.
    pub(super) fn fd(&self) -> Option<&OwnedFd> {
        (!self.ended).then_some(&self.fd)
    }

    /// Reads one turn's worth, for the next [`take`](Self::take). False: there was nothing.
    pub(super) fn read(&mut self) -> bool {
        let mut buffer = [0; TURN];
        match rustix::io::read(&self.fd, &mut buffer) {
            Ok(n) if n > 0 => {
                self.read.extend_from_slice(&buffer[..n]);
                return true;
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            Ok(_) | Err(_) => self.ended = true,
        }
        false
    }

    /// What was read. Behind what is no frame nothing is believed any more.
    pub(super) fn take(&mut self) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        loop {
            match Refusal::decode(&self.read) {
                Ok(Some((length, refusal))) => {
                    self.read.drain(..length);
                    refusals.push(refusal);
                }
                Ok(None) => return refusals,
                Err(_) => {
                    self.ended = true;
                    self.read.clear();
                    return refusals;
                }
            }
        }
    }

    /// All that an instance which has ended left.
    pub(super) fn drain(mut self) -> Vec<Refusal> {
        let mut refusals = self.take();
        for _ in 0..LAST_TURNS {
            if self.ended || !self.read() {
                break;
            }
            refusals.extend(self.take());
        }
        refusals
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    #[test]
    fn frames_are_put_together_and_nonsense_ends_them() {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        let mut refusals = Refusals::new(reader);
        let one = Refusal { call: "getsid()".to_owned(), times: 1, ..Refusal::default() };
        let frame = one.clone().encode();
        rustix::io::write(&writer, &frame[..5]).unwrap();
        assert!(refusals.read());
        assert_eq!(refusals.take(), []);
        rustix::io::write(&writer, &[&frame[5..], &frame[..]].concat()).unwrap();
        assert!(refusals.read());
        assert_eq!(refusals.take(), [one.clone(), one.clone()]);
        rustix::io::write(&writer, &[&frame[..], &[0; 9], &frame[..]].concat()).unwrap();
        assert!(refusals.read());
        assert_eq!(refusals.take(), [one]);
        assert!(refusals.fd().is_none());
        assert_eq!(refusals.drain(), []);
    }
}
