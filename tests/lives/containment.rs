//! A layer that hoards, floods, lies to its supervisor, or dies in an odd way harms nobody else;
//! and nothing of a daemon outlives its supervisor (promise P7).

use std::time::Duration;

use crate::support::daemon::{Daemon, Outcome, wait_until_gone};
use crate::support::process::PATIENCE;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

crate::support::suite::tests! {
    a_memory_hog_dies_alone,
    a_fork_bomb_is_bounded,
    a_layer_that_spins_holds_nobody_up,
    a_forbidden_call_of_a_second_thread_ends_the_whole_layer,
    what_breaks_the_control_protocol_is_killed,
    descriptors_for_the_supervisor_are_refused,
    who_does_not_listen_is_killed_before_anybody_waits,
    a_dead_control_socket_keeps_nobody_busy,
    a_flood_of_lines_fills_no_memory_and_drowns_nobody,
    nobody_writes_in_anothers_name,
    a_layer_that_ends_is_told_and_begins_anew,
    an_abort_leaves_no_core,
    who_leaves_the_session_still_ends_with_the_layer,
    nothing_outlives_the_supervisor,
    no_layer_makes_itself_immortal,
    a_program_does_not_get_hold_of_its_init,
    no_program_outlives_the_supervisor,
    a_stopped_layer_is_ended_all_the_same,
}

/// A layer that may do what every layer may, beside two that talk to each other.
const CORE: &str = r#"
cofferdam = 1
name = "core"

[layer.attacker]
run      = "attacker"
syscalls = ["@core", "@thread", "shutdown"]
because  = "it tries to shut its control socket down"
limits   = { memory = "64MiB", files = 200, tasks = 8 }
restart  = { on = "always", max = 5, within = "10s" }
optional = ["cgroup"]

[layer.neighbour]
run      = "neighbour"
syscalls = ["@core"]
optional = ["cgroup"]

[layer.witness]
run      = "witness"
syscalls = ["@core"]
optional = ["cgroup"]

[channel.pulse]
from = "neighbour"
to   = "witness"
"#;

const WIDE: &str = include_str!("../policies/wide.toml");

/// Starts a daemon and lets its attacker go.
fn attacked(policy: &str, attack: &str, facts: &[(&str, &str)]) -> Daemon {
    let facts: Vec<_> = facts.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let daemon = Daemon::start(policy, &format!("attacker:{attack}"), &facts);
    let others = ["neighbour/0.g1", "witness/0.g1"].map(ToOwned::to_owned);
    daemon.go(&["attacker/0.g1".to_owned()], &others);
    daemon
}

/// The neighbours are in their first lives, and talk to each other.
fn others_are_well(daemon: &Daemon) {
    let mark = daemon.mark();
    daemon.beats(mark, "neighbour/0.g1", &["pulse"]);
    daemon.beats(mark, "witness/0.g1", &[]);
}

fn a_memory_hog_dies_alone() {
    let daemon = attacked(CORE, "memory-hog", &[]);
    match daemon.outcome("attacker/0.g1") {
        // By its control group.
        // Named by its key where the control group tells of it.
        Outcome::Ended(how) => assert!(how.starts_with("was killed by SIGKILL"), "{how}"),
        // By its own limit.
        Outcome::Worked(how) => assert!(mebibytes(&how) <= 64, "{how}"),
        other => panic!("{other:?}"),
    }
    others_are_well(&daemon);
}

fn mebibytes(text: &str) -> u32 {
    text.strip_suffix(" MiB, then no more").and_then(|n| n.parse().ok()).expect("a bound")
}

fn a_fork_bomb_is_bounded() {
    let daemon = attacked(WIDE, "fork-bomb", &[]);
    let outcome = daemon.outcome("attacker/0.g1");
    let Outcome::Worked(how) = &outcome else { panic!("{outcome:?}") };
    let children = how.strip_suffix(" children, then EAGAIN").expect(how);
    assert!(children.parse::<u32>().expect("a number") < 8, "{how}");
    others_are_well(&daemon);
}

fn a_layer_that_spins_holds_nobody_up() {
    let daemon = attacked(CORE, "spin", &[]);
    others_are_well(&daemon);
}

fn a_forbidden_call_of_a_second_thread_ends_the_whole_layer() {
    let daemon = attacked(CORE, "thread-call", &[]);
    assert_eq!(daemon.outcome("attacker/0.g1"), Outcome::Filtered(None));
    daemon.confined("attacker/0.g2");
    others_are_well(&daemon);
}

fn what_breaks_the_control_protocol_is_killed() {
    for attack in ["control-garbage", "control-oversize", "control-flood", "control-ready-again"] {
        let daemon = attacked(CORE, attack, &[]);
        let said = "cofferdam: attacker/0.g1 is killed: it broke the control protocol";
        daemon.wait(0, said, |line| (line == said).then_some(()));
        daemon.confined("attacker/0.g2");
        others_are_well(&daemon);
    }
}

