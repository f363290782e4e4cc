//! `cofferdam audit`: the verbs that read a log, held against what was written into it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::log::daemon::*;
use crate::support::log::*;
use cofferdam::audit::entry::{Entry, Side};
use cofferdam::audit::note::Notes;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

crate::support::suite::tests! {
    a_query_lists_what_each_filter_means_and_nothing_else,
    a_window_of_time_is_half_open,
    names_that_are_not_in_the_log_are_told_with_those_that_are,
    a_directory_that_is_none_or_forbidden_is_told_with_a_way_out,
    verify_tells_the_place_and_what_cannot_be_known,
    a_cut_tail_is_found_with_an_outside_checkpoint_alone,
    reconcile_names_the_edge_and_both_ends_of_a_lie,
    a_proof_convinces_somebody_without_the_log_and_no_other_record_does,
    a_payload_is_removed_and_the_log_verifies_here_and_in_python,
    a_message_is_removed_from_the_records_of_both_ends,
    stats_are_those_of_what_was_written,
    text_that_means_harm_reaches_neither_terminal_nor_program,
    names_are_those_in_force_where_the_record_stands,
    help_and_docs_know_every_verb,
}

fn log(calls: u64) -> (TempDir, String) {
    let dir = tempdir().unwrap();
    write_daemon(dir.path(), calls);
    let path = dir.path().to_str().unwrap().to_owned();
    (dir, path)
}

/// What a filter means, by the record.
type Meant = Box<dyn Fn(&Value) -> bool>;

fn a_query_lists_what_each_filter_means_and_nothing_else() {
    let (_dir, path) = log(100);
    let all = lists(&["query", &path]);
    for (at, record) in all.iter().enumerate() {
        assert_eq!(record["index"], at);
    }
    let layer = |name: &str| {
        let name = name.to_owned();
        move |r: &Value| r["reporter"]["layer"] == *name || r["peer"]["layer"] == *name
    };
    let listed = |record: &Value| {
        let parts = record["batch"].as_array().unwrap();
        record["method"] == "list" || parts.iter().any(|part| part["method"] == "list")
    };
    let cases: Vec<(&[&str], usize, Meant)> = vec![
        (&["--layer", "keeper"], 100, Box::new(layer("keeper"))),
        (&["--layer", "supervisor"], 6, Box::new(layer("supervisor"))),
        (&["--layer", "keeper/0.g1"], 100, Box::new(layer("keeper"))),
        (&["--edge", "channel.sign"], 400, Box::new(|r| r["edge"] == "channel.sign")),
        (&["--edge", "channel"], 405, Box::new(|r| r["facility"] == "channel")),
        (&["--edge", "queue.jobs"], 2, Box::new(|r| r["edge"] == "queue.jobs")),
        (&["--method", "sign"], 400, Box::new(|r| r["method"] == "sign")),
        // It is the second method of two channels, and only in a batch.
        (&["--method", "list"], 2, Box::new(listed)),
        (&["--method", "read+write"], 1, Box::new(|r| r["kind"] == "broker" && r["value"] == 6)),
        (&["--method", "TERM"], 1, Box::new(|r| r["edge"] == "signal.reload")),
        (&["--method", "execve"], 1, Box::new(|r| r["kind"] == "denial")),
        (&["--verdict", "refused"], 2, Box::new(|r| r["verdict"] == "refused")),
        (
            &["--verdict", "refused,killed"],
            3,
            Box::new(|r| r["verdict"] == "refused" || r["verdict"] == "killed"),
        ),
        (&["--kind", "alarm"], 1, Box::new(|r| r["kind"] == "alarm")),
        (
            &["--kind", "use", "--edge", "channel.sign", "--layer", "listener"],
            400,
            Box::new(|r| r["edge"] == "channel.sign"),
        ),
    ];
    for (filter, least, meant) in cases {
        let found = lists(&[&["query", &path], filter].concat());
        let expected: Vec<_> = all.iter().filter(|record| meant(record)).cloned().collect();
        assert!(expected.len() >= least, "{filter:?}: {}", expected.len());
        assert_eq!(found, expected, "{filter:?}");
        let limited = lists(&[&["query", &path, "--limit", "1"], filter].concat());
        assert_eq!(limited, expected[..1]);
    }
    assert_eq!(lists(&["query", &path, "--layer", "keeper/0.g2"]), Vec::<Value>::new());
    assert_eq!(says(0, &["query", &path]).lines().count(), all.len());
}

