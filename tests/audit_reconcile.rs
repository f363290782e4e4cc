//! Both ends' reports, matched: honest ends, liars, silence, floods and crashes.

mod audit_support;

use audit_support::*;
use cofferdam::audit::entry::{Entry, Kind, Record, Side, Who};
use cofferdam::audit::reconcile::{Bounds, Counts, Outcome, Reconciler, reconcile};
use cofferdam::audit::{Options, Store};

const MS: u64 = 1_000_000;

struct Feed {
    reconciler: Reconciler,
    told: Vec<(Outcome, u64, u64)>,
    index: u64,
}

impl Feed {
    fn new(bounds: Bounds) -> Self {
        Self { reconciler: Reconciler::new(bounds), told: Vec::new(), index: 0 }
    }

    /// A record at so many milliseconds.
    fn entry(&mut self, ms: u64, entry: Entry) {
        let at = cofferdam::audit::Moment { real: ms * MS, monotonic: ms * MS };
        let record = Record { index: self.index, at, entry, payload: None };
        self.index += 1;
        let told = &mut self.told;
        self.reconciler.push(&record, &mut |d| told.push((d.outcome, d.from, d.to)));
    }

    fn sent(&mut self, ms: u64, n: u64) {
        self.entry(ms, message(n, Side::Sender));
    }

    fn received(&mut self, ms: u64, n: u64) {
        self.entry(ms, message(n, Side::Receiver));
    }

    fn tick(&mut self, ms: u64) {
        let told = &mut self.told;
        self.reconciler.tick(ms * MS, &mut |d| told.push((d.outcome, d.from, d.to)));
    }

    fn finish(self) -> (Counts, Vec<(Outcome, u64, u64)>) {
        let mut told = self.told;
        let counts = self.reconciler.finish(&mut |d| told.push((d.outcome, d.from, d.to)));
        (counts, told)
    }
}

fn exit(who: Who) -> Entry {
    Entry { peer: who, ..Entry::new(Kind::Exit) }
}

#[test]
fn honest_ends_match_in_any_order() {
    let mut feed = Feed::new(Bounds::default());
    for n in 0..1_000 {
        if n % 3 == 0 {
            feed.received(n, n);
            feed.sent(n + 1, n);
        } else {
            feed.sent(n, n);
            feed.received(n + 1, n);
        }
        feed.tick(n);
    }
    assert_eq!(feed.reconciler.waiting(), 0);
    let (counts, told) = feed.finish();
    assert_eq!((counts.matched, told.as_slice(), counts.honest()), (1_000, &[][..], true));
}

#[test]
fn each_lie_has_its_name_and_is_told_within_a_second() {
    let mut feed = Feed::new(Bounds::default());
    for n in (0..20).filter(|n| *n != 12) {
        if n != 5 {
            feed.sent(0, n); // 5 is forged by the receiver, or hidden by the sender
        }
        if n == 7 {
            let lie = Entry { hash: [9; 32], ..message(7, Side::Receiver) };
            feed.entry(0, lie);
        } else if n != 9 {
            feed.received(0, n); // 9 is hidden by the receiver; 12 by both
        }
    }
    feed.received(0, 3); // again
    for ms in (0..1_000).step_by(250) {
        feed.tick(ms);
    }
    let mut told = std::mem::take(&mut feed.told);
    told.sort();
    assert_eq!(
        told,
        [
            (Outcome::Forged, 5, 6),
            (Outcome::Altered, 7, 8),
            (Outcome::Gap, 9, 10),
            (Outcome::Gap, 12, 13),
            (Outcome::Repeated, 3, 4)
        ]
    );
    let (counts, told) = feed.finish();
    assert_eq!((counts.matched, told.len(), counts.honest()), (16, 0, false));
}

