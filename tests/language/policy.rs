//! The policy language from outside: every bad fixture says what it should, every good one is
//! fine, and no bytes at all make the checker panic.
//!
//! `BLESS=1 cargo test --test language -- policy` writes the expected messages anew; read the difference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use cofferdam::policy::diagnostic::Severity;
use cofferdam::policy::plan::Plan;
use cofferdam::policy::syscall::meaning::implies;
use cofferdam::policy::ways::{Act, facts};
use cofferdam::policy::{Checked, Inputs, check, check_with};
use cofferdam::review::calls::entry;
use proptest::prelude::*;

/// The policies of a folder.
fn policies(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    found.sort();
    found
}

/// Checks one of the bad policies; files beside it can be included.
fn check_bad(path: &Path) -> Checked {
    let folder = path.parent().unwrap();
    let load =
        |path: &str| std::fs::read(folder.join(path)).map_err(|error| error.kind().to_string());
    let ceiling = path.with_extension("ceiling");
    let ceiling_name = ceiling.file_name().unwrap().to_str().unwrap();
    let ceiling = std::fs::read(&ceiling).ok();
    let ceiling = ceiling.as_ref().map(|bytes| (ceiling_name, bytes.as_slice()));
    let inputs = Inputs { load: Some(&load), ceiling, ..Inputs::default() };
    let name = path.file_name().unwrap().to_str().unwrap();
    check_with(name, &std::fs::read(path).unwrap(), &inputs)
}

fn plan(text: &str) -> Plan {
    let checked = check("test.toml", text.as_bytes());
    checked.plan.as_ref().unwrap_or_else(|| panic!("{}", checked.render(false))).clone()
}

#[test]
fn each_bad_policy_says_what_is_wrong() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut different = String::new();
    let fixtures = policies("tests/policies/bad");
    assert!(fixtures.len() >= 80, "only {} fixtures were found", fixtures.len());
    for path in fixtures {
        let name = path.file_name().unwrap().to_str().unwrap();
        let checked = check_bad(&path);
        let said = checked.render(false);
        let expected = path.with_extension("stderr");
        if bless {
            std::fs::write(&expected, &said).unwrap();
        }
        let wanted = std::fs::read_to_string(&expected).unwrap_or_default();
        if said != wanted {
            let _ = write!(different, "--- {name}: expected\n{wanted}+++ {name}: said\n{said}");
        }
        // The code in the fixture's name is among what it shows.
        if let Some(code) = name.split('-').next().filter(|code| code.starts_with("E0")) {
            let found = checked.diagnostics.iter().any(|item| item.code.to_string() == code);
            assert!(found, "{name} does not show {code}:\n{said}");
        }
        let fine = checked.diagnostics.iter().all(|item| item.severity == Severity::Warning);
        assert_eq!(checked.plan.is_some(), fine, "{name}");
    }
    assert!(different.is_empty(), "{different}\n(BLESS=1 accepts what is said now)");
}

#[test]
fn each_good_policy_is_fine() {
    let mut count = 0;
    for path in policies("tests/policies/good").into_iter().chain(policies("policies")) {
        let checked = check(path.to_str().unwrap(), &std::fs::read(&path).unwrap());
        assert!(checked.diagnostics.is_empty(), "{}", checked.render(false));
        assert!(checked.plan.is_some());
        count += 1;
    }
    assert!(count >= 3);
}

#[test]
fn every_code_has_a_fixture() {
    use cofferdam::policy::code::Code;
    let shown: BTreeSet<_> = policies("tests/policies/bad")
        .iter()
        .flat_map(|path| check_bad(path).diagnostics)
        .map(|item| item.code)
        .collect();
    // These are about the file's size, owner and mode, and about the machine; they have tests of
    // their own.
    let elsewhere = [Code::TooLarge, Code::UnsafeFile, Code::NotHere, Code::KeptFile];
    let missing: Vec<_> = Code::ALL
        .iter()
        .filter(|code| !shown.contains(code) && !elsewhere.contains(code))
        .collect();
    assert!(missing.is_empty(), "no fixture shows {missing:?}");
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let mut bytes = b"cofferdam = 1\nname = \"a\"\n[layer.b]\nrun = \"b\"\n#".to_vec();
    bytes.resize(cofferdam::policy::MAX_SIZE, b'x');
    assert!(check("large.toml", &bytes).plan.is_some());
    bytes.push(b'x');
    let checked = check("large.toml", &bytes);
    assert!(checked.plan.is_none());
    assert!(checked.render(false).contains("error[E0103]"), "{}", checked.render(false));
}

