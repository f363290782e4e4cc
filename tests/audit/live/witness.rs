//! Channels that a witness relays: what is in the log of them, who lies on them, and who is killed.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::audit::Store;
use cofferdam::audit::entry::{Entry, Form, Kind, Record, Side};
use cofferdam::audit::reconcile::{Bounds, Outcome as Found, reconcile};
use cofferdam::ipc::message::{Delivery, Event, Message};
use cofferdam::policy::plan::Audit;
use cofferdam::report::{Facility, Facts, Who};
use rustix::process::{Pid, Signal, kill_process};

use super::kill::{last, moment, rounds};
use super::layers::{policy, say, stay};
use super::log::{alarms, assert_sound, lost, records};
use super::{Function, Outcome, Test};
use crate::harness::{Daemon, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("witness::all_forms_are_reported_three_times_alike", all_forms),
    ("witness::what_both_ends_make_up_is_flagged", both_forge),
    ("witness::what_both_ends_hide_is_flagged", both_hide),
    ("witness::nobody_else_reports_as_witness", impostor),
    ("witness::one_that_is_killed_is_followed_by_another", killed_witness),
    ("witness::what_a_dead_peer_sent_comes_before_its_restart", killed_peer),
    ("witness::a_full_peer_costs_nothing_and_holds_up_nobody", full_peer),
];

pub(crate) const LAYERS: &[Function] = &[
    ("all_forms_caller", all_forms_caller),
    ("all_forms_server", all_forms_server),
    ("forging_caller", forging_caller),
    ("forging_server", forging_server),
    ("hiding_caller", hiding_caller),
    ("hiding_server", hiding_server),
    ("impostor_layer", impostor_layer),
    ("renewed", renewed),
    ("doomed", doomed),
    ("patient", patient),
    ("filler", filler),
    ("deaf", deaf),
    ("bursting", bursting),
];

const WITNESS: &str = "cofferdam-witness";

/// Everything that is said of a message but who says it.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    hash: [u8; 32],
    length: u64,
    descriptors: u8,
    form: Form,
    /// Of a batch, only the ends know it and the rule.
    method: Option<(u32, u32)>,
}

impl Said {
    fn of(entry: &Entry) -> Self {
        let Entry { hash, length, descriptors, form, method, rule, .. } = *entry;
        let method = (form != Form::Batch).then_some((method, rule));
        Self { hash, length, descriptors, form, method }
    }
}

/// What one side says of each message, by its sender and number.
fn said_by(records: &[Record], side: Side) -> BTreeMap<(Who, u64), Said> {
    let mut all = BTreeMap::new();
    for Record { entry, .. } in records {
        if entry.side == side && entry.facility == Facility::Channel {
            let sender = if side == Side::Sender { entry.reporter } else { entry.peer };
            let twice = all.insert((sender, entry.sequence), Said::of(entry));
            assert!(twice.is_none(), "{side:?} of {sender:?} {}", entry.sequence);
        }
    }
    all
}

/// Asserts that the offline reconciler finds nobody under suspicion. Says how many messages match.
fn assert_honest(log: &Path) -> u64 {
    let alarms = alarms(&records(log));
    assert!(alarms.is_empty(), "{alarms:?}");
    assert_honest_if_late(log)
}

/// The same where an end may be late.
fn assert_honest_if_late(log: &Path) -> u64 {
    let mut told = Vec::new();
    let store = Store::open(log).unwrap();
    let (counts, _) = reconcile(&store, Bounds::default(), |it| told.push(it)).unwrap();
    told.retain(|it| it.outcome.suspicious() && it.outcome != Found::Overdue);
    assert!(told.is_empty(), "{told:?}");
    let alarms = alarms(&records(log));
    assert!(alarms.iter().all(|it| it.contains("the receiver doesn't report it")), "{alarms:?}");
    counts.matched
}

