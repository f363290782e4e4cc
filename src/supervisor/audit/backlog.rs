//! Acts of the supervisor that wait for room in its ring.
//!
//! Each copy of a layer has two lanes of its own, one for what it asked for and one for what became
//! of it: so a noisy layer pushes out nothing but its own requests, and never that it was started,
//! denied, killed or has ended. An act that finds no room in its lane is lost. It uses up its number
//! all the same, by which the auditor counts it.

use std::collections::{BTreeMap, VecDeque};

use crate::audit::entry::{self, Entry, Kind, Moment, Who};

/// Bytes that wait in one lane of requests, at most.
const REQUESTS: usize = 64 << 10;

/// Bytes that wait in one lane of lives, at most: some dozens of starts and ends.
const LIFE: usize = 32 << 10;

/// The longest act: a request with a path, or a receipt.
const LONGEST: usize = 4 << 10;

/// What waits, and how much of it is whose.
#[derive(Debug, Default)]
pub struct Backlog {
    queue: VecDeque<(Lane, Vec<u8>)>,
    lanes: BTreeMap<Lane, Load>,
    /// The number of the next act.
    number: u64,
    /// How many were lost.
    lost: u64,
}

/// What an act counts to: the layer and the copy that it is about, and whether it is a request.
type Lane = (u16, u16, bool);

#[derive(Debug, Default)]
struct Load {
    bytes: usize,
    /// Something found no room since the lane was empty.
    loses: bool,
}

/// What became of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It waits.
    Waits,
    /// It is lost, and acts about the same copy were lost before.
    Lost,
    /// It is lost, the first one since its lane was empty.
    FirstLost,
}

impl Backlog {
    /// An empty one after so many acts, of which so many were lost.
    pub fn after((number, lost): (u64, u64)) -> Self {
        Self { number, lost, ..Self::default() }
    }

    /// Appends an act.
    pub fn push(&mut self, entry: &Entry) -> Pushed {
        let number = self.number;
        self.number += 1;
        let lane = lane_of(entry);
        let load = self.lanes.entry(lane).or_default();
        let mut bytes = Vec::new();
        entry::encode(number, Moment::default(), entry, None, &mut bytes);
        if load.bytes + bytes.len() > bound(lane) {
            self.lost += 1;
            let first = !std::mem::replace(&mut load.loses, true);
            return if first { Pushed::FirstLost } else { Pushed::Lost };
        }
        load.bytes += bytes.len();
        self.queue.push_back((lane, bytes));
        Pushed::Waits
    }

    /// Gives what waits to `send`, in its order, until that takes no more.
    pub fn flush(&mut self, mut send: impl FnMut(&[u8]) -> bool) {
        while let Some((lane, bytes)) = self.queue.front() {
            if !send(bytes) {
                return;
            }
            if let Some(load) = self.lanes.get_mut(lane) {
                load.bytes -= bytes.len();
                if load.bytes == 0 {
                    self.lanes.remove(lane);
                }
            }
            self.queue.pop_front();
        }
    }

    /// Whether a copy's next request could find no room.
    pub fn is_full_of(&self, who: Who) -> bool {
        let lane = (who.layer, who.copy, true);
        self.lanes.get(&lane).is_some_and(|load| load.bytes + LONGEST > REQUESTS)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The number of the next act: so many there were.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many acts are not in the ring: those that wait, and those that were lost.
    pub fn missing(&self) -> u64 {
        self.lost + self.queue.len() as u64
    }
}

/// Whom an act is about: who asked for it, or whose life it belongs to.
pub fn whom(entry: &Entry) -> Who {
    if entry.kind == Kind::Broker { entry.reporter } else { entry.peer }
}

fn lane_of(entry: &Entry) -> Lane {
    let who = whom(entry);
    (who.layer, who.copy, entry.kind == Kind::Broker)
}

fn bound((.., request): Lane) -> usize {
    if request { REQUESTS } else { LIFE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(layer: u16) -> Who {
        Who { layer, copy: 0, generation: 1 }
    }

    fn request(layer: u16) -> Entry {
        Entry { reporter: who(layer), ..Entry::new(Kind::Broker) }
    }

    fn exit(layer: u16) -> Entry {
        Entry { peer: who(layer), ..Entry::new(Kind::Exit) }
    }

    fn sent(backlog: &mut Backlog) -> Vec<(u64, Entry)> {
        let mut all = Vec::new();
        backlog.flush(|bytes| {
            let record = entry::decode(bytes).unwrap();
            all.push((record.index, record.entry));
            true
        });
        all
    }

    #[test]
    fn a_noisy_layer_pushes_out_its_own_requests_alone() {
        let mut backlog = Backlog::default();
        let mut pushed = Vec::new();
        while pushed.last() != Some(&Pushed::Lost) {
            pushed.push(backlog.push(&request(1)));
        }
        assert_eq!(pushed.iter().filter(|&&it| it == Pushed::FirstLost).count(), 1);
        assert!(backlog.is_full_of(who(1)) && !backlog.is_full_of(who(2)));
        assert_eq!(backlog.push(&exit(1)), Pushed::Waits);
        assert_eq!(backlog.push(&request(2)), Pushed::Waits);
        let last = backlog.number() - 1;
        let all = sent(&mut backlog);
        assert_eq!(all.len(), pushed.len());
        // Numbers go on over what was lost.
        assert_eq!(all.iter().map(|(number, _)| *number).max(), Some(last));
        assert!(all.iter().any(|(_, entry)| entry.kind == Kind::Exit));
        assert_eq!((backlog.missing(), backlog.is_empty()), (2, true));
        assert_eq!(backlog.push(&request(1)), Pushed::Waits);
    }

    #[test]
    fn what_is_not_taken_stays_in_its_order() {
        let mut backlog = Backlog::default();
        for layer in 0..3 {
            backlog.push(&exit(layer));
        }
        backlog.flush(|_| false);
        assert_eq!(sent(&mut backlog).iter().map(|it| it.0).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
