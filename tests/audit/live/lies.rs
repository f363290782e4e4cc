//! Layers that report what isn't so, or nothing, or too much.

use std::process::Command;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::audit::entry::{Kind, Record};
use cofferdam::ipc::message::{Event, Message};
use cofferdam::policy::plan::Audit;
use cofferdam::report::{Facility, Facts, Form, Side, Verdict, Who};

use super::layers::{policy, say, stay};
use super::log::{alarms, assert_sound, lost, records};
use super::{Outcome, Test};
use crate::harness::Daemon;

pub(crate) const TESTS: &[Test] = &[
    ("lies::a_forged_report_is_flagged", forged),
    ("lies::a_layer_that_hides_messages_is_flagged", hidden),
    ("lies::a_ring_full_of_nonsense_is_read_no_more", nonsense),
    ("lies::a_flood_of_reports_harms_nobody_else", flood),
    ("lies::nobody_writes_its_own_obituary", obituary),
    ("lies::nobody_tells_what_the_kernel_denied_another", denounced),
    ("lies::no_number_is_too_large_for_auditor_and_readers", boasts),
];

/// Runs a liar as `b` beside an honest `a`, until the log has an alarm that says `text`.
///
/// The daemon is stopped only once that is there.
fn caught(liar: &str, audit: &str, text: &str) -> Vec<String> {
    let mut daemon = Daemon::start("-", &policy("busy", liar, audit, ""));
    daemon.line("lied");
    let log = daemon.directory().join("log");
    let found = || alarms(&records(&log)).iter().any(|alarm| alarm.contains(text));
    crate::harness::eventually(text, found);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_sound(&log);
    alarms(&records(&log))
}

/// Of an end, only the kernel tells, and of a program's its init: who says of itself that it ended
/// well is killed for that.
fn obituary() {
    for liar in ["obituarist", "early_obituarist"] {
        let mut daemon = Daemon::start("-", &policy("sleeper", liar, "", ""));
        daemon.line("b/0.g1 is killed: it broke the control protocol");
        daemon.line("b/0.g2 is killed: it broke the control protocol");
        daemon.line("b/0.g3 is confined");
        let log = daemon.directory().join("log");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_sound(&log);
        let records = records(&log);
        let of_b = |record: &&Record| record.entry.peer == Who { layer: 1, copy: 0, generation: 1 };
        let breach = records.iter().filter(of_b).find(|it| it.entry.kind == Kind::Alarm);
        let breach = breach.expect("the breach is recorded");
        assert_eq!(breach.entry.detail, b"it broke the control protocol");
        let exit = records.iter().filter(of_b).find(|it| it.entry.kind == Kind::Exit);
        let status = exit.expect("its end is recorded").entry.value;
        if liar == "obituarist" {
            assert!([9, 31].contains(&status), "killed, not {status}");
            assert_eq!(daemon.count("b/0.g1 ended with exit code 0"), 0, "{daemon}");
        }
    }
}

/// Says on the control socket that it has ended well, and makes a call that isn't granted.
pub(crate) fn obituarist(_: Layer) -> Outcome {
    let _ = nix::sys::socket::send(4, &[3, 0], nix::sys::socket::MsgFlags::empty());
    let _ = nix::sched::unshare(nix::sched::CloneFlags::empty());
    Err("the call was granted".to_owned())
}

/// Says it and does so, before it can be killed.
pub(crate) fn early_obituarist(_: Layer) -> Outcome {
    let _ = nix::sys::socket::send(4, &[3, 0], nix::sys::socket::MsgFlags::empty());
    std::process::exit(0)
}

fn forged() {
    let alarms = caught("forger", "", "only the receiver reports it");
    assert!(alarms.iter().all(|alarm| alarm.contains("channel.c")), "{alarms:?}");
}

