//! `cofferdam doctor` on this machine: whatever it finds, it says it whole and consistently.

use std::process::{Command, Output};

use cofferdam::policy::plan::Protection;

crate::support::suite::tests! {
    every_protection_has_its_line,
    programs_read_the_same_as_people,
    a_wrong_flag_is_wrong_usage,
    a_child_without_its_slice_is_refused,
}

fn doctor(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
    command.arg("doctor").args(arguments).output().expect("the doctor runs")
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn every_protection_has_its_line() {
    let output = doctor(&[]);
    let text = text(&output);
    let mut missing = false;
    for protection in Protection::ALL {
        let name = format!("{} ", protection.name());
        let line = text.lines().find(|line| line.starts_with(&name));
        let line = line.unwrap_or_else(|| panic!("no line for {name}in\n{text}"));
        let given = line[name.len()..].trim_start();
        if given.starts_with("no ") {
            missing = true;
            assert!(given.contains("->"), "no consequence: {line}");
        } else {
            let words = ["yes", "fallback", "not needed"];
            assert!(words.iter().any(|word| given.starts_with(word)), "{line}");
        }
    }
    assert_eq!(output.status.code(), Some(i32::from(missing)), "{text}");
    assert_eq!(text.contains("optional = ["), missing);
}

fn programs_read_the_same_as_people() {
    let json: serde_json::Value =
        serde_json::from_slice(&doctor(&["--format", "json"]).stdout).expect("JSON");
    let people = text(&doctor(&[]));
    let protections = json["protections"].as_array().expect("a list");
    assert_eq!(protections.len(), Protection::ALL.len());
    for protection in protections {
        let (name, given) = (&protection["name"], &protection["given"]);
        let (name, given) = (name.as_str().expect("a name"), given.as_str().expect("a word"));
        let line = people.lines().find(|line| line.starts_with(&format!("{name} ")));
        assert!(
            line.is_some_and(|line| line[name.len()..].trim_start().starts_with(given)),
            "{name}"
        );
    }
}

fn a_wrong_flag_is_wrong_usage() {
    let output = doctor(&["--colour"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

/// The hidden flag by hand: nobody gave the child an order, which is the system's refusal, not a
/// finding.
fn a_child_without_its_slice_is_refused() {
    let output = doctor(&["--probe"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(!output.stderr.is_empty());
}
