//! `cofferdam audit reconcile DIR DIR`: whether the logs of two hosts say the same of the channels between
//! them.
//!
//! Each host's log has what its own end reported. A message is known in both by the channel, who sent it
//! to whom, which link between the two hosts it went through, and its number there. A link that ended in
//! the middle may have lost what was on its way; what is missing before that, what only its receiver
//! knows, and what the two say differently, somebody has to explain.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Failure;
use super::names::{Names, edge, instance};
use super::traffic::EdgeId;
use crate::audit::entry::{Facility, Kind, Record, Side, Verdict};
use crate::audit::hash::Hash;
use crate::audit::query::{Filter, query};
use crate::audit::store::Store;
use crate::wire::report::link_of;

/// One direction of a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stream {
    channel: String,
    sender: String,
    receiver: String,
    /// Which link between the two hosts.
    link: u64,
    /// How often the numbers had begun anew before, as where both hosts were started anew.
    turn: u32,
}

/// What the two ends say of a direction: hashes by number.
#[derive(Debug, Default)]
struct Ends {
    sent: BTreeMap<u64, Hash>,
    received: BTreeMap<u64, Hash>,
}

/// What is wrong with some messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Wrong {
    /// Only the receiver's host knows of it.
    Forged,
    /// The two say something else of it.
    Altered,
    /// The receiver has later ones of the same link, and not this.
    Gap,
}

impl Wrong {
    fn name(self) -> &'static str {
        match self {
            Self::Forged => "forged",
            Self::Altered => "altered",
            Self::Gap => "gap",
        }
    }
}

/// What came of comparing two logs.
#[derive(Debug, Default)]
pub(super) struct Compared {
    matched: u64,
    in_flight: u64,
    wrong: Vec<(Stream, u64, Wrong)>,
    directions: usize,
}

/// Compares two hosts' logs.
pub(super) fn compare(stores: [&Store; 2]) -> Result<Compared, Failure> {
    let mut streams = BTreeMap::<Stream, Ends>::new();
    let mut people = Vec::new();
    for store in stores {
        let mut turns = BTreeMap::new();
        let names = Names::read(store)?;
        let channels = Filter { kinds: vec![Kind::Use, Kind::Receipt], ..Filter::default() };
        let mut own = BTreeSet::new();
        query(store, &channels, |record| {
            if record.entry.kind == Kind::Receipt {
                own.extend(
                    instance(names.at(record.index), record.entry.peer).map(|it| it.to_string()),
                );
            } else {
                take(&names, &record, &mut turns, &mut streams);
            }
            true
        })?;
        people.push(own);
    }
    // What one of the two has said to a third host only that one's log has too.
    streams.retain(|it, _| {
        let at = |name| people.iter().position(|own| own.contains(name));
        matches!((at(&it.sender), at(&it.receiver)), (Some(one), Some(other)) if one != other)
    });
    Ok(judge(&streams))
}

/// Takes a report of a channel between hosts in.
fn take(
    names: &Names,
    record: &Record,
    turns: &mut BTreeMap<(Side, Stream), (u32, u64)>,
    streams: &mut BTreeMap<Stream, Ends>,
) {
    let entry = &record.entry;
    let tables = names.at(record.index);
    let is_across = entry.facility == Facility::Channel && {
        let edges = tables.edges(Facility::Channel);
        edges.get(usize::from(entry.edge)).is_some_and(|edge| edge.across)
    };
    let unsent = matches!(entry.verdict, Verdict::Refused | Verdict::Failed);
    if !is_across || entry.side == Side::Sender && unsent {
        return;
    }
    let (sender, receiver) = match entry.side {
        Side::Sender => (entry.reporter, entry.peer),
        Side::Receiver => (entry.peer, entry.reporter),
        _ => return,
    };
    let name = |who| instance(tables, who).map(|it| it.to_string());
    let channel = edge(tables, EdgeId::both(entry.facility, entry.edge));
    let (Some(channel), Some(sender), Some(receiver)) = (channel, name(sender), name(receiver))
    else {
        return;
    };
    let link = link_of(entry.sequence);
    let mut stream = Stream { channel, sender, receiver, link, turn: 0 };
    let (turn, last) = turns.entry((entry.side, stream.clone())).or_insert((0, entry.sequence));
    if entry.sequence < *last {
        *turn += 1;
    }
    *last = entry.sequence;
    stream.turn = *turn;
    let ends = streams.entry(stream).or_default();
    let end = if entry.side == Side::Sender { &mut ends.sent } else { &mut ends.received };
    end.insert(entry.sequence, entry.hash);
}