/// Says that it got a message which nobody sent.
pub(crate) fn forger(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    channel.wait_for_peer(None).map_err(|e| e.to_string())?;
    let tap = layer.desk().tap(Facility::Channel, 0, Audit::Digest).ok_or("no log")?;
    let facts = Facts {
        sequence: 1 << 20,
        form: Form::Message,
        length: 100,
        peer: Who { layer: 0, copy: 0, generation: 1 },
        ..tap.facts(Side::Receiver)
    };
    tap.report(&facts, b"never sent", b"");
    say("lied");
    super::layers::listener(layer)
}

fn hidden() {
    // Of what it says itself nothing is believed; of what it hears, only the other end tells.
    let alarms = caught("silent", "", "the receiver doesn't report it");
    assert!(alarms.iter().any(|alarm| alarm.contains("not believed any more")), "{alarms:?}");
}

/// Overwrites its reports, so that the auditor never sees that it got anything.
pub(crate) fn silent(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    let written = 64;
    let mut answered = 0;
    while !layer.is_stopping() {
        if let Ok(Event::Request { message, reply, .. }) =
            channel.recv(Some(Duration::from_millis(100)))
        {
            // Where the ring is written up to is said to be its beginning, for ever.
            layer.desk().scribble(written, &[0; 8]);
            let _ = reply.blocking().reply(message);
            layer.desk().scribble(written, &[0; 8]);
            answered += 1;
            if answered == 10 {
                say("lied");
            }
        }
    }
    Ok(())
}

fn nonsense() {
    let alarms = caught("scribbler", "", "its reports are not believed any more");
    assert_eq!(alarms.iter().filter(|alarm| alarm.contains("not believed")).count(), 1);
}

/// Fills its ring with ones, again and again: what it reports itself in between sets the ring's
/// positions right once more, and the auditor may look just then.
pub(crate) fn scribbler(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    say("lied");
    while !layer.is_stopping() {
        for at in (64..1 << 16).step_by(64) {
            layer.desk().scribble(at, &[0xff; 64]);
        }
        if let Ok(Event::Request { message, reply, .. }) =
            channel.recv(Some(Duration::from_millis(100)))
        {
            let _ = reply.blocking().reply(message);
        }
    }
    Ok(())
}

fn denounced() {
    let mut daemon = Daemon::start("-", &policy("busy", "denouncer", "", ""));
    daemon.line("lied");
    let log = daemon.directory().join("log");
    let text = "it reports from a side that isn't its own";
    let found = || alarms(&records(&log)).iter().any(|alarm| alarm.contains(text));
    crate::harness::eventually(text, found);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_sound(&log);
    assert!(records(&log).iter().all(|record| record.entry.kind != Kind::Denial));
}

/// Reports as the writer of the log does, that the kernel killed another for a system call.
pub(crate) fn denouncer(layer: Layer) -> Outcome {
    let tap = layer.desk().tap(Facility::Syscall, 0, Audit::Digest).ok_or("no log")?;
    let another = Who { layer: 0, copy: 0, generation: 1 };
    let facts = Facts { verdict: Verdict::Killed, method: 59, ..tap.facts(Side::Helper) };
    tap.report(&facts, b"", &[&another.to_bytes()[..], b"execve"].concat());
    say("lied");
    super::layers::listener(layer)
}

fn boasts() {
    let policy = policy("busy", "boaster", "", "");
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("lied");
    let log = daemon.directory().join("log");
    let found = |text: &str| alarms(&records(&log)).iter().any(|alarm| alarm.contains(text));
    crate::harness::eventually("a repetition", || found("it repeats a report"));
    // The honest one goes on, and the auditor is in its first life still.
    daemon.line("calls");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_sound(&log);
    let records = records(&log);
    let auditors = records.iter().filter(|record| record.entry.kind == Kind::Progress);
    let lives = auditors.filter(|record| record.entry.reporter == Who::AUDITOR);
    assert!(lives.map(|record| record.entry.sequence).max() <= Some(1), "{daemon}");
    assert_eq!(lost(&records), u64::MAX);

    // Whatever reads the log does so too.
    let policy = daemon.directory().join("policy.toml");
    for words in [
        "query",
        "stats",
        "report",
        "export --format json",
        "export --format pcapng",
        "export --format chrome",
        "verify",
        "reconcile",
        "unused",
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.arg("audit").args(words.split(' '));
        if words == "unused" {
            command.arg(&policy);
        }
        let output = command.arg(&log).output().expect("the program");
        // What it finds may be bad news, which is 1; a panic is 101, an error 3.
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{words}: {stderr}");
    }
}

