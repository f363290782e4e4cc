//! What can go wrong with a stream, by who is to blame.

use std::io;

use crate::ident::{Instance, Name};
use crate::seal::SealError;

/// Why a stream ended, or a byte of it can't be had. Readers and writers give it as the inner
/// error of an [`io::Error`]; [`PipeError::of`] finds it there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipeError {
    /// The other end is gone without having closed the stream: it died, or let go of its end. All
    /// that it had written wholly was read before this.
    #[error("{peer} is gone, and had not closed its stream on `[pipe.{pipe}]`")]
    PeerDied {
        /// The pipe.
        pipe: Name,
        /// Who was at the other end.
        peer: Instance,
    },
    /// The writer is gone in the middle of a frame. What there was of it is not delivered.
    #[error("{peer} is gone in the middle of a frame on `[pipe.{pipe}]`: {bytes} bytes are cut")]
    Torn {
        /// The pipe.
        pipe: Name,
        /// Who wrote it.
        peer: Instance,
        /// Bytes of the frame that came.
        bytes: usize,
    },
    /// What came is not what the writer sealed. The pipe has ended; the writer is best taken as
    /// compromised, or somebody else holds its end.
    #[error("{peer} broke the rules of `[pipe.{pipe}]`: {fault}")]
    Broke {
        /// The pipe.
        pipe: Name,
        /// Who is to blame.
        peer: Instance,
        /// The rule.
        fault: PipeFault,
    },
    /// Our own end can't seal any more.
    #[error("`[pipe.{pipe}]`: {error}")]
    Seal {
        /// The pipe.
        pipe: Name,
        /// Why.
        error: SealError,
    },
    /// This stream was closed by our own code, or has ended with an error before.
    #[error("this stream on `[pipe.{pipe}]` is over; the next one begins with `next`")]
    Over {
        /// The pipe.
        pipe: Name,
    },
    /// Nothing has come, and the supervisor asks this layer to finish.
    #[error("the supervisor asks this layer to finish")]
    Stopping,
}

/// What a writer did that no writer may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PipeFault {
    /// Its first message is not that of the instance that the supervisor named.
    #[error("handshake: {0}")]
    Handshake(SealError),
    /// A frame longer than any that is written.
    #[error("a frame of {0} bytes is longer than any frame may be")]
    Oversize(usize),
    /// A frame that doesn't open.
    #[error("frame {number}: {error}")]
    Frame {
        /// Its number, from 0.
        number: u64,
        /// Why.
        error: SealError,
    },
    /// Bytes after the frame that ended the stream.
    #[error("bytes follow the end of the stream")]
    AfterEnd,
}

impl PipeFault {
    /// Its number in the audit log.
    pub const fn code(&self) -> u32 {
        match self {
            Self::Handshake(_) => 1,
            Self::Oversize(_) => 2,
            Self::Frame { .. } => 3,
            Self::AfterEnd => 4,
        }
    }
}

impl PipeError {
    /// The pipe's error within `error`, if it is one.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl From<PipeError> for io::Error {
    fn from(error: PipeError) -> Self {
        let kind = match &error {
            PipeError::PeerDied { .. } => io::ErrorKind::BrokenPipe,
            PipeError::Torn { .. } => io::ErrorKind::UnexpectedEof,
            PipeError::Broke { .. } => io::ErrorKind::InvalidData,
            PipeError::Seal { .. } | PipeError::Over { .. } | PipeError::Stopping => {
                io::ErrorKind::Other
            }
        };
        Self::new(kind, error)
    }
}
