//! The layer of the framework's own that writes the log: killed at any moment, kept waiting, hostile.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::harness::{Daemon, PATIENCE, directory, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("writer::killed_under_load_it_is_begun_anew_and_nobody_else_notices", killed),
    ("writer::killed_with_a_layer_it_leaves_no_pipe_unread", killed_with_a_layer),
    ("writer::killed_it_gets_what_was_printed_meanwhile", killed_while_others_print),
    ("writer::lines_come_in_the_order_of_a_life", in_order),
    ("writer::a_standard_error_that_nobody_reads_holds_up_only_who_floods_it", stalled),
    ("writer::that_lies_is_killed_and_begun_anew", lying),
    ("writer::that_speaks_nonsense_is_killed_and_begun_anew", babbling),
    ("writer::that_can_t_be_confined_stops_the_daemon_with_the_reason", unconfined),
    ("writer::denials_are_told_and_recorded", denied),
];

/// The writer of the log, and a layer by whose name in the plan it knows, in a daemon of this test
/// program, that it is to do harm.
const WRITER: &str = "cofferdam-layer:cofferdam-log/0.g1";
pub(crate) const LIED: &str = "lied-about";
pub(crate) const BABBLED: &str = "babbled-at";
pub(crate) const ASTRAY: &str = "led-astray";

/// What the first life of the writer does before it comes to `Daemon::main`: a child speaks on its
/// control socket, in one message. False: it doesn't come there.
pub(crate) fn prelude(title: &str) -> bool {
    if title != WRITER {
        return true;
    }
    // Its part of the plan, which it may read.
    let slice = std::fs::read("/proc/self/fd/3").unwrap_or_default();
    let names = |name: &str| slice.windows(name.len()).any(|bytes| bytes == name.as_bytes());
    let says = match () {
        // All that the first layer printed is written, which has not ended.
        () if names(LIED) => r"\016\0\0\0\0\001\0\0\0\0\0\0\0",
        () if names(BABBLED) => "nonsense",
        () if names(ASTRAY) => return false,
        () => return true,
    };
    // Later, and without any other program: by then it sees none. Its own must be loaded before.
    let wait = "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done";
    let script = format!("printf r; exec >&-; {wait}; printf '{says}' >&4");
    let mut shell = Command::new("/bin/sh");
    if let Ok(child) = shell.args(["-c", &script]).stdout(Stdio::piped()).spawn() {
        let _ = child.stdout.map(|mut ready| ready.read_exact(&mut [0]));
    }
    true
}

const ONE: &str = "syscalls = [\"@core\"]\nrestart = { max = 1000 }\n";

fn counting(copies: u16) -> Daemon {
    let policy = format!("[layer.a]\nrun = \"counting\"\ninstances = {copies}\n{ONE}");
    Daemon::start("counting", &policy)
}

fn writer(daemon: &mut Daemon, generation: usize) -> Pid {
    daemon.confined(&format!("cofferdam-log/0.g{generation}"))
}

/// The numbers that each instance has printed, as far as they came whole.
fn numbers(daemon: &Daemon) -> BTreeMap<&str, Vec<u64>> {
    let mut all = BTreeMap::<&str, Vec<u64>>::new();
    for line in &daemon.seen {
        if let Some((instance, number)) = line.split_once(": ")
            && instance.starts_with("a/")
            && let Ok(number) = number.parse()
        {
            all.entry(instance).or_default().push(number);
        }
    }
    all
}

fn killed() {
    let mut daemon = counting(2);
    let mut victim = writer(&mut daemon, 1);
    for round in 1..=15 {
        daemon.line("a/0.g1: ");
        std::thread::sleep(Duration::from_micros(round * 7919 % 20_000));
        kill_process(victim, Signal::KILL).unwrap();
        daemon.line("lines may be missing here");
        victim = writer(&mut daemon, usize::try_from(round).unwrap() + 1);
        daemon.line("a/0.g1: ");
        daemon.line("a/1.g1: ");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count(": a/0.g2 is confined"), 0, "{daemon}");
    assert_eq!(daemon.count("a/0.g1: counted"), 1, "{daemon}");
    assert_eq!(daemon.count("a/1.g1: counted"), 1, "{daemon}");
    for (instance, numbers) in numbers(&daemon) {
        assert!(numbers.is_sorted_by(|a, b| a < b), "{instance} is repeated: {numbers:?}");
    }
}

