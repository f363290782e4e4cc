//! Every way to communicate leaves its reports, an honest use of all leaves no alarm, and a lie
//! about one that has two ends leaves one.

use std::fmt::Display;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::audit::Store;
use cofferdam::audit::entry::{Entry, Kind, Record, Side, Verdict};
use cofferdam::audit::reconcile::{Bounds, Counts, Outcome as Reconciled, reconcile};
use cofferdam::ipc::file::Options;
use cofferdam::ipc::message::{Event, Message};
use cofferdam::ipc::{fifo, queue};
use cofferdam::policy::plan::Audit;
use cofferdam::report::{Facility, Facts, Who};
use cofferdam::wire::broker::open;
use cofferdam::wire::report::acts;

use crate::harness::{Daemon, eventually};
use crate::layers::{say, stay};
use crate::log::{alarms, assert_sound, lost, records};
use crate::{Outcome, Test};

pub(crate) const TESTS: &[Test] = &[
    ("facilities::each_use_is_there_and_none_is_an_alarm", all_ways),
    ("facilities::what_the_policy_keeps_out_of_the_log_is_not_there", kept_out),
    ("facilities::a_message_that_was_never_in_the_queue_is_flagged", queue_lie),
    ("facilities::a_frame_that_was_never_in_the_pipe_is_flagged", pipe_lie),
];

const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

/// What goes through each way.
const SIGNALS: u64 = 3;
const RING: u64 = 100;
const LINE: &[u8] = b"reload";

/// All ways between `a` and `b`; `audit` is said of each.
fn policy(audit: &str) -> String {
    let facilities = [
        "file.notes]\npath = \"DIR/notes\"\ngrant = { a = [\"read\", \"write\", \"create\", \
         \"remove\", \"list\"] }",
        "file.kept]\npath = \"DIR/kept\"\ndeny = [\"*.key\"]\ngrant = { a = [\"read\"] }",
        "file.one]\npath = \"DIR/one\"\ngrant = { a = [\"read\"] }",
        "signal.wake]\nfrom = \"a\"\nto = \"b\"\nsend = [\"USR1\"]",
        "queue.jobs]\nsend = [\"a\"]\nreceive = [\"b\"]\ndepth = 2\non-full = \"reject\"",
        "queue.news]\nsend = [\"a\"]\nreceive = [\"b\"]\ndepth = 2\npriorities = 2\non-full = \
         \"drop-oldest\"",
        "pipe.words]\nfrom = \"a\"\nto = \"b\"",
        "fifo.commands]\npath = \"DIR/commands\"\nto = \"b\"\nmax = \"64B\"",
        "semaphore.turn]\npermits = 1\nholders = [\"a\", \"b\"]",
        "region.weather]\nsize = \"64KiB\"\ngrant = { a = \"rw\", b = \"r\" }",
        "region.ring]\nsize = \"64KiB\"\ngrant = { a = \"rw\", b = \"rw\" }",
        "mapped-file.count]\npath = \"DIR/count\"\nsize = \"16KiB\"\ngrant = { a = \"rw\", b = \
         \"r\" }",
        "channel.c]\nfrom = \"a\"\nto = \"b\"",
    ];
    let facilities = facilities.map(|facility| format!("[{facility}\n{audit}\n"));
    format!(
        "[audit]\ndirectory = \"DIR/log\"\n\
         [layer.a]\nrun = \"ways_a\"\nsyscalls = [\"@core\", \"openat2\", \"unlinkat\", \
         \"getdents64\"]\nconnect = {{ desk = \"unix:DIR/desk\" }}\nrestart = {{ on = \"never\" }}\n\
         [layer.b]\nrun = \"ways_b\"\nsyscalls = [\"@core\"]\n\
         listen = {{ desk = \"unix:DIR/desk\", raw = \"unix:DIR/raw\" }}\n\
         restart = {{ on = \"never\" }}\n{}",
        facilities.concat()
    )
}

fn prepare(directory: &Path) {
    for name in ["notes", "kept"] {
        std::fs::create_dir(directory.join(name)).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(directory.join(name), open).unwrap();
    }
    for name in ["kept/page", "kept/private.key", "one"] {
        std::fs::write(directory.join(name), name).unwrap();
    }
}

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

