//! An auditor that takes nothing for a while: what the log has afterwards, and who waits meanwhile.
//!
//! It is stopped by a signal, which an ordinary user can send it too.

use std::time::Duration;

use cofferdam::Layer;
use cofferdam::audit::entry::{Facility, Kind, Record, Who};
use cofferdam::ipc::message::Message;
use rustix::process::{Pid, Signal, kill_process};

use super::kill::last;
use super::layers::{policy, say, stay};
use super::log::{alarms, assert_sound, assert_two_sided, lost, records};
use super::{Outcome, Test};
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("full::acts_that_find_no_room_are_counted", counted),
    ("full::a_layer_waits_until_its_acts_find_room", waits),
    ("full::a_lost_act_stops_the_daemon_that_must_lose_none", halts),
    ("full::a_task_that_waits_for_the_log_holds_up_no_other", task),
    ("full::a_thread_that_waits_for_the_log_hears_the_stop", thread),
    ("full::an_auditor_that_dies_while_the_daemon_stops_loses_nothing", dies_at_the_end),
];

/// Requests of one layer: more than the supervisor's ring and the layer's room behind it hold.
const PELTED: u64 = 10_000;

/// How often the quiet layer knocks: what fits into its own room.
const KNOCKS: u64 = 100;

/// How long a busy machine may take for all of that.
const LONG: Duration = Duration::from_mins(5);

/// A layer that asks for a lot, one that is asked for nothing, and one that asks now and then.
fn noisy(on_full: &str) -> String {
    let layer = |name: &str, run: &str| {
        format!("[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\n")
    };
    let signal =
        |from: &str| format!("[signal.{from}]\nfrom = \"{from}\"\nto = \"b\"\nsend = [\"USR1\"]\n");
    [
        format!("[audit]\ndirectory = \"DIR/log\"\non-full = \"{on_full}\"\n"),
        layer("a", "pelter") + &layer("b", "sleeper") + &layer("c", "knocker"),
        signal("a") + &signal("c"),
    ]
    .concat()
}

/// Starts the three, and has the auditor stand still.
fn start(on_full: &str) -> (Daemon, Pid) {
    let mut daemon = Daemon::start("-", &noisy(on_full));
    let auditor = last(&mut daemon, "cofferdam-auditor/0.g1");
    daemon.line("knocked 1 times");
    kill_process(auditor, Signal::STOP).unwrap();
    (daemon, auditor)
}

pub(crate) fn pelter(layer: Layer) -> Outcome {
    let signal = layer.signal("a").map_err(|e| e.to_string())?.blocking();
    std::thread::sleep(Duration::from_millis(500));
    for sent in 1..=PELTED {
        // Refused by its rate, or not: it was asked for.
        let _ = signal.send("USR1");
        if sent.is_multiple_of(1_000) {
            say(&format!("pelted {sent} times"));
        }
    }
    stay(&layer)
}