fn judge(streams: &BTreeMap<Stream, Ends>) -> Compared {
    let mut compared = Compared { directions: streams.len(), ..Compared::default() };
    for (stream, Ends { sent, received }) in streams {
        let highest = received.last_key_value().map(|(number, _)| *number);
        let mut wrong = |number, wrong| compared.wrong.push((stream.clone(), number, wrong));
        for (number, hash) in sent {
            match received.get(number) {
                Some(other) if other == hash => compared.matched += 1,
                Some(_) => wrong(*number, Wrong::Altered),
                None if highest.is_some_and(|highest| *number < highest) => {
                    wrong(*number, Wrong::Gap);
                }
                None => compared.in_flight += 1,
            }
        }
        received
            .keys()
            .filter(|it| !sent.contains_key(it))
            .for_each(|it| wrong(*it, Wrong::Forged));
    }
    compared
}

impl Compared {
    /// Whether nobody has anything to explain.
    pub fn honest(&self) -> bool {
        self.wrong.is_empty()
    }

    pub fn text(&self, limit: usize) -> String {
        let mut out = String::new();
        for (stream, number, wrong) in self.wrong.iter().take(limit) {
            let Stream { channel, sender, receiver, link, .. } = stream;
            let number = number & ((1 << 48) - 1);
            let _ = writeln!(
                out,
                "\x1b[31m{}\x1b[0m: {channel} {sender} -> {receiver}, link {}, message {number}",
                wrong.name(),
                link + 1
            );
        }
        if let Some(more) = self.wrong.len().checked_sub(limit).filter(|more| *more > 0) {
            let _ = writeln!(out, "and {more} more: raise --limit");
        }
        let _ = writeln!(
            out,
            "{} matched between the two hosts, {} in-flight, in {} directions",
            self.matched, self.in_flight, self.directions
        );
        out.push_str(if self.directions == 0 {
            "neither log has a channel to another host\n"
        } else if self.honest() {
            "\x1b[32mnobody is under suspicion\x1b[0m\n"
        } else {
            "\x1b[31msomebody is under suspicion\x1b[0m\n"
        });
        out
    }

    pub fn json(&self, limit: usize) -> Value {
        let told = self.wrong.iter().take(limit).map(|(stream, number, wrong)| {
            json!({
                "outcome": wrong.name(),
                "edge": stream.channel,
                "sender": stream.sender,
                "receiver": stream.receiver,
                "link": stream.link + 1,
                "message": number & ((1 << 48) - 1),
            })
        });
        json!({
            "honest": self.honest(),
            "matched": self.matched,
            "in-flight": self.in_flight,
            "directions": self.directions,
            "suspicious": self.wrong.len(),
            "disagreements": told.collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(sent: &[(u64, u8)], received: &[(u64, u8)]) -> Compared {
        let all = |list: &[(u64, u8)]| list.iter().map(|&(it, hash)| (it, [hash; 32])).collect();
        let stream = Stream {
            channel: "channel.c".into(),
            sender: "a/0.g1".into(),
            receiver: "b/0.g1".into(),
            link: 0,
            turn: 0,
        };
        judge(&[(stream, Ends { sent: all(sent), received: all(received) })].into())
    }

    fn wrong(compared: &Compared) -> Vec<(u64, Wrong)> {
        compared.wrong.iter().map(|(_, number, wrong)| (*number, *wrong)).collect()
    }

    #[test]
    fn tells_what_was_on_its_way_from_what_is_wrong() {
        let sound = ends(&[(0, 1), (1, 2), (2, 3)], &[(0, 1), (1, 2)]);
        assert!(sound.honest());
        assert_eq!((sound.matched, sound.in_flight), (2, 1));
        assert_eq!(wrong(&ends(&[(0, 1), (1, 2)], &[(1, 2)])), [(0, Wrong::Gap)]);
        assert_eq!(wrong(&ends(&[(0, 1)], &[(0, 9)])), [(0, Wrong::Altered)]);
        assert_eq!(wrong(&ends(&[(0, 1)], &[(0, 1), (1, 2)])), [(1, Wrong::Forged)]);
    }
}