const A: Who = Who { layer: 0, copy: 0, generation: 1 };
const B: Who = Who { layer: 1, copy: 0, generation: 1 };

fn all_ways() {
    use Side::{None as Nobody, Receiver, Sender};
    use Verdict::{Allowed, Failed, Refused};
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
    assert_eq!(counts.of(Reconciled::Dropped), 3);

    // Three writes and the end.
    let words = uses(Facility::Pipe, 0);
    for (side, reporter, peer) in [(Sender, A, B), (Receiver, B, A)] {
        let frames: Vec<_> = words.iter().filter(|it| it.side == side).collect();
        let numbers: Vec<_> = frames.iter().map(|it| (it.sequence, it.length)).collect();
        assert_eq!(numbers, [(0, 18 + 5), (1, 18 + 5), (2, 18 + 9000), (3, 18)]);
        assert!(frames.iter().all(|it| (it.reporter, it.peer) == (reporter, peer)));
        assert!(frames.iter().all(|it| it.hash != [0; 32]));
    }

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

    // What went through has a rule, and both ends said the same of it.
    let allowed =
        records.iter().filter(|it| it.entry.kind == Kind::Use && it.entry.verdict == Allowed);
    for record in allowed {
        assert_ne!(record.entry.rule, Entry::NO_RULE, "{record:?}");
    }
    let channel = uses(Facility::Channel, 0).len() as u64 / 2;
    assert_eq!(counts.matched, channel + 2 + 4 + 4, "{counts:?}");
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
    let said = match layer.queue("jobs") {
        Ok(jobs) => jobs.blocking().send("job", 0).map(drop).map_err(|e| e.to_string()),
        Err(_) => {
            let mut words = layer.pipe_writer("words").map_err(|e| e.to_string())?.blocking();
            words.write_all(b"words").map_err(|e| e.to_string())
        }
    };
    said.and_then(|()| stay(&layer))
}

/// Takes what was said, and says that there was more.
pub(crate) fn liar(layer: Layer) -> Outcome {
    let facility = match layer.queue("jobs") {
        Ok(jobs) => {
            jobs.blocking().recv(PATIENCE).map_err(|e| e.to_string())?;
            Facility::Queue
        }
        Err(_) => {
            let mut words = layer.pipe_reader("words").map_err(|e| e.to_string())?.blocking();
            words.read_exact(&mut [0; 5]).map_err(|e| e.to_string())?;
            Facility::Pipe
        }
    };
    let tap = layer.desk().tap(facility, 0, Audit::Digest).ok_or("no log")?;
    let facts = Facts { sequence: 1, length: 100, peer: A, ..tap.facts(Side::Receiver) };
    tap.report(&facts, b"never sent", b"");
    say("lied");
    stay(&layer)
}

