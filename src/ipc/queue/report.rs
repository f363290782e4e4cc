//! What a member of a queue reports of its messages, as they lie in the queue: sealed.

use super::seal;
use super::{Event, Refused};
use crate::ident::Instance;
use crate::report::{Facts, Side, Tap, Verdict, Who};

/// Room for the longest text of a [`Fault`](super::Fault), in bytes.
const WHY: usize = 128;

/// Reports a message that is about to be handed to the kernel.
pub(super) fn sending(tap: &Tap, number: u64, message: &[u8]) {
    tap.report(&sent(tap, number, message), message, &[]);
}

/// Takes that back: the kernel had no room. The number is used up.
pub(super) fn unsent(tap: &Tap, number: u64, message: &[u8]) {
    let facts = Facts { verdict: Verdict::Failed, ..sent(tap, number, message) };
    tap.report(&facts, &[], &[]);
}

fn sent(tap: &Tap, number: u64, message: &[u8]) -> Facts {
    Facts { sequence: number, length: message.len() as u64, ..tap.facts(Side::Sender) }
}

/// Reports a message that has come, and which `open` opens where it lies: the bytes as they came
/// are taken down before, and the report is written before anybody sees what is in them.
pub(super) fn taken(
    tap: &Tap,
    message: &mut [u8],
    open: impl FnOnce(&mut [u8]) -> Result<super::Message, Refused>,
) -> Event {
    let length = message.len() as u64;
    let pending = tap.begin(message, WHY);
    match open(message) {
        Ok(opened) => {
            let facts = Facts {
                sequence: seal::number_of(message).unwrap_or_default(),
                length,
                peer: tap.who(&opened.from),
                ..tap.facts(Side::Receiver)
            };
            pending.finish(&facts, &[], &[]);
            Event::Message(opened)
        }
        Err(refused) => {
            let claim = refused.claim.as_ref();
            let from = |from: &Instance| tap.who(from);
            let facts = Facts {
                verdict: Verdict::Refused,
                value: refused.why.code(),
                sequence: claim.map_or(0, |claim| claim.number),
                length,
                peer: claim.and_then(|it| it.from.as_ref()).map_or(Who::NOBODY, from),
                ..tap.facts(Side::None)
            };
            pending.finish(&facts, refused.why.to_string().as_bytes(), &[]);
            Event::Refused(refused)
        }
    }
}
