//! What programs read: `docs/json.md` names every key that the verbs write, and no other.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use cofferdam::audit::entry::Side;
use serde_json::Value;
use tempfile::TempDir;

/// What a verb writes.
fn ask(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(arguments)
        .args(["--format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
}

/// Keys whose values are told once for the whole page, or are lists of the policy's own words.
const WHOLE: [&str; 4] = ["place", "way", "bounds", "record"];

/// The paths of a value's ends. Below `layers` and `may` the policy chooses the keys.
fn paths(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    let last = path.rsplit('.').next().unwrap_or_default();
    let whole = WHOLE.contains(&last) || path == "rules[].conditions";
    match value {
        Value::Object(table) if !whole => {
            for (key, value) in table {
                let key = match last {
                    "layers" | "outcomes" => "NAME",
                    "may" => "SUBJECT",
                    _ => key,
                };
                let dot = if path.is_empty() { "" } else { "." };
                paths(value, &format!("{path}{dot}{key}"), found);
            }
        }
        Value::Array(items) if !whole => {
            for value in items {
                paths(value, &format!("{path}[]"), found);
            }
        }
        _ => {
            found.insert(path.to_owned());
        }
    }
}

/// The keys that a part of the page names.
fn told(heading: &str) -> BTreeSet<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let page = std::fs::read_to_string(page).unwrap();
    let part = page.split("\n## ").find(|part| part.starts_with(heading)).unwrap();
    let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    rows.map(str::to_owned).collect()
}

/// Holds what the page says of a verb against what the verb says.
fn agrees(heading: &str, said: &[Value]) {
    let mut found = BTreeSet::new();
    for value in said {
        paths(value, "", &mut found);
    }
    let told = told(heading);
    let missing: Vec<_> = found
        .difference(&told)
        // `null` where an object may be.
        .filter(|path| !told.iter().any(|it| it.starts_with(&format!("{path}."))))
        .collect();
    assert!(missing.is_empty(), "not in docs/json.md: {missing:?}");
    let extra: Vec<_> = told.difference(&found).collect();
    assert!(extra.is_empty(), "nobody writes {extra:?}");
}

/// The status of a daemon that runs meanwhile.
#[test]
fn status_is_as_documented() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("asked.toml");
    let name = format!("asked-{}", std::process::id());
    let text = format!(
        "cofferdam = 1\nname = \"{name}\"\n[layer.a]\nexec = [\"/bin/sleep\", \"1000\"]\n\
         syscalls = [\"@core\"]\noptional = [\"cgroup\"]\n"
    );
    std::fs::write(&policy, text).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(arguments).env("XDG_RUNTIME_DIR", folder.path());
        command
    };
    let mut daemon = run(&["run", policy.to_str().unwrap()]).spawn().unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_mins(1);
    let status = loop {
        let output = run(&["status", &name, "--format", "json"]).output().unwrap();
        if let Ok(status) = serde_json::from_slice::<Value>(&output.stdout)
            && status["instances"][0]["usage"].is_object()
        {
            break status;
        }
        assert!(std::time::Instant::now() < until, "it never runs: {output:?}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    assert!(run(&["stop", &name]).status().unwrap().success());
    assert!(daemon.wait().unwrap().success());
    agrees("status", &[status]);
}

const WEB: &str = "policies/web.toml";

/// The example's policy with lines changed.
fn changed(folder: &TempDir, changes: &[(&str, &str)]) -> String {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join(WEB);
    let mut text = std::fs::read_to_string(web).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let path = folder.path().join("changed.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn check_is_as_documented() {
    let bad = "tests/policies/bad/ten-mistakes.toml";
    agrees("check", &[ask(&["check", WEB, bad, "/no/such/policy"])]);
}

#[test]
fn explain_is_as_documented() {
    agrees("explain", &[ask(&["explain", WEB]), ask(&["explain", "E0107"])]);
}

#[test]
fn can_is_as_documented() {
    use crate::support::scene::{Scene, used, who};
    use cofferdam::audit::entry::{Facility, Side};
    let folder = TempDir::new().unwrap();
    let mut scene = Scene::begin(folder.path(), include_str!("../../policies/web.toml"));
    let listener = who(scene.layer("listener"), 1);
    scene.put(used(Facility::Listen, 0, listener, Side::Receiver));
    scene.end();
    let log = folder.path().to_str().unwrap();
    agrees(
        "can",
        &[
            ask(&["can", WEB, "parser", "open", "file.key"]),
            ask(&["can", WEB, "keeper", "read", "file.key"]),
            ask(&["can", WEB, "opener", "make", "syscall.fcntl"]),
            ask(&["can", WEB, "listener", "accept", "listen.listener.https", "--log", log]),
        ],
    );
}

#[test]
fn diff_is_as_documented() {
    let folder = TempDir::new().unwrap();
    let new = changed(
        &folder,
        &[
            (
                "[file.site]",
                "[[never]]\nlayer = \"listener\"\nreach = \"capability.CAP_SYS_ADMIN\"\nwhy = \"x\"\n\n[file.site]",
            ),
            ("[\"@core\", \"openat2\", \"statx\"]", "[\"@core\", \"@file-read\"]"),
            ("memory = \"64MiB\"", "memory = \"65MiB\""),
            ("\"2KiB\"", "\"3KiB\""),
            (
                "[channel.open]",
                "[file.other]\npath = \"/srv/other\"\ngrant = { opener = [\"read\"] }\n\n[channel.open]",
            ),
            (
                "[file.key]",
                "[channel.shortcut]\nfrom = \"listener\"\nto = \"keeper\"\nmethods = [\"sign\"]\n\n[file.key]",
            ),
            (
                "[layer.keeper]",
                "[audit]\n\n[reload]\ngain = false\n\n[layer.spare]\nrun = \"spare\"\nsyscalls = [\"@core\"]\n\n[layer.keeper]",
            ),
        ],
    );
    let both = [ask(&["diff", WEB, &new]), ask(&["diff", &new, WEB])];
    agrees("diff", &both);
}

#[test]
fn doctor_is_as_documented() {
    // What is in the way stands there only where something is.
    let mut said = ask(&["doctor"]);
    let obstacle = serde_json::json!({ "what": "", "cause": "", "remedy": "" });
    said["obstacles"].as_array_mut().unwrap().push(obstacle);
    agrees("doctor", &[said]);
}

#[test]
fn audit_is_as_documented() {
    use crate::support::log::{daemon, message, open, small};
    use cofferdam::audit::Options;
    use cofferdam::audit::entry::{Entry, Kind};
    let folder = TempDir::new().unwrap();
    let path = folder.path().to_str().unwrap();
    daemon::write_daemon(folder.path(), 10);
    let mut records = daemon::lists(&["query", path]);
    // A program was refused something.
    let denials = TempDir::new().unwrap();
    let mut log = open(denials.path(), small(), 0);
    let detail = b"sync()\0cat\x002\0libc.so.6 sync+0x7\0\"sync\" would allow it\0call 0,0,0,0,0,0";
    let denial = Entry { detail: detail.to_vec(), ..Entry::new(Kind::Denial) };
    log.append(&denial, &[], crate::support::log::at(0)).unwrap();
    log.close(crate::support::log::at(1)).unwrap();
    records.extend(daemon::lists(&["query", denials.path().to_str().unwrap()]));
    agrees("audit record", &records);
    agrees("audit stats", &[ask(&["audit", "stats", path])]);
    agrees("top", &[ask(&["top", "--audit", path])]);
    // Both ends kept the message: first one copy goes, then the other.
    let kept = TempDir::new().unwrap();
    let mut both = open(kept.path(), small(), 0);
    let sides = [Side::Sender, Side::Receiver];
    for (number, side) in (0..).zip(sides) {
        both.append(&message(1, side), b"words", crate::support::log::at(number)).unwrap();
    }
    both.close(crate::support::log::at(2)).unwrap();
    let kept = kept.path().to_str().unwrap();
    // The log's own beginning is record 0.
    let first = ask(&["audit", "redact", kept, "1", "--one"]);
    let why = ["--because", "a complaint"];
    agrees("audit redact", &[first, ask(&[&["audit", "redact", kept, "1"], &why[..]].concat())]);
    let ship = folder.path().join("copy");
    agrees("audit ship", &[ask(&["audit", "ship", kept, ship.to_str().unwrap()])]);
    let proof = folder.path().join("proof.json");
    let proof = proof.to_str().unwrap();
    daemon::says(0, &["prove", path, "20", "-o", proof]);
    agrees("audit prove", &[ask(&["audit", "prove", "--check", proof])]);

    // One end alone says something, and the log is damaged.
    let broken = TempDir::new().unwrap();
    let options = Options { segment_bytes: 1 << 20, ..small() };
    let mut log = open(broken.path(), options, 0);
    let sender = Side::Sender;
    log.append(&message(0, sender), &[], crate::support::log::at(0)).unwrap();
    log.close(crate::support::log::at(1)).unwrap();
    let segment = broken.path().join("00000000.log");
    let path = broken.path().to_str().unwrap();
    agrees("audit reconcile", &[ask(&["audit", "reconcile", path])]);
    let mut bytes = std::fs::read(&segment).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    agrees("audit verify", &[ask(&["audit", "verify", path])]);
}
