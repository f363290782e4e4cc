//! Alarms: what the auditor found that can't be so, and whom it speaks against.

use std::time::{Duration, Instant};

use super::Auditor;
use crate::audit::entry::{Entry, Kind, Side, Who};
use crate::audit::reconcile::{Disagreement, Outcome, Stream};

/// The most alarms about one layer in one second. More are counted, so that a layer that lies in
/// every report doesn't fill the log with alarms about it.
const ALARMS: u32 = 100;

/// How many alarms there may still be. Each layer has its own room: who lies a lot can't hide
/// what there is to say of another.
pub(super) struct Alarms(Vec<Room>);

#[derive(Clone)]
struct Room {
    since: Instant,
    left: u32,
    kept_back: u64,
}

impl Alarms {
    /// Room for as many layers, and for what is about none of them.
    pub(super) fn new(layers: usize) -> Self {
        Self(vec![Room { since: Instant::now(), left: ALARMS, kept_back: 0 }; layers + 1])
    }

    /// Whether there is room for one more about `who`; it is counted if there isn't.
    fn admit(&mut self, who: Who) -> bool {
        let last = self.0.len() - 1;
        let room = &mut self.0[usize::from(who.layer).min(last)];
        if room.since.elapsed() >= Duration::from_secs(1) {
            (room.since, room.left) = (Instant::now(), ALARMS);
        }
        let admitted = room.left > 0;
        room.left -= u32::from(admitted);
        room.kept_back += u64::from(!admitted);
        admitted
    }

    /// A layer of which alarms were kept back, and how many, once there is room to say so.
    fn take_kept_back(&mut self) -> Option<(Who, u64)> {
        let over = |room: &Room| room.kept_back > 0 && room.since.elapsed().as_secs() >= 1;
        let at = self.0.iter().position(over)?;
        let who = match u16::try_from(at) {
            Ok(layer) if at + 1 < self.0.len() => Who { layer, ..Who::NOBODY },
            _ => Who::NOBODY,
        };
        Some((who, std::mem::take(&mut self.0[at].kept_back)))
    }
}

impl Auditor<'_> {
    /// Writes an alarm down about `who`, unless there have been too many lately.
    pub(super) fn alarm(&mut self, who: Who, text: &str) {
        if self.alarms.admit(who) {
            self.write_alarm_down(who, text);
        }
    }

    /// Writes an alarm down, however many there were.
    pub(super) fn write_alarm_down(&mut self, who: Who, text: &str) {
        let detail = text.as_bytes().to_vec();
        let entry = Entry { reporter: Who::AUDITOR, peer: who, detail, ..Entry::new(Kind::Alarm) };
        self.note(&entry);
    }

    pub(super) fn tell_of_alarms_kept_back(&mut self) {
        while let Some((who, count)) = self.alarms.take_kept_back() {
            let about = self.tables.layers.get(usize::from(who.layer));
            let about = about.map_or("no layer", String::as_str);
            self.write_alarm_down(who, &format!("{count} more about {about} are not written down"));
        }
    }

    pub(super) fn write_down_disagreements(&mut self) {
        for it in std::mem::take(&mut self.disagreements) {
            if it.outcome.suspicious() {
                let (who, text) = self.describe(&it);
                self.alarm(who, &text);
            }
        }
    }

    /// A disagreement in words, and whom it is about.
    fn describe(&self, it: &Disagreement) -> (Who, String) {
        let stream = &it.stream;
        let edges = self.tables.edges(stream.facility);
        let edge = edges.get(usize::from(stream.edge)).map_or("?", |edge| edge.name.as_str());
        let (sender, receiver) = (self.name(stream.sender), self.name(stream.receiver));
        let (who, what) = charge(it);
        let numbers = if it.to.saturating_sub(it.from) > 1 {
            format!("messages {} to {}", it.from, it.to - 1)
        } else {
            format!("message {}", it.from)
        };
        let facility = stream.facility.name();
        (who, format!("{facility}.{edge}, {sender} to {receiver}, {numbers}: {what}"))
    }

    /// The name of an instance, as people write it.
    pub(super) fn name(&self, who: Who) -> String {
        let layer = self.tables.layers.get(usize::from(who.layer));
        match (who, layer) {
            (Who::NOBODY, _) => "nobody".to_owned(),
            (_, Some(layer)) => format!("{layer}/{}.g{}", who.copy, who.generation),
            _ => "an unknown layer".to_owned(),
        }
    }
}

/// Whom a disagreement speaks against first, and how.
fn charge(it: &Disagreement) -> (Who, &'static str) {
    let Stream { sender, receiver, .. } = it.stream;
    match (it.outcome, it.against) {
        (Outcome::Hidden, Some(Side::Sender)) => {
            (sender, "the sender hides what witness and receiver report")
        }
        (Outcome::Hidden, Some(_)) => {
            (receiver, "the receiver hides what sender and witness report")
        }
        (Outcome::Hidden, None) => {
            (sender, "only the witness reports it: both ends lie, and hide it")
        }
        (Outcome::Unwitnessed, _) => {
            (sender, "both ends report alike what the witness didn't see: both lie")
        }
        (Outcome::Altered, Some(Side::Sender)) => {
            (sender, "the sender contradicts witness and receiver")
        }
        (Outcome::Altered, Some(_)) => (receiver, "the receiver contradicts sender and witness"),
        (Outcome::Altered, None) => (sender, "those who report it say different things"),
        (Outcome::Forged, _) => (receiver, "only the receiver reports it"),
        (Outcome::Gap, Some(Side::Sender)) => {
            (sender, "only the sender reports it: neither witness nor receiver do")
        }
        (Outcome::Gap, _) => (receiver, "the receiver passes it over"),
        (Outcome::Overdue, _) => (receiver, "the receiver doesn't report it"),
        (Outcome::Repeated, _) => (sender, "it is reported twice"),
        (Outcome::Flood, _) => (sender, "there are more streams than can be"),
        (Outcome::InFlight | Outcome::Lost | Outcome::Dropped, _) => (sender, "it was lost"),
    }
}
