//! Introducing layers to each other: a fresh socketpair for every pair of instances that the
//! policy joins by a channel.
//!
//! The supervisor makes the pair, hands one end to each with the other's public key, and keeps
//! neither. A restarted instance gets new pairs; the old ones die with its predecessor.

use super::child::{Child, Stage};
use super::{Life, Supervisor};
use crate::channel::socketpair;
use crate::ident::Instance;
use crate::mark;
use crate::wire::control::ToLayer;

/// Two instances that a channel joins, and what each is told.
struct Meeting {
    channel: u16,
    places: [usize; 2],
    people: [(Instance, [u8; 32]); 2],
}

impl Supervisor<'_> {
    /// Introduces the layer at `place`, which has just become ready, to all of its peers.
    pub(super) fn introduce(&mut self, place: usize) -> std::io::Result<()> {
        for meeting in self.meetings(place) {
            let Meeting { channel, places, people } = meeting;
            let [one, two] = &people;
            let (first, second) = socketpair(&self.plan.channels[usize::from(channel)])?;
            let told = |(peer, key): &(Instance, [u8; 32])| ToLayer::Introduce {
                channel,
                peer: peer.clone(),
                key: *key,
            };
            self.tell(places[0], &told(two), Some(&first));
            mark::reached("supervisor.introduce.one-told");
            self.tell(places[1], &told(one), Some(&second));
            mark::reached("supervisor.introduce.both-told");
        }
        Ok(())
    }

    fn meetings(&self, place: usize) -> Vec<Meeting> {
        let Some(own) = self.person(place) else { return Vec::new() };
        let mut meetings = Vec::new();
        for (number, channel) in (0..).zip(&self.plan.channels) {
            let peer_layer = match &own.0.layer {
                layer if *layer == channel.from => &channel.to,
                layer if *layer == channel.to => &channel.from,
                _ => continue,
            };
            let peers = (0..self.places.len()).filter(|&other| other != place);
            meetings.extend(peers.filter_map(|other| {
                let peer = self.person(other).filter(|(peer, _)| peer.layer == *peer_layer)?;
                let people = [own.clone(), peer];
                Some(Meeting { channel: number, places: [place, other], people })
            }));
        }
        meetings
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
        for (channel, plan) in (0..).zip(self.plan.channels.clone()) {
            let peer_layer = match &gone.instance.layer {
                layer if *layer == plan.from => plan.to,
                layer if *layer == plan.to => plan.from,
                _ => continue,
            };
            for place in 0..self.places.len() {
                if self.person(place).is_some_and(|(peer, _)| peer.layer == peer_layer) {
                    let peer = gone.instance.clone();
                    self.tell(place, &ToLayer::Departed { channel, peer }, None);
                }
            }
        }
    }
}
