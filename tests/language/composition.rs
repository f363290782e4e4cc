//! The policy language as a whole: files that include others, variables, the ceiling, what is not
//! built yet, and plans printed and read again.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cofferdam::policy::plan::Plan;
use cofferdam::policy::{Checked, Inputs, check, check_with, print, unbuilt};
use proptest::prelude::*;

const HEAD: &str = "cofferdam = 1\nname = \"a\"\n[layer.b]\nrun = \"b\"\n";

fn plan(text: &str) -> Plan {
    let checked = check("test.toml", text.as_bytes());
    checked.plan.as_ref().unwrap_or_else(|| panic!("{text}\n{}", checked.render(false))).clone()
}

/// Checks a policy among files of these names.
fn among(name: &str, files: &[(&str, &str)], vars: &[(String, String)]) -> Checked {
    let files: BTreeMap<&str, &str> = files.iter().copied().collect();
    let load = |path: &str| {
        files.get(path).map(|text| text.as_bytes().to_vec()).ok_or_else(|| format!("no {path}"))
    };
    let inputs = Inputs { load: Some(&load), vars, ceiling: None };
    check_with(name, files[name].as_bytes(), &inputs)
}

fn var(name: &str, value: &str) -> Vec<(String, String)> {
    vec![(name.to_owned(), value.to_owned())]
}

#[test]
fn files_beside_each_other_make_one_policy() {
    let whole = format!("{HEAD}[layer.c]\nrun = \"c\"\n[channel.d]\nfrom = \"b\"\nto = \"c\"\n");
    let main = format!("include = [\"sub/one.toml\"]\n{HEAD}");
    let files = [
        ("x/main.toml", main.as_str()),
        ("x/sub/one.toml", "cofferdam = 1\ninclude = [\"./two.toml\"]\n[layer.c]\nrun = \"c\"\n"),
        ("x/sub/two.toml", "cofferdam = 1\n[channel.d]\nfrom = \"b\"\nto = \"c\"\n"),
    ];
    let checked = among("x/main.toml", &files, &[]);
    let parts = checked.plan.as_ref().unwrap_or_else(|| panic!("{}", checked.render(false)));
    assert_eq!(parts.id().unwrap(), plan(&whole).id().unwrap());
    let place = checked.places.find("channel.d.to").unwrap();
    assert_eq!((place.file.as_str(), place.line), ("x/sub/two.toml", 4));
}

#[test]
fn both_files_of_a_conflict_are_named() {
    let main = format!("include = [\"two.toml\"]\n{HEAD}");
    let files = [("main.toml", main.as_str()), ("two.toml", "cofferdam = 1\n[layer.b]\nrun=\"x\"")];
    let checked = among("main.toml", &files, &[]);
    let said = checked.render(false);
    assert!(said.contains("main.toml:4") && said.contains("two.toml:2"), "{said}");
    let labels = checked.json()["diagnostics"][0]["labels"].clone();
    assert_eq!((&labels[0]["file"], &labels[1]["file"]), (&"two.toml".into(), &"main.toml".into()));
}

#[test]
fn an_embedded_policy_includes_nothing() {
    let said = check("a", format!("include = [\"b.toml\"]\n{HEAD}").as_bytes()).render(false);
    assert!(said.contains("E0120") && said.contains("not in a file"), "{said}");
}

#[test]
fn what_cannot_be_included_causes_no_other_mistakes() {
    let main = format!("include = [\"no.toml\"]\n{HEAD}[channel.d]\nfrom = \"b\"\nto = \"c\"\n");
    let checked = among("main.toml", &[("main.toml", main.as_str())], &[]);
    assert_eq!(checked.errors(), 1, "{}", checked.render(false));
    assert!(checked.plan.is_none());
}