fn a_window_of_time_is_half_open() {
    let (_dir, path) = log(20);
    let all = lists(&["query", &path]);
    let time = |at: usize| all[at]["time"].as_str().unwrap();
    let found = lists(&["query", &path, "--since", time(30), "--until", time(50)]);
    let first = all.iter().position(|record| record["time"] == *time(30)).unwrap();
    assert_eq!(found, all[first..50]);
    // The log is of 2023.
    assert_eq!(lists(&["query", &path, "--since", "-1d"]), Vec::<Value>::new());
    assert_eq!(lists(&["query", &path, "--until", "-1s"]), all);
    assert!(complains(2, &["query", &path, "--since", "yesterday"]).contains("RFC 3339"));
}

fn names_that_are_not_in_the_log_are_told_with_those_that_are() {
    let (_dir, path) = log(1);
    for (filter, named) in [
        (["--layer", "kepeer"], "listener, keeper"),
        (["--edge", "channel.sing"], "sign, note"),
        (["--edge", "pipe.x"], "the log names none"),
        (["--edge", "canal"], "channel, listen"),
        (["--method", "sing"], "sign, list"),
        (["--verdict", "maybe"], "allowed, refused"),
        (["--kind", "thing"], "start, stop"),
        (["--layer", "keeper/x"], "keeper/0.g2"),
    ] {
        let error = complains(2, &[&["query", &path], filter.as_slice()].concat());
        assert!(error.contains(named), "{filter:?}: {error}");
    }
}

fn a_directory_that_is_none_or_forbidden_is_told_with_a_way_out() {
    let dir = tempdir().unwrap();
    let empty = dir.path().to_str().unwrap();
    for verb in ["query", "tail", "stats", "verify", "reconcile"] {
        assert!(complains(2, &[verb, empty]).contains("no audit log"), "{verb}");
        let error = complains(3, &[verb, "/no/such/directory"]);
        assert!(error.contains("the policy's `audit` names"), "{verb}: {error}");
    }
    assert_eq!(audit(&["query"]).status.code(), Some(2));

    // As somebody else: from root down, or from a directory that is shut.
    let (_dir, path) = log(1);
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    } else {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    }
    // Where nobody else can reach the binary itself, a copy of it is asked.
    let folder = tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let binary = folder.path().join("cofferdam");
    fs::copy(env!("CARGO_BIN_EXE_cofferdam"), &binary).unwrap();
    let out = command.arg(&binary).args(["audit", "query", &path]).output().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let error = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(3), "{error}");
    assert!(error.contains("run this as root or as the user"), "{error}");
}

