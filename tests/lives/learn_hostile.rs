//! Programs that reach past the view of `cofferdam learn` for what is the host's.
//!
//! The attacks are in `tests/fixtures/hostile.py`. What none of them reaches there each of them reaches
//! without: that is looked at first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::Test;
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("learn_hostile::nothing_of_the_host_is_reached", || reach(None, false)),
    ("learn_hostile::nothing_of_the_host_is_reached_by_an_ordinary_user", || {
        reach(nobody(), false);
    }),
    ("learn_hostile::files_alone_are_reached_where_they_may_be", || reach(None, true)),
    ("learn_hostile::what_a_program_prints_is_harmless", prints),
    ("learn_hostile::nobody_is_left_behind", left_behind),
];

const PYTHON: &str = "/usr/bin/python3";
const HOSTILE: &str = include_str!("../fixtures/hostile.py");

/// An ordinary user, for root to be.
#[expect(clippy::unnecessary_wraps, reason = "`None` is who runs the tests")]
fn nobody() -> Option<u32> {
    if !rustix::process::geteuid().is_root() {
        ignore("the tests run as an ordinary user anyway");
    }
    Some(65_534)
}

/// A place that such a user has, with the programs in it.
struct Place {
    folder: TempDir,
    user: Option<u32>,
}

impl Place {
    fn new(user: Option<u32>) -> Self {
        assert!(Path::new(PYTHON).exists(), "python3 is needed: see .ci/run");
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let place = Self { folder, user };
        let own = env!("CARGO_BIN_EXE_cofferdam");
        fs::hard_link(own, place.path("cofferdam"))
            .or_else(|_| fs::copy(own, place.path("cofferdam")).map(drop))
            .unwrap();
        fs::write(place.path("hostile.py"), HOSTILE).unwrap();
        fs::create_dir(place.path("files")).unwrap();
        for path in [place.path(""), place.path("files")] {
            std::os::unix::fs::chown(path, user, user).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// A program run by the place's user.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_remove("RUST_BACKTRACE").env("HOME", "/").current_dir("/");
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }
}

/// What is reached for, as long as this is held.
struct Host {
    child: Child,
    facts: Vec<String>,
}

impl Host {
    fn new(place: &Place) -> Self {
        let mut child = place
            .command(PYTHON)
            .args([&place.text("hostile.py"), "host", &place.text("files")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let facts: Vec<String> =
            lines.map(Result::unwrap).take_while(|line| line != "ready").collect();
        assert!(facts.len() > 5, "{facts:?}");
        Self { child, facts }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Runs the attacks by a command, and says which came through.
fn attacked(place: &Place, host: &Host, by: &[&str]) -> BTreeSet<String> {
    let input = place.text("files/input");
    let mut command = place.command("/bin/sh");
    // A descriptor that is left open for whom it isn't meant.
    command.args(["-c", "exec 9<>\"$0\" && exec \"$@\"", &input]).args(by);
    command.args([PYTHON, &place.text("hostile.py"), "attack"]).args(&host.facts);
    command.stdin(File::open(&input).unwrap());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let also = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("tried all") && !said.contains("error in"), "{said}{also}");
    said.lines().filter_map(|line| line.strip_prefix("reached ")).map(str::to_owned).collect()
}

fn reach(user: Option<u32>, through: bool) {
    let place = Place::new(user);
    let host = Host::new(&place);
    let files = ["written", "removed", "moved", "changed", "input"];
    let before = |name: &&str| {
        let path = place.path("files").join(name);
        fs::read_to_string(&path).is_ok_and(|text| text == "before")
            && fs::metadata(&path).is_ok_and(|found| found.mode() & 0o777 == 0o644)
    };

    let policy = place.text("files/learned.toml");
    let own = place.text("cofferdam");
    let learner = [own.as_str(), "learn", "--offline", "--no-again", "--output", policy.as_str()];
    let more: &[&str] = if through { &["--write-through", "--"] } else { &["--"] };
    let reached = attacked(&place, &host, &[&learner, more].concat());
    if through {
        // Sockets and named pipes are files of the host.
        let files = ["files", "path", "fifo"].map(str::to_owned).into();
        assert_eq!(reached, files);
        assert_eq!(fs::read_to_string(place.path("files/written")).unwrap(), "after");
        assert_eq!(fs::read_to_string(place.path("files/input")).unwrap(), "before");
        return;
    }
    assert_eq!(reached, ["files".to_owned()].into(), "in its view it may do what it likes");
    let changed: Vec<&&str> = files.iter().filter(|name| !before(name)).collect();
    assert!(changed.is_empty(), "{changed:?}");
    let added = ["there", "link", "made", "node"].map(|name| place.path("files").join(name));
    assert!(added.iter().all(|path| path.symlink_metadata().is_err()), "{added:?}");

    // Where nobody stops it; mounts of its own excepted.
    let is_root = rustix::process::geteuid().is_root() && user.is_none();
    let apart: &[&str] = if is_root { &["unshare", "--mount"] } else { &[] };
    let reached = attacked(&place, &host, apart);
    let by_all = [
        "files", "signal", "abstract", "datagram", "path", "fifo", "tcp", "terminal", "memory",
        "queue", "left",
    ];
    let by_root = ["devices", "node", "settings", "remount", "within"];
    let expected = by_all.iter().chain(by_root.iter().filter(|_| is_root));
    let missed: Vec<&&str> = expected.filter(|name| !reached.contains(**name)).collect();
    assert!(missed.is_empty(), "these attacks do nothing here: {missed:?}");
}

/// Escape sequences come harmless, and what is said can't be taken for the learner's own words.
fn prints() {
    let place = Place::new(None);
    let script = "printf '\\033]0;title\\007out\\n'; printf '\\033[2Jerr\\303\\251\\n' >&2";
    let mut command = place.command(env!("CARGO_BIN_EXE_cofferdam"));
    command.args(["learn", "--no-again", "--", "/bin/sh", "-c", script]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("\\x1b]0;title\\x07out\n"), "{said}");
    assert!(said.contains("\\x1b[2Jerr\u{e9}\n") && !said.contains('\u{1b}'), "{said}");
}

/// A thousand processes that leave their parent, deaf to signals, and files that are deleted.
fn left_behind() {
    let place = Place::new(None);
    let mark = format!("cofferdam-left-{}", std::process::id());
    let script = format!(
        "trap '' TERM INT HUP; cd {0}; echo x > a; rm a; rm -rf files; i=0; \
         while [ $i -lt 1000 ]; do setsid sh -c ': {mark}; sleep 1000' & i=$((i+1)); done; \
         echo started; wait",
        place.folder.path().display()
    );
    let policy = place.text("learned.toml");
    let mut command = place.command(env!("CARGO_BIN_EXE_cofferdam"));
    command.args(["learn", "--output", &policy, "--", "/bin/sh", "-c", &script]);
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "started");
    let pid = rustix::process::Pid::from_child(&child);
    // The first is passed on, and heard by nobody; the second ends all.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    crate::harness::eventually("it ends", || {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        child.try_wait().unwrap().is_some()
    });
    assert!(place.path("files").exists() && fs::read_to_string(&policy).is_ok());
    // The kernel ends them once their init has ended, and each takes its moment.
    crate::harness::eventually("nothing of it lives on", || {
        !fs::read_dir("/proc").unwrap().flatten().any(|entry| {
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&mark)
                && !entry.path().ends_with(std::process::id().to_string())
        })
    });
}
