//! The schema against an independent validator, the table of keys against the reader's, and the
//! reference in `docs/policy.md` against the table.
//!
//! `BLESS=1 cargo test --test language -- schema` writes the reference anew; read the difference.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cofferdam::policy::check;
use cofferdam::policy::language::TABLES;
use cofferdam::review::{reference, schema};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The policies of a folder.
fn policies(folder: &str) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(root().join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    found.sort();
    found
}

/// A policy as JSON; `None` if it is no TOML at all.
fn json_of(path: &Path) -> Option<Value> {
    let text = String::from_utf8(fs::read(path).unwrap()).ok()?;
    let table: toml::Table = text.parse().ok()?;
    Some(serde_json::to_value(table).unwrap())
}

fn validator() -> jsonschema::Validator {
    let schema = schema();
    jsonschema::draft202012::meta::validate(&schema).unwrap();
    jsonschema::draft202012::new(&schema).unwrap()
}

#[test]
fn good_policies_are_valid() {
    let validator = validator();
    let mut count = 0;
    for path in policies("tests/policies/good").into_iter().chain(policies("policies")) {
        let policy = json_of(&path).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&policy)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{}: {}", path.display(), errors.join("\n"));
        count += 1;
    }
    assert!(count >= 3);
}

/// The kinds of mistakes that a schema sees.
const SEEN: [&str; 16] = [
    "E0106", "E0107", "E0109", "E0110", "E0111", "E0112", "E0113", "E0114", "E0115", "E0119",
    "E0125", "E0130", "E0131", "E0135", "E0137", "E0142",
];

#[test]
fn bad_policies_are_refused_where_a_schema_can() {
    let validator = validator();
    let mut refused = 0;
    let mut wrong = String::new();
    for path in policies("tests/policies/bad") {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(policy) = json_of(&path) else { continue };
        let valid = validator.is_valid(&policy);
        let checked = check(name, &fs::read(&path).unwrap());
        let found: BTreeSet<_> =
            checked.diagnostics.iter().map(|item| item.code.to_string()).collect();
        // A mistake of an included file is in that file.
        let own = !name.contains("included");
        let can = own && found.iter().any(|code| SEEN.contains(&code.as_str()));
        if checked.plan.is_some() && !valid {
            let _ = writeln!(wrong, "{name} only has warnings, and the schema refuses it");
        }
        if can && valid {
            let _ = writeln!(wrong, "{name} is valid: {found:?}");
        }
        refused += usize::from(!valid);
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(refused >= 20, "only {refused} were refused");
}

#[test]
fn each_facility_has_a_valid_example_and_a_bad_one() {
    let validator = validator();
    let cases = [
        ("signal", json!({ "from": "a", "to": "b", "send": ["HUP"] }), ("send", json!(["SIGHUP"]))),
        ("queue", json!({ "send": ["a"], "receive": ["b"] }), ("on-full", json!("explode"))),
        ("pipe", json!({ "from": "a", "to": "b", "rate": "1MiB/s" }), ("raw", json!("yes"))),
        ("fifo", json!({ "path": "/run/f", "to": "a", "mode": "0622" }), ("mode", json!(622))),
        ("semaphore", json!({ "permits": 1, "holders": ["a"] }), ("lease", json!("5 parsecs"))),
        ("region", json!({ "size": "8MiB", "grant": { "a": "rw" } }), ("size", json!("8M"))),
        (
            "mapped-file",
            json!({ "path": "/f", "size": 4096, "grant": { "a": "r" } }),
            ("path", json!("relative")),
        ),
        (
            "channel",
            json!({ "from": "a", "to": "b", "methods": { "m": { "rate": "5/s" } } }),
            ("methods", json!({ "m": { "direction": "up" } })),
        ),
        (
            "file",
            json!({ "path": "/a", "grant": { "a": ["read"] }, "deny": ["*.key"] }),
            ("grant", json!({ "a": ["admire"] })),
        ),
    ];
    for (kind, good, (key, bad)) in cases {
        let policy = |table: &Value| {
            json!({ "cofferdam": 1, "name": "p", "layer": { "a": { "run": "a" } },
                kind: { "x": table } })
        };
        assert!(validator.is_valid(&policy(&good)), "{kind}");
        let mut broken = good.clone();
        broken[key] = bad;
        assert!(!validator.is_valid(&policy(&broken)), "{kind}.{key}");
        let mut unknown = good.clone();
        unknown["surprise"] = json!(1);
        assert!(!validator.is_valid(&policy(&unknown)), "{kind}: unknown key");
    }
}

#[test]
fn variables_stand_for_any_string() {
    let policy = json!({ "cofferdam": 1, "name": "p", "vars": { "port": "1" },
        "layer": { "a": { "run": "a", "listen": { "s": "tcp:127.0.0.1:${port}" } } } });
    assert!(validator().is_valid(&policy));
}

#[test]
fn every_key_is_described_to_editors() {
    let schema = schema();
    for table in TABLES.iter().filter(|table| table.name != "ceiling") {
        let keys = match table.name {
            "policy" => &schema["properties"],
            name => &schema["$defs"][name]["properties"],
        };
        for key in table.keys {
            let told = keys[key.name]["description"].as_str().unwrap_or_default();
            assert!(told.contains(key.meaning), "{}.{}", table.name, key.name);
        }
    }
}

#[test]
fn the_verb_writes_the_schema() {
    let output = Command::new(env!("CARGO_BIN_EXE_cofferdam")).arg("schema").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let written: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(written, schema());
}

const BEGIN: &str =
    "<!-- The tables below are written by `BLESS=1 cargo test --test language -- schema`. -->\n";
const END: &str = "<!-- End of the tables. -->\n";

#[test]
fn the_reference_is_up_to_date() {
    let path = root().join("docs/policy.md");
    let text = fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("docs/policy.md has lost its first mark");
    let (written, after) = rest.split_once(END).expect("docs/policy.md has lost its second mark");
    let wanted = format!("\n{}", reference());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
    } else {
        assert!(written == wanted, "docs/policy.md is old: run with BLESS=1, read the difference");
    }
}

/// The policies of the guide are policies: each block of TOML that begins with its version.
#[test]
fn the_examples_of_the_guide_are_fine() {
    let text = fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let mut count = 0;
    for block in text.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        if block.starts_with("cofferdam = 1") {
            let checked = check("docs/policy.md", block.as_bytes());
            assert!(checked.plan.is_some(), "{}", checked.render(false));
            count += 1;
        }
    }
    assert!(count > 0, "the guide has no example any more");
}
