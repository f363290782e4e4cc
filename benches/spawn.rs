//! What it costs to start a layer: `cargo bench --bench spawn`, beside fork and exec of the same
//! program and, where it is installed, bubblewrap with the same namespaces and the same filter.
//!
//! All on one processor, start to end, medians of several rounds; compare ratios, not figures. What
//! one layer more costs is the difference between a daemon of many copies and one of a single copy.
//! Last, what it costs to be learned from: a work of many small processes, beside the same alone.

#![allow(clippy::print_stdout, missing_docs)]

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use cofferdam::confine::filter::{Arch, compile};
use cofferdam::ipc::message::Event;
use cofferdam::policy::{Inputs, check_with};
use cofferdam::{Daemon, Layer};
use rustix::thread::{CpuSet, sched_setaffinity};

type Outcome = Result<(), String>;

type Function = fn(&Layer) -> Outcome;

const ROUNDS: usize = 9;

/// Copies of a layer; a daemon of one is taken off.
const MANY: u32 = 33;

const PROGRAM: &str = "/bin/true";

/// A work of many small processes, and files that come and go.
const WORK: &str = "i=0; while [ $i -lt 100 ]; do cat /etc/passwd | sed s/a/b/ > /tmp/made; rm /tmp/made; \
                    i=$((i+1)); done";

const NAMESPACES: [&str; 3] = ["--unshare-all", "--new-session", "--die-with-parent"];

const VIEW: [&str; 14] = [
    "--ro-bind",
    "/usr",
    "/usr",
    "--symlink",
    "usr/bin",
    "/bin",
    "--symlink",
    "usr/lib",
    "/lib",
    "--symlink",
    "usr/lib64",
    "/lib64",
    "--dev",
    "/dev",
];

fn main() -> ExitCode {
    if let Some(daemon) = started_as_daemon() {
        return daemon.main();
    }
    let mut processors = CpuSet::new();
    processors.set(0);
    // Elsewhere the copies would be confined side by side, and the others not.
    if sched_setaffinity(None, &processors).is_err() {
        println!("the first processor can't be had: figures of several are not comparable");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let exec = policy(format!("exec = [\"{PROGRAM}\"]"));
    // Bubblewrap starts the program, and waits for it, by calls that it must have itself.
    let starts = "\"execve\", \"wait4\"]\nbecause = \"bubblewrap makes them\"\n";
    let filter =
        filter(directory.path(), &exec(1).replace("]\ninstances", &format!(", {starts}instances")));
    let bare = || run(Command::new(PROGRAM).stdin(Stdio::null()));
    let wrapped = || {
        let filter = File::open(&filter).expect("the filter");
        let options = NAMESPACES.iter().chain(&VIEW).chain(&["--seccomp", "0", PROGRAM]);
        run(Command::new("bwrap").args(options).stdin(filter))
    };
    let has_bubblewrap = Command::new("bwrap").arg("--version").output().is_ok();

    println!("start to end on one processor, µs; medians of {ROUNDS} rounds\n");
    let [mut plain, mut bwrap, mut whole] = [const { Vec::new() }; 3];
    let [mut foreign, mut own, mut told] = [const { Vec::new() }; 3];
    let layer = policy("run = \"nothing\"".to_owned());
    let asking = policy("run = \"asks\"".to_owned());
    let asking = |copies| {
        format!(
            "{}[vars]\ncopies = \"{copies}\"\n\
             [layer.other]\nrun = \"answers\"\nsyscalls = [\"@core\"]\nvars = [\"copies\"]\n\
             [channel.c]\nfrom = \"it\"\nto = \"other\"\nmethods = {{ m = {{}} }}\n",
            asking(copies)
        )
    };
    for _ in 0..ROUNDS {
        plain.push(bare());
        if has_bubblewrap {
            bwrap.push(wrapped());
        }
        whole.push(cofferdam(directory.path(), &exec(1)));
        foreign.push(one_more(|copies| cofferdam(directory.path(), &exec(copies))));
        own.push(one_more(|copies| daemon(directory.path(), "nothing", &layer(copies))));
        told.push(one_more(|copies| daemon(directory.path(), "asks answers", &asking(copies))));
    }
    let (plain, bwrap) = (median(plain), (!bwrap.is_empty()).then(|| median(bwrap)));
    let show = |what: &str, time: f64| {
        let beside = bwrap.map(|other| format!(", to bubblewrap {:.2}", time / other));
        println!(
            "{what:46} {time:8.0}   to fork+exec {:.2}{}",
            time / plain,
            beside.unwrap_or_default()
        );
    };
    show("fork and exec of /bin/true", plain);
    if let Some(other) = bwrap {
        show("bubblewrap, the same namespaces and filter", other);
    }
    show("one `exec` layer more", median(foreign));
    show("one `run` layer more", median(own));
    show("one `run` layer more, and its first message", median(told));
    show("cofferdam run, one `exec` layer, as a whole", median(whole));

    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(run(Command::new("/bin/sh").args(["-c", WORK]).stdin(Stdio::null())));
        watched.push(learning(directory.path()));
    }
    let (alone, watched) = (median(alone), median(watched));
    println!("\n{:46} {alone:8.0}", "a work of 200 processes");
    println!("{:46} {watched:8.0}   to the same alone {:.2}", "learned from", watched / alone);
    ExitCode::SUCCESS
}

