//! Sealing and opening messages of a queue.
//!
//! Each sender seals with a key of its own, derived from the epoch's, and counts its messages: so
//! no two messages are ever sealed with the same key and number; a fork of the process, which has
//! the key and the count too, is refused. It takes the number under the
//! lock under which it hands the message to the kernel; so of what one sender sent with one
//! priority, the numbers rise in the order in which the kernel gives it out, and a receiver refuses
//! what doesn't.

use super::error::{Claim, Fault, Refused};
use super::keys::Keys;
use super::{Message, QueueSpec};
use crate::ident::Instance;
use crate::mark::reached;
use crate::seal::aead::{Aead, Chosen, TAG, nonce};
use crate::seal::secret::Key;
use crate::seal::{SealError, session};
use crate::sys::original::is_copy;
use crate::wire::queue::{HEADER, Header, LAST_GENERATION, SEALING, Sender};

/// Senders that a receiver remembers the numbers of, those heard last. Only members can make it
/// forget one, and they hold the key.
const REMEMBERED: usize = 256;

const PRIORITIES: usize = 32;

const LABEL: &str = "cofferdam queue 1";

/// The key of one sender in one epoch; `None` without a key of that epoch.
fn key_of(
    spec: &QueueSpec,
    keys: &Keys,
    sender: Sender,
    epoch: u32,
) -> Option<Result<Key, SealError>> {
    let layer = spec.plan.send.get(usize::from(sender.layer))?;
    let parts: [&[u8]; 6] = [
        &spec.edge.0,
        spec.plan.name.as_str().as_bytes(),
        &epoch.to_le_bytes(),
        layer.as_str().as_bytes(),
        &sender.index.to_le_bytes(),
        &sender.generation.to_le_bytes(),
    ];
    keys.derive(epoch, LABEL, &parts)
}

/// The sending side of one instance.
pub(super) struct Sealer {
    own: Sender,
    next: u64,
    current: Option<(u32, Chosen)>,
    buffer: Vec<u8>,
}

impl Sealer {
    /// For a layer that is among the senders; `None` otherwise.
    pub(super) fn new(spec: &QueueSpec) -> Option<Self> {
        let layer = spec.plan.send.iter().position(|name| *name == spec.own.layer)?;
        let (index, generation) = (spec.own.index, spec.own.generation);
        let own = Sender { layer: u16::try_from(layer).ok()?, index, generation };
        Some(Self { own, next: 0, current: None, buffer: Vec::new() })
    }

    /// The sealed form of `body`, under the newest key, whose number is left in `sealed`.
    ///
    /// Each call uses up a number; but one that is given the number of the message sealed last
    /// gives that one again, as long as its key is the newest. It must be for the same message.
    pub(super) fn seal(
        &mut self,
        spec: &QueueSpec,
        keys: &Keys,
        body: &[u8],
        priority: u8,
        sealed: &mut Option<u64>,
    ) -> Result<&[u8], SealError> {
        if is_copy() {
            return Err(SealError::Copy);
        }
        let epoch = keys.newest();
        if sealed.is_some_and(|number| number + 1 == self.next)
            && self.current.as_ref().is_some_and(|(known, _)| *known == epoch)
        {
            return Ok(&self.buffer);
        }
        if self.next > session::LAST || self.own.generation > LAST_GENERATION {
            return Err(SealError::Exhausted);
        }
        let current = self.current.take().filter(|(known, _)| *known == epoch);
        let (epoch, aead) = if let Some(current) = current {
            current
        } else {
            reached("queue.send.new-key");
            let key = key_of(spec, keys, self.own, epoch).ok_or(SealError::Order)??;
            (epoch, Chosen::new(&key))
        };
        let number = self.next;
        self.next += 1;
        let header = Header { priority, sender: self.own, epoch, number }.encode();
        self.buffer.clear();
        self.buffer.extend_from_slice(&header);
        self.buffer.extend_from_slice(body);
        let tag = aead.seal(&nonce(number), &header, &mut self.buffer[HEADER..])?;
        self.buffer.extend_from_slice(&tag);
        self.current = Some((epoch, aead));
        *sealed = Some(number);
        Ok(&self.buffer)
    }
}

/// The receiving side of one instance.
#[derive(Default)]
pub(super) struct Opener {
    known: Vec<Known>,
    turn: u64,
}

/// A sender that has been heard.
struct Known {
    sender: Sender,
    epoch: u32,
    aead: Chosen,
    /// By priority, one more than the last number.
    next: [u64; PRIORITIES],
    heard: u64,
}