fn verify_tells_the_place_and_what_cannot_be_known() {
    let (dir, path) = log(60);
    let text = says(0, &["verify", &path]);
    assert!(text.starts_with("sound: records 0 to "), "{text}");
    assert!(text.contains("not known: without a checkpoint"), "{text}");
    let json = |code, more: &[&str]| -> Value {
        let text = says(code, &[&["verify", &path, "--format", "json"], more].concat());
        serde_json::from_str(&text).unwrap()
    };
    let told = json(0, &[]);
    let id = told["log"].as_str().unwrap();
    assert_eq!((&told["sound"], told["unknown"].as_array().unwrap().len()), (&true.into(), 2));
    assert_eq!(json(0, &["--id", id])["unknown"].as_array().unwrap().len(), 1);
    let checkpoint = dir.path().join("epochs.note");
    let checkpoint = checkpoint.to_str().unwrap();
    assert_eq!(json(0, &["--checkpoint", checkpoint])["unknown"], serde_json::json!([]));
    assert_eq!(json(1, &["--id", &"ab".repeat(32)])["sound"], false);
    let other = log(3);
    let foreign = other.0.path().join("epochs.note");
    assert_eq!(json(0, &["--checkpoint", foreign.to_str().unwrap()])["sound"], true);
    complains(2, &["verify", &path, "--id", "xyz"]);
    complains(3, &["verify", &path, "--checkpoint", "/no/such/file"]);

    let name = files(dir.path(), ".log")[1].clone();
    let file = dir.path().join(&name);
    let good = fs::read(&file).unwrap();
    let (frame, _) = frames(&good)[3];
    let mut bad = good.clone();
    bad[frame + 40] ^= 1;
    fs::write(&file, &bad).unwrap();
    let record = u64::from_le_bytes(good[56..64].try_into().unwrap()) + 3;
    let text = says(1, &["verify", &path]);
    assert!(text.contains(&format!("{name}, record {record}, byte {frame}: ")), "{text}");
    assert!(text.contains("broken, "), "{text}");
    let told = json(1, &[]);
    let finding = &told["findings"][0];
    assert_eq!((&finding["file"], &finding["record"]), (&name.into(), &record.into()));
    assert_eq!(finding["byte"], frame);
    // Others say that they may be incomplete.
    for verb in ["query", "stats", "reconcile"] {
        assert!(complains(1, &[verb, &path]).contains("cofferdam audit verify"), "{verb}");
    }
}

fn a_cut_tail_is_found_with_an_outside_checkpoint_alone() {
    let (dir, path) = log(60);
    let kept = tempdir().unwrap();
    let outside = kept.path().join("kept.note");
    let notes = |name: &str| {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        let notes = Notes::read(&bytes).notes.into_iter().map(|(_, note)| note.unwrap());
        notes.collect::<Vec<_>>()
    };
    let last = files(dir.path(), ".log").pop().unwrap();
    let whole = *notes(&last.replace(".log", ".note")).last().unwrap();
    // A single note, without the empty line that separates them in the log.
    fs::write(&outside, whole.encode()).unwrap();
    let outside = outside.to_str().unwrap();
    assert!(says(0, &["verify", &path, "--checkpoint", outside]).starts_with("sound"));

    for name in [last.clone(), last.replace(".log", ".note"), last.replace(".log", ".idx")] {
        fs::remove_file(dir.path().join(name)).unwrap();
    }
    let told = says(0, &["verify", &path]);
    assert!(told.contains("a tail that was cut off together with its checkpoints"), "{told}");
    let told = says(1, &["verify", &path, "--checkpoint", outside]);
    assert!(told.contains("the tail was cut"), "{told}");
}

fn reconcile_names_the_edge_and_both_ends_of_a_lie() {
    let (_dir, path) = log(40);
    let text = says(0, &["reconcile", &path]);
    assert!(text.contains("nobody is under suspicion"), "{text}");
    let told: Value =
        serde_json::from_str(&says(0, &["reconcile", &path, "--format", "json"])).unwrap();
    // Calls and answers, the batch, the odd message, the job.
    assert_eq!((&told["matched"], &told["honest"]), (&(80 + 3).into(), &true.into()));

    let dir = tempdir().unwrap();
    let mut daemon = Daemon::new(dir.path(), small());
    for n in 0..30 {
        daemon.push(message(n, Side::Sender));
        let received = message(n, Side::Receiver);
        match n {
            11 => {}
            12 => {
                daemon.push(Entry { hash: [9; 32], ..received });
            }
            _ => {
                daemon.push(received);
            }
        }
    }
    daemon.push(message(40, Side::Receiver));
    let end = at(daemon.now);
    daemon.log.close(end).unwrap();
    let path = dir.path().to_str().unwrap();
    let text = says(1, &["reconcile", path]);
    let between = "channel.sign listener/0.g1 -> keeper/0.g1";
    assert!(text.contains(&format!("gap: {between}, message 11")), "{text}");
    assert!(text.contains(&format!("altered: {between}, message 12")), "{text}");
    assert!(text.contains(&format!("forged: {between}, message 40")), "{text}");
    assert!(text.contains("somebody is under suspicion"), "{text}");
    let text = says(1, &["reconcile", path, "--limit", "1"]);
    assert!(text.contains("more: raise --limit"), "{text}");
}

