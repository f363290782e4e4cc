//! Payloads that are kept, for somebody else to read.

use std::fmt::Write;

use cofferdam::audit::Store;
use cofferdam::audit::entry::{Entry, Form, Kind, Side};
use cofferdam::audit::payload::open;
use cofferdam::audit::query::{Filter, query_with_payloads};
use cofferdam::seal::capture;

use super::Test;
use super::layers::policy;
use super::log::{alarms, assert_sound, records};
use crate::harness::{Daemon, eventually};

pub(crate) const TESTS: &[Test] = &[
    ("payload::only_the_auditors_key_opens_it", sealed),
    ("payload::a_person_makes_a_key_and_reads_a_payload", by_hand),
];

/// By the commands that a person types.
fn by_hand() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("auditor.key");
    let cofferdam = |arguments: &[&str]| {
        let command = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"))
            .arg("audit")
            .args(arguments)
            .output()
            .unwrap();
        (command.status.code(), command.stdout)
    };
    let path = file.to_str().unwrap();
    let (code, public) = cofferdam(&["key", path]);
    assert_eq!(code, Some(0));
    assert_eq!(cofferdam(&["key", path]).0, Some(3), "a key is never overwritten");
    let audit = String::from_utf8(public).unwrap();
    let mut daemon =
        Daemon::start("-", &policy("talker", "listener", &audit, "audit = \"payload\""));
    daemon.line("all said");
    let log = daemon.directory().join("log");
    // While the auditor writes: it takes the order into its log first.
    let mut first = None;
    eventually("both ends' records of a message", || {
        let mut all: Vec<_> = records(&log).into_iter().filter(|it| it.payload.is_some()).collect();
        let Some(one) = (!all.is_empty()).then(|| all.remove(0)) else { return false };
        first = Some(one.index);
        all.iter().any(|it| it.entry.hash == one.entry.hash)
    });
    let first = first.unwrap().to_string();
    let dir = log.to_str().unwrap();
    assert_eq!(cofferdam(&["redact", dir, &first, "--because", "asked by letter"]).0, Some(0));
    assert!(!log.join("redaction").exists());
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let told: Vec<_> =
        records(&log).into_iter().filter(|it| it.entry.kind == Kind::Redacted).collect();
    assert_eq!(told.len(), 2, "both ends kept it: {told:?}");
    assert_eq!(told[0].entry.detail, b"asked by letter");
    assert!(told.iter().any(|it| it.entry.sequence.to_string() == first));
    assert_sound(&log);
    let last = records(&log)
        .into_iter()
        .rfind(|record| record.entry.form == Form::Request)
        .expect("a request")
        .index
        .to_string();
    let log = log.to_str().unwrap();
    let (code, said) = cofferdam(&["payload", log, &last, "--key", path]);
    assert_eq!(code, Some(0));
    assert!(said.ends_with(b"last"), "{said:?}");
    assert_eq!(cofferdam(&["payload", log, "0", "--key", path]).0, Some(1));
    assert_eq!(cofferdam(&["payload", log, "999999", "--key", path]).0, Some(2));
    assert_eq!(cofferdam(&["redact", log, &last]).0, Some(0));
    assert_eq!(cofferdam(&["payload", log, &last, "--key", path]).0, Some(1));
    assert_sound(&daemon.directory().join("log"));
}

fn sealed() {
    let private = [42; 32];
    let key = capture::public_of(&private).0.iter().fold(String::new(), |mut key, byte| {
        let _ = write!(key, "{byte:02x}");
        key
    });
    let audit = format!("payload-key = \"{key}\"");
    let mut daemon =
        Daemon::start("-", &policy("talker", "listener", &audit, "audit = \"payload\""));
    daemon.line("all said");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    assert_eq!(alarms(&records(&log)), [""; 0]);
    let segment = std::fs::read(log.join("00000000.log")).unwrap();
    assert!(!segment.windows(16).any(|bytes| bytes == [7; 16]), "no message is there in clear");
    let mut opened = 0;
    let filter = Filter { kinds: vec![Kind::Use], ..Filter::default() };
    query_with_payloads(&Store::open(&log).unwrap(), &filter, |record, payload| {
        let clear = open(&private, &record.entry, payload).unwrap();
        if record.entry.form == Form::Request && record.entry.side == Side::Sender {
            // The call's number, how long it waits and its trace, then the message.
            assert!(clear[8 + 32..].iter().all(|byte| *byte == 7) || clear.ends_with(b"last"));
        }
        assert!(open(&[43; 32], &record.entry, payload).is_err());
        let elsewhere = Entry { sequence: record.entry.sequence + 1, ..record.entry };
        assert!(open(&private, &elsewhere, payload).is_err());
        opened += 1;
        true
    })
    .unwrap();
    assert!(opened > 2000);
}
