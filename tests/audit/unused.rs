//! `cofferdam audit unused`: what no record used, and the policy without it.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::scene::{Scene, plan, used, who};
use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Side};
use cofferdam::audit::usage::Usage;
use cofferdam::policy::{self, Inputs};
use cofferdam::review::tighten::tighten;
use cofferdam::wire::broker::open;
use serde_json::Value;

crate::support::suite::tests! {
    what_is_unused_is_listed_and_taken_out,
    programs_get_the_same,
    a_log_without_records_of_the_policy_proves_nothing,
    what_remains_is_always_a_policy,
    what_is_not_audited_is_not_judged,
    a_denied_try_is_no_use,
    what_may_be_opened_by_its_path_is_not_called_unused,
    the_log_itself_says_which_policy_it_is_of,
    a_result_that_can_not_be_written_ends_with_3,
}

const POLICY: &str = r#"# A daemon that has more than it uses.
cofferdam = 1
name = "wide"

[vars]
base = "/var/lib/wide"

# --- layers ---

# Reads the network.
[layer.front]
run      = "front"
syscalls = ["@core", "@net-stream"]
listen   = { admin = "tcp:127.0.0.1:8001", https = "tcp:127.0.0.1:8443" } # two doors
connect  = { db = "tcp:127.0.0.1:5432" }

[layer.keeper]
run      = "keeper"
syscalls = ["@core", "openat2"]

# --- channels ---

# What the front asks for.
[channel.sign]
from    = "front"
to      = "keeper"
audit   = "digest"
methods = { hello = { max = "64B" }, rotate = { max = "1KiB" }, sign = { max = "4KiB" } }
fds     = { max = 1, kinds = ["stream"] }

# Nobody speaks here.
[channel.spare]
from  = "front"
to    = "keeper"
audit = "digest"

# Nobody hears of it.
[channel.quiet]
from  = "front"
to    = "keeper"
audit = "none"

# --- files ---

# The key.
[file.key]
path  = "${base}"
grant = { keeper = ["read", "write", "create"] }

[queue.jobs]
send    = [
  "front", # pushes
  "keeper", # never does
]
receive = ["keeper"]

[region.scratch]
size  = "64KiB"
grant = { front = "rw", keeper = "rw" }

[signal.reload]
from = "front"
to   = "keeper"
send = ["HUP", "USR1"]

[[never]]
layer = "keeper"
reach = "connect.front.db"
through-except = ["front"]
why   = "keys stay here"
"#;

const DIFFERENCE: &str = r#"--- wide.toml
+++ wide.toml
@@ -11,8 +11,7 @@
 [layer.front]
 run      = "front"
 syscalls = ["@core", "@net-stream"]
-listen   = { admin = "tcp:127.0.0.1:8001", https = "tcp:127.0.0.1:8443" } # two doors
-connect  = { db = "tcp:127.0.0.1:5432" }
+listen   = { https = "tcp:127.0.0.1:8443" } # two doors
 
 [layer.keeper]
 run      = "keeper"
@@ -25,15 +24,8 @@
 from    = "front"
 to      = "keeper"
 audit   = "digest"
-methods = { hello = { max = "64B" }, rotate = { max = "1KiB" }, sign = { max = "4KiB" } }
-fds     = { max = 1, kinds = ["stream"] }
+methods = { sign = { max = "4KiB" } }
 
-# Nobody speaks here.
-[channel.spare]
-from  = "front"
-to    = "keeper"
-audit = "digest"
-
 # Nobody hears of it.
 [channel.quiet]
 from  = "front"
@@ -45,26 +37,19 @@
 # The key.
 [file.key]
 path  = "${base}"
-grant = { keeper = ["read", "write", "create"] }
+grant = { keeper = ["read"] }
 
 [queue.jobs]
 send    = [
   "front", # pushes
-  "keeper", # never does
 ]
 receive = ["keeper"]
 
 [region.scratch]
 size  = "64KiB"
