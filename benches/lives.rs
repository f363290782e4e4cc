//! What a daemon's life costs: `cargo bench --bench lives`.
//!
//! A process for each connection beside a thread for each, and beside fork and exec; as many of them as
//! come in a second; a reload that changes one of 50 layers; and a daemon of 100 layers and 1,000 edges
//! beside one of two layers. Absolute figures belong to the machine; the goals are said beside them.

#![allow(clippy::print_stdout, clippy::cast_precision_loss, missing_docs)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use cofferdam::ipc::signal::SendError;
use cofferdam::{Daemon, Layer};
use rustix::process::{Pid, Signal, kill_process};

type Outcome = Result<(), String>;

type Function = fn(&Layer) -> Outcome;

/// Functions of layers, by the names that policies run them by.
const FUNCTIONS: [(&str, Function); 4] =
    [("greets", greets), ("waits", waits), ("asks", asks), ("hears", hears)];

/// Connections of which each is measured alone.
const ALONE: usize = 200;

/// Connections that come as fast as they are served.
const MANY: usize = 3_000;

/// Who opens those, each one after the other.
const CLIENTS: usize = 16;

/// Reloads of which each is measured.
const RELOADS: usize = 15;

/// Signals by which the supervisor's time for an event is measured.
const EVENTS: usize = 10_000;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[..] {
        [_, word, path] if word == "--daemon" => return daemon(path),
        [name, ..] if name.starts_with("cofferdam-layer:") => return daemon(""),
        _ => {}
    }
    let wanted = arguments.iter().skip(1).find(|word| !word.starts_with('-'));
    let benches: [(&str, fn()); 3] = [("workers", workers), ("reload", reload), ("many", many)];
    for (name, bench) in benches {
        if wanted.is_none_or(|wanted| name.contains(wanted.as_str())) {
            bench();
        }
    }
    ExitCode::SUCCESS
}

fn daemon(path: &str) -> ExitCode {
    let policy = std::fs::read_to_string(path).unwrap_or_default();
    let runs = |name: &str| path.is_empty() || policy.contains(&format!("run = \"{name}\""));
    let functions = FUNCTIONS.iter().filter(|(name, _)| runs(name));
    let daemon = functions.fold(Daemon::new(path), |daemon, &(name, function)| {
        daemon.blocking_layer(name, move |layer| function(&layer))
    });
    daemon.main()
}

/// One byte to who has come.
fn greets(layer: &Layer) -> Outcome {
    if let Some(mut line) = layer.blocking_connection().map_err(|error| error.to_string())? {
        line.write_all(b"x").map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "as all functions of layers")]
