//! Both ends' reports, matched: honest ends, liars, silence, floods and crashes.

use crate::support::log::*;
use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Record, Side, Verdict, Who};
use cofferdam::audit::reconcile::{Bounds, Counts, Outcome, Reconciler, reconcile};
use cofferdam::audit::tables::{Edge, Edges};
use cofferdam::audit::{Options, Store};

crate::support::suite::tests! {
    honest_ends_match_in_any_order,
    each_lie_has_its_name_and_is_told_within_a_second,
    a_silent_receiver_is_told_and_forgiven_when_it_speaks,
    a_crash_leaves_messages_in_flight_and_no_excuse_for_more,
    reports_that_were_lost_are_counted_against_the_loss_and_no_further,
    a_flood_stays_within_bounds_and_the_honest_still_match,
    highest_numbers_are_no_special_case,
    a_whole_log_is_reconciled,
    a_queue_may_keep_a_message_for_any_time_and_give_it_to_any_receiver,
    what_is_taken_from_a_queue_in_silence_is_missed_by_order_or_by_number,
    a_pipe_may_keep_what_it_holds_and_no_more,
    what_found_no_room_in_a_queue_was_no_message,
    a_witness_settles_who_is_silent_and_who_says_something_else,
    a_witness_between_copies_is_told_apart_by_what_it_says,
    with_its_witness_ends_a_link_and_the_next_one_counts_anew,
    a_witness_that_dies_excuses_what_did_not_come_through,
    what_an_honest_receiver_refuses_speaks_against_its_sender,
    of_a_batch_the_witness_knows_no_method,
    what_has_one_end_needs_no_partner,
    what_the_receiver_refuses_by_a_rule_is_matched_and_ends_the_link,
    a_daemon_that_begins_again_counts_its_lives_anew,
    the_auditor_may_begin_again_under_the_same_lives,
    where_old_records_were_dropped_the_first_ones_may_be_lonely,
    what_the_auditor_held_up_is_nobodys_fault,
    a_log_that_was_held_up_accuses_nobody,
}

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

fn highest_numbers_are_no_special_case() {
    let mut feed = Feed::new(Bounds::default());
    for n in [u64::MAX, u64::MAX - 1, 0, u64::MAX] {
        feed.entry(0, Entry { sequence: n, ..message(0, Side::Sender) });
    }
    feed.tick(10_000);
    feed.finish();
}

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
    let (counts, _) =
        reconcile(&store, Bounds::default(), |d| told.push((d.outcome, d.from))).unwrap();
    assert_eq!((counts.matched, told), (499, vec![(Outcome::Gap, 77)]));
}

/// A policy record: a queue of 4 with one receiver, a pipe of 4 KiB, a channel with a witness and
/// one without audit.
fn policy(ordered: bool) -> Entry {
    let edge = |name: &str| Edge {
        name: name.into(),
        from: vec!["listener".into()],
        to: vec!["keeper".into()],
        ..Edge::default()
    };
    let channels = vec![
        edge("plain"),
        Edge { witness: true, ..edge("seen") },
        Edge { one_sided: true, ..edge("quiet") },
    ];
    let queues = vec![Edge { depth: 4, ordered, ..edge("jobs") }];
    let pipes = vec![Edge { depth: 4096, ..edge("words") }];
    let edges = [("channel", channels), ("queue", queues), ("pipe", pipes)];
    let mut tables = tables();
    tables.layers.push("cofferdam-witness".into());
    tables.edges = edges.map(|(facility, edges)| Edges { facility: facility.into(), edges }).into();
    tables.entry()
}

/// A message on an edge as one end reports it.
fn on(facility: Facility, edge: u16, n: u64, side: Side) -> Entry {
    let mut entry = Entry { facility, edge, ..message(n, side) };
    match (facility, side) {
        (Facility::Queue, Side::Sender) => entry.peer = Who::NOBODY,
        (_, Side::Witness) => (entry.reporter, entry.peer) = (who(2, 1), who(0, 1)),
        _ => {}
    }
    entry
}

const SIDES: [Side; 3] = [Side::Sender, Side::Receiver, Side::Witness];

