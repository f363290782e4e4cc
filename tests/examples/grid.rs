//! The example `grid` on three hosts, with what real failures and a hostile network do to it. The hosts
//! are three daemons of this machine, each with its own key and its own part of the policy.

use std::collections::VecDeque;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::example;
use crate::support::harness::Daemon;
use crate::support::process::{directory, eventually, write_policy};

const HOSTS: [&str; 3] = ["head", "left", "right"];

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn cofferdam() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cofferdam"))
}

/// Makes a host's key, and gives the public one.
fn key(file: &Path) -> String {
    let made = cofferdam().args(["host", "key", "--host-key"]).arg(file).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    String::from_utf8(made.stdout).unwrap().trim().to_owned()
}

/// A grid of three hosts, not started yet.
struct Grid {
    shared: TempDir,
    text: String,
    /// Where `head` listens for the other hosts, and for clients.
    head: SocketAddr,
    clients: SocketAddr,
}

impl Grid {
    fn new() -> Self {
        let (shared, head, clients) = (directory(), free(), free());
        let mut text = include_str!("../../policies/grid.toml")
            .replace("127.0.0.1:7600", &clients.to_string())
            .replace("/var/lib/grid", shared.path().join("state").to_str().unwrap());
        for host in HOSTS {
            let key = key(&shared.path().join(host));
            let line = text.lines().find(|line| line.starts_with(&format!("{host}-key"))).unwrap();
            text = text.replacen(line, &format!("{host}-key = \"{key}\""), 1);
        }
        Self { shared, text, head, clients }
    }

    fn key_file(&self, host: &str) -> PathBuf {
        self.shared.path().join(host)
    }

    /// Starts one host, which finds `head` at that address.
    fn start(&self, host: &str, head: SocketAddr, more: &[&str]) -> Daemon {
        let directory = directory();
        let text = self.text.replace("127.0.0.1:7601", &head.to_string());
        let policy = write_policy(directory.path(), &text);
        let mut command = Command::new(example("grid"));
        command.arg("--policy").arg(policy).arg("--host-key").arg(self.key_file(host)).args(more);
        Daemon::run(command, directory)
    }

    /// Starts all hosts. Those that call find `head` at `carrier`.
    fn start_all(&self, carrier: SocketAddr) -> [Daemon; 3] {
        HOSTS.map(|host| self.start(host, if host == "head" { self.head } else { carrier }, &[]))
    }

    fn client(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(example("grid"));
        command.args(arguments).arg("--grid").arg(self.clients.to_string());
        command
    }

    /// Has a picture painted, which is compared with one that is painted without a grid.
    fn render(&self, name: &str, size: &str) -> Child {
        let file = self.shared.path().join(name);
        let arguments =
            ["render", file.to_str().unwrap(), "--size", size, "--tile", "32", "--check"];
        let mut command = self.client(&arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn workers(&self) -> usize {
        let status = self.client(&["status"]).output().unwrap();
        let text = String::from_utf8(status.stdout).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("workers "));
        line.map_or(0, |count| count.trim().parse().unwrap())
    }

    fn all_workers(&self) {
        eventually("both workers are met", || self.workers() == 2);
    }
}

fn is_whole(client: Child) {
    let Output { status, stdout, stderr } = client.wait_with_output().unwrap();
    let said = String::from_utf8(stdout).unwrap();
    let why = String::from_utf8_lossy(&stderr);
    assert!(status.success() && said.contains("byte for byte"), "{status}: {said}{why}");
}

#[test]
fn three_hosts_paint_a_picture_and_both_logs_agree() {
    let grid = Grid::new();
    let logs = HOSTS.map(|host| grid.shared.path().join(format!("log-{host}")));
    let daemons: Vec<_> = HOSTS
        .iter()
        .zip(&logs)
        .map(|(host, log)| grid.start(host, grid.head, &["--audit", log.to_str().unwrap()]))
        .collect();
    grid.all_workers();
    is_whole(grid.render("picture.png", "320x240"));
    for mut daemon in daemons {
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
    let compare = |one: &Path, other: &Path| {
        let told = cofferdam()
            .args(["audit", "reconcile", "--format", "json"])
            .args([one, other])
            .output()
            .unwrap();
        let json: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        (told.status.code(), json)
    };
    let mut matched = 0;
    for other in &logs[1..] {
        // Each host's own log is without suspicion, and so are the two together.
        let alone = cofferdam().args(["audit", "reconcile"]).arg(other).output().unwrap();
        assert_eq!(alone.status.code(), Some(0), "{alone:?}");
        let (code, json) = compare(&logs[0], other);
        // What `head` has of the third host only that one's log has too.
        matched += json["matched"].as_u64().unwrap();
        assert!(matches!(code, Some(0)), "{json:#}");
    }
    assert!(matched >= 2 * 80, "{matched}");
}

#[test]
fn killed_layers_of_any_host_cost_no_tile() {
    let grid = Grid::new();
    let mut daemons = grid.start_all(grid.head);
    grid.all_workers();
    let mut client = grid.render("picture.png", "960x640");
    let kinds = ["worker", "dispatcher", "cofferdam-link", "cofferdam-hosts", "painter"];
    let mut killed = 0;
    for turn in 0.. {
        if client.try_wait().unwrap().is_some() || killed >= 40 {
            break;
        }
        let (kind, daemon) = (kinds[turn % kinds.len()], &mut daemons[turn / 2 % 3]);
        if let Some(victim) = youngest(daemon, kind) {
            killed += usize::from(kill_process(victim, Signal::KILL).is_ok());
        }
        thread::sleep(Duration::from_millis(150));
    }
    assert!(killed >= 10, "{killed}");
    is_whole(client);
    grid.all_workers();
}

/// A process of a layer, as the daemon's log names it last.
fn youngest(daemon: &mut Daemon, layer: &str) -> Option<Pid> {
    while daemon.line_within("is confined, pid ", Duration::ZERO).is_some() {}
    let named = format!(" {layer}/");
    let line =
        daemon.seen.iter().rev().find(|it| it.contains(&named) && it.contains("confined, pid"))?;
    let pid = line.split("pid ").nth(1)?.split(':').next()?.parse().ok()?;
    Pid::from_raw(pid).filter(|pid| {
        let name = fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_pid()));
        name.is_ok_and(|name| name.contains(layer))
    })
}

