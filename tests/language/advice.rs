//! What `can` advises for a yes gives one: made to the text of the policy, over every shipped
//! policy, layer, object and act.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use cofferdam::policy::check;
use cofferdam::policy::plan::Plan;
use cofferdam::policy::ways::act::acts_on;
use cofferdam::policy::ways::facts;
use cofferdam::review::can::{Answer, Change, REACH, can};
use proptest::prelude::*;
use toml::{Table, Value};

fn read(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name);
    std::fs::read_to_string(path).unwrap()
}

fn plan(text: &str) -> Plan {
    let checked = check("test.toml", text.as_bytes());
    checked.plan.as_ref().unwrap_or_else(|| panic!("{}", checked.render(false))).clone()
}

/// Makes a change as a person would who does what is said: the line goes in the table.
fn apply(text: &str, change: &Change) -> String {
    let mut policy: Table = text.parse().unwrap();
    let mut table = &mut policy;
    for part in change.table.split('.') {
        table = table.get_mut(part).unwrap().as_table_mut().unwrap();
    }
    if change.key == "syscalls" {
        let item = format!("item = {}", change.line).parse::<Table>().unwrap().remove("item");
        let none = || Value::Array(Vec::new());
        let items = table.entry("syscalls").or_insert_with(none).as_array_mut().unwrap();
        items.push(item.unwrap());
    } else {
        let line: Table = change.line.parse().unwrap();
        assert_eq!(line.keys().collect::<Vec<_>>(), [change.key], "one line, of that key");
        // A line that is added has no namesake, but for what says that there is nothing.
        assert!(change.replaces || change.key == "fds" || !table.contains_key(change.key));
        table.extend(line);
    }
    if change.note.contains("it needs `because") {
        table.insert("because".to_owned(), Value::String("a test".to_owned()));
    }
    toml::to_string(&policy).unwrap()
}

/// Asks, does what is said, and asks again. What came of it.
fn follow(text: &str, plan: &Plan, layer: &str, act: &str, object: &str) -> &'static str {
    let question = format!("{layer} {act} {object}");
    let Answer { yes, change, hint, .. } = can(plan, layer, act, object).unwrap();
    assert!(change.is_none() || hint.is_none(), "{question}: {change:?} or {hint:?}?");
    let Some(change) = change else {
        assert!(!yes || hint.is_none(), "{question}");
        return match (yes, hint) {
            (true, _) => "yes",
            (false, Some(_)) => "words",
            (false, None) => "nothing",
        };
    };
    assert!(!yes);
    let changed = apply(text, &change);
    let checked = check("changed.toml", changed.as_bytes());
    let Some(plan) = &checked.plan else {
        let first = checked.diagnostics.iter().find(|it| change.note.contains(&it.message));
        assert!(first.is_some(), "{question}: {change:?}\n{}", checked.render(false));
        return "refused";
    };
    assert!(!change.note.contains("refuses"), "{question}: {change:?} is accepted");
    assert!(can(plan, layer, act, object).unwrap().yes, "{question}: {change:?}\n{changed}");
    "changed"
}

/// Every object of a plan, a few system calls that all policies know, and two capabilities.
fn objects(plan: &Plan) -> BTreeSet<String> {
    let facts = facts(plan);
    let calls = ["openat", "mmap", "clone", "clone3", "ptrace", "execve"];
    let calls = calls.iter().map(|call| format!("syscall.{call}"));
    let own = facts.all().map(|fact| fact.object.to_string());
    let own = own.filter(|object| !object.starts_with("syscall."));
    let layers = plan.layers.iter().map(|layer| format!("layer.{}", layer.name));
    let passed = plan.channels.iter().map(|it| format!("channel.{}.fds.file-read", it.name));
    let held = ["capability.CAP_NET_RAW", "capability.CAP_SYS_ADMIN"].map(str::to_owned);
    own.chain(calls).chain(layers).chain(passed).chain(held).collect()
}

fn words(object: &str) -> Vec<&'static str> {
    let mut words: Vec<&str> = acts_on(object).iter().map(|act| act.name()).collect();
    words.push(REACH);
    words.extend(match object.split('.').next() {
        Some("file") => &["open"][..],
        Some("region" | "mapped-file") => &["map"],
        _ => &[],
    });
    words
}

/// All questions to one policy.
fn follow_all(name: &str) {
    let text = read(name);
    let plan = plan(&text);
    let mut found = std::collections::BTreeMap::new();
    for layer in &plan.layers {
        for object in objects(&plan) {
            for word in words(&object) {
                let came = follow(&text, &plan, layer.name.as_str(), word, &object);
                *found.entry(came).or_insert(0) += 1;
            }
        }
    }
    assert!(found["changed"] > 0, "{found:?}");
}

