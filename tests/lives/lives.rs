//! Starting, failing, restarting, stopping.

use std::io::Read;
use std::net::TcpStream;

use cofferdam::audit::entry::Kind;
use rustix::process::{Signal, kill_process};

use crate::Test;
use crate::harness::{Daemon, eventually, is_alive};

pub(crate) const TESTS: &[Test] = &[
    ("lives::a_layer_that_fails_is_restarted_until_the_policy_gives_up", gives_up),
    ("lives::a_layer_may_be_left_down", left_down),
    ("lives::a_daemon_ends_when_all_layers_have_finished", finished),
    ("lives::a_killed_layer_comes_back", comes_back),
    ("lives::sigterm_lets_layers_finish", lets_finish),
    ("lives::a_second_sigterm_does_not_wait", does_not_wait),
    ("lives::layers_die_with_the_supervisor", die_with_supervisor),
    ("lives::a_listener_survives_its_layer", listener_survives),
    ("lives::a_layer_gets_what_it_was_granted_and_no_more", grants),
    ("lives::functions_and_policy_must_agree", must_agree),
    ("lives::a_missing_file_stops_the_daemon_before_it_begins", missing_file),
    ("lives::a_call_that_is_not_granted_is_named", denied_call),
    ("lives::a_layer_is_root_where_the_policy_says_so_alone", root_if_granted),
    ("lives::a_layer_keeps_its_files_when_the_policy_grows", keeps_its_files),
    ("lives::a_restart_that_fails_is_tried_again", restart_fails),
    ("lives::a_file_that_is_gone_counts_as_a_failed_life", file_is_gone),
    ("lives::a_second_sigterm_lets_the_log_be_finished", second_finishes_log),
    ("lives::an_unknown_signal_does_no_harm", unknown_signals),
    ("lives::a_terminal_that_takes_nothing_holds_nobody_up", stalled_terminal),
    ("lives::the_limit_that_killed_is_named", limit_is_named),
    ("lives::a_busy_layer_survives_what_crashes_beside_it", busy_beside_crashes),
];

const ONE: &str = "syscalls = [\"@core\"]\nlimits = { memory = \"64MiB\" }";

fn gives_up() {
    let restart = "restart = { max = 3, within = \"1m\" }";
    let policy = format!("[layer.a]\nrun = \"failing\"\n{ONE}\n{restart}");
    let mut daemon = Daemon::start("failing", &policy);
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("as it always does"), 4, "{daemon}");
    assert_eq!(daemon.count("a/0.g4 has failed too often"), 1, "{daemon}");
}

fn left_down() {
    let restart = "restart = { max = 1, then = \"leave-down\" }";
    let policy = format!(
        "[layer.a]\nrun = \"failing\"\n{ONE}\n{restart}\n[layer.b]\nrun = \"failing\"\n{ONE}\n\
         restart = {{ on = \"never\" }}"
    );
    let mut daemon = Daemon::start("failing", &policy);
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("as it always does"), 3, "{daemon}");
}

fn finished() {
    let policy = format!("[layer.a]\nrun = \"finishing\"\ninstances = 3\n{ONE}\n");
    let mut daemon = Daemon::start("finishing", &policy);
    // The program registers a function that no layer runs: told before anything starts.
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("no layer of the policy runs it"), 1, "{daemon}");

    let policy = format!("{policy}[layer.b]\nrun = \"sleeper\"\n{ONE}\n");
    let mut daemon = Daemon::start("finishing", &policy);
    daemon.line("asleep");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    // Last of all the layer of the framework's own that writes the log.
    assert_eq!(daemon.count("ended with exit code 0"), 4 + 1, "{daemon}");
    assert!(daemon.seen.last().unwrap().contains("cofferdam-log/0.g1 ended"), "{daemon}");
}