fn killed_with_a_layer() {
    let mut daemon = counting(1);
    let mut victim = writer(&mut daemon, 1);
    for round in 1..=10 {
        daemon.line(&format!("a/0.g{round}: "));
        let line = format!(": a/0.g{round} is confined, pid ");
        let pid = daemon.seen.iter().rev().find_map(|seen| {
            seen.split_once(&line)?.1.split(':').next()?.parse().ok().and_then(Pid::from_raw)
        });
        // Its line may have been lost with the writer before.
        let Some(layer) = pid.or_else(|| child_named(&daemon, &format!("a/0.g{round}"))) else {
            panic!("a/0.g{round} isn't there: {daemon}");
        };
        let mut victims = [victim, layer];
        if round % 2 == 0 {
            victims.reverse();
        }
        for victim in victims {
            let _ = kill_process(victim, Signal::KILL);
        }
        victim = writer(&mut daemon, round + 1);
    }
    daemon.line("a/0.g11: ");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// The child of a daemon that has this name in its kernel's title.
fn child_named(daemon: &Daemon, name: &str) -> Option<Pid> {
    let supervisor = daemon.pid().as_raw_nonzero();
    let children = format!("/proc/{supervisor}/task/{supervisor}/children");
    let children = std::fs::read_to_string(children).ok()?;
    let found = children.split_whitespace().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
    });
    Pid::from_raw(found?.parse().ok()?)
}

/// A writer that stands still reads nothing; what is printed then waits for the next one.
fn killed_while_others_print() {
    let mut daemon = counting(1);
    let victim = writer(&mut daemon, 1);
    daemon.line("a/0.g1: ");
    kill_process(victim, Signal::STOP).unwrap();
    // Until it is still: lines that were on their way have come by then.
    std::thread::sleep(Duration::from_millis(300));
    let _ = daemon.line_within("nothing that anybody says", Duration::from_millis(100));
    let last = numbers(&daemon)["a/0.g1"].last().copied().unwrap();
    std::thread::sleep(Duration::from_millis(300));
    kill_process(victim, Signal::KILL).unwrap();
    daemon.line("lines may be missing here");
    daemon.line("a/0.g1: ");
    let next = numbers(&daemon)["a/0.g1"].iter().copied().find(|&number| number > last).unwrap();
    // What the former one had taken out of the pipe is lost, which isn't much.
    assert!(next - last < 64, "{last} is followed by {next}: {daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn in_order() {
    const LIVES: usize = 20;
    let restart =
        format!("restart = {{ max = {}, within = \"1h\", backoff = \"10ms\" }}", LIVES - 1);
    let policy = format!("[layer.a]\nrun = \"bursting\"\nsyscalls = [\"@core\"]\n{restart}");
    let mut daemon = Daemon::start("bursting", &policy);
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    for life in 1..=LIVES {
        let place = |text: &str| {
            let at = daemon.seen.iter().position(|line| line.contains(text));
            at.unwrap_or_else(|| panic!("no {text:?}: {daemon}"))
        };
        let said: Vec<_> = (0..daemon.seen.len())
            .filter(|&at| daemon.seen[at].starts_with(&format!("a/0.g{life}: ")))
            .collect();
        // A hundred lines, and its error.
        assert_eq!(said.len(), 101, "{daemon}");
        assert!(place(&format!("a/0.g{life} is confined")) < said[0], "{daemon}");
        let end = place(&format!("a/0.g{life} ended with exit code 1"));
        assert!(*said.last().unwrap() < end, "{daemon}");
    }
}

fn stalled() {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let directory = directory();
    let policy = format!(
        "cofferdam = 1\nname = \"stalled\"\n[layer.loud]\nrun = \"talkative\"\n\
         syscalls = [\"@core\", \"@thread\"]\n[layer.quiet]\nrun = \"ticking\"\n{ONE}\
         [file.tick]\npath = \"{0}/tick\"\ngrant = {{ quiet = [\"read\", \"write\"] }}\n",
        directory.path().display()
    );
    let (path, tick) = (directory.path().join("policy.toml"), directory.path().join("tick"));
    std::fs::write(&path, policy).unwrap();
    std::fs::write(&tick, [0; 16]).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--daemon", "stalled"])
        .arg(&path)
        .stderr(writer)
        .spawn()
        .unwrap();
    // Its life and its count.
    let ticked = || {
        let bytes = std::fs::read(&tick).unwrap();
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        (number(0), number(8))
    };
    eventually("the quiet one runs", || ticked().1 > 0);
    // Longer than the supervisor is patient with who doesn't read its control socket.
    std::thread::sleep(Duration::from_secs(11));
    let before = ticked();
    eventually("the quiet one goes on", || ticked().1 > before.1);
    assert_eq!(ticked().0, 1);
    let supervisor = child.id();
    let children =
        std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"));
    let quiet = children.unwrap().split_whitespace().find_map(|pid| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        comm.starts_with("quiet/0.g1").then(|| Pid::from_raw(pid.parse().unwrap()).unwrap())
    });
    kill_process(quiet.unwrap(), Signal::KILL).unwrap();
    eventually("the quiet one comes again", || ticked().0 == 2);
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let begin = std::time::Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > PATIENCE {
            let _ = child.kill();
            panic!("it doesn't end");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
    drop(reader);
}

/// A daemon whose first writer does harm, and what becomes of that one.
fn harmed(name: &str) {
    let policy =
        format!("[audit]\ndirectory = \"DIR/log\"\n[layer.{name}]\nrun = \"counting\"\n{ONE}");
    let mut daemon = Daemon::start("counting", &policy);
    daemon.line("cofferdam-log/0.g1 is killed: it broke the control protocol");
    daemon.line("cofferdam-log/0.g2 is confined");
    daemon.line(&format!("{name}/0.g1: "));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count(&format!("{name}/0.g1: counted")), 1, "{daemon}");
}

