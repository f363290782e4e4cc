//! In which order layers start and end, and what a service manager hears of it.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};

use crate::Test;
use crate::harness::{Daemon, PATIENCE};

pub(crate) const TESTS: &[Test] = &[
    ("order::who_comes_after_waits_until_the_first_is_ready", told),
    ("order::what_must_be_done_first_is_done_first", finished),
    ("order::who_comes_after_one_that_failed_is_not_started", failed),
    ("order::a_layer_says_once_that_it_is_ready", twice),
    ("order::a_service_manager_hears_when_all_are_ready", manager),
    ("order::a_supervisor_that_is_stopped_leaves_the_watchdog_unfed", watchdog),
    ("order::a_service_manager_that_is_not_there_stops_the_daemon", no_manager),
];

const ONE: &str =
    "syscalls = [\"@core\"]\nlimits = { memory = \"64MiB\" }\noptional = [\"cgroup\"]";

/// A sleeper behind a teller, which is ready once the file `go` says so.
fn behind_teller() -> String {
    format!(
        "[layer.last]\nrun = \"sleeper\"\n{ONE}\nafter = [\"first\"]\n\
         [layer.first]\nrun = \"teller\"\n{ONE}\nready = \"told\"\ninstances = 2\n\
         [file.go]\npath = \"DIR/go\"\ngrant = {{ first = [\"read\"] }}"
    )
}

fn nothing_yet(directory: &Path) {
    std::fs::write(directory.join("go"), "").unwrap();
}

fn go(daemon: &Daemon) {
    std::fs::write(daemon.directory().join("go"), "now").unwrap();
}

fn told() {
    let mut daemon = Daemon::start_with("ordered", &behind_teller(), nothing_yet);
    daemon.line("not ready");
    daemon.line("not ready");
    assert_eq!(daemon.line_within("last/0.g1", Duration::from_millis(300)), None);
    go(&daemon);
    daemon.confined("last/0.g1");
    daemon.line("last/0.g1: asleep");
    assert_eq!(daemon.count(": ready"), 2, "{daemon}");
    // Once ready is enough: the next life of the first holds up nobody.
    let first = daemon.confined("first/0.g1");
    let last = daemon.confined("last/0.g1");
    nothing_yet(daemon.directory());
    kill_process(first, Signal::KILL).unwrap();
    daemon.line("first/0.g2: not ready");
    kill_process(last, Signal::KILL).unwrap();
    daemon.line("last/0.g2: asleep");
    // At the end it is the other way round.
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let place = |text: &str| daemon.seen.iter().position(|line| line.contains(text));
    let (last, first) = (place("last/0.g2 ended"), place("first/1.g1: woken"));
    assert!(last.is_some() && last < first, "{daemon}");
}

fn finished() {
    let policy = format!(
        "[layer.server]\nrun = \"sleeper\"\n{ONE}\nafter = [\"prepare\"]\n\
         [layer.prepare]\nexec = [\"/bin/sh\", \"-c\", \"sleep 0.3; echo prepared\"]\n\
         syscalls = [\"@core\", \"@process\", \"@exec\"]\nbecause = \"a test\"\n\
         restart = {{ on = \"never\" }}\nready = \"finished\"\noptional = [\"cgroup\"]"
    );
    let mut daemon = Daemon::start("ordered", &policy);
    daemon.line("prepare/0.g1: prepared");
    daemon.line("server/0.g1: asleep");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let place = |text: &str| daemon.seen.iter().position(|line| line.contains(text));
    let (ended, began) = (place("prepare/0.g1 ended with exit code 0"), place("server/0.g1 is"));
    assert!(ended.is_some() && ended < began, "{daemon}");
}

fn failed() {
    let policy = format!(
        "[layer.server]\nrun = \"sleeper\"\n{ONE}\nafter = [\"middle\"]\n\
         [layer.middle]\nrun = \"sleeper\"\n{ONE}\nafter = [\"prepare\"]\n\
         [layer.other]\nrun = \"sleeper\"\n{ONE}\n\
         [layer.prepare]\nrun = \"failing\"\n{ONE}\nready = \"finished\"\n\
         restart = {{ on = \"failure\", max = 1, within = \"1m\", then = \"leave-down\" }}"
    );
    let mut daemon = Daemon::start("ordered", &policy);
    daemon.line("server/0 is not started: middle, which it comes `after`, is down");
    assert_eq!(daemon.count("middle/0 is not started: prepare"), 1, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("other/0.g1 ended with exit code 0"), 1, "{daemon}");
    assert_eq!(daemon.count("middle/0.g1"), 0, "{daemon}");
    // With nobody else left, the daemon ends, and says by its exit code that somebody is missing.
    let alone =
        policy.replace("[layer.other]\nrun = \"sleeper\"", "[layer.other]\nrun = \"finishing\"");
    let mut daemon = Daemon::start("ordered", &alone);
    assert_eq!(daemon.end(), Some(1), "{daemon}");
}