fn comes_back() {
    let mut daemon = Daemon::start("sleeper", &format!("[layer.a]\nrun = \"sleeper\"\n{ONE}"));
    for generation in 1..=5 {
        let pid = daemon.confined(&format!("a/0.g{generation}"));
        daemon.line(&format!("a/0.g{generation}: asleep"));
        kill_process(pid, Signal::KILL).unwrap();
        daemon.line(&format!("a/0.g{generation} was killed by SIGKILL"));
    }
    daemon.line("a/0.g6: asleep");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn lets_finish() {
    let mut daemon = Daemon::start("sleeper", &format!("[layer.a]\nrun = \"sleeper\"\n{ONE}"));
    daemon.line("asleep");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("a/0.g1: woken"), 1, "{daemon}");
}

fn does_not_wait() {
    let mut daemon = Daemon::start("stubborn", &format!("[layer.a]\nrun = \"stubborn\"\n{ONE}"));
    let pid = daemon.confined("a/0.g1");
    daemon.line("deaf");
    daemon.signal(Signal::TERM);
    daemon.line("stopping");
    daemon.signal(Signal::INT);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert!(!is_alive(pid));
}

fn die_with_supervisor() {
    let mut daemon = Daemon::start("sleeper", &format!("[layer.a]\nrun = \"sleeper\"\n{ONE}"));
    let pid = daemon.confined("a/0.g1");
    daemon.line("asleep");
    assert!(is_alive(pid));
    daemon.signal(Signal::KILL);
    eventually("the layer is gone", || !is_alive(pid));
}

fn listener_survives() {
    // The port is free a moment before; if somebody takes it, the daemon says so.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let policy = format!(
        "[layer.a]\nrun = \"acceptor\"\nsyscalls = [\"@core\", \"@net-stream\"]\n\
         listen = {{ door = \"tcp:{address}\" }}\nrestart = {{ max = 100 }}"
    );
    let mut daemon = Daemon::start("acceptor", &policy);
    daemon.line("accepting");
    let mut last = String::new();
    for _ in 0..12 {
        // Never refused, though the layer dies of every third.
        let mut stream = TcpStream::connect(address).unwrap();
        last.clear();
        stream.read_to_string(&mut last).unwrap();
    }
    assert_eq!(last.trim(), "a/0.g4", "{daemon}");
    daemon.line("a/0.g5 is confined");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn grants() {
    let policy = "[layer.a]\nrun = \"reader\"\nsyscalls = [\"@core\", \"openat2\", \"statx\"]\n\
         restart = { on = \"never\" }\n\
         [file.note]\npath = \"DIR/note\"\ngrant = { a = [\"read\"] }\n\
         [file.folder]\npath = \"DIR/folder\"\ngrant = { a = [\"read\"] }";
    let mut daemon = Daemon::start_with("reader", policy, |directory| {
        std::fs::write(directory.join("note"), "n").unwrap();
        std::fs::create_dir(directory.join("folder")).unwrap();
        std::fs::write(directory.join("folder/page"), "p").unwrap();
        std::os::unix::fs::symlink("page", directory.join("folder/link")).unwrap();
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for line in [
        "a/0.g1: note: n",
        "a/0.g1: page: p",
        "a/0.g1: ../note: true",
        "a/0.g1: link: true",
        "a/0.g1: settings: what all may know",
        "the policy would need `[file.other] grant = { a = [\"read\"] }`",
        "the policy would need `[channel.other] from = \"a\"`",
        "the policy would need `[layer.a] listen = { other = ",
    ] {
        assert_eq!(daemon.count(line), 1, "{line}: {daemon}");
    }
}

fn must_agree() {
    let mut daemon = Daemon::start("sleeper", &format!("[layer.a]\nrun = \"slepper\"\n{ONE}"));
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("registers no function of that name; it has sleeper"), 1, "{daemon}");
}

fn missing_file() {
    let policy = format!(
        "[layer.a]\nrun = \"sleeper\"\n{ONE}\n\
         [file.key]\npath = \"DIR/nowhere\"\ngrant = {{ a = [\"read\"] }}"
    );
    let mut daemon = Daemon::start("sleeper", &policy);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("nowhere: No such file or directory"), 1, "{daemon}");
    assert_eq!(daemon.count("confined"), 0, "{daemon}");
}