/// The daemon that this process, or a layer of it, was started to be.
fn started_as_daemon() -> Option<Daemon> {
    let arguments: Vec<String> = std::env::args().collect();
    let (path, function) = match &arguments[..] {
        [_, word, path, function] if word == "--daemon" => (path.as_str(), function.as_str()),
        [name, ..] if name.starts_with("cofferdam-layer:") => ("", ""),
        _ => return None,
    };
    let mut daemon = Daemon::new(path);
    let functions = [("nothing", nothing as Function), ("answers", answers), ("asks", asks)];
    for (name, run) in functions {
        // A layer has all of them; a daemon those of its policy.
        if path.is_empty() || function.contains(name) {
            daemon = daemon.blocking_layer(name, move |layer| run(&layer));
        }
    }
    Some(daemon)
}

/// A policy of so many copies of a layer.
fn policy(program: String) -> impl Fn(u32) -> String {
    move |copies| {
        format!(
            "cofferdam = 1\nname = \"bench\"\n[layer.it]\n{program}\nsyscalls = [\"@core\"]\n\
             instances = {copies}\nrestart = {{ on = \"never\" }}\n"
        )
    }
}

/// What one copy more costs.
fn one_more(run: impl Fn(u32) -> Duration) -> Duration {
    run(MANY).saturating_sub(run(1)) / (MANY - 1)
}

/// Runs a policy by the command line.
fn cofferdam(directory: &Path, policy: &str) -> Duration {
    let path = write(directory, policy);
    run(Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("run").arg(path).stdin(Stdio::null()))
}

/// Runs a policy whose layers run these functions of this program.
fn daemon(directory: &Path, functions: &str, policy: &str) -> Duration {
    let path = write(directory, policy);
    let mut command = Command::new("/proc/self/exe");
    run(command.arg("--daemon").arg(path).arg(functions).stdin(Stdio::null()))
}

/// Has the command line learn from the work, which asks for nothing more then.
fn learning(directory: &Path) -> Duration {
    let policy = directory.join("learned.toml");
    let _ = std::fs::remove_file(&policy);
    let reason = ["--because", "it starts programs", "--no-again", "--output"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("learn").args(reason).arg(&policy).args(["--", "/bin/sh", "-c", WORK]);
    run(command.stdin(Stdio::null()))
}

fn write(directory: &Path, policy: &str) -> std::path::PathBuf {
    let path = directory.join("policy.toml");
    std::fs::write(&path, policy).expect("a policy");
    for (path, mode) in [(directory, 0o755), (&path, 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }
    path
}

fn run(command: &mut Command) -> Duration {
    let begin = Instant::now();
    let output = command.output().expect("it runs");
    let time = begin.elapsed();
    assert!(
        output.status.success(),
        "{command:?}: {}, {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    time
}

/// The layer's filter, as bubblewrap reads one.
fn filter(directory: &Path, policy: &str) -> std::path::PathBuf {
    let inputs = Inputs { load: None, vars: &[], ceiling: None };
    let plan = check_with("bench.toml", policy.as_bytes(), &inputs).plan.expect("a plan");
    let filter = compile(&plan.layers[0].syscalls, Arch::NATIVE).expect("a filter");
    let path = directory.join("filter");
    let mut file = File::create(&path).expect("a file");
    for line in filter.lines() {
        let (code, k) = (line.code.to_ne_bytes(), line.k.to_ne_bytes());
        file.write_all(&[&code[..], &[line.jt, line.jf], &k].concat()).expect("an instruction");
    }
    path
}

#[allow(clippy::unnecessary_wraps)] // As the others are.
fn nothing(_: &Layer) -> Outcome {
    Ok(())
}

/// Ends when every copy of its peer has said something.
fn answers(layer: &Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|error| error.to_string())?.blocking();
    let copies = layer.var("copies").map_err(|error| error.to_string())?;
    let mut left: u32 = copies.parse().map_err(|_| "a number of copies")?;
    while left > 0 {
        if let Event::Message { .. } = channel.recv(None).map_err(|error| error.to_string())? {
            left -= 1;
        }
    }
    Ok(())
}

fn asks(layer: &Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|error| error.to_string())?.blocking();
    channel.send("m", vec![7; 64], None).map_err(|error| error.to_string())
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e6
}