fn a_queue_may_keep_a_message_for_any_time_and_give_it_to_any_receiver() {
    for ordered in [true, false] {
        let mut feed = Feed::new(Bounds::default());
        feed.entry(0, policy(ordered));
        for n in 0..4 {
            feed.entry(0, on(Facility::Queue, 0, n, Side::Sender));
        }
        for ms in (0..5_000).step_by(250) {
            feed.tick(ms);
        }
        for n in 0..4 {
            let other = Who { copy: u16::try_from(n % 2).unwrap(), ..who(1, 1) };
            let entry = on(Facility::Queue, 0, n, Side::Receiver);
            feed.entry(5_000, Entry { reporter: other, ..entry });
        }
        feed.entry(5_000, on(Facility::Queue, 0, 4, Side::Sender));
        let (counts, told) = feed.finish();
        assert_eq!((counts.matched, counts.honest()), (4, true));
        assert_eq!(told, [(Outcome::InFlight, 4, 5)]);
    }
}

fn what_is_taken_from_a_queue_in_silence_is_missed_by_order_or_by_number() {
    // 2 was taken and not reported; nothing but a later one shows it.
    let run = |ordered: bool, before: &[Entry], last: u64| {
        let mut feed = Feed::new(Bounds::default());
        feed.entry(0, policy(ordered));
        for n in 0..last {
            feed.entry(0, on(Facility::Queue, 0, n, Side::Sender));
            if n < 4 && n != 2 {
                feed.entry(0, on(Facility::Queue, 0, n, Side::Receiver));
            }
        }
        for entry in before {
            feed.entry(0, entry.clone());
        }
        for ms in (0..1_000).step_by(250) {
            feed.tick(ms);
        }
        feed.told
    };
    assert_eq!(run(true, &[], 4), [(Outcome::Gap, 2, 3)]);
    // 2, 4, 5, 6 may all be in there, and 7 not sent yet.
    assert_eq!(run(false, &[], 8), []);
    assert_eq!(run(false, &[], 9), [(Outcome::Gap, 2, 3)]);
    assert_eq!(run(false, &[given_up(2)], 9), [(Outcome::Dropped, 2, 3)]);
    assert_eq!(run(true, &[given_up(2)], 9), [(Outcome::Dropped, 2, 3)]);
    let other = Entry { hash: [9; 32], ..given_up(2) };
    assert_eq!(run(false, &[other], 8), [(Outcome::Altered, 2, 3)]);
    assert_eq!(run(false, &[given_up(3)], 8), [(Outcome::Repeated, 3, 4)]);
    assert_eq!(run(false, &[given_up(99)], 8), [(Outcome::Forged, 99, 100)]);
    assert_eq!(run(true, &[exit(who(1, 1))], 4), [(Outcome::InFlight, 2, 3)]);
    let loss = Entry { reporter: who(1, 1), length: 1, ..Entry::new(Kind::Loss) };
    assert_eq!(run(true, &[loss], 4), [(Outcome::Lost, 2, 3)]);
    let forged = on(Facility::Queue, 0, 99, Side::Receiver);
    assert_eq!(run(false, &[forged], 4), [(Outcome::Forged, 99, 100)]);
}

fn a_pipe_may_keep_what_it_holds_and_no_more() {
    let frame = |n, side| Entry { length: 4096, ..on(Facility::Pipe, 0, n, side) };
    let run = |frames: u64, read: &[u64]| {
        let mut feed = Feed::new(Bounds::default());
        feed.entry(0, policy(true));
        for n in 0..frames {
            feed.entry(0, frame(n, Side::Sender));
        }
        for &n in read {
            feed.entry(0, frame(n, Side::Receiver));
        }
        for ms in (0..5_000).step_by(250) {
            feed.tick(ms);
        }
        feed.told
    };
    // The pipe, and three frames of 16 KiB at its ends.
    assert_eq!(run(13, &[]), []);
    assert_eq!(run(14, &[]), [(Outcome::Overdue, 0, 1)]);
    assert_eq!(run(14, &[0]), []);
    assert_eq!(run(13, &[0, 2]), [(Outcome::Gap, 1, 2)]);
    assert_eq!(run(2, &[0, 1, 2]), [(Outcome::Forged, 2, 3)]);
}