macro_rules! policies {
    ($($test:ident: $file:literal,)*) => {
        $(
            #[test]
            fn $test() {
                follow_all($file);
            }
        )*

        #[test]
        fn every_shipped_policy_is_asked() {
            let known: BTreeSet<&str> = [$($file),*].into();
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
            let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
            let files: BTreeSet<String> =
                files.map(|it| it.into_string().unwrap()).filter(|it| it.ends_with(".toml")).collect();
            assert!(files.iter().map(String::as_str).eq(known), "{files:?}");
        }
    };
}

policies! {
    converter: "converter.toml",
    dns_forwarder: "dns-forwarder.toml",
    grid: "grid.toml",
    grid_worker: "grid-worker.toml",
    hello: "hello.toml",
    hmi: "hmi.toml",
    log_shipper: "log-shipper.toml",
    signer: "signer.toml",
    sqlite_service: "sqlite-service.toml",
    ten_ways: "ten-ways.toml",
    tls_terminator: "tls-terminator.toml",
    vault: "vault.toml",
    web: "web.toml",
}

#[test]
fn who_stands_at_the_wrong_end_is_told_so() {
    let no = can(&plan(&read("web.toml")), "keeper", "call", "channel.sign").unwrap();
    assert_eq!(no.change, None);
    assert_eq!(
        no.hint.unwrap(),
        "channel.sign leads from parser to keeper, and calls start where it starts: make a \
         channel from keeper to parser, or a method of direction \"back\" in this one, by which \
         keeper may send"
    );
    // The word for both kinds of sending has that method for an answer.
    let no = can(&plan(&read("web.toml")), "keeper", "send", "channel.sign").unwrap();
    assert_eq!(
        no.change.unwrap().line,
        "methods = { message = { max = \"64KiB\", direction = \"back\" }, \
         sign = { max = \"2KiB\" } }"
    );
}

#[test]
fn what_the_checker_would_refuse_is_told_with_its_reason() {
    let text = read("web.toml")
        + "[[never]]\nlayer = \"parser\"\nreach = \"file.key\"\nthrough-except = [\"keeper\"]\n\
           why = \"a test\"\n";
    let no = can(&plan(&text), "parser", "read", "file.key").unwrap();
    let note = no.change.unwrap().note;
    assert!(note.contains("layer `parser` can reach `file.key`"), "{note}");
    assert_eq!(follow(&text, &plan(&text), "parser", "read", "file.key"), "refused");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 12, failure_persistence: None, ..ProptestConfig::default()
    })]

    /// Channels with any methods, asked of from each end and from beside.
    #[test]
    fn advice_on_any_channel_helps(
        methods in prop::collection::btree_map("[a-c]|message", (any::<bool>(), any::<bool>()), 0..4),
        fds in prop::option::of(prop::sample::subsequence(vec!["stream", "file-read"], 1..=2)),
    ) {
        let first = methods.keys().next().cloned().unwrap_or_default();
        let method = |(name, (back, after)): (&String, &(bool, bool))| {
            let mut keys = vec![format!("direction = \"{}\"", if *back { "back" } else { "forth" })];
            let earlier = methods.get(&first).is_some_and(|it| it.0 == *back) && *name != first;
            if *after && earlier {
                keys.push(format!("after = \"{first}\""));
            }
            format!("{name} = {{ {} }}", keys.join(", "))
        };
        let table = methods.iter().map(method).collect::<Vec<_>>().join(", ");
        let mut text = String::from("cofferdam = 1\nname = \"t\"\n");
        for layer in ["a", "b", "c"] {
            write!(text, "[layer.{layer}]\nrun = \"{layer}\"\nsyscalls = [\"@core\"]\n").unwrap();
        }
        text += "[channel.x]\nfrom = \"a\"\nto = \"b\"\n";
        if !methods.is_empty() {
            writeln!(text, "methods = {{ {table} }}").unwrap();
        }
        if let Some(kinds) = &fds {
            writeln!(text, "fds = {{ max = 1, kinds = {kinds:?} }}").unwrap();
        }
        let plan = plan(&text);
        for object in objects(&plan).iter().filter(|it| it.starts_with("channel.")) {
            for layer in ["a", "b", "c"] {
                for word in words(object).into_iter().chain(["send", "receive"]) {
                    follow(&text, &plan, layer, word, object);
                }
            }
        }
    }
}
