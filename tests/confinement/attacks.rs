//! Attacks on confinement: each in a process of its own, with neighbours beside it that must not
//! notice. First every attack is shown to work where nobody stops it.
//!
//! What is attacked: every layer of `policies/web.toml`, an `exec` layer, and, as the second
//! bulkhead, both kinds of layer with nearly every system call granted.

use std::process::Command;
use std::time::Duration;

use crate::support::daemon::{Daemon, Outcome};
use crate::support::host::Host;
use crate::support::suite::ignore;
use crate::support::table::{Behind, Row, rows};

crate::support::suite::tests! {
    every_attack_works_where_nobody_stops_it,
    the_judge_calls_a_success_a_breach,
    a_killed_layer_is_told_which_call_it_was,
    a_call_of_another_architecture_is_not_called_by_our_name_for_its_number,
    the_listener_of_web_holds,
    the_parser_of_web_holds,
    the_opener_of_web_holds,
    the_keeper_of_web_holds,
    without_its_filter_a_layer_still_holds,
    a_program_in_an_exec_layer_holds,
    without_its_filter_an_exec_layer_still_holds,
}

/// Copies of the attacked layer in one daemon; the most that a policy may ask for is 64.
const AT_ONCE: usize = 40;

/// A filter that grants nothing that an attack begins with.
const FILTER: Behind<'_> = Behind::Filter { granted: &[], refused: BACKTRACE };

/// What `@core` answers, for a panic's backtrace asks for it.
const BACKTRACE: &[(&str, &str)] = &[
    ("getcwd", "ENOENT"),
    ("newfstatat", "ENOENT"),
    ("open", "ENOENT"),
    ("openat", "ENOENT"),
    ("readlink", "ENOENT"),
    ("readlinkat", "ENOENT"),
    ("stat", "ENOENT"),
    ("statx", "ENOSYS"),
];

fn every_attack_works_where_nobody_stops_it() {
    let host = Host::open();
    let mut wrong = Vec::new();
    let mut shown = 0;
    for row in rows().iter().filter(|row| !row.control.starts_with("without")) {
        let mut command = Command::new(crate::support::probe());
        command.args(["--unconfined", &row.name]);
        for (key, value) in host.facts() {
            command.arg("--fact").arg(format!("{key}={value}"));
        }
        let output = command.output().expect("the control runs");
        let said = String::from_utf8_lossy(&output.stderr);
        let worked = said.contains(&format!("RESULT {} worked: ", row.name));
        match output.status.code() {
            Some(77) => eprintln!("{}: {}", row.name, String::from_utf8_lossy(&output.stdout)),
            _ if worked => shown += 1,
            _ => wrong.push(format!("{} ({}): {said}", row.name, row.control)),
        }
        host.empty();
    }
    assert!(wrong.is_empty(), "these prove nothing where they are refused:\n{}", wrong.concat());
    assert!(shown > 40, "only {shown} controls could be run");
}

fn the_judge_calls_a_success_a_breach() {
    // An attack that this policy allows: reading what is granted, by the exec layer's program.
    let host = Host::open();
    let rows = rows();
    let row = rows.iter().find(|row| row.name == "openat").expect("the row");
    let secret = &host.facts()[0].1;
    let policy = format!(
        "{}\n[file.secret]\npath = \"{secret}\"\ngrant = {{ attacker0 = [\"read\"] }}\n",
        exec_policy(std::slice::from_ref(row), &host.facts(), WIDE_CALLS, "")
    );
    let daemon = Daemon::start(&policy, ":", &[]);
    let outcome = daemon.outcome("attacker0/0.g1");
    assert!(matches!(outcome, Outcome::Worked(_)), "{outcome:?}");
    row.judge(Behind::Bulkhead, &outcome).expect_err("it calls this fine");
    row.judge(FILTER, &outcome).expect_err("it calls this fine");
    // And one that was stopped in the wrong place.
    let elsewhere = Outcome::Filtered(Some("getpid".to_owned()));
    row.judge(FILTER, &elsewhere).expect_err("it calls this fine");
    row.judge(Behind::Bulkhead, &elsewhere).expect_err("it calls this fine");
}

