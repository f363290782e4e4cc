//! More grants never mean less authority: over policies made at random, adding one grant never
//! takes away a yes, and so removing one never gives one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use cofferdam::ident::Name;
use cofferdam::policy;
use cofferdam::policy::plan::{
    Audit, MapRight, OnFull, PipePlan, Plan, QueuePlan, RegionPlan, SemaphorePlan, SignalPlan,
};
use cofferdam::policy::syscall::by_name;
use cofferdam::policy::syscall::meaning::permits;
use cofferdam::policy::ways::Ways;
use cofferdam::review::calls::{Verdict, entry};
use cofferdam::review::can::ask;
use cofferdam::review::diff;
use proptest::prelude::*;
use proptest::sample::Index;

const LAYERS: [&str; 4] = ["a", "b", "c", "d"];
const FILES: [&str; 3] = ["/srv/t", "/srv/t/below", "/srv/other"];
const RIGHTS: [&str; 4] = ["read", "write", "create", "list"];
const CALLS: [&str; 6] =
    ["@file-read", "ioctl(_, FIONREAD)", "ioctl(_, 7)", "ioctl", "dup(<= 5)", "dup(3)"];

/// One grant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Grant {
    /// A layer may make calls.
    Call(usize, usize),
    /// A layer has a right on a file.
    File(usize, usize, usize),
    /// A layer calls another.
    Channel(usize, usize),
    /// A layer sends bytes to another.
    Pipe(usize, usize),
    /// A layer signals another.
    Signal(usize, usize),
    /// A layer sends to the queue, or receives.
    Queue(usize, bool),
    /// A layer maps the region, perhaps to write.
    Region(usize, bool),
    /// A layer leases.
    Lease(usize),
    /// A layer listens.
    Listen(usize),
    /// A layer has a capability.
    Capability(usize),
}

fn grant() -> impl Strategy<Value = Grant> {
    let layer = || 0..LAYERS.len();
    let pair = || (layer(), 1..LAYERS.len()).prop_map(|(a, b)| (a, (a + b) % LAYERS.len()));
    prop_oneof![
        3 => (layer(), 0..CALLS.len()).prop_map(|(a, b)| Grant::Call(a, b)),
        4 => (layer(), 0..FILES.len(), 0..RIGHTS.len()).prop_map(|(a, b, c)| Grant::File(a, b, c)),
        2 => pair().prop_map(|(a, b)| Grant::Channel(a, b)),
        1 => pair().prop_map(|(a, b)| Grant::Pipe(a, b)),
        1 => pair().prop_map(|(a, b)| Grant::Signal(a, b)),
        1 => (layer(), any::<bool>()).prop_map(|(a, b)| Grant::Queue(a, b)),
        1 => (layer(), any::<bool>()).prop_map(|(a, b)| Grant::Region(a, b)),
        1 => layer().prop_map(Grant::Lease),
        1 => layer().prop_map(Grant::Listen),
        1 => layer().prop_map(Grant::Capability),
    ]
}

