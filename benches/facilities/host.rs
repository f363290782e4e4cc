//! A bench whose parties are the layers of a real daemon, which is this program once more.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use cofferdam::{Daemon, Layer};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What a layer of a bench comes to.
pub(crate) type Outcome = Result<(), String>;

/// A blocking function and the name that the policy runs it by.
pub(crate) type Function = (&'static str, fn(&Layer) -> Outcome);

/// Becomes the daemon or one of its layers, if this process was started to.
pub(crate) fn enter(functions: &[&[Function]]) -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let is_layer = arguments.first().is_some_and(|name| name.starts_with("cofferdam-layer:"));
    let (path, log) = match &arguments[..] {
        [_, word, path, log @ ..] if word == "--daemon" => (path.clone(), log.first()),
        _ if is_layer => (String::new(), None),
        _ => return None,
    };
    let policy = std::fs::read_to_string(&path).unwrap_or_default();
    let runs = |name: &str| is_layer || policy.contains(&format!("run = \"{name}\""));
    let functions = functions.iter().flat_map(|list| list.iter()).filter(|(name, _)| runs(name));
    let daemon = Daemon::new(path);
    let daemon = functions.fold(daemon, |daemon, &(name, function)| {
        daemon.blocking_layer(name, move |layer| function(&layer))
    });
    Some(log.into_iter().fold(daemon, Daemon::audit).main())
}

/// Says a result, for [`run`] to read.
pub(crate) fn result(nanos: f64) {
    let _ = writeln!(std::io::stderr(), "RESULT {nanos}");
}

/// Runs a daemon until its layers have said so many results.
pub(crate) fn run(policy: &str, results: usize) -> Vec<f64> {
    run_with(policy, results, None, false)
}

/// The same, with an audit log in that directory, and with all layers on one processor and the
/// auditor on another if `apart`.
pub(crate) fn run_with(policy: &str, results: usize, log: Option<&Path>, apart: bool) -> Vec<f64> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, format!("cofferdam = 1\nname = \"bench\"\n{policy}")).expect("a policy");
    for (path, mode) in [(directory.path(), 0o755), (&path, 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("a mode");
    }
    let mut daemon = Command::new("/proc/self/exe")
        .arg("--daemon")
        .arg(&path)
        .args(log)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the daemon");
    let lines = BufReader::new(daemon.stderr.take().expect("a pipe")).lines();
    let mut said = Vec::new();
    let mut found = Vec::new();
    for line in lines.map_while(Result::ok) {
        if apart {
            place(&line);
        }
        found.extend(line.split("RESULT ").nth(1).and_then(|number| number.parse::<f64>().ok()));
        said.push(line);
        if found.len() == results {
            kill_process(Pid::from_child(&daemon), Signal::TERM).expect("the daemon");
        }
    }
    let _ = daemon.wait();
    assert_eq!(found.len(), results, "the daemon said:\n{}", said.join("\n"));
    found
}

/// Puts a layer that is said to be confined on the first processor, the auditor on the second.
fn place(line: &str) {
    let Some((name, rest)) = line.split_once(" is confined, pid ") else { return };
    let pid = rest.split(':').next().and_then(|pid| Pid::from_raw(pid.parse().ok()?));
    let mut set = CpuSet::new();
    set.set(usize::from(name.contains("cofferdam-auditor")));
    sched_setaffinity(pid, &set).expect("two processors");
}