/// The broker's record of a message that the queue gave up for another.
fn given_up(n: u64) -> Entry {
    let sent = on(Facility::Queue, 0, n, Side::Sender);
    Entry { kind: Kind::Broker, side: Side::Supervisor, method: 1, peer: sent.reporter, ..sent }
}

fn what_found_no_room_in_a_queue_was_no_message() {
    let mut feed = Feed::new(Bounds::default());
    feed.entry(0, policy(true));
    let unsent = |n| Entry {
        verdict: Verdict::Failed,
        hash: [0; 32],
        ..on(Facility::Queue, 0, n, Side::Sender)
    };
    for n in 0..50 {
        feed.entry(0, on(Facility::Queue, 0, n, Side::Sender));
        if n % 2 == 1 {
            feed.entry(0, unsent(n));
        } else {
            feed.entry(0, on(Facility::Queue, 0, n, Side::Receiver));
        }
    }
    for ms in (0..2_000).step_by(250) {
        feed.tick(ms);
    }
    assert_eq!(feed.told, []);
    assert_eq!(feed.reconciler.counts().matched, 25);
    // Whoever takes back what somebody received is caught, before and after.
    feed.entry(2_000, on(Facility::Queue, 0, 50, Side::Sender));
    feed.entry(2_000, unsent(50));
    feed.entry(2_000, on(Facility::Queue, 0, 50, Side::Receiver));
    feed.entry(2_000, on(Facility::Queue, 0, 51, Side::Receiver));
    feed.entry(2_000, unsent(51));
    feed.tick(3_000);
    assert_eq!(feed.told, [(Outcome::Repeated, 50, 51), (Outcome::Forged, 51, 52)]);
}

/// Who says nothing of a message in the test below.
fn silent(n: u64, side: Side) -> bool {
    let silent: &[Side] = match n {
        10 => &[Side::Sender],
        20 => &[Side::Receiver],
        30 => &[Side::Witness],
        70 => &[Side::Sender, Side::Receiver],
        80 => &[Side::Receiver, Side::Witness],
        90 => &[Side::Sender, Side::Witness],
        _ => &[],
    };
    silent.contains(&side)
}

fn a_witness_settles_who_is_silent_and_who_says_something_else() {
    let mut feed = Feed::new(Bounds::default());
    feed.entry(0, policy(true));
    let mut against = Vec::new();
    let mut index = 1;
    let mut entry = |feed: &mut Feed, entry: Entry| {
        let at = cofferdam::audit::Moment::default();
        let record = Record { index, at, entry, payload: None };
        index += 1;
        feed.reconciler.push(&record, &mut |d| against.push((d.from, d.outcome, d.against)));
    };
    for n in 0..100 {
        // Every order of arrival.
        let turn = usize::try_from(n % 3).unwrap();
        for at in 0..3 {
            let at = if n % 2 == 0 { at } else { 2 - at };
            let side = SIDES[(at + turn) % 3];
            let lie = Entry { hash: [9; 32], ..on(Facility::Channel, 1, n, side) };
            match (n, side) {
                (40, Side::Sender) | (50, Side::Receiver) | (60, Side::Witness) => {
                    entry(&mut feed, lie);
                }
                _ if silent(n, side) => {}
                _ => entry(&mut feed, on(Facility::Channel, 1, n, side)),
            }
        }
    }
    feed.reconciler.tick(1_000 * MS, &mut |d| against.push((d.from, d.outcome, d.against)));
    against.sort_by_key(|told| told.0);
    assert_eq!(
        against,
        [
            (10, Outcome::Hidden, Some(Side::Sender)),
            (20, Outcome::Hidden, Some(Side::Receiver)),
            (30, Outcome::Unwitnessed, None),
            (40, Outcome::Altered, Some(Side::Sender)),
            (50, Outcome::Altered, Some(Side::Receiver)),
            (60, Outcome::Unwitnessed, None),
            (70, Outcome::Hidden, None),
            (80, Outcome::Gap, Some(Side::Sender)),
            (90, Outcome::Forged, Some(Side::Receiver)),
        ]
    );
    let (counts, _) = feed.finish();
    assert_eq!(counts.matched, 91);
}

