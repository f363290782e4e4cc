//! The handshake of a pipe: `Noise_K_25519_ChaChaPoly_BLAKE2s`, one message from the writer to
//! the reader, each knowing the other's key from the supervisor.
//!
//! The reader can't answer, so nothing in it is the reader's own chance. What keeps an old stream
//! from being played again is that two instances share a pipe once in their lives, and that both
//! are in the prologue.

use std::sync::Arc;

use super::aead::TAG;
use super::handshake::{Introduction, MESSAGE, Phase};
use super::secret::{Chance, Identity, OsChance, PublicKey};
use super::{SealError, Session};

const PATTERN: &str = "Noise_K_25519_ChaChaPoly_BLAKE2s";

/// What stands first in the prologue of a pipe's handshake, and in that of nothing else.
const LABEL: &[u8] = b"cofferdam pipe\0";

/// Begins a stream: the message (`e, es, ss`) that goes before everything else, and the session
/// whose sending side seals what follows.
///
/// The `channel` of the introduction is the pipe's name, `from` its writer.
pub fn begin(
    identity: Arc<Identity>,
    peer: &PublicKey,
    introduction: &Introduction,
    chance: Box<dyn Chance>,
) -> Result<(Session, [u8; MESSAGE]), SealError> {
    let prologue = introduction.prologue_of(LABEL);
    let mut phase = Phase::new(PATTERN, identity, peer, &prologue, chance, true)?;
    let mut message = [0; MESSAGE];
    phase.write(&[], &mut message)?;
    Ok((phase.split(true), message))
}

/// Takes up a stream by its first message; the session's receiving side opens what follows.
pub fn accept(
    identity: Arc<Identity>,
    peer: &PublicKey,
    introduction: &Introduction,
    message: &[u8; MESSAGE],
) -> Result<Session, SealError> {
    let prologue = introduction.prologue_of(LABEL);
    let chance = Box::new(OsChance);
    let mut phase = Phase::new(PATTERN, identity, peer, &prologue, chance, false)?;
    phase.read(message, &mut [0; TAG])?;
    Ok(phase.split(false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::{EdgeId, Instance, Name};

    fn introduction() -> Introduction {
        let instance =
            |layer| Instance { layer: Name::new(layer).unwrap(), index: 0, generation: 1 };
        Introduction {
            edge: EdgeId([7; 32]),
            number: 0,
            channel: "p".into(),
            from: instance("a"),
            to: instance("b"),
        }
    }

    fn meet(told: &Introduction, heard: &Introduction) -> Result<(Session, Session), SealError> {
        let [writer, reader] =
            [(); 2].map(|()| Arc::new(Identity::generate(&mut OsChance).unwrap()));
        let (to, from) = (reader.public(), writer.public());
        let (sending, message) = begin(writer, &to, told, Box::new(OsChance))?;
        Ok((sending, accept(reader, &from, heard, &message)?))
    }

    #[test]
    fn what_the_writer_seals_the_reader_opens() {
        let (mut writer, mut reader) = meet(&introduction(), &introduction()).unwrap();
        for text in [*b"one", *b"two"] {
            let mut body = text;
            let tag = writer.seal(b"3", &mut body).unwrap();
            reader.open(b"3", &mut body, &tag).unwrap();
            assert_eq!(body, text);
        }
    }

    #[test]
    fn ends_that_were_told_different_things_never_meet() {
        let told = introduction();
        let mut others = [(); 6].map(|()| introduction());
        others[0].edge = EdgeId([8; 32]);
        others[1].number = 1;
        others[2].channel = "q".into();
        others[3].from.generation = 2;
        others[4].to.index = 1;
        others[5].from.layer = told.to.layer.clone();
        for heard in &others {
            assert_eq!(meet(&told, heard).err(), Some(SealError::NotAuthentic), "{heard:?}");
        }
    }

    #[test]
    fn a_stranger_is_not_the_writer() {
        let [writer, reader, stranger] =
            [(); 3].map(|()| Arc::new(Identity::generate(&mut OsChance).unwrap()));
        let (to, from) = (reader.public(), writer.public());
        let (_, message) = begin(stranger, &to, &introduction(), Box::new(OsChance)).unwrap();
        let met = accept(reader, &from, &introduction(), &message);
        assert_eq!(met.err(), Some(SealError::NotAuthentic));
    }
}