fn denied_call() {
    // Opening the directory takes openat2, which isn't granted.
    let policy = format!(
        "[layer.a]\nrun = \"reader\"\n{ONE}\nrestart = {{ on = \"never\" }}\n\
         [file.note]\npath = \"DIR/note\"\ngrant = {{ a = [\"read\"] }}\n\
         [file.folder]\npath = \"DIR/folder\"\ngrant = {{ a = [\"read\"] }}"
    );
    let mut daemon = Daemon::start_with("reader", &policy, |directory| {
        std::fs::write(directory.join("note"), "n").unwrap();
        std::fs::create_dir(directory.join("folder")).unwrap();
    });
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("a/0.g1 was killed by SIGSYS"), 1, "{daemon}");
    assert_eq!(daemon.count("`syscalls` in [layer.a]"), 1, "{daemon}");
}

/// A program that asks who it is: the same answer to root's daemon and to an ordinary user's.
fn root_if_granted() {
    let run = "[layer.a]\nrun = \"database\"\nsyscalls = [\"@core\", \"@file-write\"]";
    let folder =
        "[file.folder]\npath = \"DIR/folder\"\ngrant = { a = [\"read\", \"write\", \"create\"] }";
    for (uid, user) in [("", None), ("uid = 970\n", Some("user 970"))] {
        let policy = format!("{run}\n{uid}{folder}");
        let mut daemon = Daemon::start_with("database", &policy, open_folder);
        let said = daemon.line(": user ");
        assert!(!said.ends_with("user 0") && said.contains(user.unwrap_or("")), "{daemon}");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
    let optional = "optional = [\"cgroup.tasks\"]";
    let policy = format!("{run}\nuid = 0\nbecause = \"a test\"\n{optional}");
    let mut daemon = Daemon::start("database", &policy);
    daemon.line("user 0");
    let pid = daemon.confined("a/0.g1").as_raw_nonzero();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{status}");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// A folder that any layer may make files in.
fn open_folder(directory: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    let folder = directory.join("folder");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
}

const RIGHTS: &str = "[\"read\", \"write\", \"create\"]";

/// A layer's private file (mode 0600) stays its own when layers are added before it in the order
/// of names, and nobody else's.
fn keeps_its_files() {
    let run = |name: &str| {
        format!(
            "[layer.{name}]\nrun = \"database\"\nsyscalls = [\"@core\", \"@file-write\"]\nrestart = {{ on = \"never\" }}\n"
        )
    };
    let grant =
        |names: &str| format!("[file.folder]\npath = \"DIR/folder\"\ngrant = {{ {names} }}\n");
    let one = format!("{}{}", run("m"), grant(&format!("m = {RIGHTS}")));
    let mut daemon = Daemon::start_with("database", &one, open_folder);
    let before = daemon.line("m/0.g1: user ");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");

    // The same daemon: its policy is where it was.
    let more = format!("{}{}{}", run("a"), run("m"), grant(&format!("a = {RIGHTS}, m = {RIGHTS}")));
    let mut daemon = daemon.again("database", &more);
    let after = daemon.line("m/0.g1: user ");
    assert_eq!(before, after, "{daemon}");
    if rustix::process::geteuid().is_root() {
        if daemon.count("a/0.g1 ended with exit code 1") == 0 {
            daemon.line("a/0.g1 ended with exit code 1");
        }
        assert!(daemon.count("a/0.g1: user") == 0, "{daemon}");
    }
    daemon.stop();
}

/// A layer that doesn't look at its control socket for a while has not broken any rule, however
/// much there is to tell it meanwhile: here two messages for each of many short lives.
fn busy_beside_crashes() {
    let policy = format!(
        "[layer.busy]\nrun = \"busy\"\n{ONE}\nrestart = {{ on = \"never\" }}\n\
         [layer.a]\nrun = \"crasher\"\ninstances = 32\n{ONE}\n\
         restart = {{ on = \"always\", max = 1000, within = \"1m\" }}\n\
         [channel.one]\nfrom = \"a\"\nto = \"busy\"\n\
         [channel.two]\nfrom = \"a\"\nto = \"busy\"\n\
         [channel.three]\nfrom = \"a\"\nto = \"busy\"\n"
    );
    let mut daemon = Daemon::start("busy", &policy);
    let pid = daemon.confined("busy/0.g1");
    daemon.line("busy/0.g1: busy");
    // Stopped, not even a thread of it looks, for less than makes it deaf.
    kill_process(pid, Signal::STOP).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(daemon.count("does not read"), 0, "{daemon}");
    kill_process(pid, Signal::CONT).unwrap();
    daemon.line("busy/0.g1: heard of 64");
    assert_eq!(daemon.count("busy/0.g1 is killed"), 0, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("busy/0.g1 ended with exit code 0"), 1, "{daemon}");
}

/// The supervisor may have no descriptors left, or no memory: that passes.
fn restart_fails() {
    let restart = "restart = { max = 1000, within = \"1m\" }";
    let mut daemon =
        Daemon::start("sleeper", &format!("[layer.a]\nrun = \"sleeper\"\n{ONE}\n{restart}"));
    let pid = daemon.confined("a/0.g1");
    daemon.line("asleep");
    let files = rustix::process::Resource::Nofile;
    let before = rustix::process::getrlimit(files);
    let supervisor = daemon.pid();
    let limit = |current| {
        let new = rustix::process::Rlimit { current, ..before };
        let old = rustix::process::prlimit(Some(supervisor), files, new);
        old.unwrap().current
    };
    // All numbers below are taken, and the descriptors that it waits on are fewer.
    let usual = limit(Some(8));
    kill_process(pid, Signal::KILL).unwrap();
    daemon.line("a/0.g2 can't be started: ");
    daemon.line("a/0.g3 can't be started: ");
    limit(usual);
    daemon.line(": asleep");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn file_is_gone() {
    let restart = "restart = { max = 2, then = \"leave-down\" }";
    let policy = format!(
        "[layer.a]\nrun = \"sleeper\"\n{ONE}\n{restart}\n\
         [layer.b]\nrun = \"sleeper\"\n{ONE}\n\
         [file.note]\npath = \"DIR/note\"\ngrant = {{ a = [\"read\"] }}"
    );
    let mut daemon = Daemon::start_with("sleeper", &policy, |directory| {
        std::fs::write(directory.join("note"), "n").unwrap();
    });
    let (first, second) = (daemon.confined("a/0.g1"), daemon.confined("b/0.g1"));
    std::fs::remove_file(daemon.directory().join("note")).unwrap();
    kill_process(first, Signal::KILL).unwrap();
    daemon.line("a/0.g2 can't be given what it needs: [file.note]");
    daemon.line("a/0.g3 can't be given what it needs: [file.note]");
    daemon.line("a/0.g3 was killed by SIGKILL");
    assert!(is_alive(second), "{daemon}");
    kill_process(second, Signal::KILL).unwrap();
    daemon.line("b/0.g2: asleep");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("a/0.g4"), 0, "{daemon}");
}

/// The policy's layers end at once; who writes down that they did is not one of them.
fn second_finishes_log() {
    let policy = format!("[audit]\ndirectory = \"DIR/log\"\n[layer.a]\nrun = \"stubborn\"\n{ONE}");
    let mut daemon = Daemon::start("stubborn", &policy);
    let pid = daemon.confined("a/0.g1");
    daemon.line("deaf");
    daemon.signal(Signal::TERM);
    daemon.line("stopping");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert!(!is_alive(pid));
    let log = daemon.directory().join("log");
    let store = cofferdam::audit::Store::open(&log).unwrap();
    let options = cofferdam::audit::verify::Options::default();
    let told = cofferdam::audit::verify::verify(&store, &options).unwrap();
    assert!(told.sound(), "{:?}", told.findings);
    let mut kinds = Vec::new();
    let filter = cofferdam::audit::query::Filter::default();
    cofferdam::audit::query::query(&store, &filter, |record| {
        kinds.push(record.entry.kind);
        true
    })
    .unwrap();
    assert!(kinds.contains(&Kind::Exit), "the layer's end is recorded: {kinds:?}");
    assert_eq!(kinds.last(), Some(&Kind::Stop), "{kinds:?}");
}

fn unknown_signals() {
    let mut daemon = Daemon::start("sleeper", &format!("[layer.a]\nrun = \"sleeper\"\n{ONE}"));
    daemon.line("asleep");
    let named = [Signal::USR1, Signal::USR2, Signal::ALARM, Signal::PIPE, Signal::WINCH];
    for signal in named {
        daemon.signal(signal);
    }
    let number = daemon.pid().as_raw_nonzero().to_string();
    for signal in ["34", "40", "64"] {
        let sent = std::process::Command::new("kill").args(["-s", signal, &number]).status();
        assert!(sent.unwrap().success());
    }
    daemon.signal(Signal::HUP);
    daemon.line("SIGHUP");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// The terminal's other side reads nothing, while a layer says more than it takes.
fn stalled_terminal() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    let policy = format!("cofferdam = 1\nname = \"tty\"\n[layer.a]\nrun = \"talkative\"\n{ONE}")
        .replace("@core\"", "@core\", \"@thread\"");
    std::fs::write(&path, policy).unwrap();
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--daemon", "talkative"])
        .arg(&path)
        .stderr(pty.slave)
        .spawn()
        .unwrap();
    // Until it waits for room, or has fallen asleep in a write.
    std::thread::sleep(std::time::Duration::from_secs(2));
    kill_process(rustix::process::Pid::from_child(&child), Signal::TERM).unwrap();
    let begin = std::time::Instant::now();
    let ended = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begin.elapsed() > crate::harness::PATIENCE {
            break None;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    if ended.is_none() {
        let _ = child.kill();
        let _ = child.wait();
    }
    assert_eq!(ended.expect("it ends, though nobody reads").code(), Some(0));
}

fn limit_is_named() {
    let groups = cofferdam::confine::cgroup::Hierarchies::find("lives-test");
    if groups.usable().any(|(controller, ..)| controller.name() == "memory") {
        let policy = "[layer.a]\nrun = \"memory_hog\"\nsyscalls = [\"@core\"]\n\
             limits = { memory = \"32MiB\" }\nrestart = { on = \"never\" }";
        let mut daemon = Daemon::start("memory_hog", policy);
        daemon.line("a/0.g1 was killed by SIGKILL: it used more than the ");
        assert_eq!(daemon.end(), Some(1), "{daemon}");
        assert_eq!(daemon.count("([layer.a] limits.memory)"), 1, "{daemon}");
    }
    // What isn't the first process of a pid namespace, which no signal of its own kills.
    let policy = "[layer.a]\nexec = [\"/bin/sh\", \"-c\", \"while :; do echo more; done >> DIR/a/note\"]\n\
         syscalls = [\"@core\", \"@process\", \"@exec\", \"@signal\", \"@file-write\"]\n\
         because = \"a test\"\nlimits = { file-size = \"4KiB\" }\nrestart = { on = \"never\" }\n\
         [file.note]\npath = \"DIR/a\"\ngrant = { a = [\"read\", \"write\", \"create\"] }";
    let mut daemon = Daemon::start_with("none", policy, |directory| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir(directory.join("a")).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(directory.join("a"), open).unwrap();
    });
    daemon
        .line("a/0.g1 was killed by SIGXFSZ: it wrote past the largest size of a file, 4096 bytes");
    assert_eq!(daemon.end(), Some(1), "{daemon}");
    assert_eq!(daemon.count("([layer.a] limits.file-size)"), 1, "{daemon}");
}