#[test]
fn variables_are_put_in_and_overridden() {
    let text = format!(
        "{HEAD}[vars]\nroot = \"/srv\"\n[file.f]\npath = \"${{root}}/f\"\ngrant = {{ b = [\"read\"] }}\n"
    );
    assert_eq!(plan(&text).files[0].path, "/srv/f");
    let files = [("a.toml", text.as_str())];
    let checked = among("a.toml", &files, &var("root", "/other"));
    assert_eq!(checked.plan.unwrap().files[0].path, "/other/f");
    // What is put in is not looked at again.
    let checked = among("a.toml", &files, &var("root", "/${root}"));
    assert_eq!(checked.plan.unwrap().files[0].path, "/${root}/f");
    let checked = among("a.toml", &files, &var("rot", "/other"));
    assert!(checked.plan.is_none());
    assert!(checked.render(false).contains("did you mean `root`?"), "{}", checked.render(false));
    let literal = text.replace("${root}/f", "${root}/$${root}");
    assert_eq!(plan(&literal).files[0].path, "/srv/${root}");
}

#[test]
fn a_ceiling_lets_through_what_is_below_it() {
    let text = format!(
        "{HEAD}syscalls = [\"@core\", \"openat2\"]\nlimits = {{ memory = \"64MiB\" }}\n\
         [file.f]\npath = \"/srv/f\"\ngrant = {{ b = [\"read\"] }}\n"
    );
    let with = |ceiling: &str| {
        let inputs = Inputs { ceiling: Some(("top", ceiling.as_bytes())), ..Inputs::default() };
        check_with("a.toml", text.as_bytes(), &inputs)
    };
    let fine = "cofferdam = 1\n[ceiling]\nsyscalls = [\"@core\", \"openat2\"]\npaths = [\"/srv/*\"]\n\
                limits = { memory = \"64MiB\" }\n";
    let checked = with(fine);
    assert!(checked.plan.is_some(), "{}", checked.render(false));
    assert_eq!(checked.plan.unwrap().id().unwrap(), plan(&text).id().unwrap());
    assert_eq!(with("cofferdam = 1\n[ceiling]\n").errors(), 3);
    assert!(with("cofferdam = 1\n").plan.is_none());
    assert!(with("no toml").plan.is_none());
    for less in [fine.replace("64MiB", "32MiB"), fine.replace("/srv/*", "/var/*")] {
        assert_eq!(with(&less).errors(), 1, "{}", with(&less).render(false));
    }
}

#[test]
fn what_is_not_built_is_named_by_its_place() {
    assert_eq!(unbuilt(&plan(HEAD)), Vec::<String>::new());
    let text = include_str!("../policies/good/every-key.toml");
    assert!(unbuilt(&plan(text)).is_empty());
    let said = unbuilt(&plan(&text.replacen("transport = \"socket\"", "transport = \"ring\"", 1)));
    let place = "[channel.ask] `transport`";
    assert!(said.iter().any(|line| line.starts_with(place)), "{said:#?}");
    assert!(unbuilt(&plan(include_str!("../../policies/web.toml"))).is_empty());
}

/// Prints a plan, reads it again, and demands the same.
fn same_again(before: &Plan) {
    let text = print(before);
    let checked = check("printed.toml", text.as_bytes());
    let said = checked.render(false);
    let after = checked.plan.unwrap_or_else(|| panic!("{text}\n{said}"));
    assert_eq!(*before, after, "{text}");
    assert_eq!(before.id().unwrap(), after.id().unwrap());
    assert_eq!(text, print(&after));
}

#[test]
fn every_policy_printed_and_read_again_is_the_same() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for folder in ["tests/policies/good", "tests/policies/bad", "policies"] {
        for entry in std::fs::read_dir(root.join(folder)).unwrap() {
            let path = entry.unwrap().path();
            let Ok(bytes) = std::fs::read(&path) else { continue };
            // Of the bad ones, those that only have warnings.
            if let Some(plan) = check("a", &bytes).plan {
                same_again(&plan);
                count += 1;
            }
        }
    }
    assert!(count >= 6, "only {count}");
}

