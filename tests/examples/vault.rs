//! The example `vault` attacked: no stranger's process holds another stranger's memory, connection or
//! secret, before it has said who it is and afterwards.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::support::example;
use crate::support::harness::Daemon;
use crate::support::process::{eventually, write_policy};

const ACCOUNTS: &str = "ann:pass-of-ann-6f1d\nbob:pass-of-bob-c2a8\n";

/// The vault on a free port.
fn vault() -> (Daemon, SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let directory = crate::support::process::directory();
    let accounts = directory.path().join("accounts");
    fs::write(&accounts, ACCOUNTS).unwrap();
    let policy = include_str!("../../policies/vault.toml")
        .replace("127.0.0.1:7070", &address.to_string())
        .replace("/etc/vault/accounts", accounts.to_str().unwrap());
    let policy = write_policy(directory.path(), &policy);
    let mut command = Command::new(example("vault"));
    command.arg("--policy").arg(policy);
    let mut daemon = Daemon::run(command, directory);
    for instance in ["monitor/0.g1", "greeter/0.g1", "greeter/1.g1", "session/0.g1"] {
        daemon.confined(instance);
    }
    (daemon, address)
}

/// A stranger.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut client = Self(BufReader::new(stream));
        assert_eq!(client.line(), "name and password, in a line each");
        client
    }

    fn known(address: SocketAddr, name: &str, password: &str) -> Self {
        let mut client = Self::connect(address);
        client.say(&format!("{name}\n{password}"));
        assert_eq!(client.line(), "welcome");
        client
    }

    fn say(&mut self, words: &str) {
        self.0.get_mut().write_all(format!("{words}\n").as_bytes()).unwrap();
    }

    /// The next line; empty at the end.
    fn line(&mut self) -> String {
        let mut line = String::new();
        // One that is reset is at its end too.
        let _ = self.0.read_line(&mut line);
        line.trim_end().to_owned()
    }

    fn ask(&mut self, words: &str) -> String {
        self.say(words);
        self.line()
    }
}

/// The layers' processes: whose, and its number.
fn processes(daemon: &Daemon) -> Vec<(String, i32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|it| it.parse::<i32>().ok()) else {
            continue;
        };
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        let is_layer =
            parent.is_some_and(|it| it.trim() == daemon.pid().as_raw_nonzero().to_string());
        let title = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let title = title.split('\0').next().unwrap_or_default();
        if let Some(instance) = title.strip_prefix("cofferdam-layer:").filter(|_| is_layer) {
            found.push((instance.to_owned(), pid));
        }
    }
    found
}

/// Which of the processes have these bytes in memory.
fn holders(processes: &[(String, i32)], what: &str) -> Vec<String> {
    let holds = |pid: i32| {
        // One that has ended holds nothing.
        let Ok(memory) = fs::File::open(format!("/proc/{pid}/mem")) else { return false };
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        // What is mapped from files is the program, and what can't be written holds nobody's words.
        maps.lines().filter(|line| line.contains(" rw-p ") && !line.contains('/')).any(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            let number = |hex| u64::from_str_radix(hex, 16).unwrap();
            let length = usize::try_from(number(end) - number(start)).unwrap().min(64 << 20);
            let mut bytes = vec![0; length];
            memory.read_exact_at(&mut bytes, number(start)).is_ok()
                && memmem(&bytes, what.as_bytes())
        })
    };
    processes.iter().filter(|(_, pid)| holds(*pid)).map(|(name, _)| name.clone()).collect()
}

fn memmem(mut bytes: &[u8], what: &[u8]) -> bool {
    while let Some(at) = bytes.iter().position(|byte| *byte == what[0]) {
        if bytes[at..].starts_with(what) {
            return true;
        }
        bytes = &bytes[at + 1..];
    }
    false
}