#[test]
fn ten_mistakes_are_told_in_one_run() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policies/bad/ten-mistakes.toml");
    let checked = check("ten.toml", &std::fs::read(path).unwrap());
    let lines: BTreeSet<_> = checked.json()["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["labels"][0]["line"].as_u64().unwrap())
        .collect();
    assert!(checked.errors() >= 10, "{}", checked.render(false));
    for line in [3, 6, 7, 8, 9, 10, 11, 12, 16, 19, 20] {
        assert!(lines.contains(&line), "nothing is told of line {line}");
    }
}

#[test]
fn the_same_grants_in_another_spelling_have_the_same_id() {
    let one = "cofferdam = 1\nname = \"a\"\n\
        [layer.b]\nrun = \"b\"\nsyscalls = [\"@core\", \"openat\"]\n\
        limits = { memory = \"64MiB\", files = 256 }\noptional = [\"landlock\"]\n\
        [layer.c]\nrun = \"c\"\n\
        [channel.d]\nfrom = \"b\"\nto = \"c\"\nmethods = [\"x\", \"y\"]\n\
        fds = { max = 1, kinds = [\"stream\", \"file-read\"] }\n\
        [file.e]\npath = \"/srv/e\"\ngrant = { b = [\"read\", \"list\"] }\n";
    let other = "# Another order, and a comment.\n\
        name = \"a\"\ncofferdam = 0x1\n\
        file.e = { grant = { b = [\"list\", \"read\"] }, path = \"/srv/e\" }\n\
        [channel.d]\nto = \"c\"\nfrom = \"b\"\nmax = 65_536\nwitness = false\n\
        methods = { y = {}, x = { max = \"64KiB\" } }\n\
        fds = { kinds = [\"file-read\", \"stream\"], max = 1 }\n\
        [layer.c]\nrun = \"c\"\ninstances = 1\nrestart = { on = \"failure\" }\n\
        [layer.b]\nrun = \"b\"\nlimits.memory = 67108864\nsyscalls = [\"openat\", \"@core\"]\n\
        because = \"not a grant\"\n\
        optional = [\"landlock.scope\", \"landlock.file\", \"landlock.net\", \"landlock.ioctl\"]\n";
    assert_eq!(plan(one), plan(other));
    assert_eq!(plan(one).id().unwrap(), plan(other).id().unwrap());
    let less = one.replace("[\"read\", \"list\"]", "[\"read\"]");
    assert_ne!(plan(one).id().unwrap(), plan(&less).id().unwrap());
}

#[test]
fn a_flood_of_mistakes_is_cut() {
    let mut text = String::from("cofferdam = 1\nname = \"a\"\n");
    for number in 0..1_000 {
        let _ = write!(text, "[layer.l{number}]\nnur = 1\n");
    }
    let checked = check("flood.toml", text.as_bytes());
    assert_eq!(checked.diagnostics.len(), 100);
    assert!(checked.plan.is_none());
    assert!(checked.render(false).contains("more"));
}

/// What a plan lets its layers do besides system calls, as a set of single acts.
fn authority(plan: &Plan) -> BTreeSet<String> {
    let facts = facts(plan);
    let acts = facts.all().filter(|fact| fact.act != Act::Make).map(|fact| {
        let which = fact.bounds.iter().filter(|it| matches!(it.name, "path" | "address" | "to"));
        let which: Vec<_> = which.map(|bound| bound.text.as_str()).collect();
        format!("{fact} {}", which.join(" "))
    });
    let mut acts: BTreeSet<String> = acts.collect();
    for layer in &plan.layers {
        let name = &layer.name;
        acts.extend(layer.optional.iter().map(|lost| format!("{name} may lack {lost:?}")));
        acts.extend(layer.execmem.then(|| format!("{name} runs written memory")));
    }
    acts
}