-grant = { front = "rw", keeper = "rw" }
+grant = { front = "rw", keeper = "r" }
 
 [signal.reload]
 from = "front"
 to   = "keeper"
-send = ["HUP", "USR1"]
-
-[[never]]
-layer = "keeper"
-reach = "connect.front.db"
-through-except = ["front"]
-why   = "keys stay here"
+send = ["HUP"]
"#;

fn cofferdam(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A log in `folder/log` in which some of the grants are used.
fn write(folder: &Path, text: &str, more: impl FnOnce(&mut Scene)) {
    std::fs::create_dir(folder.join("log")).unwrap();
    let mut scene = Scene::begin(&folder.join("log"), text);
    more(&mut scene);
    scene.end();
}

fn some(scene: &mut Scene) {
    let (front, keeper) = (who(scene.layer("front"), 1), who(scene.layer("keeper"), 1));
    let call = scene.call("sign", "sign", front, keeper, 200);
    scene.answer(call, Form::Reply, 64, 0);
    scene.put(used(Facility::Listen, 1, front, Side::Receiver));
    let asked =
        |facility, reporter, method| Entry { method, ..used(facility, 0, reporter, Side::None) };
    scene.asked(asked(Facility::File, keeper, u32::from(open::READ)), 0);
    // Refused, so not used.
    scene.asked(asked(Facility::File, keeper, u32::from(open::READ | open::CREATE)), 2);
    scene.asked(asked(Facility::Signal, front, 1), 0);
    scene.put(used(Facility::Queue, 0, front, Side::Sender));
    scene.put(used(Facility::Queue, 0, keeper, Side::Receiver));
    scene.put(used(Facility::Region, 0, front, Side::Sender));
    scene.put(used(Facility::Region, 0, keeper, Side::Receiver));
    scene.pass(7_384 * crate::support::scene::SECOND);
    scene.exit(keeper, 0);
}

fn what_is_unused_is_listed_and_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wide.toml"), POLICY).unwrap();
    write(folder.path(), POLICY, some);
    let (code, out, err) = cofferdam(folder.path(), &["audit", "unused", "wide.toml", "log"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    for part in [
        "records and 2 lives from 2026-01-01T00:00:00.000000000Z to 2026-01-01T02:03:04.",
        "(2h 3min)",
        "11 of 20 grants that a log can judge were never used:",
        "  wide.toml:15  layer.front.connect.db\n",
        "  wide.toml:28  channel.sign.methods.rotate\n",
        "  - channel.quiet: it has audit = \"none\"\n",
        "  - system calls, limits,",
        "leaves no record.",
    ] {
        assert!(out.contains(part), "{part} is not in\n{out}");
    }
    assert!(out.ends_with(DIFFERENCE), "{out}");
    // As it is, patch applies it, and the policy is sound and has nothing to spare.
    let file = folder.path().join("all.diff");
    std::fs::write(&file, &out).unwrap();
    let patched =
        Command::new("patch").args(["-p0", "-i", "all.diff"]).current_dir(folder.path()).output();
    if patched.is_ok_and(|output| output.status.success()) {
        let (code, _, err) = cofferdam(folder.path(), &["check", "--deny-warnings", "wide.toml"]);
        assert_eq!(code, 0, "{err}");
        let (code, out, err) = cofferdam(folder.path(), &["audit", "unused", "wide.toml", "log"]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains("the log is not of wide.toml") && err.contains("--anyway"), "{err}");
        let anyway = ["audit", "unused", "wide.toml", "log", "--anyway"];
        let (code, out, err) = cofferdam(folder.path(), &anyway);
        assert_eq!((code, err.as_str()), (0, ""), "{out}");
        assert!(out.contains("all 9 grants that a log can judge were used"), "{out}");
    }
}

fn programs_get_the_same() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wide.toml"), POLICY).unwrap();
    write(folder.path(), POLICY, some);
    let arguments = ["audit", "unused", "wide.toml", "log", "--format", "json"];
    let (code, out, _) = cofferdam(folder.path(), &arguments);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &told["judged"], &told["lives"]), (1, &20.into(), &2.into()));
    assert_eq!(told["unused"].as_array().unwrap().len(), 11);
    assert_eq!(told["diff"], DIFFERENCE);
}

