//! Layers that talk to each other, while one of them dies.

use rustix::process::{Signal, kill_process};

use crate::Test;
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("talk::a_restarted_peer_is_one_event_and_answers_again", restarted),
    ("talk::blocking_layers_talk_and_meet_a_restarted_peer", blocking),
    ("talk::nobody_waits_for_a_layer_that_is_down_for_good", down_for_good),
    ("talk::callers_stop_before_those_they_call", order),
];

fn policy(asking: &str, answering: &str) -> String {
    format!(
        "[layer.caller]\nrun = \"{asking}\"\nsyscalls = [\"@core\"]\n\
         [layer.callee]\nrun = \"{answering}\"\nsyscalls = [\"@core\"]\nrestart = {{ max = 100 }}\n\
         [channel.talk]\nfrom = \"caller\"\nto = \"callee\"\nmethods = [\"echo\"]\n"
    )
}

fn restarted() {
    let mut daemon = Daemon::start("talk", &policy("caller", "callee"));
    // Which of the two is ready first is not said.
    daemon.line("refused: ");
    let mut pid = daemon.confined("callee/0.g1");
    daemon.line("answer: hello from callee/0.g1");
    for generation in 2..=4 {
        kill_process(pid, Signal::KILL).unwrap();
        pid = daemon.confined(&format!("callee/0.g{generation}"));
        daemon.line(&format!("answer: hello from callee/0.g{generation}"));
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    for generation in 1..=3 {
        let next = generation + 1;
        let event = format!("restarted: callee/0.g{generation} callee/0.g{next}");
        assert_eq!(daemon.count(&event), 1, "{event}: {daemon}");
    }
}

fn blocking() {
    let mut daemon = Daemon::start("blocking", &policy("blocking_caller", "blocking_callee"));
    let mut pid = daemon.confined("callee/0.g1");
    daemon.line("answer: hello from callee/0.g1");
    for generation in 2..=4 {
        kill_process(pid, Signal::KILL).unwrap();
        pid = daemon.confined(&format!("callee/0.g{generation}"));
        daemon.line(&format!("answer: hello from callee/0.g{generation}"));
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("caller/0.g1: caller done"), 1, "{daemon}");
    assert_eq!(daemon.count("callee/0.g4: callee done"), 1, "{daemon}");
}

fn order() {
    let mut daemon = Daemon::start("talk", &policy("caller", "callee"));
    daemon.line("answer: ");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let place = |text: &str| daemon.seen.iter().position(|line| line.contains(text)).unwrap();
    assert!(place("caller/0.g1 ended") < place("callee/0.g1: callee done"), "{daemon}");
}

/// By `restart`, the callee comes no more: a call that waits and every later one fail at once, and one
/// event says so. Whoever begins later is told before.
fn down_for_good() {
    for (asking, restart) in [
        ("hopeful", "on = \"never\""),
        ("blocking_hopeful", "on = \"never\""),
        ("hopeful", "max = 1, then = \"leave-down\""),
        ("blocking_hopeful", "max = 1, then = \"leave-down\""),
    ] {
        let policy = policy(asking, "failing").replace("max = 100", restart);
        let mut daemon = Daemon::start("hope", &policy);
        let pid = daemon.confined("caller/0.g1");
        daemon.line("caller/0.g1: call: layer 'callee' is down for good");
        daemon.line("caller/0.g1: again: layer 'callee' is down for good");
        daemon.line("caller/0.g1: event: PeerDown");
        kill_process(pid, Signal::KILL).unwrap();
        daemon.line("caller/0.g2: call: layer 'callee' is down for good");
        daemon.line("caller/0.g2: event: PeerDown");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("caller/0.g1: event: PeerDown"), 1, "{daemon}");
    }
}