fn a_proof_convinces_somebody_without_the_log_and_no_other_record_does() {
    let (dir, path) = log(60);
    let folder = tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let proof = file("proof.json");
    for record in ["0", "77", "150"] {
        assert_eq!(says(0, &["prove", &path, record, "-o", &proof]), "");
        let text = says(0, &["prove", "--check", &proof]);
        assert!(text.contains(&format!("record {record} is among the first")), "{text}");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit/proof.py");
        let out = Command::new("python3").args(["-I", script, &proof]).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), record, "{error}");
    }
    assert_eq!(says(0, &["prove", &path, "150"]), fs::read_to_string(&proof).unwrap());
    let told: Value =
        serde_json::from_str(&says(0, &["prove", "--check", &proof, "--format", "json"])).unwrap();
    assert_eq!((&told["proved"], &told["trusted"]), (&true.into(), &false.into()));
    assert_eq!(told["record"], lists(&["query", &path])[150]);

    let (id, key) = (told["log"].as_str().unwrap(), told["key"].as_str().unwrap());
    let trusted = says(0, &["prove", "--check", &proof, "--id", id, "--key", key]);
    assert!(!trusted.contains("should know"), "{trusted}");
    complains(1, &["prove", "--check", &proof, "--id", &"ab".repeat(32)]);
    complains(1, &["prove", "--check", &proof, "--key", &format!("{}=", "A".repeat(43))]);
    let epochs = dir.path().join("epochs.note");
    complains(1, &["prove", "--check", &proof, "--checkpoint", epochs.to_str().unwrap()]);
    let under = file("under.json");
    let known = file("known.note");
    let notes = fs::read(&epochs).unwrap();
    let last = Notes::read(&notes).notes.last().unwrap().1.unwrap();
    fs::write(&known, last.encode()).unwrap();
    says(0, &["prove", &path, "150", "--checkpoint", &known, "-o", &under]);
    says(0, &["prove", "--check", &under, "--checkpoint", &known]);

    // One that knows a later checkpoint alone is convinced too.
    let notes = fs::read(dir.path().join(files(dir.path(), ".note").pop().unwrap())).unwrap();
    let middle = fs::read_to_string(&epochs).unwrap();
    let middle: Vec<&str> = middle.split_inclusive("\n\n").collect();
    let middle: String = middle[middle.len() - 4..middle.len() - 2].concat();
    let middle = middle.trim_end().to_owned() + "\n";
    let size = |note: &str| note.lines().nth(1).unwrap().parse::<u64>().unwrap();
    let some = file("some.note");
    fs::write(&some, &middle).unwrap();
    let early = file("early.json");
    let newest = file("newest.note");
    let end = dir.path().join(files(dir.path(), ".note").iter().rev().nth(1).unwrap());
    let last = [Notes::read(&notes), Notes::read(&fs::read(end).unwrap())];
    let last = last.iter().flat_map(|it| &it.notes).map(|it| it.1.unwrap());
    let last = last.max_by_key(|it| it.checkpoint.size).unwrap();
    fs::write(&newest, last.encode()).unwrap();
    says(0, &["prove", &path, "7", "-o", &early]);
    says(0, &["prove", "--check", &early, "--checkpoint", &newest]);
    assert!(size(&middle) > 7);
    complains(1, &["prove", "--check", &early, "--checkpoint", &some]);
    says(0, &["prove", &path, "7", "--also", &some, "-o", &early]);
    says(0, &["prove", "--check", &early, "--checkpoint", &some]);
    let mut bad: Value = serde_json::from_str(&fs::read_to_string(&early).unwrap()).unwrap();
    for later in bad["later"].as_array_mut().unwrap() {
        later["path"] = serde_json::json!([]);
    }
    fs::write(&early, bad.to_string()).unwrap();
    complains(1, &["prove", "--check", &early, "--checkpoint", &some]);

    // Every part of it counts.
    let good = fs::read_to_string(&proof).unwrap();
    let json: Value = serde_json::from_str(&good).unwrap();
    let change = |what: &str, change: &dyn Fn(&mut Value)| {
        let mut bad = json.clone();
        change(&mut bad);
        fs::write(&proof, bad.to_string()).unwrap();
        assert_eq!(audit(&["prove", "--check", &proof]).status.code(), Some(1), "{what}");
    };
    change("another body", &|bad| bad["record"]["body"] = bad["names"]["body"].clone());
    change("another number", &|bad| bad["record"]["index"] = 149.into());
    change("no way", &|bad| bad["record"]["path"] = serde_json::json!([]));
    change("names of a later record", &|bad| bad["names"] = bad["record"].clone());
    change("another checkpoint", &|bad| {
        let text = bad["checkpoint"].as_str().unwrap().replace("first 0", "first 1");
        bad["checkpoint"] = text.into();
    });
    change("another format", &|bad| bad["format"] = "2".into());
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone().into_bytes();
        bad[at] = if bad[at] == b'A' { b'B' } else { b'A' };
        fs::write(&proof, bad).unwrap();
        assert_eq!(audit(&["prove", "--check", &proof]).status.code(), Some(1), "byte {at}");
    }
    complains(2, &["prove", &path, "100000"]);
    complains(3, &["prove", "--check", "/no/such/proof"]);
    complains(2, &["prove", &path]);
}

