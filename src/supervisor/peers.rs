//! Introducing layers to each other: a fresh socketpair for every pair of instances that the
//! policy joins by a channel.
//!
//! The supervisor makes the pair, hands one end to each with the other's public key, and keeps
//! neither. A restarted instance gets new pairs; the old ones die with its predecessor. Where a
//! witness relays the channel there are two pairs, whose inner ends it gets; a restarted witness
//! gets new ones, and so do all whose links went through the former.

use super::child::Child;
use super::{Life, Place, Supervisor};
use crate::channel::socketpair;
use crate::ident::Instance;
use crate::mark;
use crate::policy::plan::ChannelPlan;
use crate::prepare::relations::Link;
use crate::prepare::upgrade::facts::Stage;
use crate::wire::control::ToLayer;

/// Two instances that a channel joins, and what each is told.
struct Meeting {
    channel: u16,
    places: [usize; 2],
    people: [(Instance, [u8; 32]); 2],
}

impl Supervisor<'_> {
    /// Introduces the layer at `place`, which has just become ready, to all of its peers. If it is
    /// the witness, it introduces all those to each other whose links go through it.
    pub(super) fn introduce(&mut self, place: usize) -> std::io::Result<()> {
        for Meeting { channel, places, people } in self.meetings(place) {
            let [one, two] = &people;
            let plan = &self.plan.channels[usize::from(channel)];
            let (ends, witness) = if plan.witness {
                // Without one, they wait for the next.
                let Some((witness, generation)) = self.witness() else { continue };
                (self.relay(witness, channel, &one.0, &two.0)?, generation)
            } else {
                (socketpair(plan)?.into(), 0)
            };
            let told = |(peer, key): &(Instance, [u8; 32])| ToLayer::Introduce {
                channel,
                peer: peer.clone(),
                key: *key,
                witness,
            };
            self.tell(places[0], &told(two), Some(&ends[0]));
            mark::reached("supervisor.introduce.one-told");
            self.tell(places[1], &told(one), Some(&ends[1]));
            mark::reached("supervisor.introduce.both-told");
        }
        Ok(())
    }

    fn meetings(&self, place: usize) -> Vec<Meeting> {
        if !self.is_witness(place) {
            return self.meetings_of(place, |_| true);
        }
        let witnessed = |channel: &ChannelPlan| channel.witness;
        let all = (0..self.places.len()).flat_map(|place| self.meetings_of(place, witnessed));
        // Each of them is found from both of its ends.
        all.filter(|meeting| meeting.places[0] < meeting.places[1]).collect()
    }

    /// Whom the instance at `place` meets on those channels.
    fn meetings_of(&self, place: usize, which: impl Fn(&ChannelPlan) -> bool) -> Vec<Meeting> {
        let Some(own) = self.person(place) else { return Vec::new() };
        let Place { seat, former, .. } = &self.places[place];
        let mut meetings = Vec::new();
        for &Link { channel, peer, .. } in self.relations.links(seat.layer) {
            if !which(&self.plan.channels[usize::from(channel)]) {
                continue;
            }
            for &other in self.places.of(peer) {
                // Of another program's lives one is told nothing: what they say need not be the same.
                if other == place || self.places[other].former != *former {
                    continue;
                }
                let Some(peer) = self.person(other) else { continue };
                let people = [own.clone(), peer];
                meetings.push(Meeting { channel, places: [place, other], people });
            }
        }
        meetings
    }

    /// Whether the instance at `place` is confined and runs.
    pub(super) fn is_there(&self, place: usize) -> bool {
        matches!(&self.places[place].life, Life::Running(child) if child.is_serving())
    }

    /// The confined instance at `place` and its public key.
    pub(super) fn person(&self, place: usize) -> Option<(Instance, [u8; 32])> {
        match &self.places[place].life {
            Life::Running(child) => match child.stage {
                Stage::Serving(key) => Some((child.instance.clone(), key)),
                Stage::Confining => None,
            },
            _ => None,
        }
    }

    /// Tells everybody who was introduced to `gone`, which was at `place`, that it has ended.
    pub(super) fn announce_departure(&mut self, place: usize, gone: &Child) {
        if !gone.is_serving() {
            return;
        }
        for Link { channel, peer, .. } in self.links_at(place) {
            let message = ToLayer::Departed { channel, peer: gone.instance.clone() };
            if !self.plan.channels[usize::from(channel)].witness {
                self.tell_copies(peer, &message);
            } else if let Some((witness, _)) = self.witness() {
                // The ends learn it from the witness, behind all that is still on its way.
                self.tell(witness, &message, None);
            }
        }
    }

    fn links_at(&self, place: usize) -> Vec<Link> {
        self.relations.links(self.places[place].seat.layer).to_vec()
    }

    /// Tells every confined copy of a layer.
    fn tell_copies(&mut self, layer: usize, message: &ToLayer) {
        for place in self.places.of(layer).to_vec() {
            if self.is_there(place) {
                self.tell(place, message, None);
            }
        }
    }

    /// Where the layer at `place` is down for good, with all of its copies, tells whom channels join
    /// it to: who calls it waits for nobody.
    ///
    /// Once the daemon stops, only callers are told. Whom a layer no longer calls is asked to finish
    /// next.
    pub(super) fn tell_if_down(&mut self, place: usize) {
        if !self.is_down(self.places[place].seat.layer) {
            return;
        }
        for Link { channel, peer, calls } in self.links_at(place) {
            if !(calls && self.stopping) {
                self.tell_copies(peer, &ToLayer::PeerDown { channel });
            }
        }
    }

    /// Tells the layer at `place`, which is about to run, which of its peers it waits for in vain.
    pub(super) fn tell_who_is_down(&mut self, place: usize) {
        for Link { channel, peer, .. } in self.links_at(place) {
            if self.is_down(peer) {
                self.tell(place, &ToLayer::PeerDown { channel }, None);
            }
        }
    }

    /// Whether no instance of a layer runs or will come, on this host or another.
    fn is_down(&self, layer: usize) -> bool {
        !self.plan.is_elsewhere(&self.plan.layers[layer].name)
            && self.places.each_of(layer).all(|place| matches!(place.life, Life::Down))
    }
}