#[test]
fn strangers_have_their_own_and_nothing_else() {
    let (mut daemon, address) = vault();
    let mut guess = Client::connect(address);
    assert_eq!(guess.ask("ann\nguessed"), "no");
    assert_eq!(guess.line(), "");
    let mut stranger = Client::connect(address);
    let mut ann = Client::known(address, "ann", "pass-of-ann-6f1d");
    let mut bob = Client::known(address, "bob", "pass-of-bob-c2a8");
    assert_eq!(ann.ask("put box secret-of-ann-93b7"), "kept");
    assert_eq!(bob.ask("put box secret-of-bob-41e0"), "kept");
    assert_eq!(bob.ask("get box"), "secret-of-bob-41e0");
    assert_eq!(ann.ask("get box"), "secret-of-ann-93b7");
    // The same name is another secret.
    assert_eq!(bob.ask("get other"), "nothing");
    stranger.say("mallory");
    if rustix::process::geteuid().is_root() {
        eventually("ann's, bob's and the stranger's", || connections(&processes(&daemon)) == 3);
        // Passwords are the monitor's alone, once the processes that read them have ended.
        eventually("passwords are gone with who read them", || {
            let all = processes(&daemon);
            let holders = ["pass-of-ann-6f1d", "pass-of-bob-c2a8"].map(|it| holders(&all, it));
            holders.iter().flatten().all(|it| it.starts_with("monitor/"))
        });
        let all = processes(&daemon);
        let one = |layer: &str, holders: &[String]| {
            holders.iter().filter(|it| it.starts_with(layer)).count()
        };
        for secret in ["secret-of-bob-41e0", "secret-of-ann-93b7"] {
            let holders = holders(&all, secret);
            // Its owner's own, if it is still there.
            assert!(one("session/", &holders) <= 1, "{holders:?}");
            assert_eq!(one("monitor/", &holders), 1, "{holders:?}");
            assert_eq!(one("greeter/", &holders), 0, "{holders:?}");
        }
    }
    drop((ann, bob));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Each connection is in one process, besides the monitor of none: it lets go of what it passes on.
fn connections(all: &[(String, i32)]) -> usize {
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let mut seen = 0;
    for (name, pid) in all {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        let inodes = links.filter_map(|link| {
            Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
        });
        // 01 is a connection that stands, 0A a socket that listens (tcp_states.h).
        let states: Vec<_> = inodes
            .filter_map(|inode| {
                let mut table = sockets.lines().map(|line| line.split_whitespace());
                table.find_map(|mut words| {
                    let state = words.nth(3)?.to_owned();
                    (words.nth(5)? == inode).then_some(state)
                })
            })
            .collect();
        let open = states.iter().filter(|state| *state == "01").count();
        assert!(open <= usize::from(!name.starts_with("monitor")), "{name} has {states:?}");
        // Who has a connection accepts no other.
        assert!(open == 0 || !states.contains(&"0A".to_owned()), "{name} has {states:?}");
        seen += open;
    }
    seen
}

#[test]
fn a_killed_session_is_nothing_to_others() {
    let (mut daemon, address) = vault();
    let mut ann = Client::known(address, "ann", "pass-of-ann-6f1d");
    assert_eq!(ann.ask("put box here"), "kept");
    let mut greeted = Client::connect(address);
    for round in 0..5 {
        let mut bob = Client::known(address, "bob", "pass-of-bob-c2a8");
        assert_eq!(bob.ask(&format!("put box {round}")), "kept");
        let before = processes(&daemon);
        // Whichever isn't ann's: she still gets an answer.
        let victim = before.iter().find(|(name, _)| name.starts_with("greeter/")).unwrap().1;
        if round % 2 == 0 {
            let _ = kill_process(rustix::process::Pid::from_raw(victim).unwrap(), Signal::KILL);
        } else {
            bob.say(&"x".repeat(2000));
            assert_eq!(bob.line(), "");
        }
        assert_eq!(ann.ask("get box"), "here", "{daemon}");
    }
    greeted.say("bob");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Neither a client that is let in, and breaks its own session, nor sessions that are killed, stop the
/// daemon, however often.
#[test]
fn nobody_wears_the_daemon_out() {
    let (mut daemon, address) = vault();
    let mut ann = Client::known(address, "ann", "pass-of-ann-6f1d");
    assert_eq!(ann.ask("put box here"), "kept");
    for what in ["x".repeat(2000), "get \u{0}".to_owned()] {
        for _ in 0..8 {
            let mut bob = Client::known(address, "bob", "pass-of-bob-c2a8");
            bob.say(&what);
            drop(bob);
        }
    }
    assert_eq!(ann.ask("get box"), "here");
    let sessions = |daemon: &Daemon| {
        let all = processes(daemon).into_iter();
        all.filter(|(name, _)| name.starts_with("session/")).collect::<Vec<_>>()
    };
    let (all, rounds) = (sessions(&daemon).len(), 8);
    for _ in 0..rounds {
        let before = sessions(&daemon);
        for (_, pid) in &before {
            let _ = kill_process(rustix::process::Pid::from_raw(*pid).unwrap(), Signal::KILL);
        }
        eventually("all sessions are back", || {
            let now = sessions(&daemon);
            now.len() >= all && now.iter().all(|session| !before.contains(session))
        });
    }
    let mut ann = Client::known(address, "ann", "pass-of-ann-6f1d");
    assert_eq!(ann.ask("get box"), "here");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let failed = |line: &&String| line.contains(": session/") && line.contains("exit code 1");
    assert_eq!(daemon.seen.iter().find(failed), None, "{daemon}");
}
