//! The shape of the code: a file imports from its own floor and from lower ones, and not in a
//! circle; unsafe code stays in `src/sys`; the privileged core stays small.

mod circles;
mod form;

use std::fs;
use std::path::{Path, PathBuf};

/// Every top-level module and its floor.
const FLOORS: [(&str, u8); 27] = [
    ("ident", 0),
    ("text", 0),
    ("calendar", 0),
    ("sockaddr", 0),
    ("mark", 0),
    ("ring", 1),
    ("sys", 0),
    ("policy", 1),
    ("host_key", 1),
    ("wire", 1),
    ("seal", 1),
    ("confine", 2),
    ("users", 2),
    ("channel", 2),
    ("report", 2),
    ("trace", 2),
    ("log", 2),
    ("review", 2),
    ("registry", 2),
    ("handle", 2),
    ("ipc", 3),
    ("audit", 3),
    ("prepare", 4),
    ("supervisor", 4),
    ("layer", 4),
    ("daemon", 5),
    ("cli", 5),
];

/// What the crate root re-exports, and from where: `crate::Daemon` is `crate::supervisor`.
const ROOT: [(&str, &str); 5] = [
    ("Daemon", "daemon"),
    ("Setup", "daemon"),
    ("Flags", "daemon"),
    ("Layer", "layer"),
    ("LayerError", "layer"),
];

/// Circles of imports that are still there, each to be opened by moving a type. None may grow, and
/// none may be added.
const CIRCLES: [&[&str]; 0] = [];

/// The most lines that may run privileged: `src/supervisor` without tests, comments and blank
/// lines. It is what there is now: 2,995 before the daemon could be asked and told, and layers had an
/// order and were asked whether they are well, an end in order was no failure, and workers were there for
/// a connection each (3,438), and a policy could be exchanged (464 more, which end, begin and hand out
/// nothing that was not handed out before); those are decisions about lives, which nobody else may make.
/// Ten are for a first start that is tried again with fewer namespaces, in place of trying all before each.
/// 90 are for copies that come and go with what there is to do. 450 are for another program that takes all of it
/// over in the same process: they write down which descriptors are held for what, and decide nothing. 90 more are
/// for its lives beside those of before. 150 are for a loop that looks only at what may have changed. 212 are for connections that are accepted in the stead of a process that
/// isn't there yet, for settings that layers take while they go on, and for what a helper is told that serves
/// numbers. 25 are for sockets that a service manager keeps. 43 are for links to instances of other hosts:
/// which two meet is looked up in the plan, and a socketpair is made for them.
const CORE: usize = 5_114;

/// The modules that make no system calls at all.
const PURE: [&str; 4] = ["policy", "review", "wire", "seal"];

/// What a daemon runs on, and therefore holds nothing that only people need.
const RUNS: [&str; 11] = [
    "policy",
    "sys",
    "seal",
    "wire",
    "confine",
    "channel",
    "ipc",
    "prepare",
    "layer",
    "supervisor",
    "daemon",
];

fn sources() -> Vec<(PathBuf, String)> {
    sources_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// Every source beneath a folder, by its path there.
fn sources_in(root: &Path) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root.to_owned()];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path.strip_prefix(root).unwrap().to_owned(), text));
            }
        }
    }
    files
}

fn module_of(path: &Path) -> &str {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.strip_suffix(".rs").unwrap_or(first)
}

fn floor_of(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|&(_, floor)| floor)
}