/// The forms of system calls that `less` allows and `whole` does not, by what they mean: a call
/// with a condition is part of the call without one.
fn calls_gained(less: &Plan, whole: &Plan) -> Vec<String> {
    let mut gained = Vec::new();
    for layer in &less.layers {
        for call in &layer.syscalls {
            let held = whole.layer(layer.name.as_str()).and_then(|it| entry(it, call.number));
            let held = held.map_or(&[][..], |entry| &entry.allow);
            let new = call.allow.iter().filter(|rule| !held.iter().any(|wide| implies(rule, wide)));
            gained.extend(new.map(|rule| format!("{} calls {} {rule:?}", layer.name, call.number)));
        }
    }
    gained
}

/// Lines that narrow a grant: without them more is granted, by their meaning. `methods` turns a
/// channel that says anything into one that says these; `refuse` adds no call, `limits` lowers.
const NARROWING: [&str; 1] = ["methods"];

/// Calls that are granted in several ways, so that without one line another one decides.
const SEVERAL_WAYS: &str = "\
cofferdam = 1
name = \"a\"
[layer.a]
run = \"a\"
because = \"a test\"
syscalls = [
  \"@core\",
  \"ioctl\",
  \"ioctl(_, in {FIONREAD, FIONBIO, TCGETS})\",
  \"ioctl(_, < 100)\",
  \"ioctl(_, 7)\",
  \"@file-read\",
  \"@file-write\",
  \"openat(_, _, O_WRONLY|O_CREAT)\",
  \"mmap\",
]
";

#[test]
fn taking_a_line_out_never_adds_authority() {
    let files = policies("tests/policies/good").into_iter().chain(policies("policies"));
    let texts = files.map(|path| std::fs::read_to_string(path).unwrap());
    let mut checked_lines = 0;
    for text in texts.chain([SEVERAL_WAYS.to_owned()]) {
        let whole = plan(&text);
        let acts = authority(&whole);
        let lines: Vec<_> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            if NARROWING.iter().any(|key| line.trim_start().starts_with(key)) {
                continue;
            }
            let mut rest = lines.clone();
            rest.remove(number);
            let without = check("less.toml", rest.join("\n").as_bytes());
            let Some(less) = without.plan else { continue };
            let mut gained: Vec<_> = authority(&less).difference(&acts).cloned().collect();
            gained.extend(calls_gained(&less, &whole));
            assert!(gained.is_empty(), "without {line:?} of {}: {gained:?}", whole.name);
            checked_lines += 1;
        }
    }
    assert!(checked_lines > 200, "only {checked_lines} lines could be taken out");
}

fn everything(bytes: &[u8]) {
    let checked = check("any\u{1b}.toml", bytes);
    let drawn = checked.render(false);
    // Nothing of the policy reaches a terminal as a control character.
    assert!(drawn.chars().all(|c| c == '\n' || !c.is_control()), "{drawn:?}");
    let _ = (checked.render(true), checked.json().to_string());
    assert_eq!(checked.plan.is_none(), checked.errors() + checked.more > 0);
    if let Some(plan) = &checked.plan {
        plan.id().unwrap();
    }
}

fn whole_policy() -> &'static str {
    include_str!("../policies/good/every-key.toml")
}

/// Snippets that parsers stumble over.
const SNIPPETS: [&str; 24] = [
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "=",
    ".",
    ",",
    "\n",
    "\r",
    "\0",
    "\"\"\"",
    "'''",
    "#",
    "[layer.front]",
    "layer.front.run = 1",
    "[[layer]]",
    "\u{feff}",
    "\\u0000",
    "-1",
    "9e999",
    "\u{9b}",
    "99999999999999999999999999999999999999999999",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        everything(&bytes);
    }

    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        everything(text.as_bytes());
    }

    #[test]
    fn mutated_policies_never_panic(
        changes in prop::collection::vec(
            (any::<prop::sample::Index>(), 0_usize..60, prop::sample::select(&SNIPPETS[..])),
            1..6,
        ),
    ) {
        let mut bytes = whole_policy().as_bytes().to_vec();
        for (at, cut, snippet) in changes {
            let start = at.index(bytes.len());
            let end = (start + cut).min(bytes.len());
            bytes.splice(start..end, snippet.bytes());
        }
        everything(&bytes);
    }

    #[test]
    fn shuffled_lines_never_panic(order in prop::collection::vec(any::<prop::sample::Index>(), 1..60)) {
        let lines: Vec<_> = whole_policy().lines().collect();
        let text: Vec<_> = order.iter().map(|at| *at.get(&lines)).collect();
        everything(text.join("\n").as_bytes());
    }
}