fn a_log_without_records_of_the_policy_proves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wide.toml"), POLICY).unwrap();
    std::fs::create_dir(folder.path().join("log")).unwrap();
    Scene::bare(&folder.path().join("log"), plan(POLICY)).end();
    let (code, out, err) = cofferdam(folder.path(), &["audit", "unused", "wide.toml", "log"]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("the log has no record under wide.toml"), "{err}");
    let (code, _, _) = cofferdam(folder.path(), &["audit", "unused", "wide.toml", "."]);
    assert_eq!(code, 2, "there is no log in that directory");
}

/// Whatever was used of whatever policy: without the rest it is one, and nothing else is gone.
fn what_remains_is_always_a_policy() {
    let shipped = std::fs::read_dir("policies").unwrap().map(|file| file.unwrap().path());
    let mut texts: Vec<String> = shipped
        .filter(|path| path.extension().is_some_and(|end| end == "toml"))
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    texts.push(POLICY.to_owned());
    let mut cut = 0;
    for text in texts {
        let checked = policy::check("policies/it.toml", text.as_bytes());
        let Some(plan) = &checked.plan else { continue };
        let usage = Usage::of(plan, false);
        let all = usage.cuts();
        let mut state = 7_u32;
        for round in 0..12 {
            let chosen = all.iter().filter(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                round == 0 || state >> 20 & 3 < round % 4
            });
            let chosen: Vec<_> = chosen.cloned().collect();
            let done = tighten(&checked, &Inputs::default(), &chosen).unwrap();
            let kept: BTreeSet<_> = done.kept.iter().map(|(rule, _)| rule.as_str()).collect();
            let new = done.files.first().map_or(&text, |change| &change.new);
            let after = policy::check("policies/it.toml", new.as_bytes());
            let left = after.plan.as_ref().unwrap_or_else(|| panic!("{}", after.render(false)));
            let remaining = Usage::of(left, false);
            let remaining: BTreeSet<_> = remaining.judged().map(|it| it.rule.as_str()).collect();
            let gone: BTreeSet<_> = chosen
                .iter()
                .flat_map(|cut| cut.rules.iter().map(String::as_str))
                .filter(|rule| !kept.contains(rule))
                .collect();
            let before: BTreeSet<_> = usage.judged().map(|it| it.rule.as_str()).collect();
            let expected: BTreeSet<_> = before.difference(&gone).copied().collect();
            assert_eq!(remaining, expected, "{}", plan.name);
            cut += gone.len();
        }
    }
    assert!(cut > 100, "only {cut} grants were taken out");
}

fn what_is_not_audited_is_not_judged() {
    let text = POLICY.replace("\n[queue.jobs]\n", "\n[queue.jobs]\naudit = \"none\"\n");
    let usage = Usage::of(&plan(&text), false);
    assert!(usage.judged().all(|grant| !grant.rule.starts_with("queue.")));
    assert_eq!(usage.blind().filter(|(grant, _)| grant.rule.starts_with("queue.")).count(), 3);
}

fn a_denied_try_is_no_use() {
    let plan = plan(POLICY);
    let mut usage = Usage::of(&plan, false);
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), POLICY, |scene| {
        let keeper = who(scene.layer("keeper"), 1);
        let denial = Entry { peer: keeper, method: 59, ..Entry::new(Kind::Denial) };
        scene.put(Entry { facility: Facility::Syscall, ..denial });
    });
    let store = cofferdam::audit::Store::open(&folder.path().join("log")).unwrap();
    let filter = cofferdam::audit::query::Filter { full: true, ..Default::default() };
    cofferdam::audit::query::query(&store, &filter, |record| {
        usage.take(&record);
        true
    })
    .unwrap();
    assert_eq!(usage.unused().count(), usage.judged().count());
}