/// The code of a file: no comments, and nothing from its tests on.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The modules that a file names behind `crate::`, also in `use crate::{a, b}`.
fn imports(code: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let word = |text: &str| {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        match rest.strip_prefix('{') {
            None => modules.push(word(rest)),
            Some(list) => {
                let mut depth = 1;
                let mut start = true;
                for (at, c) in list.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 1 => start = true,
                        c if start && c.is_alphabetic() => {
                            modules.push(word(&list[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    modules
}

#[test]
fn nothing_is_imported_from_a_higher_floor() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in sources() {
        let module = module_of(&path);
        if matches!(module, "lib" | "main") {
            continue;
        }
        let own = floor_of(module).unwrap_or_else(|| panic!("{module} has no floor: add it above"));
        for import in imports(&code(&text)) {
            let target = ROOT.iter().find(|(name, _)| *name == import);
            let target = target.map_or(import.as_str(), |(_, module)| module);
            seen += 1;
            match floor_of(target) {
                Some(floor) if floor <= own => {}
                Some(floor) => wrong.push(format!(
                    "{} (floor {own}) imports {target} (floor {floor})",
                    path.display()
                )),
                None => wrong.push(format!("{}: crate::{target} has no floor", path.display())),
            }
        }
    }
    assert!(seen > 20, "only {seen} imports were found: does this test still read them?");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What people ask of a policy is no part of what enforces it.
#[test]
fn nothing_that_runs_a_daemon_imports_the_review() {
    let mut seen = 0;
    for (path, text) in sources() {
        if RUNS.contains(&module_of(&path)) {
            seen += 1;
            // Whoever is told what a reload grants is told in the same words, by a confined child, and
            // may refuse it for that.
            let tells = path.ends_with("prepare/change.rs");
            let imports = imports(&code(&text));
            assert!(tells || !imports.iter().any(|it| it == "review"), "{}", path.display());
        }
    }
    assert!(seen > 100, "only {seen} files were found: does this test still read them?");
}

#[test]
fn unsafe_code_stays_in_sys() {
    let mut in_sys = 0;
    for (path, text) in sources() {
        let code = code(&text);
        let uses = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe");
        let allows = code.contains("allow(unsafe_code)");
        if module_of(&path) == "sys" {
            in_sys += usize::from(uses);
        } else {
            assert!(!uses && !allows, "{}: unsafe code belongs into src/sys", path.display());
        }
    }
    assert!(in_sys > 0, "src/sys has no unsafe code: does this test still read it?");
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    for (path, text) in sources() {
        if module_of(&path) != "sys" {
            continue;
        }
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let block = line.split("//").next().unwrap().contains("unsafe {");
            let said = lines[at.saturating_sub(8)..=at].iter().any(|l| l.contains("SAFETY:"));
            assert!(!block || said, "{}:{}: no SAFETY comment", path.display(), at + 1);
        }
    }
}

#[test]
fn the_pure_floors_make_no_system_calls() {
    for (path, text) in sources() {
        if !PURE.contains(&module_of(&path)) {
            continue;
        }
        let code = code(&text);
        for word in [
            "std::fs",
            "std::net::Tcp",
            "std::process",
            "env::var",
            "env::args",
            "nix::",
            "rustix::",
        ] {
            assert!(!code.contains(word), "{}: {word} in a pure module", path.display());
        }
    }
}

#[test]
fn no_file_imports_itself_by_way_of_others() {
    let is_known = |circle: &[PathBuf]| {
        let mut known = CIRCLES.iter();
        known.any(|known| circle.iter().all(|path| known.iter().any(|name| path.ends_with(name))))
    };
    let found = circles::circles();
    let lines = found.iter().filter(|circle| !is_known(circle)).map(|circle| {
        let names: Vec<_> = circle.iter().map(|path| path.display().to_string()).collect();
        format!("these import from each other: {}", names.join(", "))
    });
    let lines: Vec<_> = lines.collect();
    let way_out = "move what both sides need to a file of its own";
    assert!(
        lines.is_empty(),
        "{}
{way_out}",
        lines.join("\n")
    );
}

#[test]
fn the_privileged_core_is_small() {
    let in_core = sources()
        .into_iter()
        .filter(|(path, _)| module_of(path) == "supervisor" && !path.ends_with("tests.rs"));
    let lines = |text: &str| code(text).lines().filter(|line| !line.trim().is_empty()).count();
    let core: usize = in_core.map(|(_, text)| lines(&text)).sum();
    assert!(core > 500, "only {core} lines were found: does this test still read them?");
    assert!(
        core <= CORE,
        "src/supervisor has {core} lines of code, and may have {CORE}: what is done for layers \
         belongs into a confined layer of the framework's own"
    );
}

/// A program with a `main` of its own runs what its tables name; an attribute would be dropped
/// without a word, and the test with it.
#[test]
fn no_test_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let (_, programs) = manifest.split_once("[[test]]").unwrap();
    let mut seen = 0;
    for program in programs.split("[[test]]") {
        assert!(program.contains("harness = false"), "{program}");
        let name = program.split('"').nth(1).unwrap();
        for (path, text) in sources_in(&root.join("tests").join(name)) {
            let is_attribute = |line: &str| {
                let line = line.trim_start();
                line.starts_with("#[test]") || line.starts_with("#[tokio::test")
            };
            let place = || format!("tests/{name}/{}", path.display());
            assert!(!text.lines().any(is_attribute), "{}: add it to the table `TESTS`", place());
            seen += 1;
        }
    }
    assert!(seen > 50, "only {seen} files were read");
}

#[test]
fn the_reader_of_imports_reads_lists() {
    let code = "use crate::{sys::a::{b, c}, wire, cli as d}; crate::layer::x()";
    assert_eq!(imports(code), ["sys", "wire", "cli", "layer"]);
}