/// Reports the largest numbers that there are, in every place; says that 2^64 reports were lost
/// where half as many are missing; and goes on as if it hadn't.
pub(crate) fn boaster(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    channel.wait_for_peer(None).map_err(|e| e.to_string())?;
    let desk = layer.desk();
    let tap = desk.tap(Facility::Channel, 0, Audit::Digest).ok_or("no log")?;
    let who = Who { layer: u16::MAX, copy: u16::MAX, generation: u64::MAX };
    for side in [Side::None, Side::Sender, Side::Receiver, Side::Supervisor] {
        for (&facility, &form) in Facility::ALL.iter().zip(Form::ALL.iter().cycle()) {
            for (peer, edge) in
                [(who, u16::MAX), (Who { layer: 0, ..who }, 0), (Who { layer: 1, ..who }, 0)]
            {
                for sequence in [0, u64::MAX - 1, u64::MAX] {
                    let facts = Facts {
                        facility,
                        edge,
                        form,
                        peer,
                        sequence,
                        length: u64::MAX,
                        method: u32::MAX,
                        value: u32::MAX,
                        descriptors: u8::MAX,
                        ..tap.facts(side)
                    };
                    tap.report(&facts, b"more", &[0xff; 64]);
                }
            }
        }
    }
    // Half of all reports are missing, and more are said to be lost than there are numbers left.
    desk.claim_loss(u64::MAX / 2, u64::MAX);
    tap.report(&tap.facts(Side::None), b"", b"");
    desk.fall_silent();
    say("lied");
    super::layers::listener(layer)
}

fn flood() {
    let mut daemon = Daemon::start("-", &policy("busy", "flooder", "on-full = \"count\"", ""));
    daemon.line("lied");
    // The honest one goes on while the other floods.
    daemon.line("calls");
    daemon.line("calls");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    // What the flooder reported is there or counted.
    let flooded = records.iter().filter(|r| r.entry.facility == Facility::Fifo).count() as u64;
    let told: u64 = daemon
        .seen
        .iter()
        .filter_map(|line| line.split("flooded ").nth(1)?.parse::<u64>().ok())
        .max()
        .expect("the flooder says how much");
    assert!(flooded + lost(&records) >= told, "{flooded} and {} of {told}", lost(&records));
    // Alarms about it are few.
    assert!(alarms(&records).len() < 2_000, "{}", alarms(&records).len());
}

/// Reports as fast as it can, and answers beside that.
pub(crate) fn flooder(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    let tap = layer.desk().tap(Facility::Fifo, 7, Audit::Digest).ok_or("no log")?;
    for n in 0..300_000_u64 {
        tap.report(&Facts { sequence: n, ..tap.facts(Side::None) }, &[7; 64], b"");
        if n.is_multiple_of(1000)
            && let Ok(Event::Request { message, reply, .. }) =
                channel.recv(Some(Duration::from_millis(1)))
        {
            let _ = reply.blocking().reply(message);
        }
    }
    say("flooded 300000");
    say("lied");
    let answer = |message: Message, reply: cofferdam::ipc::message::Replier| {
        let _ = reply.blocking().reply(message);
    };
    while !layer.is_stopping() {
        if let Ok(Event::Request { message, reply, .. }) =
            channel.recv(Some(Duration::from_millis(100)))
        {
            answer(message, reply);
        }
    }
    stay(&layer)
}
