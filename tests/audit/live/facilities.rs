//! Every way to communicate leaves its reports, an honest use of all leaves no alarm, and a lie
//! about one that has two ends leaves one.

use std::io::{Read, Write};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::audit::Store;
use cofferdam::audit::entry::{Entry, Kind, Record, Side, Verdict};
use cofferdam::audit::reconcile::{Bounds, Counts, Outcome as Reconciled, reconcile};
use cofferdam::policy::plan::Audit;
use cofferdam::report::{Facility, Facts, Who};
use cofferdam::wire::broker::open;
use cofferdam::wire::report::acts;

use super::layers::{say, stay};
use super::log::{alarms, assert_sound, lost, records};
use super::ways::{LINE, PATIENCE, RING, SIGNALS, policy, prepare};
use super::{Outcome, Test};
use crate::harness::{Daemon, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("facilities::each_use_is_there_and_none_is_an_alarm", all_ways),
    ("facilities::what_the_policy_keeps_out_of_the_log_is_not_there", kept_out),
    ("facilities::a_message_that_was_never_in_the_queue_is_flagged", queue_lie),
    ("facilities::a_frame_that_was_never_in_the_pipe_is_flagged", pipe_lie),
];

/// Runs the two layers until all ways were used, and gives the log's records.
fn run(audit: &str) -> (Vec<Record>, Counts) {
    let mut daemon = Daemon::start_with("-", &policy(audit), prepare);
    let directory = daemon.directory().to_owned();
    daemon.line("writes lines?");
    let lines = [LINE, b"\n", &[b'x'; 100], b"\n"].concat();
    std::fs::OpenOptions::new()
        .write(true)
        .open(directory.join("commands"))
        .and_then(|mut fifo| fifo.write_all(&lines))
        .unwrap();
    daemon.line("all ways were used");
    // Longer than a report may wait for its other half.
    std::thread::sleep(Duration::from_millis(1_200));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = directory.join("log");
    assert_sound(&log);
    let records = records(&log);
    assert_eq!(alarms(&records), [""; 0], "{daemon}");
    assert_eq!(lost(&records), 0);
    let mut told = Vec::new();
    let store = Store::open(&log).unwrap();
    let (counts, _) = reconcile(&store, Bounds::default(), |it| told.push(it)).unwrap();
    assert!(counts.honest(), "{told:?}");
    (records, counts)
}

/// The records of a kind about a facility, by its number.
fn of(records: &[Record], kind: Kind, facility: Facility, edge: u16) -> Vec<&Entry> {
    let entries = records.iter().map(|record| &record.entry);
    entries.filter(|it| (it.kind, it.facility, it.edge) == (kind, facility, edge)).collect()
}

/// What is said of a use, in short.
fn told(entries: &[&Entry]) -> Vec<(Side, Verdict, u32, u64, u64)> {
    let short = |it: &&Entry| (it.side, it.verdict, it.method, it.sequence, it.length);
    entries.iter().map(short).collect()
}

use Side::{None as Nobody, Receiver, Sender};
use Verdict::{Allowed, Failed, Refused};

const A: Who = Who { layer: 0, copy: 0, generation: 1 };
const B: Who = Who { layer: 1, copy: 0, generation: 1 };

fn all_ways() {
    let (records, counts) = run("");
    let uses = |facility, edge| of(&records, Kind::Use, facility, edge);
    let broker = |facility, edge| of(&records, Kind::Broker, facility, edge);
    // In the plan facilities are sorted by name: `commands`, `count`; `jobs`, `news`; `kept`,
    // `notes`, `one`; `ring`, `weather`.
    let bits = |bits: u16| u32::from(bits);

    let notes: Vec<_> = uses(Facility::File, 1)
        .iter()
        .map(|it| (it.verdict, it.method, it.value, String::from_utf8_lossy(&it.detail)))
        .collect();
    let made = bits(open::CREATE | open::WRITE);
    assert_eq!(
        notes,
        [
            (Allowed, made, 0, "today".into()),
            (Allowed, bits(open::READ), 0, "today".into()),
            (Failed, bits(open::READ), 10, "missing".into()),
            (Allowed, bits(open::LIST), 0, "".into()),
            (Allowed, bits(open::REMOVE), 0, "today".into()),
            (Allowed, bits(open::REMOVE), 0, "today".into()),
            (Failed, bits(open::REMOVE), 10, "today".into()),
            (Refused, bits(open::TRUNCATE), 1, "today".into()),
        ]
    );
    let kept = uses(Facility::File, 0);
    assert_eq!(told(&kept), [(Nobody, Refused, bits(open::READ), 0, 0)], "not even asked for");
    assert_eq!((kept[0].value, &kept[0].detail[..]), (6, &b"private.key"[..]));
    assert_eq!(broker(Facility::File, 0).len(), 1, "the supervisor reports what it opens");
    let one = uses(Facility::File, 2);
    assert_eq!(told(&one), [(Nobody, Allowed, bits(open::READ), 0, 0)], "once");
    assert!(one[0].detail.ends_with(b"/one"));

    signals_and_sockets(&records);
    queues(&records);
    pipes(&records);
    one_sided(&records);
    assert_eq!(counts.of(Reconciled::Dropped), 3);
    // What went through has a rule, and both ends said the same of it.
    let allowed =
        records.iter().filter(|it| it.entry.kind == Kind::Use && it.entry.verdict == Allowed);
    for record in allowed {
        assert_ne!(record.entry.rule, Entry::NO_RULE, "{record:?}");
    }
    let channel = uses(Facility::Channel, 0).len() as u64 / 2;
    assert_eq!(counts.matched, channel + 2 + 4 + 4, "{counts:?}");
}

