//! What an end of a sealed stream reports of its frames, as they lie in the pipe.

use super::error::PipeFault;
use crate::report::{Facts, Side, Tap, Verdict, Who};
use crate::seal::SealError;

/// A tap on the stream to or from one peer.
#[derive(Clone, Debug)]
pub(super) struct StreamTap {
    tap: Tap,
    peer: Who,
}

impl StreamTap {
    pub(super) fn new(tap: Tap, peer: Who) -> Self {
        Self { tap, peer }
    }

    fn facts(&self, side: Side, number: u64, length: usize) -> Facts {
        let (sequence, length, peer) = (number, length as u64, self.peer);
        Facts { sequence, length, peer, ..self.tap.facts(side) }
    }

    /// Reports a frame that is sealed, and that the pipe has not got yet.
    pub(super) fn sending(&self, number: u64, frame: &[u8]) {
        self.tap.report(&self.facts(Side::Sender, number, frame.len()), frame, &[]);
    }

    /// Reports a frame that came, and which `open` opens where it lies: the bytes as they came are
    /// taken down before. One that doesn't open is [refused](Self::refuse) instead.
    pub(super) fn coming(
        &self,
        number: u64,
        frame: &mut [u8],
        open: impl FnOnce(&mut [u8]) -> Result<(), SealError>,
    ) -> Result<(), SealError> {
        let facts = self.facts(Side::Receiver, number, frame.len());
        let pending = self.tap.begin(frame, 0);
        open(frame)?;
        pending.finish(&facts, &[], &[]);
        Ok(())
    }

    /// Reports that the writer broke a rule, which ends the stream; `number` is the frame that was
    /// due.
    pub(super) fn refuse(&self, number: u64, fault: &PipeFault) {
        let facts = self.facts(Side::None, number, 0);
        let facts = Facts { verdict: Verdict::Refused, value: fault.code(), ..facts };
        self.tap.report(&facts, &[], fault.to_string().as_bytes());
    }
}
