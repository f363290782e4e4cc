//! Layers that try to do something of which the log isn't told.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::audit::Store;
use cofferdam::audit::entry::{Entry, Facility, Kind, Record, Verdict, Who};
use cofferdam::audit::reconcile::{Bounds, reconcile};
use cofferdam::ipc::file::Directory;
use cofferdam::wire::broker::{Ask, FOR_EVER};
use cofferdam::wire::control::{FromLayer, Service};
use cofferdam::wire::report::acts;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use rustix::process::{Signal, kill_process};

use super::kill::last;
use super::layers::{say, stay};
use super::log::{alarms, assert_sound, records};
use super::{Outcome, Test};
use crate::harness::{Daemon, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("hidden::a_number_used_twice_hides_no_lease", used_twice),
    ("hidden::what_a_crowd_waits_for_is_recorded", crowded),
    ("hidden::what_a_crowd_waits_for_is_counted", counted),
];

/// What the hider calls both of its requests.
const NUMBER: u64 = 7;

/// The crowd, and how many permits each of it waits for.
const CROWD: u64 = 34;
const WAITS: u64 = 128;

/// How many files each of the crowd opens.
const OPENS: u64 = 3;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Asks a helper, past the library.
fn ask(socket: &OwnedFd, request: u64, ask: Ask) -> Outcome {
    let bytes = FromLayer::Ask { request, ask }.encode();
    loop {
        match send(socket.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN) => std::thread::sleep(Duration::from_millis(1)),
            Err(errno) => return Err(text(errno)),
        }
    }
}