fn a_killed_layer_is_told_which_call_it_was() {
    the_log_says("ptrace", |line| {
        line.contains("keeper/0.g1 made the system call ptrace")
            && line.contains("\"ptrace\" in `syscalls` of [layer.keeper]")
    });
}

fn a_call_of_another_architecture_is_not_called_by_our_name_for_its_number() {
    the_log_says("int80", |line| {
        line.contains("keeper/0.g1 made system call 20 of another architecture")
    });
}

/// Lets the keeper be killed for a call, until the supervisor has told which one it was: of many
/// kills at a time, by other tests, the kernel's log tells some.
fn the_log_says(attack: &str, is_told: impl Fn(&str) -> bool) {
    if std::fs::File::open("/dev/kmsg").is_err() {
        ignore("this user can't read the kernel's log");
    }
    let site = WebFiles::make();
    for _ in 0..40 {
        let daemon = Daemon::start(&site.policy(), &format!("keeper:{attack}"), &[]);
        daemon.go(&["keeper/0.g1".to_owned()], &[]);
        match daemon.outcome("keeper/0.g1") {
            Outcome::Filtered(None) => {}
            Outcome::Ended(_) => ignore("this kernel has no such calls"),
            other => panic!("{other:?}"),
        }
        let line = |line: &str| is_told(line).then_some(());
        if daemon.wait_for(Duration::from_secs(3), 0, line).is_some() {
            return;
        }
    }
    panic!("the supervisor never tells");
}

fn the_listener_of_web_holds() {
    web_layer_holds("listener", &[]);
}

fn the_parser_of_web_holds() {
    web_layer_holds("parser", &[]);
}

fn the_opener_of_web_holds() {
    // Its policy grants it this call; the empty root and Landlock decide about the path.
    web_layer_holds("opener", &["openat2"]);
}

fn the_keeper_of_web_holds() {
    web_layer_holds("keeper", &[]);
}

fn web_layer_holds(target: &str, granted: &[&str]) {
    let host = Host::open();
    let site = WebFiles::make();
    let rows = rows();
    for some in rows.chunks(AT_ONCE) {
        let policy = with_copies(&site.policy(), target, some.len());
        let neighbours: Vec<(&str, &[&str])> = [
            ("listener/0.g1", &[][..]),
            ("parser/0.g1", if target == "parser" { &[] } else { &["open", "sign"][..] }),
            ("opener/0.g1", &[]),
            ("keeper/0.g1", &[]),
        ]
        .into_iter()
        .filter(|(instance, _)| !instance.starts_with(target))
        .collect();
        attack(
            &policy,
            target,
            some,
            Behind::Filter { granted, refused: BACKTRACE },
            &neighbours,
            &host,
        );
    }
    host.assert_untouched();
}

fn without_its_filter_a_layer_still_holds() {
    let host = Host::open();
    let rows: Vec<Row> = rows().into_iter().filter(Row::has_bulkhead).collect();
    for some in rows.chunks(AT_ONCE) {
        let policy = with_copies(include_str!("../policies/wide.toml"), "attacker", some.len());
        let neighbours = [("neighbour/0.g1", &["pulse"][..]), ("witness/0.g1", &[])];
        attack(&policy, "attacker", some, Behind::Bulkhead, &neighbours, &host);
    }
    host.assert_untouched();
}

