//! `cofferdam audit watch`: alarms by rules, by the auditor, by damage and by silence, and who hears of
//! them.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::support::log::daemon::*;
use crate::support::log::*;
use cofferdam::audit::entry::Side;
use serde_json::Value;
use tempfile::tempdir;

crate::support::suite::tests! {
    rules_raise_alarms_and_say_when_they_are_over,
    a_log_in_which_nothing_is_wrong_raises_none,
    what_is_altered_while_it_is_watched_is_told_once,
    a_program_and_a_syslog_hear_of_each_alarm,
    a_log_that_nobody_writes_is_told_with_an_exit_code,
    a_rule_that_is_none_is_told_with_its_line,
}

fn watch(dir: &Path, more: &[&str]) -> Output {
    command(dir, more).output().unwrap()
}

fn command(dir: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.args(["audit", "watch"]).arg(dir).args(["--format", "json"]).args(more);
    command
}

fn alarms(output: &Output) -> Vec<Value> {
    let lines = String::from_utf8(output.stdout.clone()).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn texts(alarms: &[Value], cause: &str) -> Vec<(bool, String)> {
    let of = alarms.iter().filter(|alarm| alarm["alarm"] == cause);
    let text =
        |it: &Value| (it["over"].as_bool().unwrap(), it["text"].as_str().unwrap().to_owned());
    of.map(text).collect()
}

/// A log whose ends agree.
fn quiet(dir: &Path) {
    let mut log = open(dir, small(), 0);
    for n in 0..50 {
        for side in [Side::Sender, Side::Receiver] {
            log.append(&message(n, side), &[], at(n)).unwrap();
        }
    }
    log.close(at(50)).unwrap();
}

fn rules_raise_alarms_and_say_when_they_are_over() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("log");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, Permissions::from_mode(0o700)).unwrap();
    write_daemon(&log, 100);
    let rules = dir.path().join("rules");
    fs::write(
        &rules,
        "# what to tell\n\
         alarm when messages > 150/100ms on channel.sign\n\
         alarm when messages > 50/100ms on channel.sign   # so many come\n\
         alarm when denied > 0/1m of keeper\n\n\
         alarm when denied > 0/1m of listener\n\
         alarm when lost > 0/1h of listener\n",
    )
    .unwrap();
    let output = watch(&log, &["--until-end", "--rules", rules.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let alarms = alarms(&output);
    let told = texts(&alarms, "rule");
    let begin = |text: &str| told.iter().filter(|(over, it)| !over && it.starts_with(text)).count();
    let over = |text: &str| told.iter().filter(|(over, it)| *over && it.starts_with(text)).count();
    assert_eq!(begin("messages > 150/100ms"), 0, "{told:?}");
    for text in ["messages > 50/100ms on channel.sign", "denied > 0/1m of keeper", "lost > 0/1h"] {
        assert_eq!((begin(text), over(text)), (1, 1), "{text}: {told:?}");
    }
    assert_eq!(begin("denied > 0/1m of listener"), 0, "{told:?}");
    // The auditor's own, whatever is in it.
    assert_eq!(texts(&alarms, "auditor").len(), 1, "{alarms:?}");
    let said = String::from_utf8(output.stdout).unwrap();
    for harmful in HARMFUL {
        assert!(!said.contains(harmful), "{harmful:?}");
    }
}

fn a_log_in_which_nothing_is_wrong_raises_none() {
    let dir = tempdir().unwrap();
    quiet(dir.path());
    let output = watch(dir.path(), &["--until-end"]);
    assert_eq!((output.status.code(), alarms(&output)), (Some(0), vec![]), "{output:?}");
}

/// Reads alarms until one is of this cause.
fn next(lines: &mut impl Iterator<Item = std::io::Result<String>>, cause: &str) -> Value {
    loop {
        let alarm: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        if alarm["alarm"] == cause {
            return alarm;
        }
    }
}

/// Ends with the test, whatever comes of it.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn what_is_altered_while_it_is_watched_is_told_once() {
    let dir = tempdir().unwrap();
    let mut log = open(dir.path(), small(), 0);
    let append = |log: &mut cofferdam::audit::Log, n| {
        for side in [Side::Sender, Side::Receiver] {
            log.append(&message(n, side), &[], at(n)).unwrap();
        }
        log.commit(at(n)).unwrap();
    };
    for n in 0..100 {
        append(&mut log, n);
    }
    let more = ["--until-end", "--verify-every", "100ms"];
    let child = command(dir.path(), &more).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Watching(child);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    // The first segment is full, and signed: its bytes are not written any more.
    let segment = dir.path().join("00000000.log");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let told = next(&mut lines, "broken");
    assert!(told["text"].as_str().unwrap().contains("00000000.log"), "{told}");
    append(&mut log, 100);
    drop(log);
    let rest: Vec<Value> =
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let again = rest.iter().filter(|alarm| alarm["text"] == told["text"]).count();
    assert_eq!(again, 0, "{rest:?}");
    assert_eq!(child.0.wait().unwrap().code(), Some(1));
}

fn a_program_and_a_syslog_hear_of_each_alarm() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("log");
    fs::create_dir(&log).unwrap();
    fs::set_permissions(&log, Permissions::from_mode(0o700)).unwrap();
    write_daemon(&log, 10);
    let (heard, program) = (dir.path().join("heard"), dir.path().join("program"));
    fs::write(&program, format!("#!/bin/sh\ncat >> {}\n", heard.display())).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let socket = dir.path().join("syslog");
    let syslog = UnixDatagram::bind(&socket).unwrap();
    let address = format!("unix:{}", socket.display());
    let more = ["--until-end", "--run", program.to_str().unwrap(), "--syslog", &address];
    let output = watch(&log, &more);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let alarms = alarms(&output);
    assert!(!alarms.is_empty());
    let heard = fs::read_to_string(&heard).unwrap();
    let heard: Vec<Value> = heard.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(heard, alarms);
    syslog.set_nonblocking(true).unwrap();
    for alarm in &alarms {
        let mut line = [0; 4096];
        let length = syslog.recv(&mut line).unwrap();
        let line = str::from_utf8(&line[..length]).unwrap();
        let at = alarm["at"].as_str().unwrap();
        assert!(line.starts_with(&format!("<105>1 {at} ")), "{line}");
        assert!(line.contains(alarm["text"].as_str().unwrap()), "{line}");
    }
}

fn a_log_that_nobody_writes_is_told_with_an_exit_code() {
    let dir = tempdir().unwrap();
    quiet(dir.path());
    let output = watch(dir.path(), &["--absent", "100ms"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(texts(&alarms(&output), "absent").len(), 1, "{output:?}");
}

fn a_rule_that_is_none_is_told_with_its_line() {
    let dir = tempdir().unwrap();
    quiet(dir.path());
    let rules = dir.path().join("rules");
    fs::write(&rules, "# nothing\n\nalarm when wishes > 1/s\n").unwrap();
    let output = watch(dir.path(), &["--rules", rules.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("rules:3: `alarm when wishes > 1/s`: nothing counts"), "{said}");
}
