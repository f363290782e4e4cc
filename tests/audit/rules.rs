//! The numbered rules: they stand in the policy where they say, and records find them.

use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Side, Who};
use cofferdam::audit::rules::Rules;
use cofferdam::audit::runs::{self, Run};
use cofferdam::policy;
use cofferdam::policy::plan::Plan;
use cofferdam::wire::broker::open;

crate::support::suite::tests! {
    every_rule_stands_in_the_policy,
    records_find_their_rule,
    all_rules_of_one_act_are_told,
}

const POLICY: &str = r#"
cofferdam = 1
name = "all"
[layer.a]
run = "a"
syscalls = ["@core", "@net-stream", "@file-read", "@file-write"]
listen = { http = "tcp:127.0.0.1:8080", https = "tcp:127.0.0.1:8443" }
connect = { cache = "tcp:127.0.0.1:1", db = "tcp:127.0.0.1:2" }
[layer.b]
run = "b"
syscalls = ["@core"]
[channel.plain]
from = "a"
to = "b"
[channel.sign]
from = "a"
to = "b"
methods = { key = { max = "64B" }, sign = { max = "4KiB" } }
[file.key]
path = "/var/lib/all"
grant = { a = ["read", "write", "create"], b = ["read", "append"] }
because = "a test"
[file.tree]
path = "/var/lib/tree"
grant = { b = ["create", "remove", "move", "mkdir"] }
[signal.reload]
from = "a"
to = "b"
send = ["HUP", "USR1"]
because = "a test"
[queue.jobs]
send = ["a"]
receive = ["a", "b"]
[pipe.log]
from = "a"
to = "b"
[fifo.ctl]
path = "/run/all.ctl"
to = "b"
[semaphore.slots]
permits = 1
holders = ["a", "b"]
lease = "1s"
[region.scratch]
size = "64KiB"
grant = { a = "rw", b = "r" }
[mapped-file.table]
path = "/var/lib/table"
size = "64KiB"
grant = { a = "rw", b = "r" }
because = "a test"
"#;

fn plan() -> Plan {
    let checked = policy::check("all.toml", POLICY.as_bytes());
    checked.plan.clone().unwrap_or_else(|| panic!("{}", checked.render(false)))
}

fn entry(kind: Kind, facility: Facility, edge: u16, layer: u16) -> Entry {
    let reporter = Who { layer, copy: 0, generation: 1 };
    Entry { facility, edge, reporter, ..Entry::new(kind) }
}

fn every_rule_stands_in_the_policy() {
    let shipped = std::fs::read_dir("policies").unwrap().map(|file| file.unwrap().path());
    let shipped = shipped.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let mut texts: Vec<String> =
        shipped.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    texts.push(POLICY.to_owned());
    let mut seen = 0;
    for text in texts {
        let checked = policy::check("policy.toml", text.as_bytes());
        let Some(plan) = &checked.plan else { continue };
        let rules = Rules::of(plan);
        let mut names = rules.names().to_vec();
        for name in &names {
            let written = checked.places.find(name).is_some();
            // The layer of a program needs no list of system calls.
            assert!(written || name.ends_with(".syscalls"), "{}: {name}", plan.name);
            seen += 1;
        }
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rules.names().len(), "a rule of {} is there twice", plan.name);
    }
    assert!(seen > 100, "only {seen} rules were seen");
}

