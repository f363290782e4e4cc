//! Message queues: new keys when a member has died.

use crate::ident::Name;
use crate::mark::reached;
use crate::supervisor::child::Child;
use crate::supervisor::{Life, Supervisor};
use crate::wire::control::{Object, ToLayer};

impl Supervisor<'_> {
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