impl Opener {
    /// Opens a message in place, as the kernel delivered it.
    pub(super) fn open(
        &mut self,
        spec: &QueueSpec,
        keys: &Keys,
        message: &mut [u8],
        delivered: u32,
    ) -> Result<Message, Refused> {
        let size = message.len();
        let torn = Refused { why: Fault::Torn(size), claim: None };
        let Some((header_bytes, rest)) = message.split_first_chunk_mut::<HEADER>() else {
            return Err(torn);
        };
        let Some((body, tag)) = rest.split_last_chunk_mut::<TAG>() else { return Err(torn) };
        let Some(header) = Header::decode(header_bytes) else {
            return Err(Refused { why: Fault::Version, claim: None });
        };
        let from = from(spec, header.sender);
        let claim = |why| Refused {
            why,
            claim: Some(Claim {
                from: from.clone(),
                epoch: header.epoch,
                number: header.number,
                priority: header.priority,
            }),
        };
        if u32::try_from(body.len()).is_ok_and(|length| length > spec.plan.max) {
            return Err(claim(Fault::Size(body.len())));
        }
        let Some(from) = from.clone() else { return Err(claim(Fault::Sender)) };

        let place = self.known.iter().position(|known| known.sender == header.sender);
        let ready = place.filter(|place| self.known[*place].epoch == header.epoch);
        let derived = if ready.is_some() {
            None
        } else {
            let key = key_of(spec, keys, header.sender, header.epoch);
            let key = key.ok_or_else(|| claim(Fault::Epoch))?;
            Some(Chosen::new(&key.map_err(|_| claim(Fault::NotAuthentic))?))
        };
        let known = ready.map(|place| &self.known[place].aead);
        let Some(cipher) = derived.as_ref().or(known) else {
            return Err(claim(Fault::NotAuthentic));
        };
        let opened = cipher.open(&nonce(header.number), header_bytes, body, tag);
        opened.map_err(|_| claim(Fault::NotAuthentic))?;
        // Nothing is remembered of a sender before a message of it has proved authentic.
        let remember = |cipher| self.remember(place, header.sender, header.epoch, cipher);
        let Some(place) = derived.map(remember).or(ready) else {
            return Err(claim(Fault::NotAuthentic));
        };
        let priority = usize::from(header.priority);
        let known = &mut self.known[place];
        self.turn += 1;
        known.heard = self.turn;
        if u32::from(header.priority) != delivered || header.priority >= spec.plan.priorities {
            return Err(claim(Fault::Priority { delivered }));
        }
        let next = known.next.get_mut(priority);
        let next = next.ok_or_else(|| claim(Fault::Priority { delivered }))?;
        if header.number < *next {
            return Err(claim(Fault::Replayed));
        }
        *next = header.number.saturating_add(1);
        let body = message[HEADER..size - TAG].to_vec();
        Ok(Message { from, priority: header.priority, epoch: header.epoch, body })
    }

    /// Keeps the key of a sender, and gives its place.
    fn remember(
        &mut self,
        place: Option<usize>,
        sender: Sender,
        epoch: u32,
        aead: Chosen,
    ) -> usize {
        if let Some(place) = place {
            self.known[place].epoch = epoch;
            self.known[place].aead = aead;
            return place;
        }
        let new = Known { sender, epoch, aead, next: [0; PRIORITIES], heard: self.turn };
        if self.known.len() < REMEMBERED {
            self.known.push(new);
            return self.known.len() - 1;
        }
        let oldest = (0..self.known.len()).min_by_key(|place| self.known[*place].heard);
        let place = oldest.unwrap_or_default();
        self.known[place] = new;
        place
    }
}

/// The instance that a header names, if its layer is among the queue's senders.
fn from(spec: &QueueSpec, sender: Sender) -> Option<Instance> {
    let layer = spec.plan.send.get(usize::from(sender.layer))?.clone();
    Some(Instance { layer, index: sender.index, generation: sender.generation })
}

/// The epoch that a message claims.
pub(super) fn epoch_of(message: &[u8]) -> Option<u32> {
    Header::decode(message.first_chunk()?).map(|header| header.epoch)
}

/// The number that a message claims.
pub(super) fn number_of(message: &[u8]) -> Option<u64> {
    Header::decode(message.first_chunk()?).map(|header| header.number)
}

/// Bytes of the largest message of a queue, sealed.
pub(super) fn largest(max: u32) -> usize {
    usize::try_from(max).unwrap_or(usize::MAX).saturating_add(SEALING)
}
