//! Exposure: how much a layer could do to the system if it were wholly compromised, as a number.
//!
//! It is made as `systemd-analyze security` makes its own: each item has a weight and a badness
//! from 0 to 1, and the exposure is the weighted mean, from 0.0 to 10.0; low is good. The words for
//! ranges are those of systemd too. The items differ, for a layer begins with nothing where a unit
//! begins with everything; so a number here and one there mean about the same, not exactly.
//!
//! | item | weight | badness |
//! |---|---|---|
//! | system calls | 1500 | the share of all calls, a conditional one counting half |
//! | calls of no ordinary group | 1500 | a quarter for each |
//! | capabilities | 1500 | a third for each; all for `CAP_SYS_ADMIN` |
//! | uid | 1000 | 1 as root, 0.2 as another fixed user |
//! | protections that may be missing | 1000 | by what each one holds, see below |
//! | sockets of its own | 700 | 1 if it may make them beyond `socketpair` |
//! | files that it changes | 700 | a quarter for each grant |
//! | executable memory | 500 | 1 if it may make it |
//! | new programs | 500 | 1 if it may execute files, 0.5 if only its own program |
//! | other layers | 400 | a quarter for each that it may move by itself |
//! | files that it reads | 300 | an eighth for each grant |
//! | the system's files | 300 | 1 if it sees programs, 0.25 if other parts |
//! | strangers | 300 | 1 if it reads what comes from outside: a listening socket, a FIFO, or a socket in a message |
//! | connections to outside | 200 | half for each |
//! | limits | 200 | a quarter each: over 1 GiB, 4096 descriptors, 64 tasks, no processor limit |
//!
//! Of the protections `seccomp` counts half of its item, `landlock.file`, `root`, `namespace.*`,
//! `identity`, `capabilities` and `no-new-privs` a quarter each, and every other one a twentieth.

use super::calls::{Verdict, verdict};
use crate::policy::plan::{FileRight, LayerPlan, Program, Protection, ViewPart};
use crate::policy::syscall::meaning::implies;
use crate::policy::syscall::{all, by_name, groups, name_of};
use crate::policy::ways::act::Act;
use crate::policy::ways::facts::Fact;
use crate::policy::ways::reach::Ways;

/// How exposed a layer is, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposure {
    /// From 0.0 to 10.0 in steps of 0.1; low is good.
    pub score: f64,
    /// What it is made of, in the order of the table above.
    pub items: Vec<Item>,
}

/// One item of an exposure.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// What is looked at.
    pub name: &'static str,
    /// How much it counts.
    pub weight: u32,
    /// How bad it is, from 0.0 to 1.0.
    pub badness: f64,
    /// What was found.
    pub found: String,
}

impl Exposure {
    /// The word for the score, in the ranges of `systemd-analyze security`: `OK` below 5.0,
    /// `MEDIUM` below 7.5, `EXPOSED` below 9.0, `UNSAFE` from there.
    pub fn word(&self) -> &'static str {
        match self.score {
            score if score < 5.0 => "OK",
            score if score < 7.5 => "MEDIUM",
            score if score < 9.0 => "EXPOSED",
            _ => "UNSAFE",
        }
    }

    /// How much of the score an item makes.
    pub fn share(&self, item: &Item) -> f64 {
        let whole: u32 = self.items.iter().map(|item| item.weight).sum();
        f64::from(item.weight) * item.badness / f64::from(whole.max(1)) * 10.0
    }
}

/// How exposed a layer is.
pub fn exposure(layer: &LayerPlan, ways: &Ways) -> Exposure {
    let facts = ways.facts.of(layer.name.as_str());
    let mut items = vec![calls(layer), strange_calls(layer), capabilities(facts)];
    items.extend([uid(layer), protections(layer), sockets(layer), changes(facts)]);
    items.extend([memory(layer), programs(layer), others(layer, ways), reads(facts)]);
    items.extend([view(layer), strangers(facts), connections(facts), limits(layer)]);
    let whole: u32 = items.iter().map(|item| item.weight).sum();
    let bad: f64 = items.iter().map(|item| f64::from(item.weight) * item.badness).sum();
    Exposure { score: (bad / f64::from(whole) * 100.0).round() / 10.0, items }
}

fn item(name: &'static str, weight: u32, badness: f64, found: impl Into<String>) -> Item {
    Item { name, weight, badness: badness.clamp(0.0, 1.0), found: found.into() }
}

/// A number of things, each of which is `each` bad.
fn counted(name: &'static str, weight: u32, each: f64, found: &[&str]) -> Item {
    let count = u32::try_from(found.len()).unwrap_or(u32::MAX);
    let words = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    item(name, weight, f64::from(count) * each, words)
}

