//! Exports, read by the programs that they are for: `tshark` with the dissector, `jq`, and a
//! reader of traces. What they count is what `audit query` lists. A missing program is a failure:
//! `.ci/run` installs them.

use std::collections::HashMap;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::log::daemon::*;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

crate::support::suite::tests! {
    tshark_with_the_dissector_sees_every_record_by_name,
    tshark_tells_packets_that_are_damaged,
    jq_reads_lines_that_agree_with_the_query,
    a_trace_has_every_record_and_both_ends_of_every_arrow,
    filters_apply_to_exports_as_to_queries,
}

struct Exported {
    dir: TempDir,
    all: Vec<Value>,
}

impl Exported {
    fn new(calls: u64) -> Self {
        let dir = tempdir().unwrap();
        write_daemon(dir.path(), calls);
        let all = lists(&["query", dir.path().to_str().unwrap()]);
        Self { dir, all }
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn count(&self, meant: impl Fn(&Value) -> bool) -> usize {
        self.all.iter().filter(|record| meant(record)).count()
    }
}

/// Whether `tshark` is there. The gate installs it, and there it must be.
fn has_tshark() -> bool {
    let there = Command::new("tshark").arg("--version").output().is_ok();
    assert!(there || std::env::var_os("CI").is_none(), "tshark is missing: .ci/run installs it");
    if !there {
        let _ = writeln!(std::io::stderr(), "without tshark, the capture is not read by it");
    }
    there
}

/// What `tshark` shows of a capture.
fn tshark(capture: &str, more: &[&str]) -> String {
    let script = concat!("lua_script:", env!("CARGO_MANIFEST_DIR"), "/docs/cofferdam.lua");
    let out = Command::new("tshark")
        .args(["-X", script, "-r", capture])
        .args(more)
        .env("HOME", "/nonexistent")
        .output()
        .expect("tshark, which .ci/run installs");
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{more:?}: {error}");
    assert!(!error.contains("Lua"), "{error}");
    String::from_utf8(out.stdout).unwrap()
}

fn tshark_with_the_dissector_sees_every_record_by_name() {
    if !has_tshark() {
        return;
    }
    let exported = Exported::new(50);
    let folder = tempdir().unwrap();
    let capture = folder.path().join("audit.pcapng");
    let capture = capture.to_str().unwrap();
    says(0, &["export", exported.path(), "--format", "pcapng", "-o", capture]);
    let lines = |filter: &str| tshark(capture, &["-Y", filter]).lines().count();
    assert_eq!(lines("cofferdam"), exported.all.len());
    assert_eq!(lines("cofferdam.malformed || _ws.malformed"), 0);
    let is = |key: &'static str, word: &'static str| move |r: &Value| r[key] == word;
    for (filter, count) in [
        ("cofferdam.kind == \"use\"", exported.count(is("kind", "use"))),
        ("cofferdam.edge == \"channel.sign\"", exported.count(is("edge", "channel.sign"))),
        ("cofferdam.method == \"sign\"", exported.count(is("method", "sign"))),
        ("cofferdam.form == \"refusal\"", exported.count(is("form", "refusal"))),
        ("cofferdam.verdict == \"refused\"", exported.count(is("verdict", "refused"))),
        ("cofferdam.reporter contains \"keeper\"", {
            exported.count(|r| r["reporter"]["layer"] == "keeper")
        }),
        ("cofferdam.batch contains \"2 message list\"", 2),
        ("cofferdam.payload == 6", 1),
        ("cofferdam.method == \"execve\"", 1),
        ("cofferdam.meaning == \"denied\"", 1),
    ] {
        assert!(count > 0, "{filter}");
        assert_eq!(lines(filter), count, "{filter}");
    }

    // Numbers and times are those of the query, in its order.
    let fields = ["index", "sequence", "length", "value", "monotonic", "hash"];
    let fields: Vec<String> =
        fields.iter().flat_map(|name| ["-e".into(), format!("cofferdam.{name}")]).collect();
    let mut ask = vec!["-T", "fields", "-e", "frame.time_epoch"];
    ask.extend(fields.iter().map(String::as_str));
    let shown = tshark(capture, &ask);
    for (line, record) in shown.lines().zip(&exported.all) {
        let words: Vec<&str> = line.split('\t').collect();
        for (word, key) in words[1..6].iter().zip(["index", "sequence", "length", "value"]) {
            assert_eq!(**word, *record[key].to_string(), "{key} in {line}");
        }
        assert_eq!(words[5], record["monotonic"].to_string());
        let hash = record["hash"].as_str().map_or_else(|| "0".repeat(64), str::to_owned);
        assert_eq!(words[6].replace(':', ""), hash);
        let fraction = record["time"].as_str().unwrap().rsplit('.').next().unwrap();
        assert_eq!(words[0].split('.').nth(1), fraction.strip_suffix('Z'), "{line}");
    }

    // Comments and everything else in full: nothing in it does harm.
    let whole = tshark(capture, &["-V", "-o", "frame.generate_md5_hash:FALSE"]);
    for harmful in HARMFUL {
        assert!(!whole.contains(harmful), "{harmful:?}");
    }
    assert!(whole.contains("\\x1b]0;owned") || whole.contains("\\\\x1b]0;owned"), "{whole}");
    assert!(tshark(capture, &["-Y", "frame.comment contains \"alarm\""]).lines().count() == 1);
}

fn tshark_tells_packets_that_are_damaged() {
    if !has_tshark() {
        return;
    }
    let exported = Exported::new(5);
    let folder = tempdir().unwrap();
    let capture = folder.path().join("audit.pcapng");
    says(0, &["export", exported.path(), "--format", "pcapng", "-o", capture.to_str().unwrap()]);
    let good = std::fs::read(&capture).unwrap();
    let at = |part: &[u8]| good.windows(part.len()).position(|window| window == part).unwrap();
    let magic = at(b"cfda\x01");
    for (offset, byte) in [(0, b'x'), (4, 9), (8, 0xff), (11, 0xff), (13, 0xff)] {
        let mut bad = good.clone();
        bad[magic + offset] = byte;
        std::fs::write(&capture, &bad).unwrap();
        let shown = tshark(capture.to_str().unwrap(), &["-Y", "cofferdam.malformed"]);
        assert_eq!(shown.lines().count(), 1, "byte {offset}");
    }
}

fn jq_reads_lines_that_agree_with_the_query() {
    let exported = Exported::new(50);
    let ask = |question: &str| -> String {
        let binary = env!("CARGO_BIN_EXE_cofferdam");
        let mut export = Command::new(binary)
            .args(["audit", "export", exported.path(), "--format", "json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = export.stdout.take().unwrap();
        let out = Command::new("jq").args(["-s", question]).stdin(lines).output().expect("jq");
        assert!(export.wait().unwrap().success() && out.status.success(), "{question}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(ask("length"), exported.all.len().to_string());
    assert_eq!(ask("map(.index) == [range(length)]"), "true");
    let refused = exported.count(|record| record["verdict"] == "refused");
    assert_eq!(ask("map(select(.verdict == \"refused\")) | length"), refused.to_string());
    let bytes = ask("map(select(.edge == \"channel.sign\" and .side == \"sender\").length) | add");
    assert_eq!(bytes, (50 * 140).to_string());
}

fn a_trace_has_every_record_and_both_ends_of_every_arrow() {
    let exported = Exported::new(50);
    let trace: Value =
        serde_json::from_str(&says(0, &["export", exported.path(), "--format", "chrome"])).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |phase: &'static str| events.iter().filter(move |event| event["ph"] == *phase);

    let mut seen: Vec<u64> =
        of("X").chain(of("i")).map(|e| e["args"]["index"].as_u64().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..exported.all.len() as u64).collect::<Vec<_>>());

    // Processes are layers, threads instances, each introduced once.
    let named = |kind: &str| -> HashMap<(u64, u64), String> {
        let all = of("M").filter(|event| event["name"] == *kind);
        let mut found = HashMap::new();
        for event in all {
            let key = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
            let name = event["args"]["name"].as_str().unwrap().to_owned();
            assert_eq!(found.insert(key, name), None, "{event}");
        }
        found
    };
    let (processes, threads) = (named("process_name"), named("thread_name"));
    for event in events.iter().filter(|event| event["ph"] != "M") {
        let (pid, tid) = (event["pid"].as_u64().unwrap(), event["tid"].as_u64().unwrap());
        let (process, thread) = (&processes[&(pid, 0)], &threads[&(pid, tid)]);
        assert!(thread.starts_with(process.as_str()), "{thread} in {process}");
        assert!(event["ts"].as_f64().unwrap() >= 0.0, "{event}");
    }
    assert!(threads.values().any(|name| name == "keeper/0.g1"));

    // Every arrow has both ends, goes forward, and its ends are on slices.
    let mut arrows: HashMap<u64, Vec<&Value>> = HashMap::new();
    for event in of("s").chain(of("f")) {
        arrows.entry(event["id"].as_u64().unwrap()).or_default().push(event);
    }
    // Calls, answers, the batch, the odd message and the job.
    assert_eq!(arrows.len(), 50 * 2 + 3);
    let place = |event: &Value| {
        (event["pid"].to_string(), event["tid"].to_string(), event["ts"].to_string())
    };
    let slices: Vec<_> = of("X").map(place).collect();
    for ends in arrows.values() {
        let [start, finish] = ends.as_slice() else { panic!("{ends:?}") };
        assert_eq!((&start["ph"], &finish["ph"]), (&"s".into(), &"f".into()));
        assert!(start["ts"].as_f64() <= finish["ts"].as_f64() && start["pid"] != finish["pid"]);
        assert!(slices.contains(&place(start)) && slices.contains(&place(finish)));
    }

    // Spans begin and end once, calls last as long as `stats` says.
    let mut spans: HashMap<&str, Vec<&Value>> = HashMap::new();
    for event in of("b").chain(of("e")) {
        spans.entry(event["id"].as_str().unwrap()).or_default().push(event);
    }
    let (mut calls, mut lives) = (0, 0);
    for ends in spans.values() {
        let [begin, end] = ends.as_slice() else { panic!("{ends:?}") };
        assert_eq!((&begin["ph"], &end["ph"]), (&"b".into(), &"e".into()));
        let took = end["ts"].as_f64().unwrap() - begin["ts"].as_f64().unwrap();
        if begin["cat"] == "call" {
            calls += 1;
            assert!((took - 3_000.0).abs() < 0.5, "{took}");
        } else {
            lives += 1;
            assert!(took > 0.0);
        }
    }
    assert_eq!((calls, lives), (50, 2));

    // Slices of a thread lie beside or within each other.
    let mut by_thread: HashMap<(String, String), Vec<(f64, f64)>> = HashMap::new();
    for event in of("X") {
        let (pid, tid, _) = place(event);
        let (from, long) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
        by_thread.entry((pid, tid)).or_default().push((from, from + long));
    }
    for slices in by_thread.values_mut() {
        slices.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
        for pair in slices.windows(2) {
            let beside = pair[1].0 + 1e-6 >= pair[0].1;
            assert!(beside || pair[1].1 <= pair[0].1 + 1e-6, "{pair:?}");
        }
    }
}

fn filters_apply_to_exports_as_to_queries() {
    let exported = Exported::new(20);
    let filter = ["--edge", "channel.sign", "--layer", "keeper"];
    let found = lists(&[&["query", exported.path()], filter.as_slice()].concat()).len();
    assert!(found > 0 && found < exported.all.len());
    for format in ["json", "chrome"] {
        let base = ["export", exported.path(), "--format", format];
        let text = says(0, &[base.as_slice(), &filter].concat());
        let records = match format {
            "json" => text.lines().count(),
            _ => text.matches("\"index\":").count(),
        };
        assert_eq!(records, found, "{format}");
    }
    complains(2, &["export", exported.path(), "--format", "xml"]);
    complains(3, &["export", exported.path(), "--format", "json", "-o", "/no/such/dir/x"]);
}
