//! The program's settings at a reload: by a restart, or taken by a layer that goes on.

use rustix::process::Signal;

use crate::Test;
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("settings::who_takes_them_goes_on", taken),
    ("settings::who_takes_none_begins_anew", not_taken),
    ("settings::who_is_killed_meanwhile_begins_with_them", killed),
    ("settings::nobody_takes_what_it_was_not_told", unasked),
];

fn start(policy: &str) -> Daemon {
    Daemon::start_with("reloading", policy, |folder| {
        std::fs::write(folder.join("settings"), "one").unwrap();
    })
}

fn reload(daemon: &Daemon, settings: &str) {
    std::fs::write(daemon.directory().join("settings"), settings).unwrap();
    daemon.signal(Signal::HUP);
}

fn layer(name: &str, function: &str, more: &str) -> String {
    format!("[layer.{name}]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\n{more}\n")
}

fn taken() {
    for function in ["taking", "taking_blocking"] {
        let told = layer("told", function, "reload = \"told\"\ninstances = 2");
        let mut daemon = start(&(told + &layer("other", "taking", "")));
        for _ in 0..3 {
            daemon.line("begins with one");
        }
        for settings in ["two", "three", "", &"x".repeat(60)] {
            reload(&daemon, settings);
            daemon.line("cofferdam: reloaded");
            for copy in ["told/0.g1", "told/1.g1"] {
                let line = format!("{copy}: goes on with {settings}");
                let begin: String = line.chars().take(200).collect();
                if daemon.count(begin.trim_end()) == 0 {
                    daemon.line(begin.trim_end());
                }
            }
        }
        // Who doesn't say that it takes them begins anew each time.
        if daemon.count("other/0.g5: begins with x") == 0 {
            daemon.line("other/0.g5: begins with x");
        }
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("told/0.g2"), 0, "{daemon}");
    }
}

fn not_taken() {
    // One that never asks for them, and ends when it is told to.
    let told = layer("told", "sleeper", "reload = \"told\"\ngrace = \"200ms\"");
    let mut daemon = start(&(told + &layer("other", "taking", "reload = \"told\"")));
    daemon.line("other/0.g1: begins with one");
    reload(&daemon, "two");
    daemon.line("told/0.g1 has not taken the reloaded settings within its `grace`");
    daemon.confined("told/0.g2");
    daemon.line("cofferdam: reloaded");
    assert_eq!(daemon.count("other/0.g1: goes on with two"), 1, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("other/0.g2"), 0, "{daemon}");
}

fn killed() {
    let told = layer("told", "sleeper", "reload = \"told\"\ngrace = \"1h\"");
    let mut daemon =
        start(&(told + &layer("other", "taking", "reload = \"told\"\nafter = [\"told\"]")));
    let pid = daemon.confined("told/0.g1");
    daemon.line("other/0.g1: begins with one");
    reload(&daemon, "two");
    daemon.line("other/0.g1: goes on with two");
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    // Nobody is owed anything any more: its next life begins with them.
    daemon.line("cofferdam: reloaded");
    daemon.line("told/0.g2 is confined");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn unasked() {
    let policy = layer("told", "taker_of_nothing", "restart = { on = \"never\" }");
    let mut daemon = start(&policy);
    daemon.line("told/0.g1 is killed: it broke the control protocol");
    assert_eq!(daemon.end(), Some(1), "{daemon}");
}