/// Lets every copy of `target` attack, and judges all of them.
fn attack(
    policy: &str,
    target: &str,
    rows: &[Row],
    behind: Behind<'_>,
    neighbours: &[(&str, &[&str])],
    host: &Host,
) {
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    let daemon = Daemon::start(policy, &format!("{target}:{}", names.join(",")), &host.facts());
    let targets: Vec<String> = (0..rows.len()).map(|n| format!("{target}/{n}.g1")).collect();
    let others = neighbours.iter().map(|(instance, _)| (*instance).to_owned());
    let all: Vec<String> = targets.iter().cloned().chain(others).collect();
    daemon.go(&targets, &all);

    let mut wrong = Vec::new();
    let outcomes: Vec<_> = targets.iter().map(|instance| daemon.outcome(instance)).collect();
    for ((row, instance), outcome) in rows.iter().zip(&targets).zip(outcomes) {
        let outcome = with_name(&daemon, instance, outcome);
        wrong.extend(row.judge(behind, &outcome).err());
        if matches!(outcome, Outcome::Errno(_)) && !daemon.is_well(instance) {
            wrong.push(format!("{}: what the layer may do doesn't work either", row.name));
        }
    }
    assert!(wrong.is_empty(), "{target}:\n{}", wrong.join("\n"));
    neighbours_are_well(&daemon, neighbours);
    let (status, lines) = daemon.stop();
    assert!(status.success(), "{status}\n{}", lines.join("\n"));
}

/// The outcome with the name of the call, as far as the kernel's log has told it.
fn with_name(daemon: &Daemon, instance: &str, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Filtered(_) => Outcome::Filtered(daemon.named(instance)),
        other => other,
    }
}

/// Each neighbour is in its first life still, and its channels answer.
fn neighbours_are_well(daemon: &Daemon, neighbours: &[(&str, &[&str])]) {
    let mark = daemon.mark();
    for (instance, channels) in neighbours {
        daemon.beats(mark, instance, channels);
    }
}

fn a_program_in_an_exec_layer_holds() {
    let host = Host::open();
    // What C programs and shells need, every exec layer has; paths, its pid namespace and its own
    // limits decide there.
    let granted = &[
        "open",
        "openat",
        "newfstatat",
        "dup",
        "kill",
        "tgkill",
        "prlimit64",
        "setuid",
        "setgid",
        "fcntl",
    ];
    // And these are answered, for such programs go on without them.
    let refused = &[
        ("io_uring_setup", "ENOSYS"),
        ("ioctl", "ENOTTY"),
        ("kcmp", "ENOSYS"),
        ("memfd_create", "ENOSYS"),
        ("mkdirat", "EROFS"),
        ("openat2", "ENOSYS"),
        ("pidfd_open", "ENOSYS"),
        ("prctl", "EINVAL"),
        ("sched_setaffinity", "EPERM"),
        ("sched_setscheduler", "EPERM"),
        ("setgroups", "EPERM"),
        ("setpriority", "EPERM"),
        ("setresuid", "EPERM"),
        ("socket", "EACCES"),
    ];
    exec_layers_hold(&rows(), "\"@core\"", Behind::Filter { granted, refused }, &host);
}

fn without_its_filter_an_exec_layer_still_holds() {
    let host = Host::open();
    // It sees the system's programs, so it may run them; and this one leads into the system.
    let but = ["exec-shell"];
    let rows: Vec<Row> = rows()
        .into_iter()
        .filter(|row| row.has_bulkhead() && !but.contains(&row.name.as_str()))
        .collect();
    exec_layers_hold(&rows, WIDE_CALLS, Behind::Bulkhead, &host);
}

