//! The life of links: how they come, who may be talked to, and what their end means.

use std::collections::VecDeque;

use super::super::error::call_lost;
use super::backlog::Backlog;
use super::inbox::Load;
use super::owing::Owing;
use super::{Item, Link, Outlook, Phase, Pumped, State};
use crate::channel::{Introducing, LinkError};
use crate::ident::{Instance, Name};
use crate::mark;
use crate::report::first_sequence;
use crate::wire::limits::CALLS;

impl State {
    /// Takes a new link up and begins its handshake.
    ///
    /// `witness` is the generation of the witness that relays it; 0: none does.
    pub(in crate::ipc::message) fn introduce(
        &mut self,
        instance: Instance,
        meeting: Introducing,
        witness: u64,
    ) {
        // A generation that the supervisor has replaced won't say more than it has. Where a witness
        // is in between, some of that may still be on its way: it ends the link behind it.
        for link in self.links.iter_mut().filter(|_| witness == 0) {
            let same = link.instance.index == instance.index;
            link.departed |= same && link.instance.generation < instance.generation;
        }
        self.outlook = Outlook::Open;
        self.next_link += 1;
        self.links.push(Link {
            id: self.next_link,
            instance,
            first: first_sequence(witness),
            phase: Phase::Meeting(Box::new(meeting)),
            watch: None,
            departed: false,
            mute: false,
            calls: 0,
            owing: Owing::default(),
            load: Load::default(),
            notices: VecDeque::new(),
            backlog: Backlog::default(),
            warm: false,
        });
        self.pump();
        self.wake_everyone();
    }

    /// The supervisor says that an instance has ended.
    pub(in crate::ipc::message) fn departed(&mut self, instance: &Instance) {
        for link in &mut self.links {
            link.departed |= link.instance == *instance;
        }
        self.pump();
        self.wake_everyone();
    }

    /// The supervisor says that no instance of the peer is left, and that none will come.
    pub(in crate::ipc::message) fn peer_down(&mut self) {
        self.outlook = Outlook::Down;
        self.pump();
        self.tell_if_down();
        self.wake_everyone();
    }

    /// Whether the peer is down for good, and all that it had sent has been received.
    pub(in crate::ipc::message) fn is_down(&self) -> bool {
        self.outlook != Outlook::Open && self.links.is_empty()
    }

    /// The peer layer, if it is down for good.
    pub(in crate::ipc::message) fn down(&self) -> Option<Name> {
        self.is_down().then(|| self.rules.peer().clone())
    }

    fn tell_if_down(&mut self) {
        if self.is_down() && self.outlook != Outlook::Told {
            self.outlook = Outlook::Told;
            mark::reached("message.peer.down");
            self.tell(Item::Down);
        }
    }

    /// Takes a link out: its calls fail at once, and its successor gets its turn.
    pub(in crate::ipc::message) fn end(&mut self, place: usize, why: &LinkError) -> Pumped {
        mark::reached("message.link.ended");
        let Link { id, instance, phase, mut owing, .. } = self.links.remove(place);
        self.to_wake.extend(owing.wakers());
        let sent = match &phase {
            Phase::Open(endpoint) => endpoint.sent(),
            Phase::Meeting(_) => 0,
        };
        let was_open = matches!(phase, Phase::Open(_));
        drop(phase);
        self.calls.retain(|_, call| {
            if call.link != id || call.is_over() {
                return true;
            }
            call.outcome = Some(Err(call_lost(&instance, why, sent >= call.ticket)));
            self.to_wake.extend(call.waker.take());
            !call.abandoned
        });
        let successor = self.links.iter().position(|link| link.instance.index == instance.index);
        match why {
            LinkError::Closed if !was_open || successor.is_some() => {}
            LinkError::Closed => self.tell(Item::Gone(instance.clone())),
            why => self.tell(Item::Broke { peer: instance.clone(), why: why.clone() }),
        }
        if was_open {
            self.lost.entry(instance.index).or_insert(instance);
        }
        if let Some(place) = successor {
            self.announce(place);
        }
        self.tell_if_down();
        self.wake_everyone();
        Pumped::Ended
    }

    /// A link whose handshake is done and that is next in turn can be used from now on. If it
    /// takes the place of one that ended, the layer is told, once.
    pub(in crate::ipc::message) fn announce(&mut self, place: usize) {
        let link = &self.links[place];
        if !matches!(link.phase, Phase::Open(_)) || self.behind(place) {
            return;
        }
        let new = link.instance.clone();
        if let Some(mut old) = self.lost.remove(&new.index) {
            // What nobody has read yet is out of date.
            self.inbox.retain_tidings(|item| match item {
                Item::Gone(gone) => *gone != old,
                Item::Restarted { old: before, new } if *new == old => {
                    old = before.clone();
                    false
                }
                _ => true,
            });
            self.tell(Item::Restarted { old, new });
        }
        self.wake_everyone();
    }

    pub(in crate::ipc::message) fn tell(&mut self, item: Item) {
        self.inbox.tell(item);
        self.to_wake.append(&mut self.receivers);
    }

    /// Whether an older link to the same copy is still to be read to its end.
    pub(in crate::ipc::message) fn behind(&self, place: usize) -> bool {
        let index = self.links[place].instance.index;
        self.links[..place].iter().any(|older| older.instance.index == index)
    }

    pub(in crate::ipc::message) fn place(&self, id: u64) -> Option<usize> {
        self.links.iter().position(|link| link.id == id)
    }

    /// The instances that can be talked to.
    pub(in crate::ipc::message) fn peers(&self) -> Vec<Instance> {
        let open = (0..self.links.len()).filter(|place| self.fit(*place, None));
        open.map(|place| self.links[place].instance.clone()).collect()
    }

    pub(in crate::ipc::message) fn fit(&self, place: usize, to: Option<&Instance>) -> bool {
        let link = &self.links[place];
        matches!(link.phase, Phase::Open(_))
            && !link.mute
            && !link.departed
            && link.calls < CALLS
            && to.is_none_or(|to| link.instance == *to)
            && !self.behind(place)
    }
}