fn all_forms() {
    let channel = "witness = true\nfds = { max = 2, kinds = [\"stream\"] }\n\
                   methods = { ask = {}, note = {}, tail = { stream = true } }";
    let text = policy("all_forms_caller", "all_forms_server", "", channel);
    let mut daemon = Daemon::start("-", &text.replace("64KiB", "1MiB"));
    daemon.line("all said");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert_eq!(lost(&records), 0);
    let sides = [Side::Sender, Side::Witness, Side::Receiver].map(|side| said_by(&records, side));
    assert!(sides[0].len() > 600, "{}", sides[0].len());
    assert_eq!(sides[0], sides[1]);
    assert_eq!(sides[1], sides[2]);
    assert_eq!(assert_honest(&log), sides[0].len() as u64);
    for form in [
        Form::Message,
        Form::Request,
        Form::Reply,
        Form::Refusal,
        Form::Batch,
        Form::Cancel,
        Form::Item,
        Form::End,
        Form::Credit,
        Form::Piece,
    ] {
        assert!(sides[1].values().any(|said| said.form == form), "{form:?}");
    }
    assert!(sides[1].values().any(|said| said.descriptors == 1));
    // It reports of nothing else, under a name and a number of its own.
    let tables = records.iter().find(|record| record.entry.kind == Kind::Policy).unwrap();
    let tables = cofferdam::audit::tables::Tables::parse(&tables.entry.detail).unwrap();
    assert_eq!(tables.layers.last().map(String::as_str), Some(WITNESS));
    let layer = u16::try_from(tables.layers.len() - 1).unwrap();
    let its = records.iter().filter(|record| record.entry.side == Side::Witness);
    assert!(its.clone().all(|it| it.entry.reporter == Who { layer, copy: 0, generation: 1 }));
    assert_eq!(its.count(), sides[1].len());
}

fn all_forms_caller(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    for n in 0..40_u64 {
        let size = usize::try_from(n * 6151 % 300_000).map_err(|e| e.to_string())?;
        let answer = channel.call("ask").send(vec![7; size]).map_err(|e| e.to_string())?;
        if answer.body.len() != size {
            return Err("another answer".to_owned());
        }
    }
    let mut items = channel.call("tail").stream(vec![]).map_err(|e| e.to_string())?;
    let mut came = 0;
    while let Some(item) = items.blocking().next(None) {
        item.map_err(|e| e.to_string())?;
        came += 1;
    }
    if came != 600 || channel.call("ask").send(b"refuse".to_vec()).is_ok() {
        return Err(format!("{came} items, or no refusal"));
    }
    drop(channel.call("ask").begin(b"wait".to_vec()).map_err(|e| e.to_string())?);
    let many = (0..2000).map(|_| Message::from(b"small".to_vec()));
    channel.send_all("note", many, None).map_err(|e| e.to_string())?;
    channel.send("note", vec![7; 20_000], None).map_err(|e| e.to_string())?;
    let (mut ours, theirs) = UnixStream::pair().map_err(|e| e.to_string())?;
    let message = Message { body: b"take".to_vec(), fds: vec![theirs.into()] };
    channel.call("ask").send(message).map_err(|e| e.to_string())?;
    let mut text = String::new();
    ours.read_to_string(&mut text).map_err(|e| e.to_string())?;
    if text != "taken" {
        return Err(format!("{text:?} came through the descriptor"));
    }
    say("all said");
    stay(&layer)
}

