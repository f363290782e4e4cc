//! What the helpers of two hosts say to each other, sealed from one to the other.
//!
//! The handshake is that of channels, `Noise_KK_25519_ChaChaPoly_BLAKE2s`, by the hosts' own keys. Its
//! first message says by which key the caller is known. What a host says is taken for what it is: its
//! word about its own instances, as this host's supervisor says it of its own.

use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::orders::Orders;
use crate::ident::Instance;
use crate::seal::handshake::{Initiator, MESSAGE, Responder, Waiting};
use crate::seal::{Identity, OsChance, PublicKey, SealError, Session};

/// What stands first in the prologue, and in that of nothing else.
const LABEL: &[u8] = b"cofferdam hosts\0";

/// The version of all that is said here.
const VERSION: u8 = 1;

/// Bytes of the tag behind what is sealed.
const TAG: usize = 16;

/// The most bytes of one message, sealed.
pub(super) const MOST: usize = 512;

/// One thing that is said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Talk {
    /// First: which link between the two this would be by the one's count. The higher count holds.
    Greet {
        /// The count.
        link: u64,
    },
    /// An instance is here.
    Here {
        /// Who.
        instance: Instance,
        /// Its public key.
        key: [u8; 32],
    },
    /// It has ended.
    Gone {
        /// Who.
        instance: Instance,
    },
    /// The helper is there.
    Alive,
}

/// A connection to another host, as far as it has come.
pub(super) struct Line {
    /// Whose it is said to be; proven once it is met.
    pub host: u16,
    /// Which link between the two hosts it is, as this host has greeted the other.
    pub greeted: u64,
    phase: Phase,
    /// When it began, or something was last heard that could be opened.
    pub heard: Instant,
}

enum Phase {
    /// Called; the answer is to come.
    Called(Waiting),
    /// Called by the other one, who must say first by which key.
    Listening,
    /// Shaken hands.
    Sealed(Box<Session>),
    /// Broken.
    Over,
}

/// Why a connection is no use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// Not the key that the policy names.
    #[error("it has not the key that the policy names")]
    Key,
    /// The handshake failed, or what came was altered.
    #[error("what came doesn't open: {0}")]
    Seal(#[from] SealError),
    /// It opens, and is nothing that is said here.
    #[error("what it says can't be read")]
    Talk,
}

impl Line {
    /// Calls the other host, which is to have that key. Gives what is to be said.
    pub fn call(
        orders: &Orders,
        identity: &Arc<Identity>,
        host: u16,
        key: &PublicKey,
    ) -> Result<(Self, Vec<u8>), Fault> {
        let prologue = prologue(orders, orders.here, host);
        let begun = Initiator::new(Arc::clone(identity), key, &prologue, Box::new(OsChance))?;
        let (waiting, message) = begun.write()?;
        let bytes = [&identity.public().0[..], &message].concat();
        Ok((Self { host, greeted: 0, phase: Phase::Called(waiting), heard: Instant::now() }, bytes))
    }

    /// Waits to be called.
    pub fn listen(host: u16) -> Self {
        Self { host, greeted: 0, phase: Phase::Listening, heard: Instant::now() }
    }

    /// Whether hands were shaken, though perhaps with somebody who repeats what the host once said.
    pub fn is_sealed(&self) -> bool {
        matches!(self.phase, Phase::Sealed(_))
    }

    /// Takes in what came. Gives what is to be answered, and what was said.
    pub fn hear(
        &mut self,
        orders: &Orders,
        identity: &Arc<Identity>,
        bytes: &[u8],
    ) -> Result<(Option<Vec<u8>>, Option<Talk>), Fault> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Called(waiting) => {
                let message = bytes.try_into().map_err(|_| Fault::Talk)?;
                self.phase = Phase::Sealed(Box::new(waiting.read(message)?));
                Ok((None, None))
            }
            Phase::Listening => {
                let (key, message) = bytes.split_first_chunk::<32>().ok_or(Fault::Talk)?;
                let message: &[u8; MESSAGE] = message.try_into().map_err(|_| Fault::Talk)?;
                let known = orders.met(self.host).is_some_and(|host| host.keys.contains(key));
                if !known {
                    return Err(Fault::Key);
                }
                let prologue = prologue(orders, self.host, orders.here);
                let (identity, chance) = (Arc::clone(identity), Box::new(OsChance));
                let begun = Responder::new(identity, &PublicKey(*key), &prologue, chance)?;
                let (session, answer) = begun.read(message)?.write()?;
                self.phase = Phase::Sealed(Box::new(session));
                Ok((Some(answer.to_vec()), None))
            }
            Phase::Sealed(mut session) => {
                let at = bytes.len().checked_sub(TAG).ok_or(Fault::Talk)?;
                let (body, tag) = bytes.split_at(at);
                let (mut body, tag) = (body.to_vec(), tag.try_into().map_err(|_| Fault::Talk)?);
                session.open(&[], &mut body, &tag)?;
                let Ok((talk, [])) = postcard::take_from_bytes(&body) else {
                    return Err(Fault::Talk);
                };
                self.phase = Phase::Sealed(session);
                self.heard = Instant::now();
                Ok((None, Some(talk)))
            }
            Phase::Over => Err(Fault::Talk),
        }
    }

    /// Seals what is to be said; nothing before hands were shaken.
    pub fn say(&mut self, talk: &Talk) -> Option<Vec<u8>> {
        let Phase::Sealed(session) = &mut self.phase else { return None };
        let mut bytes = postcard::to_stdvec(talk).ok()?;
        let tag = session.seal(&[], &mut bytes).ok()?;
        bytes.extend_from_slice(&tag);
        Some(bytes)
    }
}