#[test]
fn strings_that_toml_or_variables_would_change_survive() {
    let exec = r#"["/bin/a", "${x}", "$${x}", "\\\"\u0001\t\u007f", "é", ""]"#;
    let exec = exec.replace("${", "$${");
    same_again(&plan(
        &format!(
            "cofferdam = 1\nname = \"a\"\n[layer.b]\nexec = {exec}\nenv = {{ \"\" = \"\" }}\n"
        )
        .replace("\"\" = \"\"", "\"a b\" = \"$${\", \"${k\" = \"\""),
    ));
}

/// A policy of some facilities between four layers; some of them have mistakes.
fn policies() -> impl Strategy<Value = String> {
    const CALLS: [&str; 16] = [
        "@core",
        "@net-stream",
        "@thread",
        "@file-read",
        "openat2",
        "read",
        "dup(3)",
        "dup(<= 5)",
        "ioctl(_, in {FIONREAD, FIONBIO})",
        "mmap(_, _, & PROT_EXEC == 0)",
        "socket(in {AF_INET, AF_INET6}, & SOCK_TYPE_MASK == SOCK_STREAM)",
        "prlimit64(0, _, 0)",
        "fcntl",
        "close_range(>= 3)",
        "openat(_, _, subset of O_CLOEXEC|O_DIRECTORY)",
        "io_uring_setup",
    ];
    let layer = (
        prop::sample::subsequence(&CALLS[..], 0..5),
        any::<bool>(),
        any::<bool>(),
        1_u64..1 << 30,
        0_u8..4,
    );
    let layers = prop::collection::vec(layer, 4);
    let facility = (0_u8..9, 0_usize..4, 0_usize..4, 1_u64..100_000, any::<bool>());
    let facilities = prop::collection::vec(facility, 0..12);
    let log = prop::option::of((1_u64..100_000, any::<bool>()));
    (layers, facilities, log).prop_map(|(layers, facilities, log)| {
        let mut text = "cofferdam = 1\nname = \"generated\"\n".to_owned();
        for (number, (calls, flag, refuse, size, restart)) in layers.into_iter().enumerate() {
            let on = ["never", "failure", "always", "failure"][usize::from(restart)];
            let _ = writeln!(text, "[layer.l{number}]\nrun = \"f{number}\"\nsyscalls = {calls:?}");
            let _ = writeln!(text, "because = \"generated\"\nexecmem = {flag}");
            let _ = writeln!(text, "limits = {{ file-size = {size}, cpu = {} }}", 1 + size % 300);
            let _ = writeln!(text, "restart = {{ on = \"{on}\", then = \"leave-down\" }}");
            if refuse {
                let _ = writeln!(text, "refuse = {{ ptrace = \"EPERM\", bpf = \"ENOSYS\" }}");
            }
            if flag {
                let _ = writeln!(
                    text,
                    "listen = {{ a = {{ address = \"tcp:127.0.0.1:{}\", rate = \"{size}/h\" }} }}",
                    1000 + number
                );
            }
        }
        for (number, facility) in facilities.into_iter().enumerate() {
            add(&mut text, number, facility);
        }
        if let Some((size, flag)) = log {
            let _ = writeln!(
                text,
                "[audit]\ndirectory = \"/var/log/{size}\"\non-full = \"{}\"\nsegment = {}\n\
                 segment-age = \"{}ms\"\nkeep = \"{}GiB\"\nring = {}",
                if flag { "count" } else { "halt" },
                (1 << 20) + size,
                60_000 + size,
                5 + size,
                (16 + size / 10) << 12
            );
        }
        text
    })
}

