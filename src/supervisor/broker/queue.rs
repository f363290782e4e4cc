//! Message queues: room in a full one, and new keys when a member has died.

use crate::ident::Name;
use crate::mark::reached;
use crate::supervisor::child::Child;
use crate::supervisor::objects::queue::Room;
use crate::supervisor::{Life, Supervisor};
use crate::wire::broker::{Answer, Refusal};
use crate::wire::control::{Object, ToLayer};

impl Supervisor<'_> {
    /// Throws away what the layer at this place may have thrown away, which asks.
    pub(super) fn make_room(
        &mut self,
        (place, request): (usize, u32),
        queue: u16,
        priority: u8,
    ) -> Answer {
        let layer = &self.places[place].seat.instance.layer;
        let made = self.objects.queues.get_mut(usize::from(queue));
        let Some(room) = made.and_then(|queue| queue.make_room(layer, priority)) else {
            return Answer::Refused(Refusal::NotGranted);
        };
        match room {
            Ok(Room::Was) => Answer::Done,
            Ok(Room::Made(dropped, gone)) => {
                let senders = &self.plan.facilities.queues[usize::from(queue)].send;
                if let Some(audit) = &mut self.audit {
                    audit.note_given_up((place, request), senders, gone);
                }
                // Said at the first and then ever more seldom: 1, 10, 100.
                if dropped.ilog10() > dropped.saturating_sub(1).max(1).ilog10() || dropped == 1 {
                    let name = self.objects.queues[usize::from(queue)].name();
                    self.log.say(&format!(
                        "[queue.{name}] is full: {dropped} messages dropped so far (`on-full`)"
                    ));
                }
                Answer::Dropped
            }
            Err(error) => {
                Answer::Refused(Refusal::System(error.raw_os_error().unwrap_or_default()))
            }
        }
    }

    /// A serving instance of `layer` has died: its queues get new keys, so that what it knew opens
    /// nothing new.
    ///
    /// Receivers are told before senders. So whoever receives what was sent with a new key finds
    /// that key on its control socket.
    pub(in crate::supervisor) fn rekey_queues(&mut self, layer: &Name) {
        for place in 0..self.objects.queues.len() {
            let queue = &mut self.objects.queues[place];
            if !queue.has_member(layer) {
                continue;
            }
            reached("queue.rekey.begun");
            match queue.rekey() {
                Ok(true) => self.tell_keys(place),
                Ok(false) => {
                    let name = queue.name();
                    self.log.say(&format!(
                        "[queue.{name}] keeps its key: too many keys are needed for the messages \
                         that wait in it"
                    ));
                }
                Err(error) => {
                    let name = queue.name();
                    self.log.say(&format!("[queue.{name}] keeps its key: {error}"));
                }
            }
        }
    }

    /// Tells the senders of new keys as soon as no receiver has one of them still to be told.
    pub(in crate::supervisor) fn tell_late_keys(&mut self) {
        for queue in std::mem::take(&mut self.late_keys) {
            self.tell_keys_to(queue, false);
        }
    }

    /// Whether the layer at a place must not start yet: it would send with a key that a receiver
    /// has still to be told.
    pub(in crate::supervisor) fn waits_for_keys(&self, place: usize) -> bool {
        let layer = &self.places[place].seat.instance.layer;
        let queues = self.objects.queues.iter().enumerate();
        let mut sent_to = queues.filter(|(_, queue)| queue.has_member(layer));
        sent_to.any(|(queue, _)| self.receivers_lack_keys(queue))
    }

    /// Whether a key of the queue waits for a receiver to read its control socket.
    fn receivers_lack_keys(&self, queue: usize) -> bool {
        let is_key = |message: &ToLayer| match message {
            ToLayer::Object { kind: Object::QueueKey, number, .. } => usize::from(*number) == queue,
            _ => false,
        };
        let receives = |child: &Child| self.objects.queues[queue].receives(&child.instance.layer);
        self.children().any(|child| receives(child) && child.outbox.holds(is_key))
    }

    fn tell_keys(&mut self, queue: usize) {
        self.tell_keys_to(queue, true);
        self.tell_keys_to(queue, false);
    }

    fn tell_keys_to(&mut self, queue: usize, receivers: bool) {
        let Ok(number) = u16::try_from(queue) else { return };
        if !receivers && self.receivers_lack_keys(queue) {
            self.late_keys.insert(queue);
            return;
        }
        for place in 0..self.places.len() {
            let queue = &self.objects.queues[queue];
            let layer = match &self.places[place].life {
                Life::Running(child) if child.is_serving() => &child.instance.layer,
                _ => continue,
            };
            if queue.receives(layer) != receivers {
                continue;
            }
            match queue.keys_of(layer, number) {
                Ok(Some((message, memory))) => self.tell(place, &message, Some(&memory)),
                Ok(None) => {}
                // Without its key it would go on with one that a dead process knew.
                Err(_) => self.kill(place),
            }
        }
        reached(if receivers { "queue.rekey.receivers" } else { "queue.rekey.senders" });
    }
}
