//! Layers that are asked whether they are well (`health`), and what follows if they aren't.

use rustix::process::{Signal, kill_process};

use crate::Test;
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("health::a_layer_that_hangs_is_killed_and_begins_anew", hung),
    ("health::a_layer_that_is_stopped_is_noticed", stopped),
    ("health::layers_that_wait_in_any_way_are_well", well),
    ("health::a_layer_may_take_its_time_until_it_is_ready", late),
    ("health::nobody_answers_who_was_not_asked", liar),
];

fn layer(function: &str, more: &str) -> String {
    format!(
        "[layer.{function}]\nrun = \"{function}\"\nsyscalls = [\"@core\", \"@net-stream\"]\n\
         limits = {{ memory = \"64MiB\" }}\noptional = [\"cgroup\"]\n\
         restart = {{ on = \"failure\", max = 1000, within = \"1m\" }}\n{more}\n"
    )
}

const SOON: &str = "health = { every = \"100ms\", within = \"300ms\" }";

fn lost(function: &str, within: &str) -> String {
    format!(
        "{function}/0.g1 was killed by SIGKILL: it didn't answer within {within} whether it is \
         well: it hung, or was stopped ([layer.{function}] health)"
    )
}

fn hung() {
    for function in ["hanging", "spinning"] {
        let mut daemon = Daemon::start("health", &layer(function, SOON));
        daemon.line(&format!("{function}/0.g1: hangs"));
        daemon.line(&lost(function, "300 ms"));
        daemon.line(&format!("{function}/0.g2: works"));
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
}

fn stopped() {
    let mut daemon = Daemon::start("health", &layer("sleeper", SOON));
    daemon.line("sleeper/0.g1: asleep");
    kill_process(daemon.confined("sleeper/0.g1"), Signal::STOP).unwrap();
    daemon.line(&lost("sleeper", "300 ms"));
    daemon.line("sleeper/0.g2: asleep");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn well() {
    let often = "health = { every = \"100ms\", within = \"2s\" }";
    let policy = [
        layer("sleeper", often),
        layer("asking", often),
        layer("waiting", &format!("{often}\nlisten = {{ door = \"tcp:127.0.0.1:0\" }}")),
        // One of its threads is busy.
        layer("configured", &format!("{often}\nruntime = \"multi-thread\"\nthreads = 2")),
        layer("always_hanging", "health = { every = \"1s\", within = \"2s\" }"),
    ];
    let vars = "[vars]\nplace = \"/srv/x\"\n";
    let policy =
        policy.concat().replace("run = \"configured\"", "vars = [\"place\"]\nrun = \"configured\"");
    let mut daemon = Daemon::start("health", &(vars.to_owned() + &policy));
    // By the time that one was given up twice, another would have been once.
    daemon.line("always_hanging/0.g1 was killed by SIGKILL");
    daemon.line("always_hanging/0.g2 was killed by SIGKILL");
    for function in ["sleeper", "asking", "waiting", "configured"] {
        assert_eq!(daemon.count(&format!("{function}/0.g1 was killed")), 0, "{daemon}");
        assert_eq!(daemon.count(&format!("{function}/0.g1 is confined")), 1, "{daemon}");
    }
    daemon.stop();
}

fn late() {
    let policy = layer("late", &format!("ready = \"told\"\n{SOON}"));
    let mut daemon = Daemon::start("health", &policy);
    daemon.line("late/0.g1: ready");
    assert_eq!(daemon.count("was killed"), 0, "{daemon}");
    daemon.line(&lost("late", "300 ms"));
    daemon.stop();
}

fn liar() {
    for more in [SOON, ""] {
        let mut daemon = Daemon::start("health", &layer("pretending", more));
        daemon.line("pretending/0.g1 is killed: it broke the control protocol");
        daemon.stop();
    }
}