/// The policy of these grants: what has a text goes through the checker.
fn plan(grants: &BTreeSet<Grant>) -> Plan {
    let mut text = String::from("cofferdam = 1\nname = \"t\"\n");
    for (at, layer) in LAYERS.iter().enumerate() {
        let mut calls = vec!["\"@core\"".to_owned()];
        let mut more = String::new();
        for grant in grants {
            match *grant {
                Grant::Call(who, which) if who == at => calls.push(format!("\"{}\"", CALLS[which])),
                Grant::Listen(who) if who == at => {
                    writeln!(more, "listen = {{ in = \"tcp:127.0.0.1:{}\" }}", 1000 + at).unwrap();
                }
                Grant::Capability(who) if who == at => {
                    more += "capabilities = [\"CAP_NET_RAW\"]\n";
                }
                _ => {}
            }
        }
        let calls = calls.join(", ");
        write!(text, "[layer.{layer}]\nrun = \"{layer}\"\nbecause = \"a test\"\n").unwrap();
        write!(text, "syscalls = [{calls}]\n{more}").unwrap();
    }
    for grant in grants {
        if let Grant::Channel(from, to) = *grant {
            let (from, to) = (LAYERS[from], LAYERS[to]);
            write!(text, "[channel.{from}{to}]\nfrom = \"{from}\"\nto = \"{to}\"\n").unwrap();
            // Without methods nobody waits for an answer, so a circle of channels is no mistake.
            if from < to {
                text += "methods = { ask = { max = \"1KiB\" } }\n";
            }
        }
    }
    for (at, path) in FILES.iter().enumerate() {
        let of_layer = |layer: usize| {
            let held = |right: &usize| grants.contains(&Grant::File(layer, at, *right));
            (0..RIGHTS.len()).filter(held).map(|it| format!("\"{}\"", RIGHTS[it])).collect()
        };
        let held: Vec<(usize, Vec<String>)> =
            (0..LAYERS.len()).map(|layer| (layer, of_layer(layer))).collect();
        let held: Vec<String> = held
            .into_iter()
            .filter(|(_, rights)| !rights.is_empty())
            .map(|(layer, rights)| format!("{} = [{}]", LAYERS[layer], rights.join(", ")))
            .collect();
        if !held.is_empty() {
            let grant = held.join(", ");
            write!(text, "[file.f{at}]\npath = \"{path}\"\ngrant = {{ {grant} }}\n").unwrap();
        }
    }
    let checked = policy::check("t.toml", text.as_bytes());
    let mut plan = checked.plan.unwrap_or_else(|| panic!("{:?}\n{text}", checked.diagnostics));
    facilities(&mut plan, grants);
    plan
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn facilities(plan: &mut Plan, grants: &BTreeSet<Grant>) {
    let layer = |at: usize| name(LAYERS[at]);
    let mut queue = QueuePlan {
        name: name("q"),
        send: Vec::new(),
        receive: Vec::new(),
        depth: 8,
        max: 1024,
        priorities: 1,
        on_full: OnFull::Reject,
        audit: Audit::Digest,
    };
    let mut region = RegionPlan {
        name: name("r"),
        size: 4096,
        grant: BTreeMap::default(),
        audit: Audit::Digest,
    };
    let mut holders = Vec::new();
    for grant in grants {
        match *grant {
            Grant::Pipe(from, to) => plan.facilities.pipes.push(PipePlan {
                name: name(&format!("p{}{}", LAYERS[from], LAYERS[to])),
                from: layer(from),
                to: layer(to),
                raw: false,
                capacity: 4096,
                rate: None,
                audit: Audit::Digest,
            }),
            Grant::Signal(from, to) => plan.facilities.signals.push(SignalPlan {
                name: name(&format!("s{}{}", LAYERS[from], LAYERS[to])),
                from: layer(from),
                to: layer(to),
                send: vec![1],
                rate: None,
                audit: Audit::Digest,
            }),
            Grant::Queue(who, true) => queue.send.push(layer(who)),
            Grant::Queue(who, false) => queue.receive.push(layer(who)),
            Grant::Region(who, write) => {
                let right = if write { MapRight::ReadWrite } else { MapRight::Read };
                let held = region.grant.entry(layer(who)).or_insert(right);
                *held = (*held).max(right);
            }
            Grant::Lease(who) => holders.push(layer(who)),
            _ => {}
        }
    }
    if !queue.send.is_empty() || !queue.receive.is_empty() {
        plan.facilities.queues.push(queue);
    }
    if !region.grant.is_empty() {
        plan.facilities.regions.push(region);
    }
    if !holders.is_empty() {
        let lease = SemaphorePlan {
            name: name("m"),
            permits: 1,
            holders,
            lease: None,
            order: None,
            audit: Audit::Digest,
        };
        plan.facilities.semaphores.push(lease);
    }
}

/// Every question to which the answer is yes, by itself or in any number of steps, and every way
/// that passes none of one layer.
fn yes(plan: &Plan, ways: &Ways, objects: &BTreeSet<String>) -> BTreeSet<String> {
    const ACTS: [&str; 14] = [
        "open", "read", "write", "create", "list", "call", "answer", "send", "receive", "map",
        "signal", "lease", "make", "reach",
    ];
    let mut yes = BTreeSet::new();
    for layer in LAYERS {
        for object in objects {
            for act in ACTS {
                if ask(plan, ways, layer, act, object).is_ok_and(|answer| answer.yes) {
                    yes.insert(format!("{layer} {act} {object}"));
                }
            }
            for without in LAYERS {
                let acts = cofferdam::policy::ways::Act::ALL;
                if ways.reach(layer, object, &acts, &[name(without)]).is_some() {
                    yes.insert(format!("{layer} reaches {object} without {without}"));
                }
            }
        }
    }
    yes
}

/// The objects of a plan, but of the system calls only those that the grants are about.
fn objects(ways: &Ways) -> BTreeSet<String> {
    let calls = ["syscall.openat", "syscall.ioctl", "syscall.dup", "syscall.clone3"];
    let facts = ways.facts.all().map(|fact| fact.object.to_string());
    let facts = facts.filter(|object| !object.starts_with("syscall."));
    let layers = LAYERS.iter().map(|layer| format!("layer.{layer}"));
    facts.chain(calls.map(str::to_owned)).chain(layers).collect()
}

/// Arguments around the values of the conditions in [`CALLS`].
fn arguments() -> Vec<[u64; 6]> {
    let values = [0, 3, 5, 6, 7, 8, 0x541b, u64::from(u32::MAX), 1 << 32 | 3, u64::MAX];
    values.iter().flat_map(|a| values.iter().map(move |b| [*a, *b, 0, 0, 0, 0])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 48, failure_persistence: None, ..ProptestConfig::default()
    })]

    #[test]
    fn one_grant_more_is_never_less(
        grants in prop::collection::btree_set(grant(), 1..24),
        added in any::<Index>(),
    ) {
        let added = added.get(&grants.iter().cloned().collect::<Vec<_>>()).clone();
        let mut fewer = grants.clone();
        fewer.remove(&added);
        let (less, more) = (plan(&fewer), plan(&grants));
        let (ways_less, ways_more) = (Ways::of(&less), Ways::of(&more));
        let objects = objects(&ways_more);
        let before = yes(&less, &ways_less, &objects);
        let after = yes(&more, &ways_more, &objects);
        let shrunk: Vec<_> = before.difference(&after).collect();
        prop_assert!(shrunk.is_empty(), "{added:?} took away {shrunk:?}");

        for layer in LAYERS {
            for call in ["openat", "ioctl", "dup"] {
                let number = by_name(call).unwrap();
                for arguments in arguments() {
                    let may = |plan: &Plan| {
                        entry(plan.layer(layer).unwrap(), number)
                            .is_some_and(|entry| permits(entry, &arguments))
                    };
                    prop_assert!(!may(&less) || may(&more), "{layer} {call} {arguments:?}");
                }
            }
        }
        // To add is to gain, if it is anything; to take away never is.
        let gained = diff(&less, &more).gained();
        prop_assert!(gained || before == after, "{added:?} is not told as gained");
        prop_assert!(!diff(&more, &less).gained(), "without {added:?} something is gained");
    }

    #[test]
    fn the_answer_about_a_call_is_its_verdict(
        grants in prop::collection::btree_set(grant(), 1..24),
    ) {
        let plan = plan(&grants);
        let ways = Ways::of(&plan);
        for layer in LAYERS {
            // Every seventh call, other ones each time.
            let sampled = |(number, _): &(u32, &str)| *number as usize % 7 == grants.len() % 7;
            for (number, call) in policy::syscall::all().filter(sampled) {
                let answer = ask(&plan, &ways, layer, "make", &format!("syscall.{call}")).unwrap();
                let refused = matches!(answer.verdict, Some(Verdict::Refused(_)));
                prop_assert_eq!(answer.yes, !refused);
                let any = entry(plan.layer(layer).unwrap(), number)
                    .is_some_and(|entry| !entry.allow.is_empty());
                prop_assert_eq!(answer.yes, any);
            }
        }
    }
}