fn waits(layer: &Layer) -> Outcome {
    while !layer.is_stopping() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

fn asks(layer: &Layer) -> Outcome {
    let bell = layer.signal("bell").map_err(|error| error.to_string())?.blocking();
    while let Err(SendError::PeerDead { .. }) = bell.send("USR1") {
        std::thread::yield_now();
    }
    // Everybody else is there by then, and what they had to say to each other is said.
    std::thread::sleep(Duration::from_secs(2));
    let _ = writeln!(std::io::stderr(), "BEGIN");
    for _ in 0..EVENTS {
        bell.send("USR1").map_err(|error| error.to_string())?;
    }
    let _ = writeln!(std::io::stderr(), "END");
    waits(layer)
}

fn hears(layer: &Layer) -> Outcome {
    let mut signals = layer.signals().map_err(|error| error.to_string())?;
    while signals.blocking().recv(None).is_ok() {}
    Ok(())
}

/// A daemon that runs, and what it says.
struct Running {
    child: Child,
    lines: Receiver<String>,
    directory: tempfile::TempDir,
    /// From its start until all of its layers were ready.
    start: Duration,
}

impl Running {
    fn start(policy: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("policy.toml");
        std::fs::write(&path, policy).expect("a policy");
        for (path, mode) in [(directory.path(), 0o755), (&path, 0o644)] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        }
        let notify = directory.path().join("notify");
        let manager = UnixDatagram::bind(&notify).expect("a socket");
        let begin = Instant::now();
        let mut command = Command::new("/proc/self/exe");
        command.arg("--daemon").arg(path).env("NOTIFY_SOCKET", notify);
        command.env("XDG_RUNTIME_DIR", directory.path()).stdin(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a daemon");
        let (send, lines) = channel();
        let mut said = BufReader::new(child.stderr.take().expect("a pipe"));
        std::thread::spawn(move || {
            let mut line = String::new();
            while said.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                let _ = send.send(std::mem::take(&mut line));
            }
        });
        let mut bytes = [0; 256];
        manager.set_read_timeout(Some(Duration::from_mins(1))).expect("a time");
        loop {
            match manager.recv(&mut bytes) {
                Ok(length) if bytes[..length].starts_with(b"READY=1") => break,
                Ok(_) => {}
                Err(error) => {
                    panic!("{error}: {:?}", lines.try_iter().collect::<String>())
                }
            }
        }
        Self { child, lines, directory, start: begin.elapsed() }
    }

    /// Waits until a layer says a word.
    fn hears(&self, word: &str) {
        self.hears_all(&[word]);
    }

    /// Waits for a line with all of these.
    fn hears_all(&self, words: &[&str]) {
        let mut before = String::new();
        loop {
            let line = self.lines.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|_| panic!("no {words:?} in time, but:\n{before}"));
            before.push_str(&line);
            if words.iter().all(|word| line.contains(word)) {
                return;
            }
        }
    }

    /// The processor time of the supervisor, in nanoseconds.
    fn spent(&self) -> u64 {
        let path = format!("/proc/{}/schedstat", self.child.id());
        let text = std::fs::read_to_string(path).expect("its times");
        text.split(' ').next().and_then(|it| it.parse().ok()).expect("a number")
    }

    /// The supervisor's memory that nobody shares, in KiB.
    fn memory(&self) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(path).expect("its memory");
        let private = text.lines().filter(|line| line.starts_with("Private_"));
        private.filter_map(|it| it.split_whitespace().nth(1)?.parse::<u64>().ok()).sum()
    }

    fn policy(&self) -> PathBuf {
        self.directory.path().join("policy.toml")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pid = Pid::from_child(&self.child);
        let _ = kill_process(pid, Signal::TERM);
        let _ = self.child.wait();
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// From before the connection until its first byte, in microseconds.
fn first_byte(address: SocketAddr) -> f64 {
    let begin = Instant::now();
    let mut line = TcpStream::connect(address).expect("a connection");
    line.read_exact(&mut [0]).expect("a byte");
    begin.elapsed().as_nanos() as f64 / 1e3
}

fn one_after_the_other(address: SocketAddr, pause: Duration) -> f64 {
    let one = |_| {
        std::thread::sleep(pause);
        first_byte(address)
    };
    median((0..ALONE).map(one).collect())
}

fn free() -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("an address")
}

fn greeting(address: SocketAddr, instances: usize, warm: usize) -> String {
    format!(
        "cofferdam = 1\nname = \"bench\"\n[layer.w]\nrun = \"greets\"\nsyscalls = [\"@core\"]\n\
         per = \"connection\"\ninstances = {instances}\nwarm = {warm}\n\
         listen = {{ door = \"tcp:{address}\" }}\n"
    )
}

fn workers() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for line in listener.incoming() {
            std::thread::spawn(move || line.and_then(|mut line| line.write_all(b"x")));
        }
    });
    let pause = Duration::from_millis(15);
    let thread = one_after_the_other(address, pause);
    let address = free();
    let running = Running::start(&greeting(address, 16, 4));
    let warm = one_after_the_other(address, pause);
    drop(running);
    let exec = || {
        let begin = Instant::now();
        let _ = Command::new("/bin/true").stdin(Stdio::null()).status();
        begin.elapsed().as_nanos() as f64 / 1e3
    };
    let exec = median((0..ALONE).map(|_| exec()).collect());
    let running = Running::start(&greeting(address, 16, 1));
    // The one that waits is taken by another, and so the next is served by one that isn't there yet.
    let cold = |_| {
        std::thread::sleep(pause * 2);
        let mut other = TcpStream::connect(address).expect("a connection");
        let time = first_byte(address);
        let _ = other.read(&mut [0]);
        time
    };
    let cold = median((0..ALONE).map(cold).collect());
    drop(running);
    println!("from before the connection to its first byte, µs; medians of {ALONE}");
    println!("  a thread of a plain program  {thread:8.0}");
    println!("  a warm worker                {warm:8.0}   {:.0} more (at most 100)", warm - thread);
    println!("  fork and exec of /bin/true   {exec:8.0}");
    println!(
        "  a cold worker                {cold:8.0}   {:.2} times that (at most 4)",
        cold / exec
    );
    let address = free();
    let running = Running::start(&greeting(address, 64, 32));
    let (left, lost) = (AtomicUsize::new(MANY), AtomicUsize::new(0));
    let begin = Instant::now();
    let take = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |it| it.checked_sub(1));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while take().is_ok() {
                    let line = TcpStream::connect(address);
                    let read = line.and_then(|mut line| line.read_exact(&mut [0]));
                    lost.fetch_add(usize::from(read.is_err()), Ordering::Relaxed);
                }
            });
        }
    });
    let rate = MANY as f64 / begin.elapsed().as_secs_f64();
    let own = running.spent() as f64 / 1e3 / MANY as f64;
    println!(
        "  connections a second, a process each: {rate:.0}, {} lost (at least 1,000, none); \
         the supervisor's part of each {own:.0} µs\n",
        lost.into_inner()
    );
}

