//! A disk that is full, and what the policy says to do then.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cofferdam::wire::control::FromLayer;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

use super::Test;
use super::kill::last;
use super::layers::policy;
use super::log::{alarms, assert_sound, count, lost, records};
use crate::harness::{Daemon, eventually, is_alive};
use crate::support::suite::ignore;
use cofferdam::audit::Store;
use cofferdam::audit::entry::{Form, Kind, Side};
use cofferdam::audit::reconcile::{Bounds, reconcile};
use cofferdam::audit::verify::{Options, verify};

pub(crate) const TESTS: &[Test] = &[
    ("disk::a_full_disk_holds_the_layers_up", block),
    ("disk::what_is_written_is_signed_though_nothing_follows", idle),
    ("disk::a_full_disk_is_counted", counted),
    ("disk::a_full_disk_stops_the_daemon", halt),
    ("disk::an_auditor_that_can_not_say_so_stops_the_daemon_by_its_end", unsaid),
];

/// A small file system, taken away again at the end.
struct Disk(std::path::PathBuf);

impl Disk {
    /// Mounts it where the log will be.
    fn mount(dir: &Path, size: &str) -> Self {
        let at = dir.join("log");
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "none"])
            .arg(&at)
            .status();
        assert!(mounted.unwrap().success(), "root mounts a disk");
        Self(at)
    }

    /// Fills it up with a file.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    /// Removes that file.
    fn clear(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }

    /// Gives it more room.
    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).status();
        assert!(grown.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A busy daemon whose log is on a disk of that size.
fn start_on(on_full: &str, size: &str) -> (Daemon, Disk) {
    if !rustix::process::geteuid().is_root() {
        ignore("only root may mount a small disk");
    }
    let mut disk = None;
    let policy = policy("busy", "listener", &format!("on-full = \"{on_full}\""), "");
    let daemon = Daemon::start_with("-", &policy, |dir| disk = Some(Disk::mount(dir, size)));
    (daemon, disk.unwrap())
}

/// One that is soon full.
fn start(on_full: &str) -> (Daemon, Disk) {
    let (mut daemon, disk) = start_on(on_full, "1m");
    daemon.line("the audit log can't be written");
    (daemon, disk)
}

fn block() {
    let (mut daemon, disk) = start("block");
    daemon.line("a/0.g1 waits until the audit log can be written");
    // Longer than an end may be late.
    std::thread::sleep(2 * Duration::from_nanos(Bounds::default().grace));
    disk.grow();
    daemon.line("the audit log is written again");
    daemon.line("calls");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    super::log::assert_two_sided(&records);
    assert_eq!(lost(&records), 0);
    // That the delay was the log's own is in it, and nobody is accused for it.
    let held = records.iter().filter(|record| record.entry.kind == Kind::Held);
    assert!(held.map(|record| record.entry.length).max() >= Some(Bounds::default().grace));
    let alarms = alarms(&records);
    let [alarm] = alarms.as_slice() else { panic!("{alarms:?}") };
    assert!(
        alarm.contains("couldn't be written for") && alarm.contains("layers waited"),
        "{alarm}"
    );
    let store = Store::open(&log).unwrap();
    let (counts, _) = reconcile(&store, Bounds::default(), |_| {}).unwrap();
    assert!(counts.honest(), "{counts:?}");
}

/// Nothing happens, and what happened before is signed all the same.
fn idle() {
    let policy = policy("sleeper", "sleeper", "sign-every = \"200ms\"", "");
    let mut daemon = Daemon::start_with("-", &policy, |_| {});
    let log = daemon.directory().join("log");
    eventually("everything is signed", || {
        let options = Options { live: true, ..Options::default() };
        let told = Store::open(&log).ok().and_then(|store| verify(&store, &options).ok());
        // Both layers' starts and receipts are there.
        told.is_some_and(|told| told.size > 6 && told.signed == told.size)
    });
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn counted() {
    let (mut daemon, disk) = start("count");
    // The layers go on meanwhile.
    for _ in 0..50 {
        daemon.line("calls");
    }
    disk.grow();
    daemon.line("the audit log is written again");
    daemon.line("calls");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert!(lost(&records) > 0);
    // Every call has four reports; what isn't there is counted, exactly.
    let told = daemon.seen.iter().filter_map(|line| line.split("made ").nth(1)?.split(' ').next());
    let calls = told.filter_map(|n| n.parse::<u64>().ok()).max().unwrap();
    let there: u64 = [Side::Sender, Side::Receiver]
        .iter()
        .flat_map(|&side| [Form::Request, Form::Reply].map(|form| count(&records, side, form)))
        .sum();
    let all = there + lost(&records);
    assert!(all >= 4 * calls && all < 4 * (calls + 101), "{all} for {calls} calls");
    assert_eq!(all % 2, 0);
}

fn halt() {
    let (mut daemon, disk) = start("halt");
    drop(disk);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("the daemon stops (`on-full`)"), 1, "{daemon}");
}

/// A layer's end of its control socket.
fn control_of(layer: Pid) -> OwnedFd {
    const CONTROL: i32 = 4;
    let layer = pidfd_open(layer, PidfdFlags::empty()).unwrap();
    pidfd_getfd(layer, CONTROL, PidfdGetfdFlags::empty()).unwrap()
}

/// Its supervisor hears nothing for a while, and has been told so much that there is no room left.
fn unsaid() {
    let (mut daemon, disk) = start_on("halt", "16m");
    let auditor = last(&mut daemon, "cofferdam-auditor/0.g1");
    daemon.line("made 100 calls");
    daemon.signal(Signal::STOP);
    let control = control_of(auditor);
    let words = FromLayer::Log { halt: false, text: "so much to say".to_owned() }.encode();
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let full = loop {
        if let Err(errno) = send(control.as_raw_fd(), &words, flags) {
            break errno;
        }
    };
    assert_eq!(full, Errno::EAGAIN);
    drop(control);
    disk.fill();
    eventually("the auditor ends", || !is_alive(auditor));
    daemon.signal(Signal::CONT);
    daemon.line("the auditor has ended because the daemon must stop (`on-full`)");
    disk.clear();
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("cofferdam-auditor/0.g1 ended with exit code 75"), 1, "{daemon}");
    assert_eq!(daemon.count("the daemon stops (`on-full`)"), 0, "it was said: {daemon}");
    assert_sound(&daemon.directory().join("log"));
}