fn signals_and_sockets(records: &[Record]) {
    let uses = |facility, edge| of(records, Kind::Use, facility, edge);
    let broker = |facility, edge| of(records, Kind::Broker, facility, edge);
    let signals = uses(Facility::Signal, 0);
    assert!(signals.iter().all(|it| (it.reporter, it.method) == (B, 10)), "{signals:?}");
    assert_eq!(signals.iter().map(|it| it.length).sum::<u64>(), SIGNALS);
    assert_eq!(signals.last().unwrap().sequence, SIGNALS);
    assert_eq!(broker(Facility::Signal, 0).len() as u64, SIGNALS);

    let desk = uses(Facility::Listen, 0);
    assert_eq!(told(&desk), [(Receiver, Allowed, 0, 0, 0)]);
    assert!(desk[0].detail.starts_with(b"user "), "{desk:?}");
    let raw = uses(Facility::Listen, 1);
    assert_eq!(told(&raw), [(Nobody, Allowed, 0, 0, 0)], "taken, once");
    assert_eq!(broker(Facility::Connect, 0).len(), 1);
}

fn queues(records: &[Record]) {
    let uses = |facility, edge| of(records, Kind::Use, facility, edge);
    let broker = |facility, edge| of(records, Kind::Broker, facility, edge);
    // Two of five found room.
    let jobs = uses(Facility::Queue, 0);
    let of_side = |side, verdict| {
        let it = jobs.iter().filter(move |it| (it.side, it.verdict) == (side, verdict));
        it.map(|it| it.sequence).collect::<Vec<_>>()
    };
    assert_eq!(of_side(Sender, Allowed), [0, 1, 2, 3, 4]);
    assert_eq!(of_side(Sender, Failed), [2, 3, 4]);
    assert_eq!(of_side(Receiver, Allowed), [0, 1]);
    assert!(jobs.iter().all(|it| match it.side {
        Sender => (it.reporter, it.peer) == (A, Who::NOBODY),
        _ => (it.reporter, it.peer) == (B, A),
    }));
    // Of seven, three went for later ones, and the broker says which.
    let gone = broker(Facility::Queue, 1);
    assert_eq!(gone.iter().map(|it| it.sequence).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(gone.iter().all(|it| it.peer == A && it.length > 0 && it.hash != [0; 32]));
}

fn pipes(records: &[Record]) {
    // Three writes and the end.
    let words = of(records, Kind::Use, Facility::Pipe, 0);
    for (side, reporter, peer) in [(Sender, A, B), (Receiver, B, A)] {
        let frames: Vec<_> = words.iter().filter(|it| it.side == side).collect();
        let numbers: Vec<_> = frames.iter().map(|it| (it.sequence, it.length)).collect();
        assert_eq!(numbers, [(0, 18 + 5), (1, 18 + 5), (2, 18 + 9000), (3, 18)]);
        assert!(frames.iter().all(|it| (it.reporter, it.peer) == (reporter, peer)));
        assert!(frames.iter().all(|it| it.hash != [0; 32]));
    }
}

fn one_sided(records: &[Record]) {
    let uses = |facility, edge| of(records, Kind::Use, facility, edge);
    let broker = |facility, edge| of(records, Kind::Broker, facility, edge);
    let commands = uses(Facility::Fifo, 0);
    let line = LINE.len() as u64;
    assert_eq!(told(&commands), [(Receiver, Allowed, 0, 0, line), (Receiver, Refused, 0, 1, 0)]);
    assert_eq!(commands[0].hash, *blake3::hash(LINE).as_bytes());

    let turn: Vec<_> = broker(Facility::Semaphore, 0).iter().map(|it| it.method).collect();
    assert_eq!(turn, [1, 2, 1, 2]);

    let size = 64 << 10;
    let ring = uses(Facility::Region, 0);
    assert_eq!(ring.iter().filter(|it| it.method == acts::MAP && it.length == size).count(), 2);
    for side in [Sender, Receiver] {
        let reports: Vec<_> =
            ring.iter().filter(|it| it.side == side && it.method == acts::RING).collect();
        // At 1, 2, 4, 8, 16, 32, 64, and the rest at the end.
        assert_eq!(reports.len(), 8, "{reports:?}");
        assert_eq!(reports.iter().map(|it| it.length).sum::<u64>(), RING);
        assert_eq!(reports.last().unwrap().sequence, RING);
    }
    let weather = uses(Facility::Region, 1);
    let objects = |side| {
        let it = weather.iter().filter(move |it| it.side == side && it.method == acts::OBJECT);
        it.map(|it| (it.sequence, it.length)).collect::<Vec<_>>()
    };
    assert_eq!(objects(Sender), [(1, 4), (2, 8), (3, 3)]);
    assert_eq!(objects(Receiver), [(3, 3)], "read twice, told once");

    let count = uses(Facility::MappedFile, 0);
    let commits: Vec<_> = count.iter().filter(|it| it.side == Sender).copied().collect();
    assert_eq!(
        told(&commits),
        [(Sender, Allowed, acts::COMMIT, 1, 2), (Sender, Allowed, acts::COMMIT, 2, 2)]
    );
    assert_eq!(count.len(), 2 + 2, "both have mapped it");
}

fn kept_out() {
    let (records, counts) = run("audit = \"none\"");
    let uses: Vec<_> = records
        .iter()
        .filter(|record| record.entry.kind == Kind::Use)
        .map(|record| record.entry.facility)
        .collect();
    // A listening socket's table says nothing of the log.
    assert_eq!(uses, [Facility::Listen; 2]);
    assert_eq!(counts.matched, 0);
}

fn queue_lie() {
    lie("[queue.jobs]\nsend = [\"a\"]\nreceive = [\"b\"]\n", "queue.jobs");
}

fn pipe_lie() {
    lie("[pipe.words]\nfrom = \"a\"\nto = \"b\"\n", "pipe.words");
}

/// Runs a liar as `b` until the log has an alarm about the way, and about nothing else.
fn lie(way: &str, name: &str) {
    let layers = "[audit]\ndirectory = \"DIR/log\"\n\
                  [layer.a]\nrun = \"sayer\"\nsyscalls = [\"@core\"]\n\
                  [layer.b]\nrun = \"liar\"\nsyscalls = [\"@core\"]\n";
    let mut daemon = Daemon::start("-", &format!("{layers}{way}"));
    daemon.line("lied");
    let log = daemon.directory().join("log");
    let found = || alarms(&records(&log));
    eventually("an alarm", || !found().is_empty());
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_sound(&log);
    let found = found();
    let text = format!("{name}, a/0.g1 to ");
    let is_it =
        |alarm: &String| alarm.starts_with(&text) && alarm.contains("message 1: only the receiver");
    assert!(found.len() == 1 && found.iter().all(is_it), "{found:?}");
}

/// Sends one message, or writes one frame.
pub(crate) fn sayer(layer: Layer) -> Outcome {
    if let Ok(jobs) = layer.queue("jobs") {
        jobs.blocking().send("job", 0).map_err(|e| e.to_string())?;
        return stay(&layer);
    }
    let mut words = layer.pipe_writer("words").map_err(|e| e.to_string())?.blocking();
    words.write_all(b"words").map_err(|e| e.to_string())?;
    stay(&layer)
}

/// Takes what was said, and says that there was more.
pub(crate) fn liar(layer: Layer) -> Outcome {
    let facility = if let Ok(jobs) = layer.queue("jobs") {
        jobs.blocking().recv(PATIENCE).map_err(|e| e.to_string())?;
        Facility::Queue
    } else {
        let mut words = layer.pipe_reader("words").map_err(|e| e.to_string())?.blocking();
        words.read_exact(&mut [0; 5]).map_err(|e| e.to_string())?;
        Facility::Pipe
    };
    let tap = layer.desk().tap(facility, 0, Audit::Digest).ok_or("no log")?;
    let facts = Facts { sequence: 1, length: 100, peer: A, ..tap.facts(Side::Receiver) };
    tap.report(&facts, b"never sent", b"");
    say("lied");
    stay(&layer)
}