fn reload() {
    let policy = |changed: &str| {
        let mut text = "cofferdam = 1\nname = \"bench\"\n".to_owned();
        for number in 0..50 {
            let more = if number == 25 { changed } else { "" };
            let _ = write!(
                text,
                "[layer.l{number}]\nrun = \"waits\"\nsyscalls = [\"@core\"]\n{more}\n"
            );
        }
        text
    };
    let running = Running::start(&policy(""));
    let seen = |running: &Running| {
        let path = format!("/proc/{0}/task/{0}/children", running.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let before = seen(&running);
    let (mut times, mut gaps) = (Vec::new(), Vec::new());
    for round in 0..RELOADS {
        let files = 100 + round;
        std::fs::write(running.policy(), policy(&format!("limits = {{ files = {files} }}")))
            .expect("a policy");
        let _ = running.lines.try_iter().count();
        let begin = Instant::now();
        let pid = Pid::from_child(&running.child);
        kill_process(pid, Signal::HUP).expect("the daemon runs");
        running.hears("takes the place of the one before");
        let exchanged = Instant::now();
        running.hears_all(&["l25/0.g", " is confined"]);
        gaps.push(exchanged.elapsed().as_nanos() as f64 / 1e6);
        running.hears("reloaded");
        times.push(begin.elapsed().as_nanos() as f64 / 1e6);
    }
    let kept = before.intersection(&seen(&running)).count();
    println!("a reload that changes one of 50 layers, ms; medians of {RELOADS}");
    println!("  from SIGHUP until all is ready            {:8.1}", median(times));
    println!("  from the exchange until the new one is    {:8.1}   (below 20)", median(gaps));
    println!("  processes of before that are there still  {kept} of {}\n", before.len());
}

/// Two layers of which one signals the other, among so many that do nothing.
fn crowd(layers: usize, edges: usize) -> String {
    let layer = |name: &str, run: &str| {
        format!("[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\n")
    };
    let mut text = "cofferdam = 1\nname = \"bench\"\n".to_owned();
    text += &layer("a", "asks");
    text += &layer("b", "hears");
    text += "[signal.bell]\nfrom = \"a\"\nto = \"b\"\nsend = [\"USR1\"]\n";
    for number in 0..layers {
        text += &layer(&format!("l{number}"), "waits");
    }
    // Nobody calls whom it is called by.
    let pairs = (1..layers).flat_map(|step| (step..layers).map(move |to| (to - step, to)));
    for (edge, (from, to)) in pairs.take(edges).enumerate() {
        let _ = write!(
            text,
            "[channel.c{edge}]\nfrom = \"l{from}\"\nto = \"l{to}\"\nmethods = {{ m = {{}} }}\n"
        );
    }
    text
}

fn many() {
    println!("a daemon of 2 layers, and one of 100 with 1,000 channels");
    let mut all = Vec::new();
    for (layers, edges) in [(0, 0), (98, 1_000)] {
        let running = Running::start(&crowd(layers, edges));
        running.hears("BEGIN");
        let (before, begin) = (running.spent(), Instant::now());
        running.hears("END");
        let wall = begin.elapsed().as_nanos() as f64 / 1e3 / EVENTS as f64;
        let each = (running.spent() - before) as f64 / 1e3 / EVENTS as f64;
        std::thread::sleep(Duration::from_secs(1));
        let before = running.spent();
        std::thread::sleep(Duration::from_secs(3));
        let idle = (running.spent() - before) as f64 / 1e3;
        all.push([running.start.as_secs_f64() * 1e3, running.memory() as f64, each, wall, idle]);
    }
    let goals = ["(the larger below 1,000)", "(linear at most)", "(linear at most)", "", "(none)"];
    let names = [
        "start until all are ready, ms",
        "memory of the supervisor, KiB",
        "its processor time for an event, µs",
        "a signal and its answer, µs",
        "its processor time in 3 idle seconds, µs",
    ];
    for (row, (name, goal)) in names.iter().zip(goals).enumerate() {
        println!("  {name:42} {:9.1} {:9.1}   {goal}", all[0][row], all[1][row]);
    }
}