pub(crate) fn knocker(layer: Layer) -> Outcome {
    let signal = layer.signal("c").map_err(|e| e.to_string())?.blocking();
    let mut knocked = 0_u64;
    while !layer.is_stopping() {
        if knocked < KNOCKS {
            let _ = signal.send("USR1");
            knocked += 1;
            say(&format!("knocked {knocked} times"));
        }
        layer.attend().map_err(|e| e.to_string())?;
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// How many requests of a layer the log has.
fn asked(records: &[Record], layer: u16) -> u64 {
    let of_it = |record: &&Record| {
        let entry = &record.entry;
        (entry.kind, entry.facility, entry.reporter.layer)
            == (Kind::Broker, Facility::Signal, layer)
    };
    records.iter().filter(of_it).count() as u64
}

/// The number in the last line that says so.
fn said(daemon: &Daemon, before: &str, after: &str) -> u64 {
    let number = |line: &String| -> Option<u64> {
        line.split(before).nth(1)?.strip_suffix(after)?.parse().ok()
    };
    daemon.seen.iter().filter_map(number).max().unwrap()
}

fn exits(records: &[Record]) -> Vec<u16> {
    let exits = records.iter().filter(|record| record.entry.kind == Kind::Exit);
    let mut layers: Vec<u16> = exits.map(|record| record.entry.peer.layer).collect();
    layers.sort_unstable();
    layers
}

fn counted() {
    let (mut daemon, auditor) = start("count");
    daemon.line_in(&format!("pelted {PELTED} times"), LONG);
    daemon.signal(Signal::TERM);
    for name in ["a/0.g1", "b/0.g1", "c/0.g1"] {
        if daemon.count(&format!("{name} ended with exit code 0")) == 0 {
            daemon.line("ended with exit code 0");
        }
    }
    kill_process(auditor, Signal::CONT).unwrap();
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("acts about a/0.g1 find no room"), 1, "{daemon}");
    assert_eq!(daemon.count("acts about c/0.g1 find no room"), 0, "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert_eq!(exits(&records), [0, 1, 2], "{daemon}");
    assert_eq!(asked(&records, 2), said(&daemon, "knocked ", " times"), "{daemon}");
    let of_supervisor = |record: &&Record| {
        record.entry.kind == Kind::Loss && record.entry.reporter == Who::SUPERVISOR
    };
    let losses: u64 = records.iter().filter(of_supervisor).map(|it| it.entry.length).sum();
    assert!(losses > 0);
    assert_eq!(asked(&records, 0) + losses, PELTED);
}

fn waits() {
    let (mut daemon, auditor) = start("block");
    daemon.line("pelted 2000 times");
    std::thread::sleep(Duration::from_millis(500));
    kill_process(auditor, Signal::CONT).unwrap();
    daemon.line_in(&format!("pelted {PELTED} times"), LONG);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert_eq!((asked(&records, 0), lost(&records)), (PELTED, 0), "{daemon}");
    assert_eq!(exits(&records), [0, 1, 2], "{daemon}");
    assert_eq!(alarms(&records), [""; 0]);
}

fn halts() {
    let (mut daemon, auditor) = start("halt");
    let halts = "find no room on their way to the audit log; the daemon stops (`on-full`)";
    daemon.line_in(halts, LONG);
    kill_process(auditor, Signal::CONT).unwrap();
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    let records = records(&daemon.directory().join("log"));
    assert!(lost(&records) > 0, "{daemon}");
    assert_eq!(exits(&records), [0, 1, 2], "{daemon}");
}

/// Says how often it has called, again and again, whatever becomes of the calls.
pub(crate) async fn ticker(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?;
    let calls = std::cell::Cell::new(0_u64);
    let calling = async {
        loop {
            if channel.call("").send(Message::from(vec![7; 1024])).await.is_ok() {
                calls.set(calls.get() + 1);
            }
        }
    };
    let telling = async {
        loop {
            say(&format!("tick: {} calls", calls.get()));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = layer.stopping() => Ok(()),
        () = calling => Ok(()),
        () = telling => Ok(()),
    }
}

/// Waits until ten ticks in a row tell of no call, and gives their number.
fn held(daemon: &mut Daemon) -> u64 {
    let (mut calls, mut ticks) = (u64::MAX, 0);
    while ticks < 10 {
        let line = daemon.line("tick: ");
        let now = line.split("tick: ").nth(1).unwrap().split(' ').next().unwrap();
        let now = now.parse().unwrap();
        ticks = if now == calls { ticks + 1 } else { 0 };
        calls = now;
    }
    calls
}

/// Asks a daemon to stop whose auditor stands still, and has that go on once its layers have ended.
fn stop_held(mut daemon: Daemon, auditor: Pid) -> Vec<Record> {
    daemon.signal(Signal::TERM);
    for _ in 0..2 {
        daemon.line("ended with exit code 0");
    }
    kill_process(auditor, Signal::CONT).unwrap();
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("in time and is killed"), 0, "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    records(&log)
}

fn task() {
    let mut daemon = Daemon::start("-", &policy("ticker", "listener", "ring = \"64KiB\"", ""));
    let auditor = last(&mut daemon, "cofferdam-auditor/0.g1");
    daemon.line("tick: ");
    kill_process(auditor, Signal::STOP).unwrap();
    let calls = held(&mut daemon);
    // Nothing is lost by waiting.
    kill_process(auditor, Signal::CONT).unwrap();
    loop {
        let line = daemon.line("tick: ");
        if !line.contains(&format!("tick: {calls} ")) {
            break;
        }
    }
    kill_process(auditor, Signal::STOP).unwrap();
    held(&mut daemon);
    stop_held(daemon, auditor);
}

fn thread() {
    let mut daemon = Daemon::start("-", &policy("busy", "listener", "ring = \"64KiB\"", ""));
    let auditor = last(&mut daemon, "cofferdam-auditor/0.g1");
    daemon.line("made 100 calls");
    kill_process(auditor, Signal::STOP).unwrap();
    // Long enough for a ring of that size to be full.
    std::thread::sleep(Duration::from_secs(1));
    stop_held(daemon, auditor);
}

fn dies_at_the_end() {
    let mut daemon = Daemon::start("-", &policy("busy", "listener", "", ""));
    let auditor = last(&mut daemon, "cofferdam-auditor/0.g1");
    daemon.line("made 100 calls");
    kill_process(auditor, Signal::STOP).unwrap();
    daemon.signal(Signal::TERM);
    daemon.line("ended with exit code 0");
    kill_process(auditor, Signal::KILL).unwrap();
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert!(assert_two_sided(&records) > 100);
    assert_eq!(lost(&records), 0);
    assert_eq!(exits(&records)[..2], [0, 1]);
}
