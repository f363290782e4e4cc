//! The log on standard error: events of layers, its forms, and layers that flood it.

use std::collections::BTreeMap;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::Test;
use crate::harness::{Daemon, directory};
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("logs::events_come_with_level_target_fields_and_spans", events),
    ("logs::a_level_of_the_policy_lets_more_through", levels),
    ("logs::as_json_every_line_is_an_object", json),
    ("logs::the_journal_gets_its_native_fields", journal),
    ("logs::without_a_journal_no_daemon_begins", no_journal),
    ("logs::a_program_that_floods_loses_its_own_lines_alone", flood),
    ("logs::a_layer_that_floods_with_events_goes_on", flood_of_events),
    ("logs::what_a_flooding_layer_says_last_is_shown", last_words),
];

const TELLING: &str =
    "[layer.a]\nrun = \"telling\"\nsyscalls = [\"@core\"]\nrestart = { on = \"never\" }\n";

fn events() {
    let mut daemon = Daemon::start("telling", TELLING);
    daemon.line("a/0.g1: ERROR other: over ok=true");
    daemon.line("a/0.g1: told");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let event = "a/0.g1: WARN outer: request{id=7 who=\"a b\"}: lives::layers: \
                 nearly\\x1b[2J full\\x0asecond free=3 ratio=0.5";
    assert!(daemon.seen.iter().any(|line| line == event), "{daemon}");
    // What stands between them is text, and in the middle of a line too; zeros are no frames.
    assert!(daemon.seen.iter().any(|line| line == "a/0.g1: begun and ended"), "{daemon}");
    assert!(daemon.seen.iter().any(|line| line == "a/0.g1: \\x00forged\\x00\\x00"), "{daemon}");
    assert_eq!(daemon.count("for debugging"), 0, "{daemon}");
    let long = daemon.seen.iter().find(|line| line.contains("long message")).unwrap();
    assert!(long.ends_with(" (cut)") && long.len() < 2500, "{daemon}");
}

fn levels() {
    let policy = format!("{TELLING}log = {{ level = \"debug\" }}\n");
    let mut daemon = Daemon::start("telling", &policy);
    daemon.line("a/0.g1: DEBUG lives::layers: for debugging");
    daemon.line("a/0.g1: told");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("TRACE"), 0, "{daemon}");
    let policy = format!("{TELLING}log = {{ level = \"error\" }}\n");
    let mut daemon = Daemon::start("telling", &policy);
    daemon.line("a/0.g1: told");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!((daemon.count("WARN"), daemon.count("ERROR")), (0, 1), "{daemon}");
}

fn json() {
    let mut daemon = Daemon::start("telling_json", TELLING);
    daemon.line("told");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let object = |line: &String| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}: {daemon}"))
    };
    let all: Vec<Value> = daemon.seen.iter().map(object).collect();
    assert!(all.iter().all(|it| it["daemon"] == "test" && it["time"].is_string()), "{daemon}");
    let event = all.iter().find(|it| it["fields"]["free"] == 3).unwrap();
    assert_eq!(event["message"], "nearly\\x1b[2J full\nsecond");
    assert_eq!((&event["level"], &event["layer"]), (&"warn".into(), &"a".into()));
    assert_eq!(event["spans"][1]["fields"]["who"], "a b");
    assert_eq!((&event["instance"], &event["generation"]), (&0.into(), &1.into()));
    let own = |text: &str| all.iter().any(|it| it["message"].as_str() == Some(text));
    assert!(own("told") && own("stopping"), "{daemon}");
}

/// The fields of a datagram of the journal's native protocol.
fn fields(datagram: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    let mut rest = datagram;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&rest[..end]).unwrap();
        rest = &rest[end + 1..];
        if let Some((key, value)) = line.split_once('=') {
            fields.insert(key.to_owned(), value.to_owned());
        } else {
            let (length, more) = rest.split_first_chunk::<8>().unwrap();
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap();
            let value = String::from_utf8(more[..length].to_vec()).unwrap();
            assert_eq!(more[length], b'\n');
            fields.insert(line.to_owned(), value);
            rest = &more[length + 1..];
        }
    }
    fields
}

/// The daemon `telling` in a mount namespace where `folder` is what stands for the journal's
/// directory.
fn with_journal(command: &mut Command, folder: &str) {
    let program = command.get_program().to_owned();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                  mount --bind \"$0\" /run/systemd/journal && exec \"$@\"";
    *command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-c", script, folder]);
    command.arg(program).args(arguments);
}

