//! `cofferdam can`, `explain` and `diff`, as people and programs call them.

use std::path::PathBuf;
use std::process::{Command, Output};

use cofferdam::confine::filter::{Arch, Verdict, compile};
use cofferdam::policy;
use cofferdam::policy::plan::Plan;
use serde_json::Value;
use tempfile::TempDir;

const WEB: &str = "policies/web.toml";

fn cofferdam(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap()
}

/// Exit code and standard output.
fn ask(arguments: &[&str]) -> (i32, String) {
    let output = cofferdam(arguments);
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

fn json(arguments: &[&str]) -> (i32, Value) {
    let (code, text) = ask(&[arguments, &["--format", "json"]].concat());
    (code, serde_json::from_str(&text).unwrap())
}

/// The example's policy with lines changed; every change must find its line.
fn changed(folder: &TempDir, changes: &[(&str, &str)]) -> PathBuf {
    let mut text = web();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let path = folder.path().join("web.toml");
    std::fs::write(&path, text).unwrap();
    path
}

fn web() -> String {
    std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(WEB)).unwrap()
}

/// The number of the line of the example's policy that holds this, from 1.
fn line(holds: &str) -> u64 {
    web().lines().position(|line| line.contains(holds)).unwrap() as u64 + 1
}

fn plan(text: &str) -> Plan {
    policy::check("test.toml", text.as_bytes()).plan.unwrap()
}

#[test]
fn the_parser_has_the_key_through_the_keeper_only() {
    let (code, text) = ask(&["can", WEB, "parser", "open", "file.key"]);
    assert_eq!(code, 1);
    let expected = format!(
        "no: parser may not open file.key itself\n\
         but through keeper:\n  \
         1. parser calls sign on channel.sign ({WEB}:{})\n  \
         2. keeper reads file.key ({WEB}:{grant})\n\
         to allow it, change in [file.key] ({WEB}:{grant}):\n    \
         grant = {{ keeper = [\"read\"], parser = [\"read\"] }}\n",
        line("[channel.sign]"),
        grant = line("keeper = [\"read\"]"),
    );
    assert_eq!(text, expected);

    let (code, answer) = json(&["can", WEB, "parser", "open", "file.key"]);
    assert_eq!((code, &answer["yes"]), (1, &Value::Bool(false)));
    assert_eq!(answer["through"], serde_json::json!(["keeper"]));
    assert_eq!(answer["way"][1]["rule"], "file.key.grant.keeper");
    assert_eq!(answer["way"][1]["place"]["line"], line("keeper = [\"read\"]"));
    assert_eq!(ask(&["can", WEB, "parser", "reach", "file.key"]).0, 0);
}

#[test]
fn one_changed_line_gives_it_the_key_and_diff_says_so() {
    let folder = TempDir::new().unwrap();
    let grant = "grant = { keeper = [\"read\"], parser = [\"read\"] }";
    let new = changed(&folder, &[("grant = { keeper = [\"read\"] }", grant)]);
    let new = new.to_str().unwrap();
    let (code, text) = ask(&["can", new, "parser", "open", "file.key"]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains(&format!("{new}:{}: {grant}", line("keeper = [\"read\"]"))), "{text}");

    let (code, text) = ask(&["diff", WEB, new]);
    assert_eq!(code, 1, "{text}");
    assert!(text.starts_with("parser\n  + reads file.key"), "{text}");
    let (code, found) = json(&["diff", WEB, new]);
    assert_eq!((code, &found["gained"]), (1, &Value::Bool(true)));
    assert_eq!(found["changes"].as_array().unwrap().len(), 1);
    assert_eq!(found["changes"][0]["layer"], "parser");
    assert_eq!(found["changes"][0]["object"], "file.key");

    let (code, text) = ask(&["diff", new, WEB]);
    assert_eq!(code, 0, "to lose is no finding: {text}");
    assert!(text.contains("- reads file.key"), "{text}");
    assert_eq!(ask(&["diff", WEB, WEB]), (0, "the policies grant the same\n".to_owned()));
}

