//! Whoever is killed, the log has what was said.

use std::time::Duration;

use cofferdam::audit::entry::{Kind, Who};
use rustix::process::{Pid, Signal, kill_process};

use super::Test;
use super::layers::policy;
use super::log::{alarms, assert_sound, assert_two_sided, lost, records};
use crate::harness::{Daemon, eventually, is_alive};

pub(crate) const TESTS: &[Test] = &[
    ("kill::an_auditor_that_is_killed_loses_and_repeats_nothing", auditor),
    ("kill::a_layer_that_is_killed_leaves_one_message_in_flight", layer),
    ("kill::what_was_reported_outlives_the_supervisor", supervisor),
    ("kill::when_all_are_killed_at_once_what_was_written_stays", everybody),
];

/// How often somebody is killed: more often with `COFFERDAM_LONG=1`.
pub(crate) fn rounds(everyday: usize) -> usize {
    let long = std::env::var_os("COFFERDAM_LONG").is_some();
    if long { 1000 } else { everyday }
}

/// Different moments, spread over some milliseconds.
pub(crate) fn moment(round: usize) {
    let micros = u64::try_from(round * 7919 % 20_000).unwrap();
    std::thread::sleep(Duration::from_micros(micros));
}

/// The number of the process of an instance that was started last.
pub(crate) fn last(daemon: &mut Daemon, name: &str) -> Pid {
    let line = daemon.line(&format!("{name} is confined, pid "));
    let pid = line.split("pid ").nth(1).unwrap().split(':').next().unwrap();
    Pid::from_raw(pid.parse().unwrap()).unwrap()
}

fn auditor() {
    let mut daemon = Daemon::start("-", &policy("busy", "listener", "segment = \"1MiB\"", ""));
    let mut auditor = last(&mut daemon, "cofferdam-auditor/0.g1");
    daemon.line("made 100 calls");
    for round in 1..=rounds(15) {
        moment(round);
        kill_process(auditor, Signal::KILL).unwrap();
        auditor = last(&mut daemon, &format!("cofferdam-auditor/0.g{}", round + 1));
        // It goes on, and the layers with it.
        daemon.line("calls");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert!(assert_two_sided(&records) > 100);
    assert_eq!(lost(&records), 0);
    assert_eq!(alarms(&records), [""; 0]);
}

fn layer() {
    let mut daemon = Daemon::start("-", &policy("busy", "listener", "", ""));
    let mut victim = last(&mut daemon, "b/0.g1");
    for round in 1..=rounds(15) {
        daemon.line("calls");
        moment(round);
        kill_process(victim, Signal::KILL).unwrap();
        victim = last(&mut daemon, &format!("b/0.g{}", round + 1));
    }
    daemon.line("calls");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert_two_sided(&records);
    assert_eq!(alarms(&records), [""; 0]);
    let exits = records.iter().filter(|record| record.entry.kind == Kind::Exit).count();
    assert_eq!(exits, rounds(15) + 2);
}

/// Starts a busy daemon, and gives all of its processes.
fn busy() -> (Daemon, Vec<Pid>) {
    let mut daemon = Daemon::start("-", &policy("busy", "listener", "", ""));
    let pids = ["cofferdam-auditor/0.g1", "a/0.g1", "b/0.g1"].map(|name| daemon.confined(name));
    daemon.line("made 300 calls");
    (daemon, pids.to_vec())
}

fn supervisor() {
    for round in 0..rounds(3) {
        let (daemon, pids) = busy();
        moment(round);
        kill_process(daemon.pid(), Signal::KILL).unwrap();
        eventually("all are gone", || pids.iter().all(|&pid| !is_alive(pid)));
        let log = daemon.directory().join("log");
        assert_sound(&log);
        let records = records(&log);
        // Nobody says that layers ended who have nobody to say it; so what was under way is told
        // by its being the last.
        let known = ends_told(records);
        assert!(assert_two_sided(&known) >= 600);
        assert_eq!(alarms(&known), ["the supervisor is gone, and with it every layer"]);
        assert_eq!(lost(&known), 0);
    }
}

fn everybody() {
    for round in 0..rounds(3) {
        let (daemon, mut pids) = busy();
        pids.push(daemon.pid());
        moment(round);
        for &pid in &pids {
            // Who died with the supervisor is no more.
            let _ = kill_process(pid, Signal::KILL);
        }
        eventually("all are gone", || pids.iter().all(|&pid| !is_alive(pid)));
        let log = daemon.directory().join("log");
        let before = records(&log).len();
        let policy = policy("sleeper", "sleeper", "", "");
        let policy = policy.replace("DIR/log", log.to_str().unwrap());
        let mut next = Daemon::start("-", &policy);
        let said = next.line("it did not end in order");
        assert!(said.contains("bytes of unfinished records were cut"), "{said}");
        next.confined("a/0.g1");
        next.confined("b/0.g1");
        assert_eq!(next.stop(), Some(0), "{next}");
        assert_sound(&log);
        let after = records(&log);
        assert!(after.len() > before && after[before].entry.kind == Kind::Start);
        assert_two_sided(&ends_told(after[..before].to_vec()));
    }
}

/// The records with the ends of the two layers that nobody could tell of.
fn ends_told(mut records: Vec<cofferdam::audit::Record>) -> Vec<cofferdam::audit::Record> {
    for layer in [0, 1] {
        let mut end = records[0].clone();
        end.entry.kind = Kind::Exit;
        end.entry.peer = Who { layer, copy: 0, generation: 1 };
        records.push(end);
    }
    records
}