fn journal() {
    if !rustix::process::geteuid().is_root() {
        ignore("only root has a mount namespace in which another journal stands");
    }
    let folder = directory();
    let journal = UnixDatagram::bind(folder.path().join("socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    let path = folder.path().to_str().unwrap();
    let start = |command: &mut Command| with_journal(command, path);
    let mut daemon = Daemon::start_by("telling_journal", TELLING, |_| {}, start);
    let mut all = Vec::new();
    let take = || {
        let mut bytes = vec![0; 64 << 10];
        let length = journal.recv(&mut bytes).unwrap();
        fields(&bytes[..length])
    };
    while all.last().is_none_or(|it: &BTreeMap<_, _>| it["MESSAGE"] != "told") {
        all.push(take());
    }
    daemon.signal(rustix::process::Signal::TERM);
    let mut last = take();
    while !last["MESSAGE"].starts_with("a/0.g1 ended") {
        last = take();
    }
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    assert!(all.iter().all(|it| it["SYSLOG_IDENTIFIER"] == "test"), "{all:?}");
    let event = all.iter().find(|it| it.contains_key("F_FREE")).unwrap();
    let expected = [
        ("MESSAGE", "nearly\\x1b[2J full\nsecond"),
        ("PRIORITY", "4"),
        ("COFFERDAM_INSTANCE", "a/0.g1"),
        ("COFFERDAM_LAYER", "a"),
        ("TARGET", "lives::layers"),
        ("F_FREE", "3"),
        ("F_WHO", "a b"),
    ];
    for (key, value) in expected {
        assert_eq!(event[key], value, "{event:?}");
    }
    assert!(all.iter().any(|it| it["MESSAGE"].contains("a/0.g1 is confined")), "{all:?}");
    assert_eq!(daemon.seen, [""; 0], "all of it went to the journal");
}

fn no_journal() {
    if std::path::Path::new("/run/systemd/journal/socket").exists() {
        ignore("this machine has a journal");
    }
    let mut daemon = Daemon::start("telling_journal", TELLING);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("write `text` or `json`"), 1, "{daemon}");
}

/// The numbers that the layer `b` has printed.
fn ticks(daemon: &Daemon) -> Vec<u64> {
    let number = |line: &String| line.strip_prefix("b/0.g1: ")?.parse().ok();
    daemon.seen.iter().filter_map(number).collect()
}

/// How many lines of a layer the log says were dropped.
fn dropped(daemon: &Daemon, layer: &str) -> u64 {
    let of = format!(" of {layer} (");
    let number = |line: &String| {
        let (number, _) = line.strip_prefix("cofferdam: ")?.split_once(&of)?;
        number.split(' ').next()?.parse::<u64>().ok()
    };
    daemon.seen.iter().filter_map(number).sum()
}

fn flood() {
    let policy = "[layer.yes]\nexec = [\"/usr/bin/yes\"]\nsyscalls = [\"@core\"]\n\
                  log = { rate = \"100/s\" }\n[layer.b]\nrun = \"counting\"\n\
                  syscalls = [\"@core\"]\nlog = { rate = \"5000/s\" }\n";
    let mut daemon = Daemon::start("counting", policy);
    // It is told soon, and again while it goes on.
    daemon.line(" of yes (");
    daemon.line("b/0.g1: 500");
    daemon.line(" of yes (");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let ticks = ticks(&daemon);
    assert!(ticks.iter().copied().eq(0..ticks.len() as u64), "a line of the other one's is lost");
    assert_eq!(daemon.count("b/0.g1: counted"), 1);
    let shown = daemon.seen.iter().filter(|line| *line == "yes/0.g1: y").count();
    let seconds = u64::try_from(ticks.len()).unwrap() / 100 + 60;
    let most = 1000 + 100 * seconds + 2100;
    assert!((1000..most).contains(&u64::try_from(shown).unwrap()), "{shown} of {most}");
    assert!(dropped(&daemon, "yes") > 10_000, "{}", dropped(&daemon, "yes"));
    for line in [": yes/0.g1 is confined", "cofferdam: stopping", "yes/0.g1 was killed by SIGTERM"]
    {
        assert_eq!(daemon.count(line), 1, "{line}");
    }
}

fn flood_of_events() {
    let policy = "[layer.a]\nrun = \"flooding\"\nsyscalls = [\"@core\"]\n\
                  restart = { on = \"never\" }\nlog = { rate = \"10/s\" }\n";
    let mut daemon = Daemon::start("flooding", policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    // Each was shown, or dropped by the writer and counted, or lost by the layer and told.
    let events: Vec<_> = daemon.seen.iter().filter(|line| line.contains(": INFO lives")).collect();
    assert!((100..2000).contains(&events.len()), "{}", events.len());
    assert!(dropped(&daemon, "a") > 1000, "{daemon}");
    assert_eq!(daemon.count("a/0.g1: flooded"), 1, "{daemon}");
}

fn last_words() {
    let policy = "[layer.a]\nrun = \"flooding_to_death\"\nsyscalls = [\"@core\"]\n\
                  restart = { on = \"never\" }\n";
    let mut daemon = Daemon::start("flooding_to_death", policy);
    daemon.end();
    let place = |text: &str| daemon.seen.iter().position(|line| line.contains(text)).unwrap();
    let shown = daemon.seen.iter().filter(|line| line.starts_with("a/0.g1: ")).count();
    let all = u64::try_from(shown).unwrap() + dropped(&daemon, "a");
    // Its error is a line too.
    assert_eq!(all, 100_001);
    assert!(place("a/0.g1: the last of it") < place("a/0.g1 ended with exit code 1"));
}
