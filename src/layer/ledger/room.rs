//! Room in a full queue: its oldest message goes, sealed, so unseen.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::layer::objects::Objects;
use crate::layer::run::say;
use crate::layer::service::{ClientId, Replies};
use crate::mark::reached;
use crate::policy::plan::{OnFull, QueuePlan};
use crate::sys::mqueue;
use crate::wire::broker::{Answer, Refusal};
use crate::wire::control::Object;
use crate::wire::queue::{Header, SEALING, Sender};

/// The queues in which room may be made.
pub(super) struct Rooms {
    plans: Vec<QueuePlan>,
    /// The receiving ends, by queue and lane.
    ends: BTreeMap<(u16, u8), Arc<OwnedFd>>,
    /// How many messages each queue has given up.
    dropped: Vec<u64>,
    buffer: Vec<u8>,
}

impl Rooms {
    /// Takes up what the supervisor has handed over.
    pub(super) fn new(plans: &[QueuePlan], objects: &Objects) -> Self {
        let mut ends = BTreeMap::new();
        let mut size = 0;
        for (number, plan) in (0..).zip(plans).filter(|(_, it)| it.on_full == OnFull::DropOldest) {
            for lane in 0..plan.lanes() {
                let end = objects.get(Object::QueueReceive, number, lane.into());
                ends.extend(end.map(|end| ((number, lane), end)));
            }
            size = size.max(usize::try_from(plan.max).unwrap_or(0) + SEALING);
        }
        Self { plans: plans.to_vec(), ends, dropped: vec![0; plans.len()], buffer: vec![0; size] }
    }

    /// Throws the oldest message of a priority away if there is no room for another.
    ///
    /// A receiver that takes a message at the same instant makes room too; then one more went than
    /// was needed.
    pub(super) fn make(
        &mut self,
        (id, request): (ClientId, u64),
        (queue, priority): (u16, u8),
        replies: &mut Replies,
    ) {
        let Self { plans, ends, dropped, buffer } = self;
        let number = usize::from(queue);
        let layer = replies.client(id).map(|client| &client.layer);
        let plan = plans.get(number).zip(layer).filter(|(plan, it)| plan.send.contains(it));
        let (Some((plan, _)), Some(end)) = (plan, ends.get(&(queue, priority))) else {
            return replies.answer(id, request, Answer::Refused(Refusal::NotGranted), None);
        };
        let gone = match give_up(end, buffer) {
            Ok(Some(length)) => buffer.get(..length).unwrap_or_default(),
            Ok(None) => return replies.answer(id, request, Answer::Done, None),
            Err(error) => {
                let why = Refusal::System(error.raw_os_error().unwrap_or_default());
                return replies.answer(id, request, Answer::Refused(why), None);
            }
        };
        // Whose it was, as its header says. Whether that is so, the sender's own report tells.
        let header = gone.first_chunk().and_then(Header::decode);
        let sender = header.as_ref().and_then(|header| {
            let Sender { layer, index, generation } = header.sender;
            let layer = plan.send.get(usize::from(layer))?.clone();
            let sender = crate::ident::Instance { layer, index, generation };
            Some((replies.who(&sender), header.number))
        });
        replies.answer_about(id, request, Answer::Dropped, None, |facts| {
            // Without a sender it is no message, but what somebody put there past the library.
            let Some((peer, number)) = sender else { return &[] };
            (facts.peer, facts.sequence, facts.length) = (peer, number, gone.len() as u64);
            gone
        });
        let Some(dropped) = dropped.get_mut(number) else { return };
        *dropped += 1;
        // Said at the first and then ever more seldom: 1, 10, 100.
        if dropped.ilog10() > (*dropped - 1).max(1).ilog10() || *dropped == 1 {
            let name = &plan.name;
            say(&format!("[queue.{name}] is full: {dropped} messages dropped so far (`on-full`)"));
        }
    }
}

/// The length of the message that went, if one had to.
fn give_up(end: &OwnedFd, buffer: &mut [u8]) -> std::io::Result<Option<usize>> {
    let now = mqueue::attributes(end)?;
    reached("queue.room.asked");
    if now.held < now.depth {
        return Ok(None);
    }
    let gone = mqueue::receive(end, buffer)?;
    reached("queue.room.made");
    Ok(gone.map(|(length, _)| length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::hex;

    #[test]
    fn the_oldest_message_goes_and_only_from_a_full_queue() {
        let mut random = [0; 16];
        getrandom::fill(&mut random).unwrap();
        let name = std::ffi::CString::new(format!("/cofferdam-{}", hex(&random))).unwrap();
        let receiving = mqueue::create(&name, 2, 8).unwrap();
        let sending = mqueue::open_to_send(&name).unwrap();
        mqueue::unlink(&name).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(give_up(&receiving, &mut buffer).unwrap(), None);
        assert!(mqueue::send(&sending, b"old", 0).unwrap());
        assert_eq!(give_up(&receiving, &mut buffer).unwrap(), None);
        assert!(mqueue::send(&sending, b"new", 0).unwrap());
        assert_eq!(give_up(&receiving, &mut buffer).unwrap(), Some(3));
        assert_eq!(&buffer[..3], b"old");
        assert_eq!(mqueue::receive(&receiving, &mut buffer).unwrap(), Some((3, 0)));
        assert_eq!(&buffer[..3], b"new");
    }
}