/// Descriptors by one method in place of all are less authority, and the other way round more.
#[test]
fn descriptors_by_method_are_compared_by_what_each_carries() {
    let folder = TempDir::new().unwrap();
    let policy = |name: &str, methods: &str, fds: &str| {
        let text = format!(
            "cofferdam = 1\nname = \"x\"\n\
             [layer.a]\nrun = \"a\"\nsyscalls = [\"@core\"]\n\
             [layer.b]\nrun = \"b\"\nsyscalls = [\"@core\"]\n\
             [channel.c]\nfrom = \"a\"\nto = \"b\"\n{methods}\n{fds}"
        );
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let carried = "{ max = 1, kinds = [\"stream\"] }";
    let all = policy("all", "methods = [\"ask\", \"hand\"]", &format!("fds = {carried}"));
    let one =
        policy("one", &format!("methods = {{ ask = {{}}, hand = {{ fds = {carried} }} }}"), "");
    let (code, text) = ask(&["diff", &all, &one]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("channel.c.ask: fds.stream from 1 to 0"), "{text}");
    assert!(!text.contains("channel.c.hand"), "{text}");
    assert_eq!(ask(&["diff", &one, &all]).0, 1);
    assert_eq!(ask(&["check", &one]).0, 0);
    assert_eq!(ask(&["can", &one, "a", "pass", "channel.c.fds.stream"]).0, 0);
    assert_eq!(ask(&["can", &one, "a", "pass", "channel.c.fds.pipe-read"]).0, 1);
    let (_, text) = ask(&["explain", &one]);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("ask and hand (with at most 1 stream descriptor)"), "{text}");
}

#[test]
fn what_is_looser_is_gained_and_what_is_tighter_is_not() {
    let folder = TempDir::new().unwrap();
    for (from, to, gained, says) in [
        ("max = \"64B\"", "max = \"65B\"", true, "max from 64B to 65B"),
        ("max = \"64B\"", "max = \"63B\"", false, "max from 64B to 63B"),
        ("files = 1024", "files = 2048", true, "files from 1024 to 2048"),
        ("optional  = [\"cgroup\"]", "optional = []", false, "protection.cgroup.cpu"),
        ("optional = [\"cgroup\"]", "optional = [\"seccomp\", \"cgroup\"]", true, "seccomp"),
        ("instances = 2", "instances = 3", true, "instances from 2 to 3"),
        ("key.pem", "other.pem", true, "path from"),
        ("openat2", "openat2\", \"ioctl(_, FIONREAD)", false, "the same"),
        ("\"statx\"", "\"statx(_, _, 0)\"", false, "makes syscall.statx no longer as"),
        ("8443", "8444", true, "address from tcp:127.0.0.1:8443"),
    ] {
        let new = changed(&folder, &[(from, to)]);
        let (code, text) = ask(&["diff", WEB, new.to_str().unwrap()]);
        assert_eq!(code, i32::from(gained), "{to}: {text}");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(says), "{to}: {text}");
    }
}

#[test]
fn reach_that_is_gained_is_told_with_its_way() {
    let folder = TempDir::new().unwrap();
    // Without its channel to the parser the listener reaches nothing; with a shortcut, the key.
    let text = web();
    let start = text.find("[channel.connections]").unwrap();
    let end = text.find("# A path there").unwrap();
    let without = format!("{}{}", &text[..start], &text[end..]);
    let shortcut = "[channel.shortcut]\nfrom = \"listener\"\nto = \"keeper\"\n";
    let (before, after) = (folder.path().join("before.toml"), folder.path().join("after.toml"));
    std::fs::write(&before, &without).unwrap();
    std::fs::write(&after, without + shortcut).unwrap();
    let (code, found) = json(&["diff", before.to_str().unwrap(), after.to_str().unwrap()]);
    assert_eq!(code, 1);
    let gained = found["reach_gained"].as_array().unwrap();
    let key = gained.iter().find(|it| it["layer"] == "listener" && it["object"] == "file.key");
    let way = key.unwrap()["way"].as_array().unwrap();
    let sentences: Vec<_> = way.iter().map(|step| step["sentence"].as_str().unwrap()).collect();
    assert_eq!(sentences, ["listener calls channel.shortcut", "keeper reads file.key"]);
}