fn records_find_their_rule() {
    let (plan, a, b) = (plan(), 0, 1);
    let rules = Rules::of(&plan);
    let used = |facility, edge, layer| entry(Kind::Use, facility, edge, layer);
    let asked =
        |facility, layer, method| Entry { method, ..entry(Kind::Broker, facility, 0, layer) };
    let side = |side, entry| Entry { side, ..entry };
    let method = |method, entry| Entry { method, ..entry };
    let batch = |edge| Entry { form: Form::Batch, ..used(Facility::Channel, edge, 2) };
    let how = |layer, bits: u16| asked(Facility::File, layer, u32::from(bits));
    let tree = |bits| Entry { edge: 1, ..how(b, bits) };
    let cases = [
        (used(Facility::Channel, 0, a), "channel.plain"),
        (method(1, used(Facility::Channel, 0, a)), ""),
        (method(1, used(Facility::Channel, 1, b)), "channel.sign.methods.sign"),
        (side(Side::Witness, used(Facility::Channel, 1, 2)), "channel.sign.methods.key"),
        // Of a batch it knows no method.
        (side(Side::Witness, batch(1)), ""),
        (side(Side::Witness, batch(0)), "channel.plain"),
        (method(2, used(Facility::Channel, 1, b)), ""),
        (used(Facility::Channel, 2, b), ""),
        (used(Facility::Listen, 1, a), "layer.a.listen.https"),
        (used(Facility::Listen, 0, b), ""),
        (asked(Facility::Connect, a, 1), "layer.a.connect.db"),
        (asked(Facility::Connect, b, 1), ""),
        (asked(Facility::Signal, a, 1), "signal.reload.send.HUP"),
        (method(10, used(Facility::Signal, 0, b)), "signal.reload.send.USR1"),
        (asked(Facility::Signal, a, 15), ""),
        (side(Side::Sender, used(Facility::Queue, 0, a)), "queue.jobs.send.a"),
        (side(Side::Receiver, used(Facility::Queue, 0, a)), "queue.jobs.receive.a"),
        (side(Side::Sender, used(Facility::Queue, 0, b)), ""),
        (asked(Facility::Queue, a, 1), "queue.jobs.send.a"),
        (side(Side::Sender, used(Facility::Pipe, 0, a)), "pipe.log.from"),
        (side(Side::Receiver, used(Facility::Pipe, 0, b)), "pipe.log.to"),
        (used(Facility::Fifo, 0, b), "fifo.ctl"),
        (asked(Facility::Semaphore, b, 1), "semaphore.slots.holders.b"),
        (side(Side::Sender, used(Facility::Region, 0, a)), "region.scratch.grant.a"),
        (side(Side::Receiver, used(Facility::MappedFile, 0, b)), "mapped-file.table.grant.b"),
        (how(a, open::READ), "file.key.grant.a.read"),
        (how(a, open::READ | open::WRITE | open::CREATE), "file.key.grant.a.create"),
        (how(a, open::APPEND), "file.key.grant.a.write"),
        (how(b, open::APPEND), "file.key.grant.b.append"),
        (how(b, open::READ | open::WRITE), ""),
        (how(a, open::DRAFT), ""),
        (tree(open::MKDIR), "file.tree.grant.b.mkdir"),
        (tree(open::RMDIR), ""),
        (tree(open::RENAME_FILE), "file.tree.grant.b.remove"),
        (tree(open::RENAME_FILE | open::MOVE), "file.tree.grant.b.move"),
        (tree(open::RENAME_DIRECTORY), ""),
        (how(a, 0), ""),
        (entry(Kind::Exit, Facility::None, 0, a), ""),
    ];
    for (entry, name) in cases {
        let rule = rules.find(&entry);
        let found = rules.names().get(rule as usize).map_or("", String::as_str);
        assert_eq!(found, name, "{entry:?}");
        assert_eq!(name.is_empty(), rule == Entry::NO_RULE);
    }
    let denial = Entry {
        peer: Who { layer: b, copy: 0, generation: 1 },
        ..entry(Kind::Denial, Facility::Syscall, 0, Who::SUPERVISOR.layer)
    };
    assert_eq!(rules.names()[rules.find(&denial) as usize], "layer.b.syscalls");
}

fn all_rules_of_one_act_are_told() {
    let rules = Rules::of(&plan());
    let told = |entry: &Entry| {
        let mut told = Vec::new();
        rules.each(entry, |rule| told.push(rules.names()[rule as usize].as_str()));
        told.sort_unstable();
        told
    };
    let file = Entry {
        method: u32::from(open::READ | open::WRITE | open::CREATE),
        ..entry(Kind::Broker, Facility::File, 0, 0)
    };
    let rights = ["file.key.grant.a.create", "file.key.grant.a.read", "file.key.grant.a.write"];
    assert_eq!(told(&file), rights);
    let mut batch = Entry { form: Form::Batch, ..entry(Kind::Use, Facility::Channel, 1, 0) };
    for (method, form) in [(0, Form::Request), (1, Form::Message), (1, Form::None)] {
        runs::encode(&Run { form, method, call: 0, messages: 2, trace: None }, &mut batch.detail);
    }
    assert_eq!(told(&batch), ["channel.sign.methods.key", "channel.sign.methods.sign"]);
}