/// What both must agree on besides their keys: which hosts of which daemon, and who calls.
fn prologue(orders: &Orders, from: u16, to: u16) -> Vec<u8> {
    let mut bytes = LABEL.to_vec();
    bytes.push(VERSION);
    for text in [orders.daemon.as_str(), orders.name(from), orders.name(to)] {
        bytes.extend_from_slice(&(text.len() as u64).to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::orders::Host;
    use super::*;
    use crate::ident::Name;

    fn orders(here: u16, keys: [&[PublicKey]; 2]) -> Orders {
        let host = |(name, keys): (&str, &[PublicKey])| Host {
            name: Name::new(name).unwrap(),
            keys: keys.iter().map(|key| key.0).collect(),
            address: None,
            is_met: true,
        };
        let hosts = ["a", "b"].into_iter().zip(keys).map(host).collect();
        let daemon = Name::new("d").unwrap();
        Orders { daemon, here, hosts, layers: Vec::new(), channels: Vec::new() }
    }

    fn key() -> Arc<Identity> {
        Arc::new(Identity::generate(&mut OsChance).unwrap())
    }

    #[test]
    fn two_hosts_that_know_each_other_talk() {
        let (a, b) = (key(), key());
        let keys = [&[a.public()][..], &[key().public(), b.public()]];
        let (at_a, at_b) = (orders(0, keys), orders(1, keys));
        let (mut calling, hello) = Line::call(&at_a, &a, 1, &b.public()).unwrap();
        let mut called = Line::listen(0);
        let (answer, _) = called.hear(&at_b, &b, &hello).unwrap();
        calling.hear(&at_a, &a, &answer.unwrap()).unwrap();
        let said = calling.say(&Talk::Greet { link: 7 }).unwrap();
        assert!(said.len() <= MOST);
        let (_, heard) = called.hear(&at_b, &b, &said).unwrap();
        assert_eq!(heard, Some(Talk::Greet { link: 7 }));
        // Once each.
        assert!(matches!(called.hear(&at_b, &b, &said), Err(Fault::Seal(_))));
        assert!(called.say(&Talk::Alive).is_none());
    }

    #[test]
    fn a_stranger_and_an_altered_word_are_refused() {
        let (a, b, stranger) = (key(), key(), key());
        let keys = [&[a.public()][..], &[b.public()]];
        let (at_a, at_b) = (orders(0, keys), orders(1, keys));
        let (_, hello) = Line::call(&at_a, &stranger, 1, &b.public()).unwrap();
        assert!(matches!(Line::listen(0).hear(&at_b, &b, &hello), Err(Fault::Key)));
        // It claims the other's key, without having it.
        let claimed = [&a.public().0[..], &hello[32..]].concat();
        assert!(matches!(Line::listen(0).hear(&at_b, &b, &claimed), Err(Fault::Seal(_))));
        let (mut calling, hello) = Line::call(&at_a, &a, 1, &b.public()).unwrap();
        let (answer, _) = Line::listen(0).hear(&at_b, &b, &hello).unwrap();
        let mut answer = answer.unwrap();
        answer[40] ^= 1;
        assert!(calling.hear(&at_a, &a, &answer).is_err());
        // Who calls can't be taken for who is called.
        let (_, hello) = Line::call(&at_a, &a, 1, &b.public()).unwrap();
        assert!(Line::listen(1).hear(&at_a, &a, &hello).is_err());
    }

    #[test]
    fn everything_that_is_said_fits() {
        let layer = Name::new(&"x".repeat(48)).unwrap();
        let instance = Instance { layer, index: u16::MAX, generation: u64::MAX };
        let longest = Talk::Here { instance, key: [255; 32] };
        assert!(postcard::to_stdvec(&longest).unwrap().len() + TAG <= MOST);
    }
}