#[test]
fn a_way_past_a_gatekeeper_is_gained() {
    let folder = TempDir::new().unwrap();
    let shortcut = "[channel.shortcut]\nfrom = \"listener\"\nto = \"keeper\"\n\
                    methods = { sign = { max = \"2KiB\" } }\n\n[file.key]";
    let new = changed(&folder, &[("[file.key]", shortcut)]);
    let new = new.to_str().unwrap();
    let (code, text) = ask(&["diff", WEB, new]);
    assert_eq!(code, 1, "{text}");
    let told = "listener now reaches file.key without passing parser\n    \
                1. listener calls sign on channel.shortcut";
    assert!(text.contains(told), "{text}");
    assert!(!text.contains("layer.keeper without"), "it is on the way: {text}");
    assert!(text.contains("past layers that stood between: gained 2, lost 0"), "{text}");

    let (_, found) = json(&["diff", WEB, new]);
    assert_eq!(found["reach_gained"], serde_json::json!([]));
    let gained = found["bypass_gained"].as_array().unwrap();
    let key = gained.iter().find(|it| it["object"] == "file.key").unwrap();
    assert_eq!((&key["layer"], &key["without"]), (&"listener".into(), &["parser"][..].into()));
    assert_eq!(key["way"][1]["sentence"], "keeper reads file.key");

    let (code, text) = ask(&["diff", new, WEB]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("listener no longer reaches file.key without passing parser"), "{text}");
}

#[test]
fn each_end_is_told_what_it_does() {
    let (_, text) = ask(&["explain", "policies/hmi.toml"]);
    for says in [
        "calls interlock on channel.requests: acknowledge, log-in and",
        "receives from interlock on channel.requests: decided",
        "answers screen on channel.requests: acknowledge, log-in and",
        "sends to screen on channel.requests: decided",
    ] {
        assert_eq!(text.matches(says).count(), 1, "{says}: {text}");
    }
}

#[test]
fn one_is_not_many_and_a_danger_is_told_once() {
    let (_, text) = ask(&["explain", "policies/log-shipper.toml", "tailer"]);
    assert_eq!(text.matches("dangerous:").count(), 1, "{text}");
    let folder = TempDir::new().unwrap();
    let new = changed(&folder, &[("files = 256, tasks = 4", "files = 256, tasks = 1")]);
    let (_, text) = ask(&["explain", new.to_str().unwrap(), "listener"]);
    assert!(text.contains("256 descriptors, 1 task, files"), "{text}");
}