fn a_witness_between_copies_is_told_apart_by_what_it_says() {
    let mut feed = Feed::new(Bounds::default());
    feed.entry(0, policy(true));
    for n in 0..50 {
        let mut reports = Vec::new();
        for copy in 0..3_u8 {
            for side in SIDES {
                let mut entry = on(Facility::Channel, 1, n, side);
                entry.hash[31] = copy;
                let peer = Who { copy: copy.into(), ..who(1, 1) };
                match side {
                    Side::Sender => entry.peer = peer,
                    Side::Receiver => entry.reporter = peer,
                    _ => {}
                }
                reports.push(entry);
            }
        }
        let turn = usize::try_from(n).unwrap() % reports.len();
        reports.rotate_left(turn);
        if n % 2 == 0 {
            reports.reverse();
        }
        for entry in reports {
            feed.entry(n, entry);
        }
    }
    assert_eq!(feed.reconciler.waiting(), 0);
    let (counts, told) = feed.finish();
    assert_eq!((counts.matched, told.as_slice()), (150, &[][..]));
}

fn with_its_witness_ends_a_link_and_the_next_one_counts_anew() {
    let mut feed = Feed::new(Bounds::default());
    feed.entry(0, policy(true));
    let first = cofferdam::report::first_sequence;
    let say = |feed: &mut Feed, ms: u64, life: u64, n: u64, sides: &[Side]| {
        for &side in sides {
            let sequence = first(life) + n;
            let mut entry = Entry { sequence, ..on(Facility::Channel, 1, n, side) };
            if side == Side::Witness {
                entry.reporter = who(2, life);
            }
            feed.entry(ms, entry);
        }
    };
    (0..8).for_each(|n| say(&mut feed, 0, 1, n, &SIDES));
    // What the witness had in its hand, and what it never saw; and what it can't have missed.
    say(&mut feed, 0, 1, 8, &[Side::Sender, Side::Witness]);
    feed.entry(1, exit(who(2, 1)));
    say(&mut feed, 2, 1, 9, &[Side::Sender]);
    say(&mut feed, 2, 1, 10, &[Side::Sender, Side::Receiver]);
    (0..8).for_each(|n| say(&mut feed, 3, 2, n, &SIDES));
    say(&mut feed, 3, 2, 8, &[Side::Sender]);
    feed.tick(1_000);
    let late = first(2) + 8;
    feed.told.sort_by_key(|told| told.1);
    assert_eq!(
        feed.told,
        [
            (Outcome::Hidden, 8, 9),
            (Outcome::Gap, 9, 10),
            (Outcome::Unwitnessed, 10, 11),
            (Outcome::Overdue, late, late + 1),
        ]
    );
    assert_eq!(feed.reconciler.counts().matched, 16);
}

fn a_witness_that_dies_excuses_what_did_not_come_through() {
    let mut feed = Feed::new(Bounds::default());
    feed.entry(0, policy(true));
    feed.entry(1, exit(who(2, 1)));
    // The end was told before what was said of it.
    for side in [Side::Sender, Side::Witness] {
        feed.entry(2, on(Facility::Channel, 1, 0, side));
    }
    feed.entry(2, on(Facility::Channel, 1, 1, Side::Sender));
    feed.tick(1_000);
    assert_eq!(feed.told, [(Outcome::InFlight, 0, 1), (Outcome::InFlight, 1, 2)]);
}

