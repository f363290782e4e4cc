//! `cofferdam can --log`: not only whether a layer may, but whether it did, how often and when.

use std::path::Path;
use std::process::Command;

use crate::support::scene::{Scene, used, who};
use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Side, Verdict};
use cofferdam::wire::broker::open;
use serde_json::Value;

crate::support::suite::tests! {
    a_log_says_whether_it_did,
    a_log_that_cannot_tell_says_so,
}

const POLICY: &str = r#"cofferdam = 1
name = "asked"
[layer.front]
run = "front"
syscalls = ["@core"]
listen = { https = "tcp:127.0.0.1:8443" }
[layer.back]
run = "back"
syscalls = ["@core", "openat2"]
[channel.sign]
from = "front"
to = "back"
audit = "digest"
methods = { sign = { max = "4KiB" }, rotate = { max = "4KiB" } }
[channel.quiet]
from = "front"
to = "back"
audit = "none"
[file.notes]
path = "/var/lib/asked"
grant = { back = ["read", "write", "create"] }
"#;

fn can(folder: &Path, arguments: &[&str]) -> (i32, String) {
    let out = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .current_dir(folder)
        .args(["can", "asked.toml"])
        .args(arguments)
        .args(["--log", "log"])
        .output()
        .unwrap();
    let text = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (out.status.code().unwrap(), text)
}

fn log(folder: &Path) {
    std::fs::write(folder.join("asked.toml"), POLICY).unwrap();
    let log = folder.join("log");
    std::fs::create_dir(&log).unwrap();
    let mut scene = Scene::begin(&log, POLICY);
    let (front, back) = (who(0, 1), who(1, 1));
    let (front, back) = if scene.layer("front") == 0 { (front, back) } else { (back, front) };
    for _ in 0..3 {
        let call = scene.call("sign", "sign", front, back, 10);
        scene.answer(call, Form::Reply, 10, 0);
    }
    for _ in 0..2 {
        scene.put(used(Facility::Listen, 0, front, Side::Receiver));
    }
    let deed = Entry { method: open::READ.into(), ..used(Facility::File, 0, back, Side::None) };
    scene.put(deed.clone());
    scene.put(Entry { verdict: Verdict::Refused, kind: Kind::Broker, ..deed });
    scene.end();
}

fn a_log_says_whether_it_did() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path());
    for (question, told) in [
        (["front", "call", "channel.sign.sign"], "it did, 3 times: first at 2026-"),
        (["back", "answer", "channel.sign.sign"], "it did, 3 times:"),
        (["front", "accept", "listen.front.https"], "it did, 2 times:"),
        (["back", "read", "file.notes"], "it did, 1 times:"),
        (["back", "write", "file.notes"], "it never did: back has 1 life in the log"),
        (["front", "call", "channel.sign.rotate"], "it never did: front has 1 life"),
    ] {
        let (code, text) = can(folder.path(), &question);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(told), "{question:?}: {text}");
        let refused = text.contains("it was refused 1 times besides");
        assert_eq!(refused, question == ["back", "read", "file.notes"], "{text}");
    }
    let (code, text) = can(folder.path(), &["front", "read", "file.notes"]);
    assert_eq!(code, 1, "{text}");
    assert!(!text.contains("it did") && !text.contains("never did"), "{text}");
    let (_, text) = can(folder.path(), &["front", "call", "channel.sign.sign", "--format", "json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    let query = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .current_dir(folder.path())
        .args(["audit", "query", "log", "--layer", "front", "--method", "sign", "--format", "json"])
        .output()
        .unwrap();
    let all = String::from_utf8(query.stdout).unwrap();
    let all = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let own = |it: &Value| {
        it["side"] == "sender" && it["form"] == "request" && it["reporter"]["layer"] == "front"
    };
    let all: Vec<Value> = all.filter(own).collect();
    assert_eq!(told["log"]["count"], all.len());
    assert_eq!(told["log"]["first"]["record"], all[0]["index"]);
    assert_eq!(told["log"]["last"]["time"], all[2]["time"]);
}

fn a_log_that_cannot_tell_says_so() {
    let folder = tempfile::tempdir().unwrap();
    log(folder.path());
    for (question, why) in [
        (["front", "call", "channel.quiet"], "it has audit = \"none\""),
        (["back", "make", "syscall.openat2"], "the kernel tells nobody of it"),
    ] {
        let (code, text) = can(folder.path(), &question);
        assert_eq!(code, 0, "{text}");
        assert!(text.contains(&format!("the log can't tell: {why}")), "{question:?}: {text}");
    }
    let name = std::fs::read_dir(folder.path().join("log")).unwrap();
    let name =
        name.map(|it| it.unwrap().path()).find(|it| it.extension().is_some_and(|e| e == "log"));
    let name = name.unwrap();
    let mut bytes = std::fs::read(&name).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&name, bytes).unwrap();
    let (code, text) = can(folder.path(), &["front", "call", "channel.sign.sign"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("may be incomplete"), "{text}");
}
