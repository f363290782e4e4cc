//! The handshake: `Noise_KK_25519_ChaChaPoly_BLAKE2s`, two messages, each end knowing the
//! other's key from the supervisor.
//!
//! Each phase consumes itself, so there is no half-ready object: `Initiator` writes and becomes
//! `Waiting`, which reads and becomes a `Session`; `Responder` reads and becomes `Answering`,
//! which writes and becomes a `Session`.

use std::sync::{Arc, Mutex, PoisonError};

use snow::{Builder, HandshakeState};
use zeroize::Zeroize;

use super::aead::TAG;
use super::resolver::Resolver;
use super::secret::{Chance, Identity, KEY, Key, PublicKey};
use super::{SealError, Session};
use crate::ident::{EdgeId, Instance};

/// The version of everything on a channel: handshake, records and frames.
pub const VERSION: u8 = 3;

/// Bytes of either handshake message: an ephemeral key and the tag of an empty payload.
pub const MESSAGE: usize = KEY + TAG;

const PATTERN: &str = "Noise_KK_25519_ChaChaPoly_BLAKE2s";

/// What stands first in the prologue of a channel's handshake, and in that of nothing else.
const LABEL: &[u8] = b"cofferdam channel\0";

/// What both ends must agree on before they talk, besides each other's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// What each end was told of the channel.
    pub edge: EdgeId,
    /// The channel's number in the plan.
    pub number: u16,
    /// The channel's name.
    pub channel: String,
    /// The instance on the channel's `from` side, which writes first.
    pub from: Instance,
    /// The instance on its `to` side.
    pub to: Instance,
}

impl Introduction {
    /// The prologue that both ends hash in. Every part has a fixed size or its length before it,
    /// so no two introductions give the same bytes.
    pub fn prologue(&self) -> Vec<u8> {
        self.prologue_of(LABEL)
    }

    /// The same for something else than a channel, named by `label`.
    pub(super) fn prologue_of(&self, label: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(label);
        bytes.push(VERSION);
        bytes.extend_from_slice(&self.edge.0);
        bytes.extend_from_slice(&self.number.to_le_bytes());
        text(&mut bytes, &self.channel);
        for instance in [&self.from, &self.to] {
            text(&mut bytes, instance.layer.as_str());
            bytes.extend_from_slice(&instance.index.to_le_bytes());
            bytes.extend_from_slice(&instance.generation.to_le_bytes());
        }
        bytes
    }
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

/// The end that writes first.
pub struct Initiator(Phase);

/// The first end, waiting for the answer.
pub struct Waiting(Phase);

/// The end that reads first.
pub struct Responder(Phase);

/// The second end, which has read and may answer.
pub struct Answering(Phase);

pub(super) struct Phase {
    noise: Box<HandshakeState>,
    small_order: Arc<Mutex<bool>>,
}

impl Initiator {
    /// Prepares the first message, bound to `prologue`.
    pub fn new(
        identity: Arc<Identity>,
        peer: &PublicKey,
        prologue: &[u8],
        chance: Box<dyn Chance>,
    ) -> Result<Self, SealError> {
        Phase::new(PATTERN, identity, peer, prologue, chance, true).map(Self)
    }

    /// Writes the first message (`e, es, ss`).
    pub fn write(self) -> Result<(Waiting, [u8; MESSAGE]), SealError> {
        let mut message = [0; MESSAGE];
        let phase = self.write_payload(&[], &mut message)?.0;
        Ok((phase, message))
    }

    /// The same with a payload, as published test vectors have one. Channels send none.
    pub fn write_payload(
        mut self,
        payload: &[u8],
        message: &mut [u8],
    ) -> Result<(Waiting, usize), SealError> {
        let length = self.0.write(payload, message)?;
        Ok((Waiting(self.0), length))
    }
}

impl Waiting {
    /// Reads the answer (`e, ee, se`). From here on the peer is who the supervisor said.
    pub fn read(self, message: &[u8; MESSAGE]) -> Result<Session, SealError> {
        self.read_payload(message, &mut [0; TAG]).map(|(session, _)| session)
    }

