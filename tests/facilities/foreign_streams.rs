//! Standard streams of foreign programs: the daemon's own, and standard error by a pipe.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::harness::Daemon;
use crate::support::process::{directory, write_policy};
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("foreign_streams::a_filter_reads_and_writes_what_the_daemon_was_given", filter),
    ("foreign_streams::what_is_inherited_has_no_more_rights_than_it_had", read_only),
    ("foreign_streams::standard_error_has_a_pipe_of_its_own", apart),
];

pub(crate) const LAYERS: &[Function] = &[];

/// `cofferdam run` of a layer whose streams are the daemon's.
fn run(exec: &str) -> (tempfile::TempDir, Command) {
    let place = directory();
    let policy = format!(
        "cofferdam = 1\nname = \"filter\"\n[layer.filter]\nexec = [{exec}]\n\
         syscalls = [\"@core\", \"@file-read\", \"@process\", \"@exec\"]\n\
         because = \"a shell starts programs\"\nrestart = {{ on = \"never\" }}\n\
         stdin = \"inherit\"\nstdout = \"inherit\"\n"
    );
    let path = write_policy(place.path(), &policy);
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("run").arg(path).stderr(Stdio::piped());
    (place, command)
}

fn filter() {
    let (_place, mut command) = run("\"/usr/bin/tr\", \"a-z\", \"A-Z\"");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text = "some words\n".repeat(20_000);
    let sent = text.clone();
    let writer = std::thread::spawn(move || input.write_all(sent.as_bytes()).unwrap());
    let mut came = String::new();
    child.stdout.take().unwrap().read_to_string(&mut came).unwrap();
    writer.join().unwrap();
    let output = child.wait_with_output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{log}");
    assert_eq!(came, text.to_uppercase(), "{log}");
    // The log has nothing of it.
    assert!(!log.contains("SOME WORDS"), "{log}");
}

/// A descriptor that the daemon has for reading is no way to write, nor to the file's neighbours.
fn read_only() {
    let script = "cat; echo no >&0; cat /dev/stdin/../etc/passwd; echo end";
    let (place, mut command) = run(&format!("\"/bin/sh\", \"-c\", \"{script}\""));
    let path = place.path().join("input");
    std::fs::write(&path, "input\n").unwrap();
    let file = std::fs::File::open(&path).unwrap();
    let output = command.stdin(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(said, "input\nend\n", "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "input\n");
}

fn apart() {
    let shell = |name: &str, script: &str, more: &str| {
        format!(
            "[layer.{name}]\nexec = [\"/bin/sh\", \"-c\", \"{script}\"]\n\
             syscalls = [\"@core\", \"@file-read\", \"@process\"]\n\
             restart = {{ on = \"never\" }}\n{more}\n"
        )
    };
    let pipe = |name: &str, to: &str| {
        format!("[pipe.{name}]\nfrom = \"speaker\"\nto = \"{to}\"\nraw = true\n")
    };
    let policy = [
        shell(
            "speaker",
            "echo a result; echo a complaint >&2",
            "stdout = \"pipe.out\"\nstderr = \"pipe.err\"",
        ),
        shell("results", "while read -r line; do echo out: $line; done", "stdin = \"pipe.out\""),
        shell("complaints", "while read -r line; do echo err: $line; done", "stdin = \"pipe.err\""),
        pipe("out", "results"),
        pipe("err", "complaints"),
    ]
    .concat();
    let mut daemon = Daemon::command_line(&policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert_eq!(daemon.count("results/0.g1: out: a result"), 1, "{daemon}");
    assert_eq!(daemon.count("complaints/0.g1: err: a complaint"), 1, "{daemon}");
    assert_eq!(daemon.count("speaker/0.g1: "), 0, "{daemon}");
}