fn calls(layer: &LayerPlan) -> Item {
    let (mut whole, mut halves, mut known) = (0_u32, 0_u32, 0_u32);
    for (number, _) in all() {
        known += 1;
        match verdict(layer, number) {
            Verdict::Allow => whole += 1,
            Verdict::Conditional(_) => halves += 1,
            Verdict::Refused(_) => {}
        }
    }
    let bad = (f64::from(whole) + f64::from(halves) / 2.0) / f64::from(known.max(1));
    let found = format!("{whole} of {known}, and {halves} under conditions");
    item("system calls", 1500, bad, found)
}

/// Calls, or forms of calls, that no ordinary group has. What an `exec` layer's loader and its
/// own start need is not counted.
pub fn strange(layer: &LayerPlan) -> Vec<&'static str> {
    let ordinary = |number: u32| {
        groups()
            .iter()
            .filter(|group| group.dangerous.is_none())
            .flat_map(|group| &group.members)
            .filter(move |member| member.call.number == number)
            .flat_map(|member| &member.call.rules)
    };
    let launch = matches!(layer.program, Program::Exec(_)).then(|| by_name("execveat")).flatten();
    let covered = |entry: &crate::policy::plan::SyscallPlan| {
        entry.allow.iter().all(|rule| {
            let started = launch == Some(entry.number) && !rule.0.is_empty();
            started || ordinary(entry.number).any(|wide| implies(rule, wide))
        })
    };
    let strange = layer.syscalls.iter().filter(|entry| !covered(entry));
    strange.map(|entry| name_of(entry.number).unwrap_or("unnamed")).collect()
}

fn strange_calls(layer: &LayerPlan) -> Item {
    counted("calls of no ordinary group", 1500, 0.25, &strange(layer))
}

fn capabilities(facts: &[Fact]) -> Item {
    let held = objects(facts, "capability.", &[Act::Use]);
    let each = if held.contains(&"capability.CAP_SYS_ADMIN") { 1.0 } else { 1.0 / 3.0 };
    let names: Vec<&str> = held.iter().map(|it| it.trim_start_matches("capability.")).collect();
    counted("capabilities", 1500, each, &names)
}

fn uid(layer: &LayerPlan) -> Item {
    match layer.uid {
        None => item("uid", 1000, 0.0, "its own"),
        Some(0) => {
            item("uid", 1000, 1.0, "root: the owner of most files, and held by no user's limits")
        }
        Some(other) => item("uid", 1000, 0.2, other.to_string()),
    }
}

fn protections(layer: &LayerPlan) -> Item {
    let bad = |protection: &Protection| match protection {
        Protection::Seccomp => 0.5,
        Protection::LandlockFile
        | Protection::Root
        | Protection::Identity
        | Protection::Capabilities
        | Protection::NoNewPrivs => 0.25,
        other if other.name().starts_with("namespace.") => 0.25,
        _ => 0.05,
    };
    let names: Vec<&str> = layer.optional.iter().map(|it| it.name()).collect();
    let words = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let badness = layer.optional.iter().map(bad).sum();
    item("protections that may be missing", 1000, badness, words)
}

fn sockets(layer: &LayerPlan) -> Item {
    let makes = may(layer, "socket") || may(layer, "connect") || may(layer, "bind");
    let found = if makes { "it may make them" } else { "it can't make any" };
    item("sockets of its own", 700, f64::from(u8::from(makes)), found)
}

/// Whether a layer may make a call in any form.
pub(super) fn may(layer: &LayerPlan, call: &str) -> bool {
    by_name(call).is_some_and(|it| !matches!(verdict(layer, it), Verdict::Refused(_)))
}

fn changes(facts: &[Fact]) -> Item {
    let acts =
        FileRight::ALL.into_iter().filter(|right| right.changes() && *right != FileRight::Append);
    let acts: Vec<Act> = acts.map(Act::from).collect();
    let mut found = objects(facts, "file.", &acts);
    found.extend(objects(facts, "mapped-file.", &acts));
    counted("files that it changes", 700, 0.25, &found)
}

fn memory(layer: &LayerPlan) -> Item {
    let found = if layer.execmem { "it may make it" } else { "it can't make any" };
    item("executable memory", 500, f64::from(u8::from(layer.execmem)), found)
}

fn programs(layer: &LayerPlan) -> Item {
    let entry = |call| {
        let number = by_name(call)?;
        super::calls::entry(layer, number)
    };
    let free = entry("execve").is_some_and(|it| !it.allow.is_empty())
        || entry("execveat").is_some_and(|it| it.allow.iter().any(|rule| rule.0.is_empty()));
    match (free, &layer.program) {
        (true, _) => item("new programs", 500, 1.0, "it may execute files"),
        (false, Program::Exec(_)) => item("new programs", 500, 0.5, "its own, and its loader's"),
        (false, Program::Run(_)) => item("new programs", 500, 0.0, "none"),
    }
}

