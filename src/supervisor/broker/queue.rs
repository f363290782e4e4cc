//! Message queues: new keys when a member has died.

use crate::ident::Name;
use crate::mark::reached;
use crate::supervisor::{Life, Supervisor};

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

    fn tell_keys(&mut self, queue: usize) {
        let Ok(number) = u16::try_from(queue) else { return };
        for receivers in [true, false] {
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
}
