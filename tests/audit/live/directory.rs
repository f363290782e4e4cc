//! Whose directory a log is kept in, and what root gives away there.
//!
//! Only root can give anything away, and only root can make what belongs to others: for an ordinary
//! user the tests of strangers are ignored.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Child, Command};

use super::Test;
use super::layers::policy;
use super::log::{assert_sound, records};
use crate::harness::Daemon;
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("directory::a_strangers_is_refused", stranger),
    ("directory::one_beneath_a_strangers_is_refused", ancestor),
    ("directory::hard_links_and_strangers_files_are_not_given_away", planted),
    ("directory::links_that_come_and_go_lead_to_nothing_of_root", racing),
    ("directory::a_log_goes_on_under_another_user_of_the_auditor", another_user),
    ("directory::a_removed_log_stops_the_daemon", removed),
];

/// A user who is nobody in the daemon.
const STRANGER: u32 = 65_533;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn sleepers() -> String {
    policy("sleeper", "sleeper", "", "")
}

/// Starts a daemon that must refuse, and must give nothing in `treasure` away.
fn refused(policy: &str, prepare: impl FnOnce(&Path), why: &str) {
    let mut daemon = Daemon::start_with("-", policy, |dir| {
        treasure(dir);
        prepare(dir);
    });
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count(why), 1, "{daemon}");
    assert_eq!(daemon.count("is confined"), 0, "no layer runs without its log: {daemon}");
    assert_treasure(daemon.directory());
}

/// Files of root that are called as those of a log are.
fn treasure(dir: &Path) {
    let treasure = dir.join("treasure");
    fs::create_dir(&treasure).unwrap();
    for name in ["key", "00000000.log", "lock"] {
        fs::write(treasure.join(name), "root's").unwrap();
        fs::set_permissions(treasure.join(name), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

fn assert_treasure(dir: &Path) {
    let treasure = dir.join("treasure");
    let own = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(&treasure).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.symlink_metadata().unwrap().uid(), own, "{}", path.display());
    }
    assert_eq!(treasure.metadata().unwrap().uid(), own);
    assert_eq!(fs::read(treasure.join("key")).unwrap(), b"root's");
}

fn stranger() {
    if !is_root() {
        ignore("only root makes what belongs to strangers, and gives anything away");
    }
    refused(
        &sleepers(),
        |dir| {
            fs::create_dir(dir.join("log")).unwrap();
            chown(dir.join("log"), Some(STRANGER), Some(STRANGER)).unwrap();
        },
        "belongs to user 65533",
    );
}

fn ancestor() {
    if !is_root() {
        ignore("only root makes what belongs to strangers, and gives anything away");
    }
    let beneath = sleepers().replace("DIR/log", "DIR/theirs/log");
    refused(
        &beneath,
        |dir| {
            fs::create_dir_all(dir.join("theirs/log")).unwrap();
            chown(dir.join("theirs"), Some(STRANGER), Some(STRANGER)).unwrap();
        },
        "theirs belongs to user 65533, who can change it",
    );
    refused(
        &beneath,
        |dir| {
            fs::create_dir_all(dir.join("theirs/log")).unwrap();
            let open = fs::Permissions::from_mode(0o777);
            fs::set_permissions(dir.join("theirs"), open).unwrap();
        },
        "theirs has mode 0777: everybody can change it",
    );
}

fn planted() {
    let log = |dir: &Path| {
        fs::create_dir(dir.join("log")).unwrap();
        dir.join("log")
    };
    let hard = |dir: &Path| {
        fs::hard_link(dir.join("treasure/key"), log(dir).join("key")).unwrap();
    };
    refused(&sleepers(), hard, "\"key\", which has 2 names (hard links)");
    let soft = |dir: &Path| symlink(dir.join("treasure/key"), log(dir).join("key")).unwrap();
    refused(&sleepers(), soft, "\"key\", which is no regular file");
    let pipe = |dir: &Path| {
        let fifo = log(dir).join("lock");
        assert!(Command::new("mkfifo").arg(fifo).status().unwrap().success());
    };
    refused(&sleepers(), pipe, "\"lock\", which is no regular file");
    if is_root() {
        let theirs = |dir: &Path| {
            let file = log(dir).join("00000007.note");
            fs::write(&file, "").unwrap();
            chown(&file, Some(STRANGER), Some(STRANGER)).unwrap();
        };
        refused(&sleepers(), theirs, "\"00000007.note\", which belongs to user 65533");
    }
}

/// A stranger at work; dropping this ends it.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Stranger {
    /// Swaps `DIR/spool/log` again and again: nothing, a link to root's files, a directory with
    /// links in it.
    fn swaps(dir: &Path) -> Self {
        let script = "while :; do ln -s ../treasure log; rm -f log; \
                      mkdir log && ln -s ../../treasure/key log/key; rm -rf log; done 2>/dev/null";
        let swapping = Command::new("setpriv")
            .args(["--reuid=65533", "--regid=65533", "--clear-groups", "sh", "-c", script])
            .current_dir(dir.join("spool"))
            .spawn();
        Self(swapping.unwrap())
    }
}

fn racing() {
    if !is_root() {
        ignore("only root makes what belongs to strangers, and gives anything away");
    }
    for _ in 0..6 {
        let mut stranger = None;
        let policy = sleepers().replace("DIR/log", "DIR/spool/log");
        let mut daemon = Daemon::start_with("-", &policy, |dir| {
            treasure(dir);
            fs::create_dir(dir.join("spool")).unwrap();
            let shared = fs::Permissions::from_mode(0o1777);
            fs::set_permissions(dir.join("spool"), shared).unwrap();
            stranger = Some(Stranger::swaps(dir));
        });
        // It came between two of the stranger's steps, or it refuses.
        let said = daemon.line("log");
        let code = if said.contains("can't") || said.contains("directory") {
            daemon.end()
        } else {
            daemon.stop()
        };
        assert!(matches!(code, Some(0 | 3)), "{code:?} {daemon}");
        drop(stranger);
        assert_treasure(daemon.directory());
    }
}

fn another_user() {
    let mut first = Daemon::start("-", &sleepers());
    first.confined("b/0.g1");
    assert_eq!(first.stop(), Some(0), "{first}");
    let log = first.directory().join("log");
    let before = records(&log);
    if is_root() {
        let about = log.metadata().unwrap();
        assert_eq!((about.uid(), about.mode() & 0o7777), (0, 0o1770));
        // As if the auditor had had another number.
        for entry in fs::read_dir(&log).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(path.metadata().unwrap().uid(), about.gid(), "{}", path.display());
            chown(path, Some(0x4fff_0001), Some(0x4fff_0001)).unwrap();
        }
        chown(&log, Some(0), Some(0x4fff_0001)).unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o1770)).unwrap();
    }
    let policy = sleepers().replace("DIR/log", log.to_str().unwrap());
    let mut second = Daemon::start("-", &policy);
    second.confined("b/0.g1");
    assert_eq!(second.stop(), Some(0), "{second}");
    assert_sound(&log);
    let after = records(&log);
    assert_eq!(after[..before.len()], before);
    assert!(after.len() > before.len() + 8);
}

fn removed() {
    let mut daemon = Daemon::start("-", &policy("busy", "listener", "on-full = \"halt\"", ""));
    daemon.line("made 100 calls");
    fs::remove_dir_all(daemon.directory().join("log")).unwrap();
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert!(daemon.count("can't find 00000000.log") > 0, "{daemon}");
    assert_eq!(daemon.count("the daemon stops (`on-full`)"), 1, "{daemon}");
}