fn others(layer: &LayerPlan, ways: &Ways) -> Item {
    let Some(place) = ways.flows.place(layer.name.as_str()) else {
        return counted("other layers", 400, 0.25, &[]);
    };
    let flows = ways.flows.from(place).iter();
    let names: Vec<&str> = flows.map(|flow| ways.flows.name(flow.to).as_str()).collect();
    counted("other layers", 400, 0.25, &names)
}

fn reads(facts: &[Fact]) -> Item {
    let mut found = objects(facts, "file.", &[Act::Read, Act::List]);
    found.extend(objects(facts, "mapped-file.", &[Act::Read]));
    counted("files that it reads", 300, 0.125, &found)
}

fn view(layer: &LayerPlan) -> Item {
    let of_machine = |part: &&ViewPart| !part.paths().is_empty();
    let names: Vec<_> =
        layer.view.parts().iter().filter(of_machine).map(|part| part.meaning()).collect();
    // Programs and libraries are tools for whoever takes it over; the other parts are data.
    let share = match (layer.view.has_system(), names.len()) {
        (true, _) => 1.0,
        (false, 0) => 0.0,
        (false, _) => 0.25,
    };
    let text = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    item("the system's files", 300, share, format!("it sees {text}"))
}

fn strangers(facts: &[Fact]) -> Item {
    let mut found = objects(facts, "listen.", &[Act::Accept]);
    found.extend(objects(facts, "fifo.", &[Act::Receive]));
    let passed = objects(facts, "channel.", &[Act::Pass]).into_iter();
    found.extend(passed.filter(|it| it.ends_with(".fds.stream") || it.ends_with(".fds.datagram")));
    counted("strangers", 300, 1.0, &found)
}

fn connections(facts: &[Fact]) -> Item {
    counted("connections to outside", 200, 0.5, &objects(facts, "connect.", &[Act::Connect]))
}

fn limits(layer: &LayerPlan) -> Item {
    let limits = &layer.limits;
    let found: Vec<&str> = [
        (limits.memory > 1 << 30, "memory"),
        (limits.files > 4096, "descriptors"),
        (limits.tasks > 64, "tasks"),
        (limits.cpu.is_none(), "processor"),
    ]
    .into_iter()
    .filter_map(|(high, name)| high.then_some(name))
    .collect();
    counted("limits", 200, 0.25, &found)
}

/// The objects of one kind on which any of these acts is done.
fn objects<'f>(facts: &'f [Fact], kind: &str, acts: &[Act]) -> Vec<&'f str> {
    let mut found: Vec<&str> = facts
        .iter()
        .filter(|fact| fact.object.starts_with(kind) && acts.contains(&fact.act))
        .map(|fact| &*fact.object)
        .collect();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::check;

    fn score(layer: &str) -> Exposure {
        let text = format!("cofferdam = 1\nname = \"t\"\n[layer.a]\nrun = \"a\"\n{layer}\n");
        let checked = check("t", text.as_bytes());
        let plan = checked.plan.unwrap_or_else(|| panic!("{:?}", checked.diagnostics));
        exposure(&plan.layers[0], &Ways::of(&plan))
    }

    #[test]
    fn every_grant_raises_the_score() {
        let base = "syscalls = [\"@core\"]";
        let low = score(base).score;
        assert!(low < 1.5, "{low}");
        for more in [
            "syscalls = [\"@core\", \"ptrace\"]\nbecause = \"x\"",
            "syscalls = [\"@core\", \"@net-connect\"]",
            "syscalls = [\"@core\"]\ncapabilities = [\"CAP_SYS_ADMIN\"]\nbecause = \"x\"",
            "syscalls = [\"@core\"]\nuid = 0\nbecause = \"x\"",
            "syscalls = [\"@core\"]\nexecmem = true\nbecause = \"x\"",
            "syscalls = [\"@core\"]\noptional = [\"seccomp\"]",
            "syscalls = [\"@core\"]\nlisten = { a = \"tcp:127.0.0.1:1\" }",
            "syscalls = [\"@core\"]\n[file.f]\npath = \"/srv/x\"\ngrant = { a = [\"write\"] }",
        ] {
            assert!(score(more).score > low, "{more}");
        }
    }

    #[test]
    fn weights_sum_to_ten() {
        let mut all = score("syscalls = [\"@core\"]");
        for item in &mut all.items {
            item.badness = 1.0;
        }
        let sum: f64 = all.items.iter().map(|item| all.share(item)).sum();
        assert!((sum - 10.0).abs() < 1e-9);
    }

    #[test]
    fn words_are_those_of_ranges() {
        let word = |score| Exposure { score, items: Vec::new() }.word();
        assert_eq!(
            [word(0.0), word(4.9), word(5.0), word(7.5), word(9.0), word(10.0)],
            ["OK", "OK", "MEDIUM", "EXPOSED", "UNSAFE", "UNSAFE"]
        );
    }
}