fn the_log_itself_says_which_policy_it_is_of() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wide.toml"), POLICY).unwrap();
    write(folder.path(), POLICY, some);
    let (code, text, _) = cofferdam(folder.path(), &["audit", "policy", "log"]);
    assert_eq!((code, text.as_str()), (0, policy::print(&plan(POLICY)).as_str()));
    assert_eq!(plan(&text).id().unwrap(), plan(POLICY).id().unwrap());
    let (code, text, _) = cofferdam(folder.path(), &["audit", "policy", "log", "wide.toml"]);
    assert_eq!((code, text.as_str()), (0, ""));
    let other = POLICY.replace("8443", "8444");
    std::fs::write(folder.path().join("other.toml"), other).unwrap();
    let (code, text, _) = cofferdam(folder.path(), &["audit", "policy", "log", "other.toml"]);
    assert!(
        code == 1 && text.contains("8443") && text.contains('+') && text.contains("8444"),
        "{text}"
    );
    let told = ["audit", "policy", "log", "--record", "1", "--format", "json"];
    let (code, text, _) = cofferdam(folder.path(), &told);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["name"]), (0, &Value::from("wide")));
    assert_eq!(cofferdam(folder.path(), &["audit", "policy", "log", "--record", "0"]).0, 1);

    // Which grants are unused doesn't depend on who says the policy.
    let json = |args: &[&str]| {
        let (code, text, err) = cofferdam(folder.path(), &[args, &["--format", "json"]].concat());
        assert_eq!((code, err.as_str()), (1, ""), "{text}");
        let told: Value = serde_json::from_str(&text).unwrap();
        let unused = told["unused"].as_array().unwrap().iter().map(|it| it["rule"].to_string());
        unused.collect::<BTreeSet<_>>()
    };
    let by_file = json(&["audit", "unused", "wide.toml", "log"]);
    assert_eq!(json(&["audit", "unused", "log"]), by_file);
    assert!(!by_file.is_empty());
}

fn a_result_that_can_not_be_written_ends_with_3() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wide.toml"), POLICY).unwrap();
    write(folder.path(), POLICY, some);
    let verbs: [&[&str]; 12] = [
        &["check", "wide.toml"],
        &["check", "wide.toml", "--format", "json"],
        &["explain", "wide.toml"],
        &["explain", "E0107"],
        &["can", "wide.toml", "front", "open", "file.key"],
        &["diff", "wide.toml", "wide.toml"],
        &["graph", "wide.toml"],
        &["schema"],
        &["audit", "policy", "log"],
        &["audit", "stats", "log"],
        &["audit", "verify", "log"],
        &["audit", "unused", "log"],
    ];
    for verb in verbs {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
            .args(verb)
            .current_dir(folder.path())
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(3), "{verb:?}: {out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("can't write"), "{verb:?}: {out:?}");
    }
}

/// The library opens by `openat2` alone; a layer whose filter has `openat` may do without it.
fn what_may_be_opened_by_its_path_is_not_called_unused() {
    let folder = tempfile::tempdir().unwrap();
    let direct = POLICY.replace("\"openat2\"]", "\"openat2\", \"openat\"]");
    assert_ne!(direct, POLICY);
    for (name, policy, write_is_unused) in [("a", POLICY, true), ("b", direct.as_str(), false)] {
        let folder = folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("wide.toml"), policy).unwrap();
        write(&folder, policy, some);
        let (code, out, err) = cofferdam(&folder, &["audit", "unused", "wide.toml", "log"]);
        assert_eq!((code, err.as_str()), (1, ""), "{out}");
        let line = "  - file.key.grant.keeper.write: the layer may open it by its path";
        assert_eq!(out.contains(line), !write_is_unused, "{out}");
        let without = "grant = { keeper = [\"read\"] }";
        assert_eq!(out.contains(without), write_is_unused, "{out}");
        assert!(!out.contains("file.key.grant.keeper.read"), "it was used: {out}");
    }
}