fn lying() {
    harmed(LIED);
}

fn babbling() {
    harmed(BABBLED);
}

fn unconfined() {
    let policy =
        format!("[audit]\ndirectory = \"DIR/log\"\n[layer.{ASTRAY}]\nrun = \"counting\"\n{ONE}");
    let mut daemon = Daemon::start("counting", &policy);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    let reason = "cofferdam-log/0.g1 ended with exit code 0 before it was confined";
    assert_eq!(daemon.count(reason), 1, "{daemon}");
    assert_eq!(daemon.count("is confined"), 0, "{daemon}");
}

fn denied() {
    use cofferdam::audit::entry::{Facility, Kind, Side, Verdict};

    let policy = "[audit]\ndirectory = \"DIR/log\"\n[layer.a]\nrun = \"forbidden\"\n\
                  syscalls = [\"@core\"]\nrestart = { on = \"never\" }";
    let mut daemon = Daemon::start("forbidden", policy);
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    let killed = "a/0.g1 was killed by SIGSYS: it made a system call that `syscalls` in [layer.a] \
                  does not grant";
    assert_eq!(daemon.count(killed), 1, "{daemon}");
    let can = std::fs::File::open("/dev/kmsg").is_ok();
    let hidden = daemon.count("this user can't read it");
    assert_eq!(hidden, usize::from(!can), "{daemon}");
    let store = cofferdam::audit::Store::open(&daemon.directory().join("log")).unwrap();
    let filter = cofferdam::audit::query::Filter::default();
    let mut denials = Vec::new();
    cofferdam::audit::query::query(&store, &filter, |record| {
        if record.entry.kind == Kind::Denial {
            denials.push(record.entry);
        }
        true
    })
    .unwrap();
    // The kernel's log drops what comes too fast.
    let named = daemon.count("a/0.g1 made the system call getsid in a way that isn't granted");
    assert_eq!(denials.len(), named, "{denials:?}");
    for denial in denials {
        assert_eq!((denial.side, denial.verdict), (Side::Helper, Verdict::Killed));
        assert_eq!((denial.facility, denial.detail), (Facility::Syscall, b"getsid".to_vec()));
        assert_eq!((denial.peer.layer, denial.peer.generation), (0, 1));
    }
}