fn a_payload_is_removed_and_the_log_verifies_here_and_in_python() {
    let (dir, path) = log(10);
    let all = lists(&["query", &path]);
    let with = all.iter().find(|record| !record["payload"].is_null()).unwrap();
    let number = with["index"].to_string();
    complains(2, &["redact", &path, &number, "--because", " "]);
    let why = "a \u{1b}[31mcomplaint";
    let text = says(0, &["redact", &path, &number, "--because", why]);
    assert!(text.contains("its payload of 6 bytes is overwritten"), "{text}");
    let told = lists(&["query", &path, "--kind", "redacted"]);
    let [told] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!(told["sequence"].to_string(), number);
    assert_eq!(told["length"], 6);
    assert_eq!(told["detail"], "a \\x1b[31mcomplaint");
    let user = fs::read_to_string("/proc/self/loginuid").unwrap();
    let user = match user.trim() {
        "4294967295" => rustix::process::getuid().as_raw().to_string(),
        user => user.to_owned(),
    };
    assert_eq!(told["value"].to_string(), user);
    let line = says(0, &["query", &path, "--kind", "redacted"]);
    let record = format!("record {number}, 6 B, for user {user}: a \\x1b[31mcomplaint");
    assert!(line.contains(&record), "{line}");
    assert!(says(0, &["redact", &path, &number]).contains("removed before"));
    assert!(says(1, &["redact", &path, "0"]).contains("no payload"));
    assert!(complains(2, &["redact", &path, "99999"]).contains("no record 99999"));
    let told = says(0, &["verify", &path]);
    assert!(told.contains("payloads removed: 1;"), "{told}");
    assert!(python(dir.path(), &[]).0);
    for name in files(dir.path(), ".log") {
        let bytes = fs::read(dir.path().join(name)).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"sealed"));
    }
    assert_eq!(lists(&["query", &path])[..all.len()], all);
}

