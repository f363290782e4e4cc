//! The policies that people start from: each is what it says, in every way that can be asked.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cofferdam::confine::filter::{Arch, compile};
use cofferdam::policy::plan::Plan;
use cofferdam::policy::syscall::groups;
use cofferdam::policy::{Checked, check, print};

/// What `policies/` must hold, at least.
const SHIPPED: [&str; 21] = [
    "converter",
    "dns-forwarder",
    "grid-worker",
    "hello",
    "hmi",
    "java",
    "log-shipper",
    "memcached",
    "nginx",
    "node",
    "postgresql",
    "postgresql-initdb",
    "python-app",
    "python-files",
    "redis",
    "shell-script",
    "signer",
    "sqlite-service",
    "ten-ways",
    "tls-terminator",
    "web",
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

/// Every policy, those for programs that people run too: its file and its text.
fn shipped() -> Vec<(PathBuf, String)> {
    let folders = [directory(), directory().join("foreign")];
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut files: Vec<_> = files
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "toml"))
        .collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), std::fs::read_to_string(path).unwrap())).collect()
}

fn checked(path: &Path, text: &str) -> Checked {
    check(&path.display().to_string(), text.as_bytes())
}

fn plans() -> Vec<Plan> {
    let plan = |(path, text): &(PathBuf, String)| checked(path, text).plan.unwrap();
    shipped().iter().map(plan).collect()
}

fn cofferdam(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cofferdam")).args(arguments).output().unwrap()
}

/// Runs a verb on every policy, and gives what it printed.
fn each(verb: &[&str]) -> Vec<String> {
    let print = |(path, _): (PathBuf, String)| {
        let mut arguments = vec![verb[0], path.to_str().unwrap()];
        arguments.extend(&verb[1..]);
        let output = cofferdam(&arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    };
    shipped().into_iter().map(print).collect()
}

/// Property (c) of the language: what is printed reads back as the same plan.
#[test]
fn printed_and_read_again_it_is_the_same() {
    for ((path, _), plan) in shipped().iter().zip(plans()) {
        let text = print(&plan);
        let again = check("printed.toml", text.as_bytes());
        let again = again.plan.as_ref().unwrap_or_else(|| panic!("{}", again.render(false)));
        assert_eq!(again.id(), plan.id(), "{}", path.display());
    }
}

#[test]
fn all_are_there_and_called_after_their_file() {
    let names: BTreeSet<_> = plans().iter().map(|plan| plan.name.to_string()).collect();
    for name in SHIPPED {
        assert!(names.contains(name), "{name}");
    }
    for ((path, _), plan) in shipped().iter().zip(plans()) {
        assert_eq!(path.file_stem().unwrap(), plan.name.to_string().as_str());
    }
}

#[test]
fn each_is_without_mistakes_and_warnings() {
    for (path, text) in shipped() {
        let checked = checked(&path, &text);
        assert!(checked.diagnostics.is_empty(), "{}", checked.render(false));
        assert!(checked.plan.is_some());
    }
}

#[test]
fn each_layer_has_a_filter() {
    for plan in plans() {
        for layer in &plan.layers {
            let filter = compile(&layer.syscalls, Arch::NATIVE);
            assert!(filter.is_ok_and(|filter| filter.len() < 1000), "{}.{}", plan.name, layer.name);
        }
    }
}

#[test]
fn they_use_the_whole_language() {
    let all = plans();
    let any = |what: fn(&Plan) -> bool| all.iter().any(what);
    assert!(any(|plan| !plan.facilities.signals.is_empty()));
    assert!(any(|plan| !plan.facilities.queues.is_empty()));
    assert!(any(|plan| !plan.facilities.pipes.is_empty()));
    assert!(any(|plan| !plan.facilities.fifos.is_empty()));
    assert!(any(|plan| !plan.facilities.semaphores.is_empty()));
    assert!(any(|plan| !plan.facilities.regions.is_empty()));
    assert!(any(|plan| !plan.facilities.mapped_files.is_empty()));
    assert!(any(|plan| !plan.never.is_empty()));
    assert!(any(|plan| plan.layers.iter().any(|layer| !layer.connect.is_empty())));
    assert!(any(|plan| plan.layers.iter().any(|layer| layer.stdin.is_some())));
    assert!(any(|plan| plan.channels.iter().any(|channel| channel.witness)));
    assert!(any(|plan| plan.files.iter().any(|file| !file.deny.is_empty())));
    let texts: String = shipped().into_iter().map(|(_, text)| text).collect();
    for word in ["[vars]", "because", "optional", "after ", "once ", "direction", "per-source"] {
        assert!(texts.contains(word), "{word}");
    }
}

/// A reader learns from each table why it is there.
#[test]
fn every_layer_and_edge_has_a_comment() {
    for (path, text) in shipped() {
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with('#'), "{}: what is it?", path.display());
        for (at, line) in lines.iter().enumerate() {
            let table = |line: &str| line.starts_with('[') && !line.starts_with("[[");
            // A table of one that was told about just before, as `[channel.sign.methods]`.
            let within = line.matches('.').count() > 1;
            if !table(line) || line.starts_with("[vars]") || within {
                continue;
            }
            let body = lines[at + 1..].iter().take_while(|line| !line.starts_with('['));
            let inside = body.clone().any(|line| line.starts_with('#'));
            let before = at > 0 && lines[at - 1].starts_with('#');
            // Files speak by their grants, when they stand beside an explained one.
            assert!(inside || before || line.starts_with("[file."), "{}: {line}", path.display());
        }
    }
}

#[test]
fn dangerous_members_of_groups_carry_a_note() {
    let ordinary: BTreeSet<u32> = groups()
        .iter()
        .filter(|group| group.dangerous.is_none())
        .flat_map(|group| group.members.iter().map(|member| member.call.number))
        .collect();
    for group in groups() {
        for member in &group.members {
            let noted = member.note.as_deref().is_some_and(|note| note.ends_with('.'));
            let plain = group.dangerous.is_none() || ordinary.contains(&member.call.number);
            assert!(noted || member.note.is_none() && plain, "@{}: {}", group.name, member.text);
        }
    }
    // Calls that change or reach something outside of the layer are noted in ordinary groups too.
    let powerful = ["open", "openat", "openat2", "socket", "connect", "unlink", "rename", "clone"];
    for group in groups().iter().filter(|group| group.dangerous.is_none()) {
        for member in &group.members {
            let power = powerful.contains(&member.call.name);
            assert!(!power || member.note.is_some(), "@{}: {}", group.name, member.text);
        }
    }
}

#[test]
fn each_is_explained_in_words() {
    let told = each(&["explain"]);
    for (text, plan) in told.iter().zip(plans()) {
        for layer in &plan.layers {
            assert!(text.contains(layer.name.as_str()), "{}: {}", plan.name, layer.name);
        }
    }
}

#[test]
fn each_is_drawn() {
    for (format, sign) in [("svg", "<svg"), ("dot", "digraph"), ("mermaid", "flowchart")] {
        let drawn = each(&["graph", "--format", format]);
        for (text, plan) in drawn.iter().zip(plans()) {
            assert!(text.contains(sign), "{}: {text}", plan.name);
            for layer in &plan.layers {
                assert!(text.contains(layer.name.as_str()), "{}: {}", plan.name, layer.name);
            }
        }
    }
}

#[test]
fn the_smallest_one_runs_as_it_is() {
    let output = cofferdam(&["run", directory().join("hello.toml").to_str().unwrap()]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("hello/0.g1: hello from behind the dam"), "{said}");
    assert!(output.status.success(), "{said}");
}