fn exec_layers_hold(rows: &[Row], calls: &str, behind: Behind<'_>, host: &Host) {
    for some in rows.chunks(AT_ONCE) {
        let policy = exec_policy(some, &host.facts(), calls, NEIGHBOUR);
        let daemon = Daemon::start(&policy, ":", &[]);
        let mut wrong = Vec::new();
        for (number, row) in some.iter().enumerate() {
            let instance = format!("attacker{number}/0.g1");
            let outcome = with_name(&daemon, &instance, daemon.outcome(&instance));
            wrong.extend(row.judge(behind, &outcome).err());
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        neighbours_are_well(&daemon, &[("aaa/0.g1", &[]), ("neighbour/0.g1", &[])]);
    }
    host.assert_untouched();
}

/// A layer whose function minds its own business, beside programs that don't.
const NEIGHBOUR: &str = "
[layer.neighbour]
run      = \"neighbour\"
syscalls = [\"@core\"]
optional = [\"cgroup\"]
";

/// The calls of `wide.toml`.
const WIDE_CALLS: &str = r#"
  "@core", "@time", "@file-read", "@file-write", "@net-stream", "@net-connect", "@net-datagram",
  "@thread", "@process", "@exec", "@signal", "@memory-exec", "@debug", "@ipc", "@privilege",
  "@mount", "@kernel", "@uring", "clone", "fcntl", "ioctl", "socket", "socketpair", "sendto", "sendmsg",
  "setsockopt", "prlimit64", "sched_setaffinity", "sched_setscheduler", "setpriority",
  "getgroups", "getresuid", "getresgid", "symlinkat", "fchmodat", "truncate", "getpriority", "dup"
"#;

/// A layer for every attack, each of which runs the probe as an ordinary program; and one that
/// doesn't attack.
fn exec_policy(rows: &[Row], facts: &[(String, String)], calls: &str, more: &str) -> String {
    let probe = crate::support::probe().display().to_string();
    let facts: Vec<String> =
        facts.iter().map(|(key, value)| format!("\"{key}={value}\"")).collect();
    let facts = facts.join(", ");
    let layer = |(name, attack): (String, &str)| {
        let text = format!(
            "[layer.{name}]
             exec     = [\"{probe}\", \"--inside\", \"{attack}\", {facts}]
             syscalls = [{calls}]
             because  = \"a test\"
             limits   = {{ memory = \"64MiB\", files = 200, tasks = 8 }}
             restart  = {{ on = \"never\" }}
             optional = [\"cgroup\"]\n\n"
        );
        (text, format!("{name} = [\"read\", \"execute\"]"))
    };
    let attackers = rows.iter().enumerate().map(|(n, row)| (format!("attacker{n}"), &*row.name));
    let (layers, grants): (Vec<_>, Vec<_>) =
        attackers.chain([("aaa".to_owned(), "beat")]).map(layer).unzip();
    format!(
        "cofferdam = 1\nname = \"programs\"\n{}{more}\n[file.probe]\npath = \"{probe}\"\ngrant = {{ {} }}\n",
        layers.concat(),
        grants.join(", ")
    )
}

/// The files that `policies/web.toml` grants, in a place of their own.
struct WebFiles(tempfile::TempDir);

impl WebFiles {
    fn make() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(directory.path().join("site")).expect("a directory");
        std::fs::write(directory.path().join("site/index.html"), "hello").expect("a page");
        std::fs::write(directory.path().join("key.pem"), "a key").expect("a key");
        Self(directory)
    }

    /// The policy with these files, and any free port.
    fn policy(&self) -> String {
        let here = self.0.path().display().to_string();
        let text = include_str!("../../policies/web.toml");
        let policy =
            text.replace("/var/lib/cofferdam-web", &here).replace("127.0.0.1:8443", "127.0.0.1:0");
        assert!(policy.contains(&here) && policy.contains(":0\""), "web.toml has other paths now");
        policy
    }
}

/// The policy with that many copies of a layer.
fn with_copies(policy: &str, layer: &str, copies: usize) -> String {
    let head = format!("[layer.{layer}]\n");
    let (before, after) = policy.split_once(&head).expect("the layer is in the policy");
    let (own, rest) = after.split_once("\n\n").unwrap_or((after, ""));
    let lines = own.lines().filter(|line| !line.starts_with("instances"));
    let own: Vec<_> = lines.collect();
    format!("{before}{head}instances = {copies}\n{}\n\n{rest}", own.join("\n"))
}