fn stats_are_those_of_what_was_written() {
    let (_dir, path) = log(100);
    let told: Value =
        serde_json::from_str(&says(0, &["stats", &path, "--format", "json"])).unwrap();
    let all = lists(&["query", &path]);
    assert_eq!((&told["records"], &told["alarms"]), (&all.len().into(), &1.into()));
    let edge = |name: &str| {
        let edges = told["edges"].as_array().unwrap();
        edges.iter().find(|edge| edge["edge"] == *name).unwrap().clone()
    };
    let sign = edge("channel.sign");
    // Requests of 100 bytes and answers of 40, from both ends; the receiver's clock ticks later.
    let both = serde_json::json!({ "messages": 200, "bytes": 100 * 140 });
    assert_eq!((&sign["sent"], &sign["received"]), (&both, &both));
    let calls = &sign["calls"];
    assert_eq!((&calls["answered"], &calls["declined"]), (&100.into(), &10.into()));
    for quantile in ["p50_ns", "p99_ns", "max_ns"] {
        assert_eq!(calls[quantile], 3_000_000, "{quantile}");
    }
    let note = edge("channel.note");
    assert_eq!(note["sent"], serde_json::json!({ "messages": 5, "bytes": 500 }));
    assert_eq!(edge("file.site")["refused"], 1);
    assert_eq!(edge("signal.reload")["acts"], 1);
    let layers = told["layers"].as_array().unwrap();
    let layer = |name: &str| layers.iter().find(|layer| layer["layer"] == *name).unwrap();
    let keeper = layer("keeper");
    for (what, count) in [("lives", 1), ("exits", 1), ("failures", 1), ("denials", 1), ("lost", 0)]
    {
        assert_eq!(keeper[what], count, "{what}");
    }
    assert_eq!(layer("listener")["lost"], 4);
    let seconds = told["seconds"].as_f64().unwrap();
    let rate = sign["messages_per_second"].as_f64().unwrap();
    assert!((rate * seconds - 200.0).abs() < 1e-6, "{rate} in {seconds}");
    let text = says(0, &["stats", &path, "--edge", "channel.sign"]);
    assert!(text.contains("channel.sign") && text.contains("3.0 ms"), "{text}");
    assert!(!text.contains("queue.jobs"), "{text}");
}

fn text_that_means_harm_reaches_neither_terminal_nor_program() {
    let (dir, path) = log(3);
    let folder = tempdir().unwrap();
    let capture = folder.path().join("audit.pcapng");
    let capture = capture.to_str().unwrap();
    let asked: &[&[&str]] = &[
        &["query", &path],
        &["query", &path, "--format", "json"],
        &["tail", &path, "-n", "1000"],
        &["stats", &path],
        &["stats", &path, "--format", "json"],
        &["verify", &path],
        &["reconcile", &path],
        &["export", &path, "--format", "json"],
        &["export", &path, "--format", "chrome"],
    ];
    for arguments in asked {
        let out = says(0, arguments);
        assert!(out.contains("script") || !arguments[0].contains("query"), "{arguments:?}");
        for harmful in HARMFUL {
            assert!(!out.contains(harmful), "{arguments:?}: {harmful:?}");
        }
        // In JSON it is not only escaped: whoever reads it has nothing to undo.
        assert!(!out.contains("\\u001b") && !out.contains("\\u0007"), "{arguments:?}");
    }
    let error = complains(2, &["query", &path, "--layer", &HOSTILE.replace('\0', "")]);
    assert!(!error.contains('\x1b'), "{error:?}");
    says(0, &["export", &path, "--format", "pcapng", "-o", capture]);
    let bytes = fs::read(capture).unwrap();
    for harmful in ["\x1b]0;owned", "\u{202e}", "\u{200b}", "\x1b[31m"] {
        assert!(!bytes.windows(harmful.len()).any(|window| window == harmful.as_bytes()));
    }
    assert!(bytes.windows(9).any(|window| window == b"\\x1b]0;ow"));
    let mode = fs::metadata(capture).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(dir);
}