/// What somebody in the network does.
#[derive(Clone, Copy, Debug)]
enum Harm {
    /// Flips a bit.
    Flip,
    /// Leaves a byte out.
    Drop,
    /// Sends a piece twice.
    Repeat,
    /// Sends what was said from the begin of an earlier connection on.
    Replay,
    /// Puts bytes of its own in between.
    Insert,
    /// Says nothing more, and stays.
    Stall,
    /// Ends the connection.
    Cut,
}

/// Somebody between the hosts.
struct Carrier {
    address: SocketAddr,
    /// What is still to be done, each after so many bytes more.
    harms: Arc<Mutex<VecDeque<(usize, Harm)>>>,
}

impl Carrier {
    fn start(to: SocketAddr, harms: Vec<(usize, Harm)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let harms = Arc::new(Mutex::new(VecDeque::from(harms)));
        let (known, earlier) = (Arc::clone(&harms), Arc::new(Mutex::new(Vec::new())));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Ok(onward) = TcpStream::connect(to) else { continue };
                let (back, forth) = (onward.try_clone().unwrap(), stream.try_clone().unwrap());
                let (harms, earlier) = (Arc::clone(&known), Arc::clone(&earlier));
                thread::spawn(move || {
                    copy(&stream, &onward, |bytes| harm(&harms, &earlier, bytes));
                });
                thread::spawn(move || copy(&back, &forth, |_| true));
            }
        });
        Self { address, harms }
    }
}

/// Does what is next, if its time has come. False: the connection ends.
fn harm(
    harms: &Mutex<VecDeque<(usize, Harm)>>,
    earlier: &Mutex<Vec<u8>>,
    bytes: &mut Vec<u8>,
) -> bool {
    let mut harms = harms.lock().unwrap();
    let mut earlier = earlier.lock().unwrap();
    if earlier.len() < 1 << 16 {
        earlier.extend_from_slice(bytes);
    }
    let Some((rest, next)) = harms.front_mut() else { return true };
    if *rest >= bytes.len() {
        *rest -= bytes.len();
        return true;
    }
    let (at, next) = (*rest, *next);
    harms.pop_front();
    match next {
        Harm::Flip => bytes[at] ^= 4,
        Harm::Drop => drop(bytes.remove(at)),
        Harm::Repeat => bytes.extend_from_within(..),
        Harm::Replay => bytes.extend_from_slice(&earlier),
        Harm::Insert => drop(bytes.splice(at..at, [7; 21])),
        // Longer than any host waits.
        Harm::Stall => {
            drop((harms, earlier));
            thread::sleep(Duration::from_secs(12));
        }
        Harm::Cut => return false,
    }
    true
}

