//! How two ends meet: the handshake over their socket, as a state machine that never waits.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::datagram::{Buffer, send_record};
use super::fault::{LinkError, PeerFault};
use super::rules::Side;
use crate::seal::handshake::{Initiator, Introduction, MESSAGE, Responder, Waiting};
use crate::seal::{Chance, Identity, PublicKey, SealError, Session};
use crate::wire::record::{HEADER, Head, Kind, WireError};

/// Bytes of a handshake datagram.
const DATAGRAM: usize = HEADER + MESSAGE;

/// Two ends that are being introduced.
///
/// Each end sends one datagram and receives one, so a peer has no other way to keep this waiting
/// than to send nothing; then no link comes about, and nothing else is held up.
pub struct Introducing {
    socket: Arc<OwnedFd>,
    phase: Phase,
}

enum Phase {
    Begin(Initiator),
    Listen(Responder),
    Send([u8; DATAGRAM], Next),
    Wait(Waiting),
    Over,
}

enum Next {
    Wait(Waiting),
    Done(Box<Session>),
}

/// What a step came to.
pub enum Step {
    /// Nothing more can be done until the peer has said something.
    ///
    /// That the socket is full can't be before the first message, unless somebody else who holds
    /// it filled it; then the link waits likewise.
    Blocked,
    /// The peer is who the supervisor said, and here is the session.
    Done(Box<Session>),
}

impl Introducing {
    /// Prepares our half.
    pub fn new(
        socket: Arc<OwnedFd>,
        side: Side,
        identity: Arc<Identity>,
        peer: &PublicKey,
        introduction: &Introduction,
        chance: Box<dyn Chance>,
    ) -> Result<Self, LinkError> {
        let prologue = introduction.prologue();
        let phase = match side {
            Side::From => Phase::Begin(Initiator::new(identity, peer, &prologue, chance)?),
            Side::To => Phase::Listen(Responder::new(identity, peer, &prologue, chance)?),
        };
        Ok(Self { socket, phase })
    }

    /// The socket to wait on.
    pub fn socket(&self) -> &Arc<OwnedFd> {
        &self.socket
    }

    /// Goes on as far as is possible without waiting. After an error, or when done, it is over.
    pub fn step(&mut self, buffer: &mut Buffer) -> Result<Step, LinkError> {
        loop {
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Begin(initiator) => {
                    let (waiting, message) = initiator.write().map_err(blame)?;
                    self.phase = Phase::Send(datagram(0, &message), Next::Wait(waiting));
                }
                Phase::Send(bytes, next) => {
                    if !send_record(&self.socket, &bytes, &[])? {
                        self.phase = Phase::Send(bytes, next);
                        return Ok(Step::Blocked);
                    }
                    match next {
                        Next::Wait(waiting) => self.phase = Phase::Wait(waiting),
                        Next::Done(session) => return Ok(Step::Done(session)),
                    }
                }
                Phase::Listen(responder) => match self.receive(buffer)? {
                    None => {
                        self.phase = Phase::Listen(responder);
                        return Ok(Step::Blocked);
                    }
                    Some(message) => {
                        let answering = responder.read(&message).map_err(blame)?;
                        let (session, message) = answering.write().map_err(blame)?;
                        self.phase =
                            Phase::Send(datagram(0, &message), Next::Done(Box::new(session)));
                    }
                },
                Phase::Wait(waiting) => match self.receive(buffer)? {
                    None => {
                        self.phase = Phase::Wait(waiting);
                        return Ok(Step::Blocked);
                    }
                    Some(message) => {
                        return Ok(Step::Done(Box::new(waiting.read(&message).map_err(blame)?)));
                    }
                },
                Phase::Over => return Err(LinkError::Closed),
            }
        }
    }

    fn receive(&self, buffer: &mut Buffer) -> Result<Option<[u8; MESSAGE]>, LinkError> {
        let Some(received) = buffer.receive(&self.socket, 0)? else { return Ok(None) };
        let head = Head::decode(received.bytes).map_err(PeerFault::from)?;
        let due = Head::bare(Kind::Handshake, 0);
        if head.kind != Kind::Handshake {
            return Err(PeerFault::from(WireError::Misplaced(head.kind)).into());
        }
        if head != due {
            let wrong = WireError::Sequence { got: head.sequence, expected: 0 };
            return Err(PeerFault::from(wrong).into());
        }
        let message = received.bytes[HEADER..].try_into();
        Ok(Some(message.map_err(|_| PeerFault::from(WireError::Length))?))
    }
}

/// Whether a datagram has the form of a handshake's.
pub(super) fn is_handshake(head: &Head, datagram: &[u8]) -> bool {
    head.kind == Kind::Handshake && datagram.len() == DATAGRAM && head.sequence == 0
}

fn datagram(sequence: u64, message: &[u8; MESSAGE]) -> [u8; DATAGRAM] {
    let head = Head::bare(Kind::Handshake, sequence);
    let mut bytes = [0; DATAGRAM];
    bytes[..HEADER].copy_from_slice(&head.encode());
    bytes[HEADER..].copy_from_slice(message);
    bytes
}

/// What fails in a handshake is the peer's doing, but for our own want of randomness.
fn blame(error: SealError) -> LinkError {
    match error {
        SealError::NotAuthentic | SealError::NonContributory => PeerFault::Handshake(error).into(),
        other => LinkError::Seal(other),
    }
}
