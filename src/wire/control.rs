//! What supervisor and layer say to each other over the control socket.
//!
//! The two directions differ on purpose. The supervisor is trusted by its layers, so what it says
//! is an ordinary serialised enum ([`ToLayer`]). A layer is not trusted by its supervisor, so what
//! it may say is four messages of fixed layout ([`FromLayer`]): one tag byte, then fields at fixed
//! places, and nothing in them that decides how much is read. Each is allowed once and in one state
//! only, so a layer that says anything else is ended.

use serde::{Deserialize, Serialize};

use crate::ident::{Instance, Name};

/// The largest control message in either direction, in bytes.
pub const MAX_CONTROL: usize = 4096;

/// Room for a receipt in [`FromLayer::Ready`], in bytes.
pub const RECEIPT_BYTES: usize = 128;

/// Longest text in [`FromLayer::Failed`], in bytes; longer ones are cut.
pub const MAX_FAILURE: usize = 1024;

/// From the supervisor to a layer. At most one descriptor goes with each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToLayer {
    /// A listening socket that the policy grants; the descriptor goes with it.
    Listener(Name),
    /// A file that the policy grants, opened with the granted rights; the descriptor goes with it.
    File(Name),
    /// A new peer on a channel; this side's end of the socketpair goes with it.
    Introduce {
        /// The channel's number in the plan.
        channel: u16,
        /// Who is at the other end.
        peer: Instance,
        /// The peer's public key (X25519).
        key: [u8; 32],
    },
    /// A peer has ended; nothing new comes from it.
    Departed {
        /// The channel's number in the plan.
        channel: u16,
        /// Who was at the other end.
        peer: Instance,
    },
    /// All that the layer holds from the start has been handed over: run.
    Start,
    /// Finish what is under way and return.
    Stop,
}

/// From a layer to the supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromLayer {
    /// Confined. Once, first.
    Ready {
        /// The instance's public key (X25519), made after re-execution.
        key: [u8; 32],
        /// What the kernel enforces, in the receipt's own fixed form.
        receipt: [u8; RECEIPT_BYTES],
    },
    /// Not confined, and so not running. Once, first and last.
    Failed(String),
    /// The program of an `exec` layer has ended. Once, last; the init exits next.
    Exited {
        /// Its exit code.
        code: u8,
    },
    /// The program of an `exec` layer was killed. Once, last; the init exits next.
    Killed {
        /// The signal.
        signal: u8,
    },
}

const READY: u8 = 1;
const FAILED: u8 = 2;
const EXITED: u8 = 3;
const KILLED: u8 = 4;

impl FromLayer {
    /// The message's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Ready { key, receipt } => [&[READY], &key[..], &receipt[..]].concat(),
            Self::Failed(text) => {
                let mut end = text.len().min(MAX_FAILURE);
                while !text.is_char_boundary(end) {
                    end -= 1;
                }
                [&[FAILED], &text.as_bytes()[..end]].concat()
            }
            Self::Exited { code } => vec![EXITED, *code],
            Self::Killed { signal } => vec![KILLED, *signal],
        }
    }

    /// Reads a message; `None` for anything that [`encode`](Self::encode) would not have written.
    ///
    /// A failure's text is whatever the layer wrote: neutralise it before it is shown.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [READY, rest @ ..] if rest.len() == 32 + RECEIPT_BYTES => {
                let (key, receipt) = rest.split_at(32);
                Some(Self::Ready { key: key.try_into().ok()?, receipt: receipt.try_into().ok()? })
            }
            [FAILED, text @ ..] if text.len() <= MAX_FAILURE => {
                Some(Self::Failed(String::from_utf8_lossy(text).into_owned()))
            }
            [EXITED, code] => Some(Self::Exited { code: *code }),
            [KILLED, signal] => Some(Self::Killed { signal: *signal }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_wrote() {
        let messages = [
            FromLayer::Ready { key: [7; 32], receipt: [9; RECEIPT_BYTES] },
            FromLayer::Failed("mount: no".into()),
            FromLayer::Exited { code: 3 },
            FromLayer::Killed { signal: 9 },
        ];
        for message in messages {
            assert_eq!(FromLayer::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn refuses_what_it_would_not_write() {
        let ready = FromLayer::Ready { key: [7; 32], receipt: [9; RECEIPT_BYTES] }.encode();
        for bytes in [&[][..], &[0], &[9, 9], &[EXITED], &[EXITED, 1, 1], &ready[..ready.len() - 1]]
        {
            assert_eq!(FromLayer::decode(bytes), None, "{bytes:?}");
        }
        let long = [vec![FAILED], vec![b'x'; MAX_FAILURE + 1]].concat();
        assert_eq!(FromLayer::decode(&long), None);
    }

    #[test]
    fn cuts_a_long_failure_at_a_character() {
        let text = "é".repeat(MAX_FAILURE);
        let Some(FromLayer::Failed(back)) = FromLayer::decode(&FromLayer::Failed(text).encode())
        else {
            panic!("not a failure")
        };
        assert!(back.chars().all(|c| c == 'é'));
    }
}