fn descriptors_for_the_supervisor_are_refused() {
    let daemon = attacked(CORE, "nothing", &[]);
    let before = daemon.weight();
    drop(daemon);
    let daemon = attacked(CORE, "control-descriptors", &[]);
    match daemon.outcome("attacker/0.g1") {
        // SO_PASSRIGHTS, from Linux 6.16 on.
        Outcome::Errno(errno) => assert_eq!(errno, "EPERM"),
        Outcome::Worked(how) => eprintln!("this kernel lets them be sent: {how}"),
        other => panic!("{other:?}"),
    }
    others_are_well(&daemon);
    assert_eq!(daemon.weight().0, before.0, "the supervisor's open descriptors");
}

/// It is told of every life of its peers, and listens to nothing.
fn who_does_not_listen_is_killed_before_anybody_waits() {
    let crashers = CORE.to_owned()
        + "
[layer.crasher]
run       = \"crasher\"
instances = 50
syscalls  = [\"@core\"]
limits    = { memory = \"64MiB\" }
restart   = { on = \"always\", max = 1000, within = \"10s\" }
optional  = [\"cgroup\"]

[channel.noise]
from = \"crasher\"
to   = \"attacker\"
";
    let daemon = attacked(&crashers, "control-deaf", &[]);
    let said = "cofferdam: attacker/0.g1 is killed: it does not read its control socket";
    let is_told = |line: &str| line.starts_with(said).then_some(());
    let mut mark = 0;
    // Its socket is full after three or four lives of the others. What is void by the time it could
    // be sent isn't kept for it: so nothing is owed to it before the last of them stay.
    for generation in 1..8 {
        let next = daemon.mark();
        for copy in 0..50 {
            let pid = daemon.confined_after(mark, &format!("crasher/{copy}.g{generation}"));
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        mark = next;
    }
    let told = daemon.wait_for(PATIENCE, 0, is_told);
    assert!(told.is_some(), "nobody minds:\n{}", daemon.lines().join("\n"));
    others_are_well(&daemon);
}

/// A turn of the supervisor's loop that finds nothing to do, again and again, would be seen here.
fn a_dead_control_socket_keeps_nobody_busy() {
    for attack in ["control-shutdown", "control-close", "control-empty"] {
        let daemon = attacked(CORE, attack, &[]);
        daemon.outcome("attacker/0.g1");
        others_are_well(&daemon);
        let before = daemon.processor_time();
        std::thread::sleep(Duration::from_secs(1));
        let used = daemon.processor_time().saturating_sub(before);
        assert!(used < Duration::from_millis(400), "{attack}: {used:?} of a second");
        others_are_well(&daemon);
    }
}

fn a_flood_of_lines_fills_no_memory_and_drowns_nobody() {
    // All of it is shown, its last line too: what `rate` keeps back is tried in `logs`.
    let free = CORE.replacen("restart ", "log = { rate = \"100000/s\" }\nrestart ", 1);
    let daemon = attacked(&free, "flood", &[("mib", "100")]);
    others_are_well(&daemon);
    assert_eq!(daemon.outcome("attacker/0.g1"), Outcome::Worked("flooded".to_owned()));
    let (_, memory) = daemon.weight();
    assert!(memory < 32 << 10, "the supervisor holds {memory} KiB");
    others_are_well(&daemon);
}

fn nobody_writes_in_anothers_name() {
    let daemon = attacked(CORE, "forge-log", &[]);
    daemon.outcome("attacker/0.g1");
    others_are_well(&daemon);
    let lines = daemon.lines();
    let forged = |text: &str| lines.iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
    for text in ["all is well", "other/0.g1 is confined", "keeper/0.g1: fine"] {
        // On standard output and on standard error.
        assert_eq!(forged(text).len(), 2, "{text}");
        assert!(forged(text).iter().all(|line| line.starts_with("attacker/0.g1: ")), "{text}");
    }
    for line in &lines {
        assert!(!line.chars().any(|c| c.is_control() || c == '\u{202e}'), "{line:?}");
    }
}

fn a_layer_that_ends_is_told_and_begins_anew() {
    for (code, said) in [("0", "exit code 0"), ("7", "exit code 7"), ("70", "exit code 70")] {
        let daemon = attacked(CORE, "exit", &[("code", code)]);
        assert_eq!(daemon.outcome("attacker/0.g1"), Outcome::Ended(format!("ended with {said}")));
        daemon.confined("attacker/0.g2");
        others_are_well(&daemon);
    }
}

fn an_abort_leaves_no_core() {
    let daemon = attacked(CORE, "abort", &[]);
    // The layer is the first process of its namespace, which the kernel spares its own SIGABRT:
    // then abort() ends it by a forbidden instruction.
    let Outcome::Ended(how) = daemon.outcome("attacker/0.g1") else { panic!("it goes on") };
    assert!(["was killed by SIGABRT", "was killed by SIGSEGV"].contains(&&*how), "{how}");
    others_are_well(&daemon);
}

fn who_leaves_the_session_still_ends_with_the_layer() {
    let daemon = attacked(WIDE, "grandchild", &[]);
    let layer = daemon.confined("attacker/0.g1");
    assert!(matches!(daemon.outcome("attacker/0.g1"), Outcome::Worked(_)));
    let below = below(layer);
    assert!(!below.is_empty(), "nobody was left behind: this test proves nothing");
    kill(Pid::from_raw(layer), Signal::SIGKILL).expect("it is there");
    wait_until_gone(&[&[layer], &below[..]].concat());
    daemon.confined("attacker/0.g2");
    others_are_well(&daemon);
}

fn below(parent: i32) -> Vec<i32> {
    let parents = crate::support::daemon::parents();
    parents.into_iter().filter(|&(_, above)| above == parent).map(|(pid, _)| pid).collect()
}

fn nothing_outlives_the_supervisor() {
    for attack in ["grandchild", "spin", "stop-itself"] {
        let mut daemon = attacked(WIDE, attack, &[]);
        if attack != "spin" {
            daemon.outcome("attacker/0.g1");
        }
        // One that is stopped can't end itself.
        let stopped = daemon.confined("witness/0.g1");
        kill(Pid::from_raw(stopped), Signal::SIGSTOP).expect("it is there");
        let all = daemon.descendants();
        assert!(all.len() >= 3, "{all:?}");
        daemon.signal(Signal::SIGKILL);
        let status = daemon.ended();
        assert_eq!(crate::support::daemon::signal_of(status), Some(libc::SIGKILL));
        wait_until_gone(&all);
    }
}

/// A policy may grant `prctl` whole: not even then can a layer take the kernel's signal back.
fn no_layer_makes_itself_immortal() {
    let mut daemon = attacked(WIDE, "immortal", &[]);
    let outcome = daemon.outcome("attacker/0.g1");
    assert_eq!(outcome, Outcome::Filtered(None));
    let all = daemon.descendants();
    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    let left = crate::support::daemon::left_after(Duration::from_secs(5), &all);
    for pid in &left {
        let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    assert!(left.is_empty(), "{outcome:?}, and {left:?} lived on");
}

/// The init of an `exec` layer is the program's own user, in the program's own namespaces.
fn a_program_does_not_get_hold_of_its_init() {
    let probe = crate::support::probe().display().to_string();
    let (_, calls) = WIDE.split_once("syscalls = [").expect("the calls");
    let (calls, _) = calls.split_once("]\n").expect("their end");
    for attack in ["init-ptrace", "init-memory", "init-descriptor", "init-kill"] {
        let policy = format!(
            "cofferdam = 1\nname = \"programs\"\n
             [layer.a]
             exec     = [\"{probe}\", \"--inside\", \"{attack}\"]
             because  = \"a test\"
             syscalls = [{calls}]
             optional = [\"cgroup\"]\n
             [file.probe]
             path  = \"{probe}\"
             grant = {{ a = [\"read\", \"execute\"] }}\n"
        );
        let daemon = Daemon::start(&policy, ":", &[]);
        assert_eq!(daemon.outcome("a/0.g1"), Outcome::Errno("EPERM".to_owned()), "{attack}");
        daemon.beats(daemon.mark(), "a/0.g1", &[]);
    }
}

/// An `exec` layer is two processes, and what its program starts.
fn no_program_outlives_the_supervisor() {
    let probe = crate::support::probe().display().to_string();
    let policy = format!(
        "cofferdam = 1\nname = \"programs\"\n
         [layer.a]
         exec     = [\"{probe}\", \"--inside\", \"grandchild\"]
         syscalls = [\"@core\", \"@process\"]
         optional = [\"cgroup\"]\n
         [file.probe]
         path  = \"{probe}\"
         grant = {{ a = [\"read\", \"execute\"] }}\n"
    );
    let mut daemon = Daemon::start(&policy, ":", &[]);
    let outcome = daemon.outcome("a/0.g1");
    assert!(matches!(outcome, Outcome::Worked(_)), "{outcome:?}");
    let all = daemon.descendants();
    assert!(all.len() >= 3, "init, program and what it left: {all:?}");
    daemon.signal(Signal::SIGKILL);
    daemon.ended();
    wait_until_gone(&all);
}

fn a_stopped_layer_is_ended_all_the_same() {
    let daemon = attacked(CORE, "nothing", &[]);
    let pid = daemon.confined("attacker/0.g1");
    kill(Pid::from_raw(pid), Signal::SIGSTOP).expect("it is there");
    others_are_well(&daemon);
    let all = daemon.descendants();
    let (status, lines) = daemon.stop();
    assert!(status.success(), "{status}");
    let late = "cofferdam: attacker/0.g1 did not finish in time and is killed";
    assert!(lines.iter().any(|line| line == late), "{}", lines.join("\n"));
    wait_until_gone(&all);
}