fn twice() {
    let policy = format!(
        "[layer.last]\nrun = \"sleeper\"\n{ONE}\nafter = [\"first\"]\n\
         [layer.first]\nrun = \"liar\"\n{ONE}\nREADY\nrestart = {{ on = \"never\" }}"
    );
    for ready in ["ready = \"told\"", "ready = \"confined\""] {
        let mut daemon = Daemon::start("ordered", &policy.replace("READY", ready));
        daemon.line("first/0.g1 is killed: it broke the control protocol");
        daemon.line("last/0.g1: asleep");
        daemon.stop();
    }
}

/// The other side of `sd_notify(3)`.
struct Manager {
    socket: UnixDatagram,
    /// Where the socket is.
    _place: tempfile::TempDir,
}

impl Manager {
    fn new(place: tempfile::TempDir) -> Self {
        let socket = UnixDatagram::bind(place.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Self { socket, _place: place }
    }

    /// What comes next, if something does in that time; what feeds the watchdog is left out.
    fn hears(&self, time: Duration) -> Option<String> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            match self.hears_any() {
                Some(text) if text != "WATCHDOG=1" => return Some(text),
                _ => {}
            }
        }
        None
    }

    fn hears_any(&self) -> Option<String> {
        let mut text = [0; 512];
        match self.socket.recv(&mut text) {
            Ok(length) => Some(String::from_utf8_lossy(&text[..length]).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn managed(policy: &str, more: &[(&str, &str)]) -> (Daemon, Manager) {
    let place = crate::harness::directory();
    let path = place.path().join("notify");
    let manager = Manager::new(place);
    let daemon = Daemon::start_by("ordered", policy, nothing_yet, |command| {
        command.env("NOTIFY_SOCKET", path).envs(more.iter().copied());
    });
    (daemon, manager)
}

fn manager() {
    let (mut daemon, manager) = managed(&behind_teller(), &[]);
    daemon.line("not ready");
    assert_eq!(manager.hears(Duration::from_millis(300)), None);
    go(&daemon);
    let ready = manager.hears(PATIENCE).expect("it is ready");
    assert!(ready.lines().any(|line| line == "READY=1"), "{ready}");
    daemon.line("last/0.g1: asleep");
    // A later life says nothing anew.
    let last = daemon.confined("last/0.g1");
    kill_process(last, Signal::KILL).unwrap();
    daemon.line("last/0.g2: asleep");
    assert_eq!(manager.hears(Duration::from_millis(300)), None);
    daemon.signal(Signal::TERM);
    assert_eq!(manager.hears(PATIENCE).as_deref(), Some("STOPPING=1"));
    assert_eq!(daemon.end(), Some(0), "{daemon}");
}

fn watchdog() {
    let (mut daemon, manager) = managed(&behind_teller(), &[("WATCHDOG_USEC", "200000")]);
    daemon.line("not ready");
    let is_fed = |time: Duration| {
        let until = Instant::now() + time;
        while Instant::now() < until {
            if manager.hears_any().as_deref() == Some("WATCHDOG=1") {
                return true;
            }
        }
        false
    };
    assert!(is_fed(PATIENCE));
    daemon.signal(Signal::STOP);
    // What it had said before.
    while manager.hears_any().is_some() {}
    assert!(!is_fed(Duration::from_millis(600)));
    daemon.signal(Signal::CONT);
    assert!(is_fed(PATIENCE));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn no_manager() {
    let mut daemon = Daemon::start_by("ordered", &behind_teller(), nothing_yet, |command| {
        command.env("NOTIFY_SOCKET", "/nowhere/notify");
    });
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("NOTIFY_SOCKET: "), 1, "{daemon}");
}