    /// The same with a payload, as published test vectors have one. Channels send none.
    pub fn read_payload(
        mut self,
        message: &[u8],
        payload: &mut [u8],
    ) -> Result<(Session, usize), SealError> {
        let length = self.0.read(message, payload)?;
        Ok((self.0.split(true), length))
    }
}

impl Responder {
    /// Prepares to read the first message, which must be bound to the same `prologue`.
    pub fn new(
        identity: Arc<Identity>,
        peer: &PublicKey,
        prologue: &[u8],
        chance: Box<dyn Chance>,
    ) -> Result<Self, SealError> {
        Phase::new(PATTERN, identity, peer, prologue, chance, false).map(Self)
    }

    /// Reads the first message. It may be a replayed one: only the first record that opens
    /// proves that the peer is there.
    pub fn read(self, message: &[u8; MESSAGE]) -> Result<Answering, SealError> {
        self.read_payload(message, &mut [0; TAG]).map(|(phase, _)| phase)
    }

    /// The same with a payload, as published test vectors have one. Channels send none.
    pub fn read_payload(
        mut self,
        message: &[u8],
        payload: &mut [u8],
    ) -> Result<(Answering, usize), SealError> {
        let length = self.0.read(message, payload)?;
        Ok((Answering(self.0), length))
    }
}

impl Answering {
    /// Writes the answer.
    pub fn write(self) -> Result<(Session, [u8; MESSAGE]), SealError> {
        let mut message = [0; MESSAGE];
        let session = self.write_payload(&[], &mut message)?.0;
        Ok((session, message))
    }

    /// The same with a payload, as published test vectors have one. Channels send none.
    pub fn write_payload(
        mut self,
        payload: &[u8],
        message: &mut [u8],
    ) -> Result<(Session, usize), SealError> {
        let length = self.0.write(payload, message)?;
        Ok((self.0.split(false), length))
    }
}

impl Phase {
    pub(super) fn new(
        pattern: &str,
        identity: Arc<Identity>,
        peer: &PublicKey,
        prologue: &[u8],
        chance: Box<dyn Chance>,
        initiator: bool,
    ) -> Result<Self, SealError> {
        let resolver = Resolver::new(identity, chance);
        let small_order = Arc::clone(&resolver.small_order);
        let params = pattern.parse().map_err(|_| SealError::Order)?;
        // The zeroes stand for the private key, which the resolver finds on its page.
        let builder = Builder::with_resolver(params, Box::new(resolver))
            .local_private_key(&[0; KEY])
            .and_then(|builder| builder.remote_public_key(&peer.0))
            .and_then(|builder| builder.prologue(prologue))
            .map_err(|_| SealError::Order)?;
        let noise = if initiator { builder.build_initiator() } else { builder.build_responder() };
        let noise = Box::new(noise.map_err(|_| SealError::Order)?);
        Ok(Self { noise, small_order })
    }

    pub(super) fn write(&mut self, payload: &[u8], message: &mut [u8]) -> Result<usize, SealError> {
        self.noise.write_message(payload, message).map_err(|error| self.blame(error))
    }

    pub(super) fn read(&mut self, message: &[u8], payload: &mut [u8]) -> Result<usize, SealError> {
        self.noise.read_message(message, payload).map_err(|error| self.blame(error))
    }

    #[allow(clippy::needless_pass_by_value)]
    fn blame(&self, error: snow::Error) -> SealError {
        match error {
            snow::Error::Dh if *self.small_order.lock().unwrap_or_else(PoisonError::into_inner) => {
                SealError::NonContributory
            }
            snow::Error::Decrypt | snow::Error::Input | snow::Error::Dh => SealError::NotAuthentic,
            snow::Error::Rng => SealError::NoChance,
            _ => SealError::Order,
        }
    }

    pub(super) fn split(mut self, initiator: bool) -> Session {
        let mut binding = [0; 32];
        binding.copy_from_slice(&self.noise.get_handshake_hash()[..32]);
        let (mut first, mut second) = self.noise.dangerously_get_raw_split();
        let (from, to) = (Key::take(&mut first), Key::take(&mut second));
        first.zeroize();
        second.zeroize();
        if initiator { Session::new(from, to, binding) } else { Session::new(to, from, binding) }
    }
}