fn what_an_honest_receiver_refuses_speaks_against_its_sender() {
    let mut feed = Feed::new(Bounds::default());
    feed.entry(0, policy(true));
    let honest = |feed: &mut Feed, n| {
        for side in SIDES {
            feed.entry(0, on(Facility::Channel, 1, n, side));
        }
    };
    (0..5).for_each(|n| honest(&mut feed, n));
    // A record that its sender says nothing of, in two forms: read as one, and as none at all.
    for (n, form) in [(5, Form::Message), (1 << 30, Form::None)] {
        feed.entry(0, Entry { form, ..on(Facility::Channel, 1, n, Side::Witness) });
        let refusal = Entry {
            side: Side::None,
            verdict: Verdict::Refused,
            hash: [0; 32],
            length: 0,
            ..on(Facility::Channel, 1, n, Side::Receiver)
        };
        feed.entry(0, refusal);
    }
    // One that it does report is refused in the open; what it sent behind that is lost.
    let refusal = Entry {
        side: Side::None,
        verdict: Verdict::Refused,
        hash: [0; 32],
        ..on(Facility::Channel, 1, 6, Side::Receiver)
    };
    feed.entry(0, refusal);
    feed.entry(0, on(Facility::Channel, 1, 6, Side::Witness));
    feed.entry(0, on(Facility::Channel, 1, 6, Side::Sender));
    feed.entry(0, on(Facility::Channel, 1, 7, Side::Sender));
    let mut told = Vec::new();
    feed.reconciler.tick(1_000 * MS, &mut |d| told.push((d.outcome, d.from, d.against)));
    assert_eq!(
        told,
        [
            (Outcome::Hidden, 5, Some(Side::Sender)),
            (Outcome::InFlight, 7, None),
            (Outcome::Hidden, 1 << 30, Some(Side::Sender)),
        ]
    );
    feed.tick(2_000);
    let (counts, told) = feed.finish();
    assert_eq!((counts.matched, counts.refused, told.as_slice()), (5, 1, &[][..]));
}

fn of_a_batch_the_witness_knows_no_method() {
    let mut feed = Feed::new(Bounds::default());
    feed.entry(0, policy(true));
    for n in 0..3 {
        for at in 0..3 {
            let side = SIDES[(usize::try_from(n).unwrap() + at) % 3];
            let method = if side == Side::Witness { 0 } else { 7 };
            let form = Form::Batch;
            feed.entry(0, Entry { form, method, ..on(Facility::Channel, 1, n, side) });
        }
    }
    // That the ends differ in it is another matter.
    for (side, method) in [(Side::Witness, 0), (Side::Sender, 7), (Side::Receiver, 8)] {
        let form = Form::Batch;
        feed.entry(0, Entry { form, method, ..on(Facility::Channel, 1, 3, side) });
    }
    assert_eq!(feed.reconciler.counts().matched, 3);
    assert_eq!(feed.told, [(Outcome::Altered, 3, 4)]);
}

fn what_has_one_end_needs_no_partner() {
    let mut feed = Feed::new(Bounds::default());
    feed.entry(0, policy(true));
    for n in 0..10 {
        feed.entry(0, on(Facility::Channel, 2, n, Side::Receiver));
        for facility in [Facility::Fifo, Facility::Region, Facility::File, Facility::Signal] {
            feed.entry(0, on(facility, 0, n, Side::Receiver));
        }
        // The sender kept to the rules, and nothing went out.
        let kept = on(Facility::Channel, 0, n, Side::Sender);
        feed.entry(0, Entry { verdict: Verdict::Refused, ..kept });
    }
    feed.tick(10_000);
    let (counts, told) = feed.finish();
    assert_eq!((counts.matched, told.as_slice()), (0, &[][..]));
}

fn what_the_receiver_refuses_by_a_rule_is_matched_and_ends_the_link() {
    let mut feed = Feed::new(Bounds::default());
    for n in 0..6 {
        feed.sent(0, n);
    }
    for n in 0..3 {
        feed.received(0, n);
    }
    let refused = message(3, Side::Receiver);
    // It may not even have understood which method that was.
    feed.entry(0, Entry { verdict: Verdict::Refused, method: 0, value: 7, ..refused });
    feed.tick(1_000);
    assert_eq!(feed.told, [4, 5].map(|n| (Outcome::InFlight, n, n + 1)));
    let (counts, _) = feed.finish();
    assert_eq!((counts.matched, counts.refused, counts.honest()), (3, 1, true));
}

