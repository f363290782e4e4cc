//! What the audit log costs: `cargo bench --bench audit`. `AUDIT_RECORDS` is the size of the log
//! that is verified and queried, 1,000,000 unless told.
//!
//! Every figure stands beside what hashing alone allows in the same run.

#![allow(clippy::print_stdout, reason = "the figures go to standard output")]

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use cofferdam::audit::entry::{Entry, Facility, Kind, Moment, Side, Verdict, Who};
use cofferdam::audit::query::{Filter, query};
use cofferdam::audit::reconcile::{Bounds, reconcile};
use cofferdam::audit::verify::{Options as Verify, verify};
use cofferdam::audit::{Log, Options, Store, hash};
use cofferdam::seal::OsChance;

fn message(n: u64) -> Entry {
    let side = if n.is_multiple_of(2) { Side::Sender } else { Side::Receiver };
    let ends = [0, 1].map(|layer| Who { layer, copy: 0, generation: 1 });
    let (reporter, peer) =
        if n.is_multiple_of(2) { (ends[0], ends[1]) } else { (ends[1], ends[0]) };
    Entry {
        side,
        // Only receivers refuse: these are odd.
        verdict: if n % 1_000_002 == 500_001 { Verdict::Refused } else { Verdict::Allowed },
        facility: Facility::Channel,
        sequence: n / 2,
        length: 1_024,
        reporter,
        peer,
        hash: [u8::try_from(n / 2 % 251).unwrap_or(0); 32],
        ..Entry::new(Kind::Use)
    }
}

fn at(n: u64) -> Moment {
    Moment { real: 1_700_000_000_000_000_000 + n * 2_000, monotonic: n * 2_000 }
}

fn main() {
    // `cargo test --benches` only sees that this builds and runs.
    let quick = !std::env::args().any(|argument| argument == "--bench");
    let default = if quick { 2_000 } else { 1_000_000 };
    let records = std::env::var("AUDIT_RECORDS").ok().and_then(|n| n.parse().ok());
    let records = records.unwrap_or(default);

    let body = [7_u8; 128];
    let mut tree = cofferdam::audit::tree::Frontier::default();
    let mut link = [0; 32];
    let start = Instant::now();
    for _ in 0..records {
        let leaf = hash::leaf(black_box(&body));
        link = hash::link(&link, &leaf);
        tree.push(leaf);
    }
    black_box(tree.root());
    let bare = start.elapsed();
    say("bare hashing (leaf, link, tree)", records, bare);

    let dir = tempfile::tempdir().expect("a directory");
    let written = write(dir.path(), records);
    say("append and commit, 1,000 a commit", records, written);
    println!("    {:.2} of what hashing allows", bare.as_secs_f64() / written.as_secs_f64());

    let store = Store::open(dir.path()).expect("the log");
    for threads in [1, 0] {
        let start = Instant::now();
        let told = verify(&store, &Verify { threads, ..Verify::default() }).expect("a log");
        assert!(told.sound(), "{:?}", told.findings);
        let took = start.elapsed();
        say(if threads == 1 { "verify, one core" } else { "verify, all cores" }, records, took);
        #[expect(clippy::cast_precision_loss, reason = "a figure to read")]
        let gib = told.bytes as f64 / f64::from(1 << 30) / took.as_secs_f64();
        println!(
            "    {gib:.2} GiB/s; hashing alone {:.2} times as fast as this",
            took.as_secs_f64() / bare.as_secs_f64()
        );
    }

    let middle = at(records / 2).real;
    let narrow = [
        (
            "query: a millisecond of time",
            Filter { from: Some(middle), to: Some(middle + 1_000_000), ..Filter::default() },
        ),
        (
            "query: what was refused",
            Filter { verdicts: vec![Verdict::Refused], ..Filter::default() },
        ),
        (
            "query: everything, no index",
            Filter { full: true, kinds: vec![Kind::Alarm], ..Filter::default() },
        ),
    ];
    for (name, filter) in narrow {
        let start = Instant::now();
        let effort = query(&store, &filter, |_| true).expect("a log");
        println!(
            "{name}: {:.1} ms, {} found of {} read",
            start.elapsed().as_secs_f64() * 1e3,
            effort.found,
            effort.read
        );
    }

    let start = Instant::now();
    let (counts, _) = reconcile(&store, Bounds::default(), |_| {}).expect("a log");
    assert_eq!(counts.matched + counts.refused, records / 2);
    assert!(counts.honest(), "{counts:?}");
    say("reconcile", records, start.elapsed());
}

fn write(dir: &Path, records: u64) -> Duration {
    let store = Store::open(dir).expect("a directory");
    let (mut log, _) =
        Log::open(store, Options::default(), Box::new(OsChance), at(0)).expect("a new log");
    let start = Instant::now();
    for n in 0..records {
        log.append(&message(n), &[], at(n)).expect("room");
        if n % 1_000 == 999 {
            log.commit(at(n)).expect("a commit");
        }
    }
    log.close(at(records)).expect("an end");
    start.elapsed()
}

#[expect(clippy::cast_precision_loss, reason = "a figure to read")]
fn say(what: &str, records: u64, took: Duration) {
    println!("{what}: {:.0} records/s", records as f64 / took.as_secs_f64());
}