#[test]
fn a_new_layer_is_gained() {
    let folder = TempDir::new().unwrap();
    let new = folder.path().join("new.toml");
    std::fs::write(&new, web() + "[layer.extra]\nrun = \"extra\"\nsyscalls = [\"getpid\"]\n")
        .unwrap();
    let (code, text) = ask(&["diff", WEB, new.to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(text.starts_with("extra (a new layer)\n  + makes 1 system call: getpid\n"), "{text}");
    let (code, text) = ask(&["diff", new.to_str().unwrap(), WEB]);
    assert_eq!(code, 0);
    assert!(text.starts_with("extra (no layer any more)\n"), "{text}");
}

#[test]
fn a_question_about_nothing_is_wrong_usage() {
    for (question, says) in [
        (["praser", "open", "file.key"], "did you mean `parser`?"),
        (["parser", "opne", "file.key"], "did you mean `open`?"),
        (["parser", "open", "file.kye"], "did you mean `file.key`?"),
        (["parser", "open", "\u{1b}[31mkey"], "\\x1b[31mkey"),
    ] {
        let output = cofferdam(&[&["can", WEB], question.as_slice()].concat());
        assert_eq!(output.status.code(), Some(2), "{question:?}");
        assert!(output.stdout.is_empty());
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains(says) || text.contains("\\u{1b}[31mkey"), "{text}");
        assert!(!text.contains('\u{1b}'));
    }
    assert_eq!(cofferdam(&["explain", WEB, "nobody"]).status.code(), Some(2));
    assert_eq!(cofferdam(&["explain", "E9999"]).status.code(), Some(2));
    assert_eq!(cofferdam(&["can", "/nowhere", "a", "open", "file.a"]).status.code(), Some(3));
    let bad = "tests/policies/bad/ten-mistakes.toml";
    assert_eq!(cofferdam(&["diff", WEB, bad]).status.code(), Some(1));
}

#[test]
fn a_conditional_call_is_told_with_its_conditions() {
    let (code, text) = ask(&["can", WEB, "parser", "make", "syscall.mmap"]);
    assert_eq!(code, 0);
    assert!(text.contains("mmap(_, _, & PROT_EXEC == 0)\n"), "{text}");
    assert!(text.contains("otherwise the call ends the process"), "{text}");
    let (code, text) = ask(&["can", WEB, "parser", "make", "syscall.openat"]);
    assert_eq!(code, 1);
    assert!(text.contains("the group \"@file-read\""), "{text}");
}

#[test]
fn every_mistake_is_explained() {
    for code in policy::code::Code::ALL {
        let (exit, text) = ask(&["explain", &code.to_string()]);
        assert_eq!(exit, 0);
        assert!(text.contains(code.title()), "{text}");
    }
}

#[test]
fn explain_is_readable_in_eighty_columns() {
    let mut texts = vec![ask(&["explain", WEB])];
    texts.extend(["keeper", "parser", "opener"].map(|layer| ask(&["explain", WEB, layer])));
    for (code, text) in texts {
        assert_eq!(code, 0);
        assert!(!text.contains('\u{1b}'), "colour without a terminal");
        for line in text.lines().filter(|line| !line.contains("socketpair(")) {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
    let (_, text) = ask(&["explain", WEB, "parser"]);
    assert!(text.contains("file.key (/var/lib/cofferdam-web/key.pem)\n      1. parser calls sign"));
    assert!(text.contains("Exposure "), "{text}");
}

/// What the JSON says of a call must be what a compiled filter answers, also just inside and just
/// outside of every condition.
#[test]
fn the_verdicts_of_the_json_are_the_filters() {
    let (code, explained) = json(&["explain", WEB]);
    assert_eq!(code, 0);
    let mut conditional = 0;
    for layer in &plan(&web()).layers {
        let filter = compile(&layer.syscalls, Arch::NATIVE).unwrap();
        let told = &explained["layers"][layer.name.as_str()];
        assert_eq!(told["unlisted"], "errno:ENOSYS");
        let calls = told["syscalls"].as_array().unwrap();
        assert!(calls.len() >= 600);
        for (number, call) in (0_u32..).zip(calls) {
            assert_eq!(call["number"], number);
            let answer = |arguments| said(filter.evaluate(Arch::NATIVE.audit(), number, arguments));
            let verdict = call["verdict"].as_str().unwrap();
            if verdict != "conditional" {
                assert_eq!(verdict, answer([0; 6]), "{call}");
                assert_eq!(verdict, answer([u64::MAX; 6]), "{call}");
                continue;
            }
            conditional += 1;
            for arguments in probes(call) {
                let expected = if holds(call, arguments) {
                    "allow"
                } else {
                    call["otherwise"].as_str().unwrap()
                };
                assert_eq!(expected, answer(arguments), "{call} {arguments:?}");
            }
        }
    }
    assert!(conditional > 40, "{conditional}");
}

fn said(verdict: Verdict) -> String {
    match verdict {
        Verdict::Allow => "allow".to_owned(),
        Verdict::Errno(number) => {
            format!("errno:{}", policy::syscall::errno_name(number).unwrap())
        }
        Verdict::Kill => "kill".to_owned(),
        other => format!("{other:?}"),
    }
}

/// Reads the conditions of the JSON again, so that nothing is compared with itself.
fn holds(call: &Value, arguments: [u64; 6]) -> bool {
    let condition = |it: &Value| {
        let at = usize::try_from(it["argument"].as_u64().unwrap()).unwrap();
        let bits = if it["bits"] == 32 { u64::from(u32::MAX) } else { u64::MAX };
        let (argument, value) = (arguments[at] & bits, it["value"].as_u64().unwrap());
        match it["compare"].as_str().unwrap() {
            "==" => argument == value,
            "!=" => argument != value,
            "<" => argument < value,
            "<=" => argument <= value,
            ">" => argument > value,
            ">=" => argument >= value,
            "&" => argument & it["mask"].as_u64().unwrap() == value,
            other => panic!("{other}"),
        }
    };
    let rules = call["conditions"].as_array().unwrap();
    rules.iter().any(|rule| rule.as_array().unwrap().iter().all(condition))
}

fn probes(call: &Value) -> Vec<[u64; 6]> {
    let mut probes = vec![[0; 6], [u64::MAX; 6]];
    for rule in call["conditions"].as_array().unwrap() {
        let mut base = [0; 6];
        let conditions = rule.as_array().unwrap();
        let place = |it: &Value| usize::try_from(it["argument"].as_u64().unwrap()).unwrap();
        for it in conditions {
            base[place(it)] = it["value"].as_u64().unwrap();
        }
        probes.push(base);
        for it in conditions {
            let value = it["value"].as_u64().unwrap();
            let mask = it["mask"].as_u64().unwrap_or(1);
            for near in [value.wrapping_add(1), value.wrapping_sub(1), value ^ mask, !value] {
                for near in [near, near ^ 1 << 32] {
                    let mut probe = base;
                    probe[place(it)] = near;
                    probes.push(probe);
                }
            }
        }
    }
    probes
}