/// Waits for a file that the test makes.
fn comes(folder: &Directory, name: &str) {
    while folder.open_read(name).is_err() {
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits for a permit as number 7, and then asks for something else as number 7.
pub(crate) fn hider(layer: Layer) -> Outcome {
    let permit = layer.semaphore("s").map_err(text)?.blocking();
    let folder = layer.directory("folder").map_err(text)?;
    while permit.try_acquire().map_err(text)?.is_some() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Both helpers are there.
    comes(&folder, "f");
    say("the permit is another's");
    comes(&folder, "begin");
    let socket = layer.service_socket(Service::Ledger).ok_or("no helper")?;
    ask(&socket, NUMBER, Ask::Acquire { semaphore: 0, wait: FOR_EVER })?;
    ask(&socket, NUMBER, Ask::MakeRoom { queue: 0, priority: 0 })?;
    // Until it is heard no more.
    while recv(socket.as_raw_fd(), &mut [0; 64], MsgFlags::empty()) != Ok(0) {
        std::thread::sleep(Duration::from_millis(1));
    }
    folder.create_new("shut-out").map_err(text)?;
    loop {
        std::thread::park();
    }
}

/// Holds the permit, gives it back when it is told to, and wants it again.
pub(crate) fn holder(layer: Layer) -> Outcome {
    let permit = layer.semaphore("s").map_err(text)?.blocking();
    let folder = layer.directory("folder").map_err(text)?;
    let lease = permit.acquire().map_err(text)?;
    comes(&folder, "f");
    say("the permit is mine");
    comes(&folder, "give-back");
    lease.release().map_err(text)?;
    folder.create_new("given-back").map_err(text)?;
    let lease = permit.acquire().map_err(text)?;
    say(&format!("abandoned: {}, fence {}", lease.abandoned(), lease.fence()));
    stay(&layer)
}

/// As many of them as there are permits to wait for, and a file that each opens.
pub(crate) fn crowd(layer: Layer) -> Outcome {
    let folder = layer.directory("folder").map_err(text)?;
    let socket = layer.service_socket(Service::Ledger).ok_or("no helper")?;
    for request in 0..WAITS {
        ask(&socket, NUMBER + request, Ask::Acquire { semaphore: 0, wait: FOR_EVER })?;
    }
    for _ in 0..OPENS {
        folder.open_read("f").map_err(text)?;
    }
    say("asked for all");
    stay(&layer)
}

fn policy(audit: &str, layers: &str, holders: &str, rights: &str) -> String {
    format!(
        "[audit]\ndirectory = \"DIR/log\"\n{audit}\n{layers}\
         [semaphore.s]\npermits = 1\nholders = [{holders}]\n\
         [file.folder]\npath = \"DIR/folder\"\ngrant = {{ {rights} }}\nmax-open = 64\n"
    )
}

fn layer(name: &str, run: &str, more: &str) -> String {
    format!("[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\n{more}\n")
}

fn folder(directory: &Path) {
    std::fs::create_dir(directory.join("folder")).unwrap();
    std::fs::write(directory.join("folder/f"), "f").unwrap();
}

fn who(layer: u16) -> Who {
    Who { layer, copy: 0, generation: 1 }
}

/// Asserts that readers of the log find nothing wrong with anybody.
fn assert_honest(log: &Path) {
    assert_sound(log);
    let mut told = Vec::new();
    let store = Store::open(log).unwrap();
    let (counts, _) = reconcile(&store, Bounds::default(), |it| told.push(it)).unwrap();
    assert!(counts.honest(), "{told:?}");
}

/// What helpers were asked for by a layer.
fn asked(records: &[Record], layer: u16, facility: Facility) -> Vec<&Entry> {
    let of_it =
        |it: &&Entry| (it.kind, it.facility, it.reporter.layer) == (Kind::Broker, facility, layer);
    records.iter().map(|record| &record.entry).filter(of_it).collect()
}

fn used_twice() {
    let layers = layer("a", "hider", "restart = { on = \"never\" }") + &layer("b", "holder", "");
    let rights = "a = [\"read\", \"create\"], b = [\"read\", \"create\"]";
    let queue = "[queue.q]\nsend = [\"a\"]\nreceive = [\"b\"]\ndepth = 1\n\
                 on-full = \"drop-oldest\"\n";
    let policy = policy("", &layers, "\"a\", \"b\"", rights) + queue;
    let mut daemon = Daemon::start_with("-", &policy, folder);
    let inside = daemon.directory().join("folder");
    for line in ["a/0.g1: the permit is another's", "b/0.g1: the permit is mine"] {
        if daemon.count(line) == 0 {
            daemon.line(line);
        }
    }
    // The supervisor doesn't hear of the breach before the permit has gone on to who broke the rule.
    daemon.signal(Signal::STOP);
    std::fs::write(inside.join("begin"), "").unwrap();
    eventually("it is shut out", || inside.join("shut-out").exists());
    std::fs::write(inside.join("give-back"), "").unwrap();
    eventually("the permit goes on", || inside.join("given-back").exists());
    daemon.signal(Signal::CONT);
    let breach = "it broke the protocol of a helper";
    daemon.line(&format!("a/0.g1 is killed: {breach}"));
    let line = daemon.line("b/0.g1: abandoned: true, fence ");
    let fence: u64 = line.rsplit(' ').next().unwrap().parse().unwrap();
    daemon.stop();

    let log = daemon.directory().join("log");
    assert_honest(&log);
    let records = records(&log);
    let mut leases = asked(&records, 0, Facility::Semaphore);
    leases.retain(|it| (it.method, it.sequence) == (acts::ACQUIRE, fence - 1));
    let leases: Vec<_> = leases.iter().map(|it| (it.verdict, it.reporter)).collect();
    assert_eq!(leases, [(Verdict::Allowed, who(0))], "the lease is not in the log{daemon}");
    assert_eq!(asked(&records, 0, Facility::Queue).len(), 0, "what broke the rule isn't done");
    assert_eq!(alarms(&records), [breach]);
    let accused = records.iter().find(|it| it.entry.kind == Kind::Alarm).unwrap();
    assert_eq!(accused.entry.peer, who(0));
}

/// Has the crowd ask for everything and stops the daemon; gives what was recorded of permits and of
/// files, and how many acts its helpers lost. `still`: the auditor stands still meanwhile.
fn run(audit: &str, still: bool) -> (u64, u64, u64) {
    let layers = layer("a", "crowd", &format!("instances = {CROWD}"));
    let policy = policy(audit, &layers, "\"a\"", "a = [\"read\"]");
    let mut daemon = Daemon::start_with("-", &policy, folder);
    let auditor = last(&mut daemon, "cofferdam-auditor/0.g1");
    if still {
        daemon.line("audit log with 0 records");
        kill_process(auditor, Signal::STOP).unwrap();
    }
    for _ in 0..CROWD {
        daemon.line("asked for all");
    }
    daemon.signal(Signal::TERM);
    for _ in 0..CROWD {
        daemon.line("ended with exit code 0");
    }
    if still {
        kill_process(auditor, Signal::CONT).unwrap();
    }
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_honest(&log);
    let records = records(&log);
    assert_eq!(alarms(&records), [""; 0], "{daemon}");
    let permits = asked(&records, 0, Facility::Semaphore);
    let permits = permits.iter().filter(|it| it.method == acts::ACQUIRE).count() as u64;
    let files = asked(&records, 0, Facility::File).len() as u64;
    let lost = records.iter().map(|record| &record.entry).filter(|it| it.kind == Kind::Loss);
    let lost = lost.filter(|it| it.reporter != Who::SUPERVISOR && it.reporter.layer != 0);
    (permits, files, lost.map(|it| it.length).sum())
}

fn crowded() {
    assert_eq!(run("", false), (CROWD * WAITS, CROWD * OPENS, 0));
}

/// In a ring that is too small for it, of which nobody takes anything.
fn counted() {
    let (permits, files, lost) = run("ring = \"64KiB\"\non-full = \"count\"", true);
    assert!(lost > 0, "it all found room: this test proves nothing");
    let all = CROWD * (WAITS + OPENS);
    // Some may have been given a permit at the end, and have given it back, which may be lost too.
    let told = permits + files + lost;
    assert!((all..all + CROWD).contains(&told), "{permits}, {files} and {lost} of {all}");
}
