//! A ring of reports, as its reader holds it. Its writer is believed nothing.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::report::AT_COUNT;
use crate::ring::{self, AT_CONSUMER_SLEEPS, Consumer, Fault};
use crate::sys::futex::Word;
use crate::sys::mapping::Mapping;
use crate::wire::report::Who;

/// Who has less room than this in its ring may be waiting for more. Large enough for the longest
/// report with a payload.
const NEARLY: usize = 80 << 10;

/// One reporter's ring.
pub(super) struct Ring {
    /// What the supervisor calls it.
    pub(super) name: u32,
    /// Whose it is.
    pub(super) who: Who,
    /// The number of the report that comes next.
    pub(super) next: u64,
    /// Reports of this reporter that were dropped because the log can't be written.
    pub(super) dropped: u64,
    /// Its writer broke the rules: nothing is read from it any more.
    pub(super) mute: bool,
    /// Its writer has ended, and everything was taken: it goes once that is written.
    pub(super) over: bool,
    /// Something was taken since its room was given back.
    taken: bool,
    memory: Mapping,
    consumer: Consumer,
}

impl Ring {
    /// Maps a ring.
    pub(super) fn map(name: u32, who: Who, fd: &OwnedFd, bytes: u32) -> io::Result<Self> {
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        let memory = Mapping::sealed(fd.as_fd(), bytes, true)?;
        let consumer = Consumer::resume(&memory);
        let (next, dropped, mute, over, taken) = (0, 0, false, false, false);
        Ok(Self { name, who, next, dropped, mute, over, taken, memory, consumer })
    }

    /// Takes the next report, if there is one. Its room is given back by [`Ring::release`].
    pub(super) fn take(&mut self, into: &mut Vec<u8>) -> Result<bool, Fault> {
        if self.mute {
            return Ok(false);
        }
        let taken = self.consumer.take(&self.memory, into)?;
        self.taken |= taken;
        Ok(taken)
    }

    /// Gives the room of what was taken back to the writer: it is in the log now.
    pub(super) fn release(&mut self) {
        if std::mem::take(&mut self.taken) {
            self.consumer.release(&self.memory);
        }
    }

    /// How many reports its writer lost at the end and couldn't tell, if it was honest.
    pub(super) fn untold(&self) -> u64 {
        self.memory.load(AT_COUNT).saturating_sub(self.next)
    }

    /// Whether its writer finds no room for a report any more, or soon won't.
    pub(super) fn is_full(&self) -> bool {
        let room = ring::room(self.memory.size());
        room - ring::used(&self.memory) < (room / 4).min(NEARLY)
    }

    /// Has the writer wake us from now on. True: something is there already.
    pub(super) fn arm(&mut self) -> bool {
        // A position that can't be is looked at when it is taken.
        !self.mute && !self.consumer.arm_wakeup(&self.memory).unwrap_or(false)
    }

    /// The writer need not wake us any more.
    pub(super) fn disarm(&mut self) {
        self.consumer.disarm(&self.memory);
    }

    /// What to wait on.
    pub(super) fn bell(&self) -> Word<'_> {
        Word { memory: &self.memory, at: AT_CONSUMER_SLEEPS, expected: 1 }
    }
}