fn names_are_those_in_force_where_the_record_stands() {
    let dir = tempdir().unwrap();
    let mut daemon = Daemon::new(dir.path(), small());
    for n in 0..50 {
        daemon.push(message(n, Side::Sender));
    }
    // The layers change places, and one gets another name.
    let mut other = daemon_tables();
    other.layers[..2].clone_from_slice(&["vault".into(), "listener".into()]);
    let now = at(daemon.now);
    daemon.log.policy(&other, now).unwrap();
    for n in 0..50 {
        daemon.push(message(n, Side::Sender));
    }
    daemon.log.close(now).unwrap();
    let path = dir.path().to_str().unwrap();
    let sent = |layer: &str| {
        let found = lists(&["query", path, "--layer", layer, "--kind", "use"]);
        let by = found.iter().filter(|record| record["reporter"]["layer"] == *layer).count();
        (found.len(), by)
    };
    assert_eq!((sent("listener"), sent("keeper"), sent("vault")), ((100, 50), (50, 0), (50, 50)));
    let told: Value = serde_json::from_str(&says(0, &["stats", path, "--format", "json"])).unwrap();
    assert_eq!(told["edges"][0]["sent"]["messages"], 100);
}

fn help_and_docs_know_every_verb() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md");
    let page = fs::read_to_string(page).unwrap();
    let help = says(0, &["--help"]);
    let verbs: Vec<&str> = help
        .lines()
        .skip_while(|line| !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect();
    assert!(verbs.len() >= 8, "{verbs:?}");
    for verb in verbs {
        assert!(page.contains(&format!("## {verb}\n")), "docs/audit.md says nothing of `{verb}`");
        assert!(page.contains(&format!("cofferdam audit {verb} ")), "no example of `{verb}`");
    }
}

fn a_message_is_removed_from_the_records_of_both_ends() {
    let twins = || {
        let dir = tempdir().unwrap();
        let mut log = open(dir.path(), small(), 0);
        log.policy(&tables(), at(0)).unwrap();
        for n in 0..3 {
            log.append(&message(n, Side::Sender), b"a secret", at(n)).unwrap();
            log.append(&message(n, Side::Receiver), b"the twin", at(n)).unwrap();
        }
        log.close(at(9)).unwrap();
        dir
    };
    let left = |dir: &Path, text: &[u8]| {
        let bytes = fs::read(dir.join("00000000.log")).unwrap();
        bytes.windows(text.len()).filter(|window| *window == text).count()
    };
    for (number, flag) in [("4", None), ("5", Some("--message"))] {
        let dir = twins();
        let path = dir.path().to_str().unwrap();
        let said = says(0, &[&["redact", path, number][..], flag.as_slice()].concat());
        assert!(said.contains("record 4 ") && said.contains("record 5 "), "{said}");
        assert_eq!((left(dir.path(), b"a secret"), left(dir.path(), b"the twin")), (2, 2));
        assert!(says(0, &["verify", path]).contains("payloads removed: 2;"));
    }
    let dir = twins();
    let path = dir.path().to_str().unwrap();
    let said = says(0, &["redact", path, "4", "--one"]);
    assert!(said.contains("record 5 keeps the same message"), "{said}");
    assert_eq!((left(dir.path(), b"a secret"), left(dir.path(), b"the twin")), (2, 3));
    let told: Value =
        serde_json::from_str(&says(0, &["redact", path, "4", "--format", "json"])).unwrap();
    assert_eq!((&told["payload"], &told["copies"][0]["record"]), (&"already".into(), &5.into()));
}
