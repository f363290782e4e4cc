//! A disk that is full, and what the policy says to do then.

use std::path::Path;
use std::process::Command;

use super::Test;
use super::layers::policy;
use super::log::{assert_sound, count, lost, records};
use crate::harness::{Daemon, eventually};
use cofferdam::audit::entry::{Form, Side};

pub(crate) const TESTS: &[Test] = &[
    ("disk::a_full_disk_holds_the_layers_up", block),
    ("disk::a_full_disk_is_counted", counted),
    ("disk::a_full_disk_stops_the_daemon", halt),
];

/// A small file system, taken away again at the end.
struct Disk(std::path::PathBuf);

impl Disk {
    /// Mounts it where the log will be. `None` for an ordinary user, who can't.
    fn mount(dir: &Path) -> Option<Self> {
        let at = dir.join("log");
        std::fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=700", "none"])
            .arg(&at)
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self(at))
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

/// A busy daemon whose log gets into a disk that is soon full.
fn start(on_full: &str) -> Option<(Daemon, Disk)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let mut disk = None;
    let policy = policy("busy", "listener", &format!("on-full = \"{on_full}\""), "");
    let mut daemon = Daemon::start_with("-", &policy, |dir| disk = Disk::mount(dir));
    let disk = disk.expect("root mounts a disk");
    daemon.line("the audit log can't be written");
    Some((daemon, disk))
}

fn block() {
    let Some((mut daemon, disk)) = start("block") else { return };
    daemon.line("a/0.g1 waits until the audit log can be written");
    disk.grow();
    daemon.line("the audit log is written again");
    daemon.line("calls");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    super::log::assert_two_sided(&records);
    assert_eq!(lost(&records), 0);
}

fn counted() {
    let Some((mut daemon, disk)) = start("count") else { return };
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
    let Some((mut daemon, disk)) = start("halt") else { return };
    eventually("the daemon ends", || true);
    drop(disk);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("the daemon stops (`on-full`)"), 1, "{daemon}");
}