/// Uses each way, and has the other end use its own.
pub(crate) fn ways_a(layer: Layer) -> Outcome {
    use_all(&layer).map_err(|error| error.to_string())?;
    say("all ways were used");
    stay(&layer)
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn use_all(layer: &Layer) -> Result<()> {
    let channel = layer.channel("c")?.blocking();
    let take = |way: &str| -> Result<()> {
        let answer = channel.call("", Message::from(way.as_bytes().to_vec()), PATIENCE)?;
        let said = String::from_utf8(answer.body)?;
        if said == "taken" { Ok(()) } else { Err(format!("{way}: {said}").into()) }
    };

    let notes = layer.directory("notes")?;
    notes.open("today", Options::new().write().create())?.write_all(b"sow")?;
    notes.open_read("today")?;
    fails(notes.open_read("missing"))?;
    notes.list("")?;
    notes.remove("today")?;
    fails(notes.remove("today"))?;
    fails(notes.truncate("today"))?;
    let kept = layer.directory("kept")?;
    kept.open_read("page")?;
    fails(kept.open_read("private.key"))?;
    for _ in 0..2 {
        layer.file("one")?;
    }

    for _ in 0..SIGNALS {
        layer.signal("wake")?.blocking().send("USR1")?;
    }
    take("signals")?;

    layer.target("desk")?.blocking_stream()?.write_all(b"hello")?;
    take("sockets")?;

    let jobs = layer.queue("jobs")?.blocking();
    for n in 0..5 {
        let sent = jobs.send([n; 100], 0);
        if sent.is_ok() != (n < 2) {
            return Err(format!("job {n}: {sent:?}").into());
        }
    }
    take("jobs")?;
    let news = layer.queue("news")?.blocking();
    for n in 0..7 {
        news.send([n; 4096], n % 2)?;
    }
    take("news")?;

    let mut words = layer.pipe_writer("words")?.blocking();
    for write in [&b"first"[..], b"other", &[7; 9000]] {
        words.write_all(write)?;
    }
    words.close()?;
    take("pipe")?;
    say("writes lines?");
    take("fifo")?;

    layer.semaphore("turn")?.blocking().acquire()?.release()?;
    take("semaphore")?;

    let mut weather = layer.region("weather")?.publisher::<[u8]>()?;
    for object in [&b"rain"[..], b"sunshine", b"fog"] {
        weather.publish(object)?;
    }
    take("objects")?;
    let mut ring = layer.region("ring")?.ring_producer()?;
    for n in 0..RING {
        ring.send_blocking(&n.to_le_bytes(), PATIENCE)?;
    }
    drop(ring);
    take("ring")?;

    let count = layer.mapped_file("count")?;
    count.commit(b"41")?;
    count.update(|content| *content = b"42".to_vec())?;
    take("mapped file")
}

/// Something that the policy or the system refuses.
fn fails<T, E: Display>(result: std::result::Result<T, E>) -> Result<()> {
    if result.is_ok() { Err("it was not refused".into()) } else { Ok(()) }
}

/// Uses its end of each way when it is asked to.
pub(crate) fn ways_b(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    while !layer.is_stopping() {
        if let Ok(Event::Request { message, reply, .. }) = channel.recv(None) {
            let way = String::from_utf8_lossy(&message.body).into_owned();
            let said =
                take(&layer, &way).map_or_else(|error| error.to_string(), |()| "taken".into());
            let _ = reply.reply_blocking(Message::from(said.into_bytes()));
        }
    }
    Ok(())
}

fn take(layer: &Layer, way: &str) -> Result<()> {
    match way {
        "signals" => {
            let mut signals = layer.signals()?;
            let mut got = 0;
            while got < SIGNALS {
                got += signals.recv_blocking(PATIENCE)?.count;
            }
        }
        "sockets" => {
            for _ in 0..2 {
                layer.listener_fd("raw")?;
            }
            let mut connection = layer.blocking_acceptor("desk")?.accept()?.ok_or("stopping")?;
            connection.read_to_end(&mut Vec::new())?;
        }
        "jobs" | "news" => {
            let queue = layer.queue(way)?.blocking();
            // Of the news, two of each priority fit, and the higher priority comes first.
            let left: &[u8] = if way == "jobs" { &[0, 1] } else { &[3, 5, 4, 6] };
            for &n in left {
                match queue.recv(PATIENCE)? {
                    queue::Event::Message(message) if message.body[0] == n => {}
                    event => return Err(format!("not {n} but {event:?}").into()),
                }
            }
        }
        "pipe" => {
            let mut words = Vec::new();
            layer.pipe_reader("words")?.blocking().read_to_end(&mut words)?;
        }
        "fifo" => {
            let mut commands = layer.fifo("commands")?;
            let (line, other) = (commands.next_blocking()?, commands.next_blocking()?);
            if (&line, &other)
                != (&fifo::Event::Line(fifo::Line(LINE.to_vec())), &fifo::Event::TooLong)
            {
                return Err(format!("{line:?} and {other:?}").into());
            }
        }
        "semaphore" => layer.semaphore("turn")?.blocking().acquire()?.release()?,
        "objects" => {
            let mut weather = layer.region("weather")?.subscriber::<[u8]>();
            for _ in 0..2 {
                weather.latest().ok_or("nothing is published")?;
            }
        }
        "ring" => {
            let mut ring = layer.region("ring")?.ring_consumer()?;
            let mut message = Vec::new();
            for _ in 0..RING {
                ring.recv_blocking(&mut message, PATIENCE)?;
            }
        }
        "mapped file" => drop(layer.mapped_file("count")?.read()?),
        other => return Err(format!("there is no way {other}").into()),
    }
    Ok(())
}
