//! What runs a layer's code, and what its policy tells it.

use rustix::process::{Signal, kill_process};

use crate::Test;
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("runtimes::a_runtime_of_the_layers_own_learns_of_peers_and_of_the_stop", own),
    ("runtimes::a_loop_that_only_asks_whether_to_stop_learns_it", asking),
    ("runtimes::a_runtime_of_several_threads_is_the_policys", several),
    ("runtimes::a_blocking_layer_has_no_runtime", none),
    ("runtimes::a_layer_has_the_grace_that_its_policy_gives", grace),
];

fn own() {
    let mut daemon = Daemon::start(
        "runtimes",
        "[layer.caller]\nrun = \"own_runtime\"\nsyscalls = [\"@core\", \"@thread\"]\n\
         [layer.callee]\nrun = \"callee\"\nsyscalls = [\"@core\"]\nrestart = { max = 100 }\n\
         [channel.talk]\nfrom = \"caller\"\nto = \"callee\"\nmethods = [\"echo\"]\n",
    );
    let mut pid = daemon.confined("callee/0.g1");
    daemon.line("answer: hello from callee/0.g1");
    for generation in 2..=4 {
        kill_process(pid, Signal::KILL).unwrap();
        pid = daemon.confined(&format!("callee/0.g{generation}"));
        daemon.line(&format!("answer: hello from callee/0.g{generation}"));
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("caller/0.g1: own runtime done"), 1, "{daemon}");
    assert_eq!(daemon.count("did not finish in time"), 0, "{daemon}");
}

fn asking() {
    let policy = "[layer.a]\nrun = \"asking\"\nsyscalls = [\"@core\"]\n";
    let mut daemon = Daemon::start("asking", policy);
    daemon.line("asks");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("was told"), 1, "{daemon}");
    assert_eq!(daemon.count("did not finish in time"), 0, "{daemon}");
}

fn several() {
    let policy = "[vars]\nplace = \"/srv/x\"\n\
         [layer.a]\nrun = \"configured\"\nsyscalls = [\"@core\"]\nruntime = \"multi-thread\"\n\
         threads = 3\nenv = { RUST_LOG = \"info\", APP_MODE = \"b\" }\nvars = [\"place\"]\n";
    let mut daemon = Daemon::start("configured", policy);
    daemon.line("its thread is busy");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    for line in [
        "workers: 3",
        "environment: APP_MODE=b RUST_LOG=info",
        "place: /srv/x",
        "the policy would need `[layer.a] vars = [\"other\"]`",
    ] {
        assert_eq!(daemon.count(line), 1, "{line}: {daemon}");
    }
    assert_eq!(daemon.count("did not finish in time"), 0, "{daemon}");
}

fn none() {
    let policy = "[layer.a]\nrun = \"asking\"\nsyscalls = [\"@core\"]\n\
         runtime = \"multi-thread\"\nrestart = { on = \"never\" }\n";
    let mut daemon = Daemon::start("asking", policy);
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(
        daemon.count("[layer.a] runtime: its function is a `blocking_layer`"),
        1,
        "{daemon}"
    );
}

fn grace() {
    let policy = "[layer.a]\nrun = \"stubborn\"\nsyscalls = [\"@core\"]\ngrace = \"100ms\"\n";
    let mut daemon = Daemon::start("stubborn", policy);
    daemon.line("deaf");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("a/0.g1 did not finish in time and is killed"), 1, "{daemon}");
}