/// Adds one facility between two layers, its name and path its own.
fn add(
    text: &mut String,
    number: usize,
    (kind, from, to, size, flag): (u8, usize, usize, u64, bool),
) {
    // One each, for the same one twice between two layers is a mistake.
    const SIGNALS: [&str; 12] = [
        "HUP", "INT", "QUIT", "ABRT", "USR1", "USR2", "ALRM", "TERM", "WINCH", "CONT", "URG", "PWR",
    ];
    let (from, to) = (from, if from == to { (to + 1) % 4 } else { to });
    let _ = match kind {
        0 => writeln!(
            text,
            "[channel.f{number}]\nfrom = \"l{from}\"\nto = \"l{to}\"\nmax = {size}\n\
                     witness = {flag}\nfds = {{ max = 2, kinds = [\"stream\", \"pipe-read\"] }}\n\
                     methods = {{ x = {{ direction = \"back\", once = {flag} }}, y = {{ direction = \
                     \"back\", after = \"x\", rate = \"{size}/3s\" }} }}"
        ),
        1 => writeln!(
            text,
            "[file.f{number}]\npath = \"/srv/{number} \\\"\\\\$${{\"\ndeny = [\"*.{size}\"]\n\
                     grant = {{ l{from} = [\"read\"], l{to} = [\"write\", \"list\"] }}"
        ),
        2 => writeln!(
            text,
            "[signal.f{number}]\nfrom = \"l{from}\"\nto = \"l{to}\"\n\
                     send = [\"{}\"]\nrate = \"{size}/m\"",
            SIGNALS[number]
        ),
        3 => writeln!(
            text,
            "[queue.f{number}]\nsend = [\"l{from}\"]\nreceive = [\"l{to}\"]\nmax = {size}\n\
                     depth = 3\npriorities = 3\non-full = \"{}\"",
            if flag { "block" } else { "drop-oldest" }
        ),
        4 => writeln!(
            text,
            "[pipe.f{number}]\nfrom = \"l{from}\"\nto = \"l{to}\"\nraw = {flag}\n\
                     rate = \"{size}KiB/s\""
        ),
        5 => writeln!(
            text,
            "[fifo.f{number}]\npath = \"/run/{number}\"\nto = \"l{to}\"\nmode = \"0620\"\n\
                     max = {size}"
        ),
        6 => writeln!(
            text,
            "[semaphore.f{number}]\npermits = {}\nholders = [\"l{from}\", \"l{to}\"]\n\
                     lease = \"{size}ms\"\norder = {number}",
            1 + size % 60_000
        ),
        7 => writeln!(
            text,
            "[region.f{number}]\nsize = {size}\ngrant = {{ l{from} = \"rw\", l{to} = \"r\" }}"
        ),
        _ => writeln!(
            text,
            "[[never]]\nlayer = \"l{from}\"\nreach = \"syscall.reboot\"\nwhy = \"x\"\n\
                     [mapped-file.f{number}]\npath = \"/srv/m{number}\"\nsize = {size}\n\
                     durable = {flag}\ngrant = {{ l{to} = \"rw\" }}"
        ),
    };
    let levels = ["none", "digest"];
    // One with a witness is recorded.
    let level = levels.get(usize::try_from(size % 3).unwrap()).filter(|_| kind != 0 || !flag);
    if let Some(level) = level {
        let _ = writeln!(text, "audit = \"{level}\"");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn generated_plans_printed_and_read_again_are_the_same(text in policies()) {
        let checked = check("generated.toml", text.as_bytes());
        // Every generated policy is fine, or the generator is worth nothing.
        prop_assert!(checked.plan.is_some(), "{text}\n{}", checked.render(false));
        same_again(&checked.plan.unwrap());
    }

    #[test]
    fn cut_and_joined_files_never_panic(
        cut in any::<prop::sample::Index>(),
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let whole = include_str!("../policies/good/every-key.toml");
        let at = whole.floor_char_boundary(cut.index(whole.len()));
        let (first, second) = whole.split_at(at);
        let first = format!("include = [\"two\", \"three\"]\n{first}");
        let load = |path: &str| match path {
            "two" => Ok(second.as_bytes().to_vec()),
            _ => Ok(bytes.clone()),
        };
        let ceiling = Some(("three", bytes.as_slice()));
        let inputs = Inputs { load: Some(&load), vars: &var("folder", "/x"), ceiling };
        let checked = check_with("one", first.as_bytes(), &inputs);
        let _ = (checked.render(true), checked.json().to_string());
        let _ = checked.places.nearest("layer.front.syscalls.@core");
    }
}