/// A life of the auditor begins, in a run of the daemon.
fn life(run: u64, generation: u64) -> Entry {
    let (reporter, sequence, length) = (Who::AUDITOR, generation, run);
    Entry { sequence, length, reporter, ..Entry::new(Kind::Progress) }
}

fn a_daemon_that_begins_again_counts_its_lives_anew() {
    let mut feed = Feed::new(Bounds::default());
    for run in 0..3 {
        feed.entry(0, life(run, 1));
        feed.sent(0, 0);
        feed.received(0, 0);
        feed.sent(0, 1);
        feed.received(0, 1);
        feed.sent(0, 2);
        // Killed, all at once.
    }
    let (counts, told) = feed.finish();
    assert_eq!((counts.matched, counts.of(Outcome::InFlight)), (6, 3), "{told:?}");
    assert!(counts.honest(), "{told:?}");
}

fn the_auditor_may_begin_again_under_the_same_lives() {
    let mut feed = Feed::new(Bounds::default());
    for n in 0..10 {
        feed.sent(n, n);
        if n % 3 == 0 {
            feed.entry(n, Entry::new(Kind::Start));
            feed.entry(n, life(7, n));
        }
        feed.received(n, n);
    }
    let (counts, told) = feed.finish();
    assert_eq!((counts.matched, told.as_slice()), (10, &[][..]));
}

fn where_old_records_were_dropped_the_first_ones_may_be_lonely() {
    let mut feed = Feed::new(Bounds::default());
    feed.index = 1_000;
    feed.reconciler.begins_late(5_000 * MS);
    feed.received(5_000, 41); // its other half was dropped
    feed.sent(5_001, 42);
    feed.received(5_002, 42);
    feed.received(5_600, 50); // this one has no excuse
    feed.tick(7_000);
    assert_eq!(feed.told, [(Outcome::InFlight, 41, 42), (Outcome::Forged, 50, 51)]);
}

/// No reports were taken for so many milliseconds.
fn held(ms: u64) -> Entry {
    Entry { length: ms * MS, reporter: Who::AUDITOR, ..Entry::new(Kind::Held) }
}

fn what_the_auditor_held_up_is_nobodys_fault() {
    let mut feed = Feed::new(Bounds::default());
    feed.sent(0, 0);
    feed.entry(68_000, held(67_900));
    feed.tick(68_300);
    feed.received(68_400, 0);
    feed.sent(68_400, 1);
    feed.tick(68_800);
    assert_eq!(feed.told, []);
    // A layer can't say so for itself, and who goes on being silent is told.
    feed.entry(68_800, Entry { reporter: who(1, 1), ..held(60_000) });
    feed.tick(69_500);
    assert_eq!(feed.told, [(Outcome::Overdue, 1, 2)]);
    assert_eq!(feed.finish().0.matched, 1);
}

/// What is said of a message of which the second report came 68 seconds after the first one, with
/// these records between.
fn reconciled_late(between: &[Entry]) -> Vec<Outcome> {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path(), Options::default(), 0);
    log.append(&message(0, Side::Sender), &[], at(0)).unwrap();
    for entry in between {
        log.append(entry, &[], at(68_000)).unwrap();
    }
    log.append(&message(0, Side::Receiver), &[], at(68_001)).unwrap();
    log.close(at(68_002)).unwrap();
    let mut told = Vec::new();
    let store = Store::open(dir.path()).unwrap();
    let (counts, _) = reconcile(&store, Bounds::default(), |d| told.push(d.outcome)).unwrap();
    assert_eq!(counts.matched, 1);
    told
}

fn a_log_that_was_held_up_accuses_nobody() {
    assert_eq!(reconciled_late(&[held(67_900)]), []);
    // Another life of the auditor took what was in the rings meanwhile.
    assert_eq!(reconciled_late(&[Entry::new(Kind::Start), life(7, 2)]), []);
    // Where nothing says that it was held, the receiver was late.
    assert_eq!(reconciled_late(&[]), [Outcome::Overdue]);
    assert_eq!(reconciled_late(&[held(10)]), [Outcome::Overdue]);
}
