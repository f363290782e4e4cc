//! What is said is in the log, once from each side.

use cofferdam::audit::entry::{Form, Kind, Side};

use super::Test;
use super::layers::{CALLS, policy};
use super::log::{alarms, assert_sound, assert_two_sided, count, lost, records};
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("traffic::every_message_is_there_once_from_each_side", every_message),
    ("traffic::what_is_not_audited_is_not_there", not_audited),
    ("traffic::acts_of_the_supervisor_are_there", acts),
    ("traffic::segments_are_changed_under_way", rotation),
];

fn every_message() {
    let mut daemon = Daemon::start("-", &policy("talker", "listener", "", ""));
    daemon.line("all said");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert_two_sided(&records);
    for side in [Side::Sender, Side::Receiver] {
        assert_eq!(count(&records, side, Form::Request), CALLS + 1);
        assert_eq!(count(&records, side, Form::Reply), CALLS + 1);
        assert_eq!(count(&records, side, Form::Message), 1000);
    }
    assert_eq!(alarms(&records), [""; 0]);
    assert_eq!(lost(&records), 0);
}

fn not_audited() {
    let mut daemon = Daemon::start("-", &policy("talker", "listener", "", "audit = \"none\""));
    daemon.line("all said");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let records = records(&daemon.directory().join("log"));
    assert!(records.iter().all(|record| record.entry.kind != Kind::Use));
}

fn acts() {
    let mut daemon = Daemon::start("-", &policy("sleeper", "sleeper", "", ""));
    for layer in ["a/0.g1", "b/0.g1"] {
        daemon.confined(layer);
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let records = records(&daemon.directory().join("log"));
    let of = |kind| records.iter().filter(|record| record.entry.kind == kind).count();
    // The end of the auditor, and that of who writes the lines, come after the log's.
    assert_eq!((of(Kind::Start), of(Kind::Stop), of(Kind::Policy)), (1, 1, 1));
    assert_eq!((of(Kind::Spawn), of(Kind::Receipt), of(Kind::Exit)), (4, 4, 2));
}

fn rotation() {
    let mut daemon = Daemon::start("-", &policy("busy", "listener", "segment = \"1MiB\"", ""));
    daemon.line("made 4000 calls");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert!(log.join("00000002.log").exists(), "more than two segments");
    assert_sound(&log);
    let records = records(&log);
    assert!(assert_two_sided(&records) >= 8000);
    assert_eq!(alarms(&records), [""; 0]);
}
