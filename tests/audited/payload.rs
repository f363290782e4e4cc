//! Payloads that are kept, for somebody else to read.

use std::fmt::Write;

use cofferdam::audit::Store;
use cofferdam::audit::entry::{Entry, Form, Kind, Side};
use cofferdam::audit::payload::open;
use cofferdam::audit::query::{Filter, query_with_payloads};
use cofferdam::seal::capture;

use crate::Test;
use crate::harness::Daemon;
use crate::layers::policy;
use crate::log::{alarms, assert_sound, records};

pub(crate) const TESTS: &[Test] = &[("payload::only_the_auditors_key_opens_it", sealed)];

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
            // The call's number and how long it waits, then the message.
            assert!(clear[8..].iter().all(|byte| *byte == 7) || clear.ends_with(b"last"));
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