#[test]
fn a_silent_receiver_is_told_and_forgiven_when_it_speaks() {
    let mut feed = Feed::new(Bounds::default());
    feed.sent(0, 0);
    feed.tick(400);
    assert_eq!(feed.told, []);
    for ms in (500..3_000).step_by(250) {
        feed.tick(ms);
    }
    assert_eq!(feed.told, [(Outcome::Overdue, 0, 1)]);
    feed.received(3_000, 0);
    assert_eq!(feed.finish().0.matched, 1);
}

#[test]
fn a_crash_leaves_messages_in_flight_and_no_excuse_for_more() {
    let mut feed = Feed::new(Bounds::default());
    for n in 0..10 {
        feed.sent(0, n);
    }
    for n in 0..8 {
        feed.received(0, n);
    }
    feed.entry(1, exit(who(1, 1)));
    feed.tick(1_000);
    assert_eq!(feed.told, [(Outcome::InFlight, 8, 9), (Outcome::InFlight, 9, 10)]);
    assert!(feed.finish().0.honest());

    // The sender died: one message it may not have reported, not two.
    let mut feed = Feed::new(Bounds::default());
    feed.sent(0, 0);
    for n in 0..3 {
        feed.received(0, n);
    }
    feed.entry(1, exit(who(0, 1)));
    feed.tick(1_000);
    assert_eq!(feed.told, [(Outcome::InFlight, 1, 2), (Outcome::Forged, 2, 3)]);
}

#[test]
fn reports_that_were_lost_are_counted_against_the_loss_and_no_further() {
    let mut feed = Feed::new(Bounds::default());
    for n in 0..10 {
        feed.sent(0, n);
        if !(3..6).contains(&n) {
            feed.received(0, n);
        }
    }
    feed.entry(0, Entry { reporter: who(1, 1), length: 2, ..Entry::new(Kind::Loss) });
    feed.tick(1_000);
    let (counts, _) = feed.finish();
    assert_eq!((counts.matched, counts.of(Outcome::Lost), counts.of(Outcome::Gap)), (7, 2, 1));
}

#[test]
fn a_flood_stays_within_bounds_and_the_honest_still_match() {
    let bounds = Bounds { pending: 100, streams: 10, holes: 4, grace: 500 * MS };
    let mut feed = Feed::new(bounds);
    feed.sent(0, 0);
    feed.received(0, 0);
    for n in 0..10_000_u64 {
        let edge = u16::try_from(n % 50 + 1).unwrap();
        let sequence = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        feed.entry(1, Entry { edge, sequence, ..message(0, Side::Receiver) });
        assert!(feed.reconciler.waiting() <= 101);
    }
    feed.sent(2, 1);
    feed.received(2, 1);
    let (counts, _) = feed.finish();
    assert_eq!(counts.matched, 2);
    // What falls where a hole was given up on counts as repeated.
    let judged = counts.of(Outcome::Forged) + counts.of(Outcome::Repeated);
    assert_eq!(judged, 10_000 / 50 * 9);
    assert_eq!(counts.of(Outcome::Flood), 10_000 / 50 * 41);
}

#[test]
fn highest_numbers_are_no_special_case() {
    let mut feed = Feed::new(Bounds::default());
    for n in [u64::MAX, u64::MAX - 1, 0, u64::MAX] {
        feed.entry(0, Entry { sequence: n, ..message(0, Side::Sender) });
    }
    feed.tick(10_000);
    feed.finish();
}

#[test]
fn a_whole_log_is_reconciled() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), Options { segment_bytes: 20_000, ..small() }, 0);
    for n in 0..500 {
        log.append(&message(n, Side::Sender), &[], at(n)).unwrap();
        if n != 77 {
            log.append(&message(n, Side::Receiver), &[], at(n)).unwrap();
        }
        if n % 10 == 0 {
            log.commit(at(n)).unwrap();
        }
    }
    log.close(at(500)).unwrap();
    let mut told = Vec::new();
    let store = Store::open(dir.path()).unwrap();
    let counts = reconcile(&store, Bounds::default(), |d| told.push((d.outcome, d.from))).unwrap();
    assert_eq!((counts.matched, told), (499, vec![(Outcome::Gap, 77)]));
}
