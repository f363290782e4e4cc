//! The daemon of README.md: its policy and its program as they stand there, while its layers die.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::Test;
use crate::harness::{Daemon, directory, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("documented::a_caller_that_dies_takes_nobody_with_it", caller_dies),
    ("documented::a_callee_that_dies_takes_nobody_with_it", callee_dies),
];

/// What this program is called when it is to be README's.
pub(crate) const PROGRAM: &str = "the-program-of-README.md";

fn readme(language: &str) -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let text = std::fs::read_to_string(path).unwrap();
    let fence = format!("```{language}\n");
    let (_, rest) = text.split_once("## Write a daemon").unwrap().1.split_once(&fence).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

fn start() -> (Daemon, std::net::SocketAddr) {
    assert!(include_str!("readme.rs").contains(&readme("rust")), "README.md has another program");
    // The port is free a moment before; if somebody takes it, the daemon says so.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let directory = directory();
    let key = directory.path().join("key.pem");
    std::fs::write(&key, "secret ").unwrap();
    let policy = readme("toml");
    let put = |policy: String, old: &str, new: &str| {
        assert_eq!(policy.matches(old).count(), 1, "{old}");
        policy.replace(old, new)
    };
    let policy = put(policy, "/etc/signer/key.pem", key.to_str().unwrap());
    let policy = put(policy, "127.0.0.1:8443", &address.to_string());
    let policy = put(policy, "name = \"signer\"", &format!("name = \"signer-{}\"", address.port()));
    // More lives than a test takes; what is measured is who dies, not how often.
    let restart = "run      = \"listener\"\nrestart = { max = 100 }\n";
    let policy = put(policy, "run      = \"listener\" ", &format!("{restart} "));
    let policy =
        put(policy, "run      = \"keeper\"\n", "run = \"keeper\"\nrestart = { max = 100 }\n");
    std::fs::write(directory.path().join("signer.toml"), policy).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg0(PROGRAM).current_dir(directory.path());
    (Daemon::run(command, directory), address)
}

/// Has a signature made, by whoever is there.
fn signed(address: std::net::SocketAddr) -> String {
    let mut text = String::new();
    eventually("a signature", || {
        let mut connection = TcpStream::connect(address).unwrap();
        text.clear();
        connection.read_to_string(&mut text).is_ok() && !text.is_empty()
    });
    text
}

/// Waits until every thread of a process that has been sent `STOP` stands still, or until its only
/// thread sleeps: then it has done what it could do.
fn stands(pid: Pid, state: char) {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    eventually("it stands still", || {
        let stat = std::fs::read_to_string(&path).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(state))
    });
}

/// How many connections wait to be accepted there (`/proc/net/tcp`, `rx_queue` of a listener).
fn waiting(address: std::net::SocketAddr) -> u64 {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let end = format!(":{:04X}", address.port());
    let line = table.lines().find(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.len() > 4 && fields[1].ends_with(&end) && fields[3] == "0A"
    });
    let queues = line.unwrap().split_whitespace().nth(4).unwrap();
    u64::from_str_radix(queues.split(':').nth(1).unwrap(), 16).unwrap()
}

fn caller_dies() {
    let (mut daemon, address) = start();
    let keeper = daemon.confined("keeper/0.g1");
    for life in 1..=4 {
        let listener = daemon.confined(&format!("listener/0.g{life}"));
        assert_eq!(signed(address), "secret digest", "{daemon}");
        // A call that the keeper has and hasn't begun when its caller dies.
        kill_process(keeper, Signal::STOP).unwrap();
        stands(keeper, 'T');
        let connection = TcpStream::connect(address).unwrap();
        eventually("it is accepted", || waiting(address) == 0);
        stands(listener, 'S');
        kill_process(listener, Signal::KILL).unwrap();
        daemon.line(&format!("listener/0.g{life} was killed by SIGKILL"));
        kill_process(keeper, Signal::CONT).unwrap();
        drop(connection);
    }
    daemon.confined("listener/0.g5");
    assert_eq!(signed(address), "secret digest", "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("keeper/0.g1 ended with exit code 0"), 1, "{daemon}");
}

fn callee_dies() {
    let (mut daemon, address) = start();
    let listener = daemon.confined("listener/0.g1");
    for life in 1..=4 {
        let keeper = daemon.confined(&format!("keeper/0.g{life}"));
        assert_eq!(signed(address), "secret digest", "{daemon}");
        // A call that it has and will never answer.
        kill_process(keeper, Signal::STOP).unwrap();
        stands(keeper, 'T');
        let mut connection = TcpStream::connect(address).unwrap();
        eventually("it is accepted", || waiting(address) == 0);
        stands(listener, 'S');
        kill_process(keeper, Signal::KILL).unwrap();
        // No answer, and no delay: the call fails, and the connection is closed.
        assert_eq!(connection.read_to_end(&mut Vec::new()).unwrap(), 0);
    }
    daemon.confined("keeper/0.g5");
    assert_eq!(signed(address), "secret digest", "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("listener/0.g1 ended with exit code 0"), 1, "{daemon}");
}