fn all_forms_server(layer: Layer) -> Outcome {
    use std::io::Write;
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    while !layer.is_stopping() {
        let Ok(event) = channel.recv(None) else { return Ok(()) };
        let Event::Request { method, mut message, reply, .. } = event else { continue };
        let done = if method == "tail" {
            let mut items = reply.stream().map_err(|e| e.to_string())?.blocking();
            for _ in 0..600 {
                let sent = items.send(vec![1; 700], None).map_err(|e| e.to_string())?;
                assert!(sent.is_continue());
            }
            items.end()
        } else if message.body == b"refuse" {
            reply.blocking().refuse("no")
        } else if message.body == b"wait" {
            while !reply.is_cancelled() {
                let _ = channel.recv(Some(Duration::from_millis(1)));
            }
            Ok(Delivery::NobodyWaits)
        } else if let Some(fd) = message.fds.pop() {
            UnixStream::from(fd).write_all(b"taken").map_err(|e| e.to_string())?;
            reply.blocking().reply(b"done".to_vec())
        } else {
            reply.blocking().reply(message)
        };
        done.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Runs two layers that lie together, until the log has an alarm that says `text`.
fn caught(caller: &str, server: &str, text: &str) -> Vec<String> {
    let mut daemon = Daemon::start("-", &policy(caller, server, "", "witness = true"));
    daemon.line("lied");
    let log = daemon.directory().join("log");
    let found = || alarms(&records(&log)).iter().any(|alarm| alarm.contains(text));
    eventually(text, found);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_sound(&log);
    alarms(&records(&log))
}

/// The same message that never was, as one of the two ends reports it.
fn make_up(layer: &Layer, side: Side) -> Result<(), String> {
    let tap = layer.desk().tap(Facility::Channel, 0, Audit::Digest).ok_or("no log")?;
    let peer = Who { layer: u16::from(side == Side::Sender), copy: 0, generation: 1 };
    let facts =
        Facts { sequence: 1 << 20, form: Form::Message, length: 9, peer, ..tap.facts(side) };
    tap.report(&facts, b"never was", b"");
    Ok(())
}

fn both_forge() {
    let alarms = caught("forging_caller", "forging_server", "what the witness didn't see");
    assert!(alarms.iter().any(|alarm| alarm.contains("1048576")), "{alarms:?}");
}

fn forging_caller(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    channel.call("").send(b"now".to_vec()).map_err(|e| e.to_string())?;
    make_up(&layer, Side::Sender)?;
    say("lied");
    stay(&layer)
}

fn forging_server(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    channel.wait_for_peer(None).map_err(|e| e.to_string())?;
    make_up(&layer, Side::Receiver)?;
    super::layers::listener(layer)
}

fn both_hide() {
    let alarms = caught("hiding_caller", "hiding_server", "only the witness reports it");
    assert!(alarms.iter().all(|alarm| alarm.contains("both ends lie")), "{alarms:?}");
}

fn hiding_caller(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    for _ in 0..10 {
        channel.call("").send(b"open".to_vec()).map_err(|e| e.to_string())?;
    }
    channel.call("").send(b"hush".to_vec()).map_err(|e| e.to_string())?;
    layer.desk().fall_silent();
    let answer = channel.call("").send(b"secret".to_vec()).map_err(|e| e.to_string())?;
    if answer.body != b"secret" {
        return Err("another answer".to_owned());
    }
    say("lied");
    stay(&layer)
}

fn hiding_server(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    while !layer.is_stopping() {
        match channel.recv(None) {
            Ok(Event::Request { message, reply, .. }) => {
                let hush = message.body == b"hush";
                let _ = reply.blocking().reply(message);
                if hush {
                    layer.desk().fall_silent();
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// A layer that says it is the witness of a message is believed nothing any more.
fn impostor() {
    let alarms = caught("hiding_caller", "impostor_layer", "from a side that isn't its own");
    assert_eq!(alarms.iter().filter(|it| it.contains("not believed")).count(), 1, "{alarms:?}");
}

fn impostor_layer(layer: Layer) -> Outcome {
    make_up(&layer, Side::Witness)?;
    hiding_server(layer)
}

fn killed_witness() {
    let rounds = rounds(10);
    let mut daemon = Daemon::start("-", &policy("busy", "renewed", "", "witness = true"));
    let mut witness = last(&mut daemon, &format!("{WITNESS}/0.g1"));
    for round in 1..=rounds {
        daemon.line("calls");
        moment(round);
        kill_process(witness, Signal::KILL).unwrap();
        witness = last(&mut daemon, &format!("{WITNESS}/0.g{}", round + 1));
        daemon.line("renewed a/0.g1 a/0.g1");
    }
    daemon.line("calls");
    daemon.line("calls");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("renewed a/0.g1 a/0.g1"), rounds, "{daemon}");
    assert_eq!(daemon.count("is confined"), 5 + rounds, "the ends live on: {daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    assert!(assert_honest(&log) > 200);
    let records = records(&log);
    let witnessed = said_by(&records, Side::Witness);
    let received = said_by(&records, Side::Receiver);
    assert!(received.iter().all(|(key, said)| witnessed.get(key) == Some(said)));
    for life in 1..=u64::try_from(rounds).unwrap() + 1 {
        let first = cofferdam::report::first_sequence(life);
        assert!(received.keys().any(|(_, sequence)| *sequence == first), "link {life}");
    }
}

/// Answers, and says whose links are replaced.
fn renewed(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    while !layer.is_stopping() {
        match channel.recv(None) {
            Ok(Event::Request { message, reply, .. }) => {
                let _ = reply.blocking().reply(message);
            }
            Ok(Event::PeerRestarted { old, new }) => say(&format!("renewed {old} {new}")),
            Ok(Event::PeerBroke { peer, why }) => say(&format!("{peer} broke: {why}")),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// A policy with a second channel beside the first one.
fn two_channels(from: &str, to: &str) -> String {
    let direct = "[channel.d]\nfrom = \"a\"\nto = \"b\"\n";
    policy(from, to, "", "witness = true") + direct
}

fn killed_peer() {
    let mut daemon = Daemon::start("-", &two_channels("doomed", "patient"));
    let victim = daemon.confined("a/0.g1");
    daemon.line("sent 300");
    kill_process(victim, Signal::KILL).unwrap();
    let line = daemon.line("in order from the first life");
    let came = line.split("came: ").nth(1).unwrap().split(' ').next().unwrap();
    let came: u64 = came.parse().unwrap();
    assert!(came >= 300, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    assert_honest_if_late(&log);
    let records = records(&log);
    let of_first = |side| {
        let all = said_by(&records, side).into_keys();
        all.filter(|(who, _)| (who.layer, who.generation) == (0, 1)).collect::<Vec<_>>()
    };
    assert_eq!(of_first(Side::Witness), of_first(Side::Receiver), "what came through came");
}

/// Sends until it is killed; once it is back it says so.
fn doomed(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    if layer.instance().generation > 1 {
        channel.send("", b"back".to_vec(), None).map_err(|e| e.to_string())?;
        return stay(&layer);
    }
    for n in 0_u64.. {
        let message = [&n.to_le_bytes()[..], &[7; 1000]].concat();
        channel.send("", message, None).map_err(|e| e.to_string())?;
        if n.is_multiple_of(100) {
            say(&format!("sent {n}"));
        }
    }
    Ok(())
}

/// Reads nothing before its peer has died and come back, and then everything.
fn patient(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    channel.wait_for_peer(None).map_err(|e| e.to_string())?;
    let direct = layer.channel("d").map_err(|e| e.to_string())?.blocking();
    loop {
        match direct.recv(None) {
            Ok(Event::PeerRestarted { .. }) => break,
            Ok(_) => {}
            Err(_) => return Ok(()),
        }
    }
    let (mut due, mut restarts) = (0_u64, 0);
    loop {
        match channel.recv(None) {
            Ok(Event::Message { from, message, .. }) if from.generation == 1 => {
                if restarts > 0 || message.body[..8] != due.to_le_bytes() {
                    return Err(format!("something else than {due} of the first life"));
                }
                due += 1;
            }
            Ok(Event::PeerRestarted { .. }) => restarts += 1,
            Ok(Event::Message { message, .. }) if message.body == b"back" && restarts == 1 => break,
            Ok(Event::PeerGone(_)) => {}
            Ok(other) => return Err(format!("{other:?}")),
            Err(_) => return Ok(()),
        }
    }
    say(&format!("came: {due} in order from the first life"));
    stay(&layer)
}

fn full_peer() {
    let text = policy("filler", "deaf", "", "witness = true")
        + "[layer.d]\nrun = \"bursting\"\nsyscalls = [\"@core\"]\nrestart = { max = 100 }\n\
           [layer.e]\nrun = \"bursting\"\nsyscalls = [\"@core\"]\n\
           [channel.e]\nfrom = \"d\"\nto = \"e\"\nwitness = true\n";
    let mut daemon = Daemon::start("-", &text);
    let witness = daemon.confined(&format!("{WITNESS}/0.g1"));
    let other = daemon.confined("d/0.g1");
    daemon.line("full");
    eventually("the witness rests", || {
        let before = Effort::of(witness);
        std::thread::sleep(Duration::from_millis(500));
        before == Effort::of(witness)
    });
    let before = resident(witness);
    // The next life's traffic begins behind the full link.
    kill_process(other, Signal::KILL).unwrap();
    daemon.line("burst of d/0.g2");
    eventually("the witness rests again", || {
        let before = Effort::of(witness);
        std::thread::sleep(Duration::from_millis(500));
        before == Effort::of(witness)
    });
    let grown = resident(witness).saturating_sub(before);
    assert!(grown < 2 << 10, "{grown} KiB more");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    assert_honest_if_late(&log);
}

/// How often a process was on a processor, and for how long.
#[derive(Debug, PartialEq, Eq)]
struct Effort(Vec<String>);

impl Effort {
    fn of(pid: Pid) -> Self {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
        let status = status.unwrap();
        let switches = status.lines().filter(|line| line.contains("ctxt_switches"));
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap();
        let times = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
        Self(switches.chain(times).map(ToOwned::to_owned).collect())
    }
}

/// KiB of memory that a process has.
fn resident(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()));
    let status = status.unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends until nothing more goes, and then tries no more.
fn filler(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    channel.wait_for_peer(None).map_err(|e| e.to_string())?;
    while channel.send("", vec![7; 60_000], Some(Duration::from_secs(1))).is_ok() {}
    say("full");
    stay(&layer)
}

/// Lets its peer send, and takes nothing.
fn deaf(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    channel.wait_for_peer(None).map_err(|e| e.to_string())?;
    stay(&layer)
}

/// `d` makes calls, and `e` answers them.
fn bursting(layer: Layer) -> Outcome {
    let channel = layer.channel("e").map_err(|e| e.to_string())?.blocking();
    if layer.instance().layer == *"d" {
        for _ in 0..500 {
            channel.call("").send(vec![7; 1000]).map_err(|e| e.to_string())?;
        }
        say(&format!("burst of {}", layer.instance()));
        return stay(&layer);
    }
    while let Ok(event) = channel.recv(None) {
        if let Event::Request { message, reply, .. } = event {
            let _ = reply.blocking().reply(message);
        }
    }
    Ok(())
}
