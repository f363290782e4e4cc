//! Introducing layers to each other: a fresh socketpair for every pair of instances that the
//! policy joins by a channel.
//!
//! The supervisor makes the pair, hands one end to each with the other's public key, and keeps
//! neither. A restarted instance gets new pairs; the old ones die with its predecessor. Where a
//! witness relays the channel there are two pairs, whose inner ends it gets; a restarted witness
//! gets new ones, and so do all whose links went through the former.

use super::child::{Child, Stage};
use super::{Life, Supervisor};
use crate::channel::socketpair;
use crate::ident::{Instance, Name};
use crate::mark;
use crate::policy::plan::ChannelPlan;
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
        let mut meetings = Vec::new();
        for (channel, peer_layer, _) in self.channels_of(&own.0.layer) {
            if !which(&self.plan.channels[usize::from(channel)]) {
                continue;
            }
            // Of another program's lives one is told nothing: what they say need not be the same.
            let former = self.places[place].former;
            let peers = (0..self.places.len())
                .filter(|&other| other != place && self.places[other].former == former);
            meetings.extend(peers.filter_map(|other| {
                let peer = self.person(other).filter(|(peer, _)| peer.layer == peer_layer)?;
                let people = [own.clone(), peer];
                Some(Meeting { channel, places: [place, other], people })
            }));
        }
        meetings
    }

    /// The channels of a layer, each with the layer at the other end and whether this one calls it.
    fn channels_of(&self, layer: &Name) -> Vec<(u16, Name, bool)> {
        let end = |(number, plan): (u16, &ChannelPlan)| match layer {
            layer if *layer == plan.from => Some((number, plan.to.clone(), true)),
            layer if *layer == plan.to => Some((number, plan.from.clone(), false)),
            _ => None,
        };
        (0..).zip(&self.plan.channels).filter_map(end).collect()
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

    /// Tells everybody who was introduced to `gone` that it has ended.
    pub(super) fn announce_departure(&mut self, gone: &Child) {
        if !gone.is_serving() {
            return;
        }
        for (channel, peer, _) in self.channels_of(&gone.instance.layer) {
            let message = ToLayer::Departed { channel, peer: gone.instance.clone() };
            if !self.plan.channels[usize::from(channel)].witness {
                self.tell_copies(&peer, &message);
            } else if let Some((witness, _)) = self.witness() {
                // The ends learn it from the witness, behind all that is still on its way.
                self.tell(witness, &message, None);
            }
        }
    }

    /// Tells every confined copy of a layer.
    fn tell_copies(&mut self, layer: &Name, message: &ToLayer) {
        for place in 0..self.places.len() {
            if self.person(place).is_some_and(|(it, _)| it.layer == *layer) {
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
        let layer = self.places[place].seat.instance.layer.clone();
        if !self.is_down(&layer) {
            return;
        }
        for (channel, peer, calls) in self.channels_of(&layer) {
            if !(calls && self.stopping) {
                self.tell_copies(&peer, &ToLayer::PeerDown { channel });
            }
        }
    }

    /// Tells the layer at `place`, which is about to run, which of its peers it waits for in vain.
    pub(super) fn tell_who_is_down(&mut self, place: usize) {
        let layer = self.places[place].seat.instance.layer.clone();
        for (channel, peer, _) in self.channels_of(&layer) {
            if self.is_down(&peer) {
                self.tell(place, &ToLayer::PeerDown { channel }, None);
            }
        }
    }

    /// Whether no instance of a layer runs or will come.
    fn is_down(&self, layer: &Name) -> bool {
        let mut places = self.places.iter().filter(|place| place.seat.instance.layer == *layer);
        places.all(|place| matches!(place.life, Life::Down))
    }
}