fn copy(mut from: &TcpStream, mut to: &TcpStream, mut change: impl FnMut(&mut Vec<u8>) -> bool) {
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let mut bytes = buffer[..length].to_vec();
        if !change(&mut bytes) || to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[test]
fn who_carries_the_records_changes_none_of_them() {
    let grid = Grid::new();
    let kinds = [Harm::Flip, Harm::Drop, Harm::Repeat, Harm::Replay, Harm::Insert, Harm::Cut];
    // In the greeting and the handshake, and then where the grid's own words are.
    let early = kinds.iter().enumerate().map(|(turn, harm)| (20 + 31 * turn, *harm));
    let late = (0..2).flat_map(|turn| kinds.map(|harm| (12_001 + 1517 * turn, harm)));
    let carrier =
        Carrier::start(grid.head, early.chain(late).chain([(20_000, Harm::Stall)]).collect());
    let daemons = grid.start_all(carrier.address);
    grid.all_workers();
    for number in 0..8 {
        is_whole(grid.render(&format!("picture-{number}.png"), "480x320"));
        if carrier.harms.lock().unwrap().is_empty() {
            break;
        }
    }
    assert_eq!(carrier.harms.lock().unwrap().len(), 0);
    grid.all_workers();
    // It was noticed.
    assert!(daemons[0].seen("is no longer reached"), "{}", daemons[0]);
}

#[test]
fn strangers_reach_nobody_and_hold_nobody_up() {
    let grid = Grid::new();
    let mut daemons = grid.start_all(grid.head);
    grid.all_workers();
    // Somebody calls itself `left`, with a key of its own.
    let stranger = Grid::new();
    let own = key(&stranger.key_file("left"));
    let line = grid.text.lines().find(|line| line.starts_with("left-key")).unwrap();
    let text = grid.text.replacen(line, &format!("left-key = \"{own}\""), 1);
    let impostor = Grid { text, ..stranger };
    let mut impostor = impostor.start("left", grid.head, &[]);
    daemons[0].line("somebody is called host left: it has not the key that the policy names");
    impostor.stop();
    // And others say nothing, or nonsense, or greet and wait.
    let mut crowd = Vec::new();
    let mut greeting = vec![0];
    greeting.extend_from_slice(b"cofferdam link 1");
    for name in ["grid", "right", "head"] {
        greeting.push(u8::try_from(name.len()).unwrap());
        greeting.extend_from_slice(name.as_bytes());
    }
    let framed = [&u32::try_from(greeting.len()).unwrap().to_le_bytes()[..], &greeting].concat();
    for number in 0..60 {
        let Ok(mut stream) = TcpStream::connect(grid.head) else { continue };
        let _ = match number % 3 {
            0 => Ok(()),
            1 => stream.write_all(&[0xff; 4096]),
            _ => stream.write_all(&framed),
        };
        crowd.push(stream);
    }
    is_whole(grid.render("picture.png", "320x240"));
    assert_eq!(grid.workers(), 2);
    // What they held is free again, without their doing.
    eventually("all strangers are sent away", || {
        crowd.iter_mut().all(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            matches!(stream.read(&mut [0; 64]), Ok(0))
                || stream.take_error().is_ok_and(|error| error.is_some())
                || stream.write_all(&[0]).is_err()
        })
    });
}

#[test]
fn without_its_key_a_host_starts_nothing() {
    let grid = Grid::new();
    fs::remove_file(grid.key_file("left")).unwrap();
    fs::remove_file(grid.shared.path().join("left.pub")).unwrap();
    let mut none = grid.start("left", grid.head, &[]);
    none.line("which of them this is can't be told");
    assert_eq!(none.end(), Some(3));
    key(&grid.key_file("left"));
    let mut unknown = grid.start("left", grid.head, &[]);
    unknown.line("is none that the policy names");
    assert_eq!(unknown.end(), Some(3));
    // The public key says one thing, and the private one another.
    let other = grid.shared.path().join("other");
    key(&other);
    let public = fs::read(grid.shared.path().join("right.pub")).unwrap();
    fs::write(grid.shared.path().join("other.pub"), public).unwrap();
    fs::rename(&other, grid.key_file("left")).unwrap();
    fs::rename(grid.shared.path().join("other.pub"), grid.shared.path().join("left.pub")).unwrap();
    let mut wrong = grid.start("left", grid.head, &[]);
    wrong.line("the host's key is none that the policy names for it");
}

#[test]
fn without_keys_the_same_policy_runs_on_one_machine() {
    let grid = Grid::new();
    let mut text = grid.text.clone();
    for host in HOSTS {
        let line = text.lines().find(|line| line.starts_with(&format!("{host}-key"))).unwrap();
        text = text.replacen(line, &format!("{host}-key = \"\""), 1);
    }
    let grid = Grid { text, ..grid };
    let mut daemon = grid.start("head", grid.head, &[]);
    daemon.confined("worker/0.g1");
    eventually("the worker is met", || grid.workers() == 1);
    is_whole(grid.render("picture.png", "320x240"));
    assert!(!daemon.seen.iter().any(|line| line.contains("cofferdam-link")));
}
