//! Every verb tells the same numbers, by the same names: random logs, counted here out of what
//! `query` lists, and by `stats`, `report` and the exports.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use serde_json::Value;

use crate::support::scene::{Scene, used, who};
use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Side, Verdict, Who};
use cofferdam::audit::runs::{self, Run};

crate::support::suite::tests! {
    every_verb_tells_the_same_of_random_logs,
    an_edge_is_asked_for_by_the_name_that_is_shown,
}

fn says(arguments: &[&str]) -> String {
    let out = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .arg("audit")
        .args(arguments)
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), &*err), (Some(0), ""), "{arguments:?}");
    String::from_utf8(out.stdout).unwrap()
}

fn policy() -> String {
    std::fs::read_to_string("policies/ten-ways.toml").unwrap()
}

/// One random record. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
struct Draw {
    what: u8,
    facility: u8,
    edge: u8,
    method: u8,
    side: u8,
    verdict: u8,
    form: u8,
    call: u8,
    length: u16,
    ends: (u8, u8),
    passed: u32,
}

fn draw() -> impl Strategy<Value = Draw> {
    let small = || any::<u8>();
    let first = (small(), small(), small(), small(), small(), small());
    (first, small(), 0_u8..6, any::<u16>(), (small(), small()), 0_u32..5_000_000).prop_map(
        |((what, facility, edge, method, side, verdict), form, call, length, ends, passed)| Draw {
            what,
            facility,
            edge,
            method,
            side,
            verdict,
            form,
            call,
            length,
            ends,
            passed,
        },
    )
}

fn pick<T: Copy>(all: &[T], number: u8) -> T {
    all[usize::from(number) % all.len()]
}

/// The edges of a kind that there are, and the layers of those that are a layer's own.
fn edges(scene: &Scene, facility: Facility) -> Vec<(u16, u16)> {
    let own = |count: fn(&cofferdam::policy::plan::LayerPlan) -> usize| {
        let layers = scene.plan.layers.iter().enumerate();
        let all = layers.flat_map(|(layer, plan)| (0..count(plan)).map(move |n| (n, layer)));
        all.map(|(n, layer)| (u16::try_from(n).unwrap(), u16::try_from(layer).unwrap())).collect()
    };
    let all = crate::support::scene::tables(&scene.plan);
    match facility {
        Facility::Listen => own(|plan| plan.listen.len()),
        Facility::Connect => own(|plan| plan.connect.len()),
        facility => {
            (0..u16::try_from(all.edges(facility).len()).unwrap()).map(|n| (n, 0)).collect()
        }
    }
}

fn put(scene: &mut Scene, draw: &Draw) {
    let layers = u8::try_from(scene.plan.layers.len()).unwrap();
    let instance = |n: u8| who(u16::from(n % layers), u64::from(n / layers % 2 + 1));
    let (reporter, peer) = (instance(draw.ends.0), instance(draw.ends.1));
    scene.pass(u64::from(draw.passed));
    match draw.what % 16 {
        0 => return scene.exit(reporter, u32::from(draw.verdict % 3)),
        1 => return scene.spawn(reporter),
        2 => {
            let denial = Entry { peer, method: u32::from(draw.method), ..Entry::new(Kind::Denial) };
            return scene.put(Entry { facility: Facility::Syscall, ..denial });
        }
        3 => return scene.alarm("something"),
        _ => {}
    }
    let facility = pick(Facility::ALL, draw.facility);
    let all = edges(scene, facility);
    let Some(&(number, owner)) = all.get(usize::from(draw.edge) % all.len().max(1)) else { return };
    let own = matches!(facility, Facility::Listen | Facility::Connect);
    let reporter = if own { Who { layer: owner, ..reporter } } else { reporter };
    let sides =
        [Side::None, Side::Sender, Side::Receiver, Side::Sender, Side::Receiver, Side::Witness];
    let verdicts = [Verdict::Allowed, Verdict::Allowed, Verdict::Allowed, Verdict::Refused];
    let verdicts = [&verdicts[..], &[Verdict::Failed, Verdict::Killed, Verdict::None]].concat();
    let mut entry = Entry {
        verdict: pick(&verdicts, draw.verdict),
        length: draw.length.into(),
        sequence: draw.call.into(),
        peer,
        ..used(facility, number, reporter, pick(&sides, draw.side))
    };
    match facility {
        Facility::Connect => (entry.edge, entry.method) = (0, number.into()),
        Facility::Channel => {
            let forms = [Form::Message, Form::Request, Form::Reply, Form::Refusal, Form::Batch];
            entry.form = pick(&forms, draw.form);
            let methods = scene.plan.channels[usize::from(number)].methods.len();
            entry.method = u32::try_from(usize::from(draw.method) % methods.max(1)).unwrap();
            entry.value = draw.call.into();
            // Two ends that speak of the same calls.
            let two = (who(0, 1), who(1, 1));
            (entry.reporter, entry.peer) =
                if draw.ends.0.is_multiple_of(2) { two } else { (two.1, two.0) };
            if entry.form == Form::Batch {
                let form = pick(&[Form::Message, Form::Request, Form::Reply], draw.method);
                let method = u16::try_from(entry.method).unwrap();
                let messages = u32::from(draw.form % 4 + 1);
                let call = if form == Form::Message { 0 } else { draw.call.into() };
                runs::encode(&Run { form, method, call, messages, trace: None }, &mut entry.detail);
                entry.value = messages;
            }
        }
        _ => entry.method = u32::from(draw.method % 3),
    }
    match draw.what % 16 {
        4 => entry.kind = Kind::Broker,
        5 => entry = Entry { kind: Kind::Loss, detail: Vec::new(), ..entry },
        _ => {}
    }
    scene.put(entry);
}

/// What is counted of an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counted {
    records: u64,
    sent: (u64, u64),
    received: (u64, u64),
    acts: u64,
    refused: u64,
    failed: u64,
    lost: u64,
    answered: u64,
    declined: u64,
    longest: u64,
}

impl Counted {
    fn messages(&self) -> u64 {
        self.sent.0.max(self.received.0) + self.acts
    }

    fn bytes(&self) -> u64 {
        self.sent.1.max(self.received.1)
    }
}

type ByEdge = BTreeMap<String, Counted>;

/// By hand, out of what `query` lists.
fn by_hand(records: &[Value]) -> ByEdge {
    let mut edges = ByEdge::new();
    let mut open = BTreeMap::new();
    for record in records {
        let word = |key: &str| record[key].as_str().unwrap_or_default();
        let number = |key: &str| record[key].as_u64().unwrap();
        if word("kind") == "exit" {
            let gone = record["peer"].to_string();
            open.retain(|(_, caller, callee, _): &(String, String, String, u64), _| {
                *caller != gone && *callee != gone
            });
        }
        let (Some(edge), kind) = (record["edge"].as_str(), word("kind")) else { continue };
        let (side, verdict) = (word("side"), word("verdict"));
        if !matches!(kind, "use" | "broker" | "loss") || kind == "use" && side == "witness" {
            continue;
        }
        let it = edges.entry(edge.to_owned()).or_default();
        if kind == "loss" {
            it.lost += number("length");
            continue;
        }
        it.records += 1;
        let ring = word("facility") == "region" && word("method") == "ring";
        let batch = record["batch"].as_array().unwrap();
        let messages = match (batch.as_slice(), ring) {
            ([], true) => number("length"),
            ([], false) => 1,
            (parts, _) => parts.iter().map(|part| part["messages"].as_u64().unwrap()).sum(),
        };
        let counts = word("facility") == "signal" || ring;
        let bytes = if counts { 0 } else { number("length") };
        let ends = kind == "use" && matches!(side, "sender" | "receiver");
        let of = if side == "sender" { &mut it.sent } else { &mut it.received };
        match verdict {
            "refused" | "killed" => it.refused += 1,
            "failed" => {
                it.failed += 1;
                if ends && matches!(word("facility"), "queue" | "mapped-file") {
                    *of = (of.0.saturating_sub(messages), of.1.saturating_sub(bytes));
                }
            }
            _ if ends => *of = (of.0 + messages, of.1 + bytes),
            _ => it.acts += 1,
        }
        if kind != "use" || word("facility") != "channel" {
            continue;
        }
        let parts: Vec<(&str, u64, u64)> = if batch.is_empty() {
            vec![(word("form"), number("value"), 1)]
        } else {
            let part = |it: &Value, key: &str| it[key].as_u64().unwrap();
            let parts = batch.iter();
            parts
                .map(|it| (it["form"].as_str().unwrap(), part(it, "call"), part(it, "messages")))
                .collect()
        };
        for (form, first, count) in parts {
            for call in first..first + count {
                let (me, other) = (record["reporter"].to_string(), record["peer"].to_string());
                let key = (edge.to_owned(), me, other, call);
                let at = record["reported"].as_u64().unwrap();
                if side == "sender" && form == "request" {
                    open.insert(key, at);
                } else if side == "receiver" && matches!(form, "reply" | "refusal") {
                    let Some(from) = open.remove(&key) else { continue };
                    it.answered += 1;
                    it.declined += u64::from(form == "refusal");
                    it.longest = it.longest.max(at - from);
                }
            }
        }
    }
    edges
}

fn by_stats(told: &Value) -> ByEdge {
    let edges = told["edges"].as_array().unwrap().iter();
    edges
        .map(|edge| {
            let number = |it: &Value| it.as_u64().unwrap_or(0);
            let pair = |it: &Value| (number(&it["messages"]), number(&it["bytes"]));
            let calls = &edge["calls"];
            let counted = Counted {
                records: number(&edge["records"]),
                sent: pair(&edge["sent"]),
                received: pair(&edge["received"]),
                acts: number(&edge["acts"]),
                refused: number(&edge["refused"]),
                failed: number(&edge["failed"]),
                lost: number(&edge["lost"]),
                answered: number(&calls["answered"]),
                declined: number(&calls["declined"]),
                longest: number(&calls["max_ns"]),
            };
            assert_eq!(number(&edge["messages"]), counted.messages(), "{edge}");
            assert_eq!(number(&edge["bytes"]), counted.bytes(), "{edge}");
            (edge["edge"].as_str().unwrap().to_owned(), counted)
        })
        .collect()
}

/// Of each edge's row of the report: records, messages, bytes, longest, refused, failed, lost.
fn by_report(page: &str) -> BTreeMap<String, [u64; 7]> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("<tr class=\"edge\"><td>"));
    rows.map(|row| {
        let name = row.split('<').next().unwrap().to_owned();
        let all: Vec<u64> = row
            .split("data-v=\"")
            .skip(1)
            .map(|it| it.split('"').next().unwrap().parse().unwrap())
            .collect();
        (name, [all[0], all[1], all[2], all[6], all[7], all[8], all[9]])
    })
    .collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn compare(dir: &Path) {
    let dir = dir.to_str().unwrap();
    let records = lines(&says(&["query", dir, "--format", "json"]));
    assert_eq!(lines(&says(&["export", dir, "--format", "json"])), records);
    let hand = by_hand(&records);
    let stats: Value = serde_json::from_str(&says(&["stats", dir, "--format", "json"])).unwrap();
    assert_eq!(by_stats(&stats), hand);
    let page = says(&["report", dir]);
    let rows: BTreeMap<_, _> = hand
        .iter()
        .map(|(name, it)| {
            let row = [it.records, it.messages(), it.bytes(), it.longest];
            let row = [&row[..], &[it.refused, it.failed, it.lost]].concat();
            (name.clone(), <[u64; 7]>::try_from(row).unwrap())
        })
        .collect();
    assert_eq!(by_report(&page), rows);

    let sum = |key: &str| -> u64 {
        stats["layers"].as_array().unwrap().iter().map(|it| it[key].as_u64().unwrap()).sum()
    };
    let card = |what: &str| -> u64 {
        let end = page.find(&format!("</b>{what}</li>")).unwrap();
        let begin = page[..end].rfind("<b>").unwrap() + 3;
        page[begin..end].replace(',', "").parse().unwrap()
    };
    let of = |kinds: &[&str], verdicts: &[&str]| {
        let word = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
        let wanted = |it: &&Value| {
            kinds.contains(&&*word(it, "kind"))
                && (verdicts.is_empty() || verdicts.contains(&&*word(it, "verdict")))
                && word(it, "side") != "witness"
        };
        records.iter().filter(wanted).count() as u64
    };
    let refused = of(&["use", "broker"], &["refused", "killed"]);
    assert_eq!((sum("refused"), card("refusals")), (refused, refused));
    let denials = of(&["denial"], &[]);
    assert_eq!((sum("denials"), card("kernel denials")), (denials, denials));
    let lives = of(&["spawn"], &[]);
    assert_eq!((sum("lives"), card("lives")), (lives, lives));
    assert_eq!((sum("failures"), sum("lost")), (card("ended badly"), card("reports lost")));
    assert_eq!(stats["records"], records.len());

    let trace: Value = serde_json::from_str(&says(&["export", dir, "--format", "chrome"])).unwrap();
    let mut calls: BTreeMap<String, u64> = BTreeMap::new();
    for event in trace["traceEvents"].as_array().unwrap() {
        if event["ph"] == "b" && event["cat"] == "call" {
            let name = event["name"].as_str().unwrap();
            let edge = name.rsplit_once('.').unwrap().0;
            *calls.entry(edge.to_owned()).or_default() += 1;
        }
    }
    let answered = hand.into_iter().filter(|(_, it)| it.answered > 0);
    assert_eq!(calls, answered.map(|(name, it)| (name, it.answered)).collect());
}

fn every_verb_tells_the_same_of_random_logs() {
    let cases = ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(cases);
    let calls = std::cell::Cell::new(0);
    let done = runner.run(&prop::collection::vec(draw(), 20..400), |draws| {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Scene::begin(folder.path(), &policy());
        for draw in &draws {
            put(&mut scene, draw);
        }
        scene.end();
        compare(folder.path());
        Ok(())
    });
    done.unwrap();
    // The same with a long log, in which all that can be met is.
    proptest!(ProptestConfig::with_cases(1), |(draws in prop::collection::vec(draw(), 4_000))| {
        let folder = tempfile::tempdir().unwrap();
        let mut scene = Scene::begin(folder.path(), &policy());
        for draw in &draws {
            put(&mut scene, draw);
        }
        let call = scene.call("talk", "doze", who(0, 1), who(1, 1), 10);
        scene.pass(7_000);
        scene.answer(call, Form::Reply, 20, 0);
        scene.end();
        compare(folder.path());
        let dir = folder.path().to_str().unwrap();
        let stats = says(&["stats", dir, "--format", "json"]);
        let counted = by_stats(&serde_json::from_str(&stats).unwrap());
        calls.set(counted.values().map(|it| it.answered).sum::<u64>());
        let kinds = counted.keys().map(|name| name.split('.').next().unwrap());
        let kinds: std::collections::BTreeSet<_> = kinds.collect();
        assert!(kinds.len() >= 9, "{kinds:?}");
    });
    assert!(calls.get() > 0);
}

fn an_edge_is_asked_for_by_the_name_that_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let text = "cofferdam = 1\nname = \"doors\"\n\
                [layer.one]\nrun = \"one\"\nsyscalls = [\"@core\"]\n\
                listen = { a = \"tcp:127.0.0.1:1080\", b = \"tcp:127.0.0.1:1081\" }\n\
                [layer.two]\nrun = \"two\"\nsyscalls = [\"@core\"]\n\
                listen = { a = \"tcp:127.0.0.1:1082\" }\n\
                connect = { x = \"tcp:127.0.0.1:1083\", y = \"tcp:127.0.0.1:1084\" }\n";
    let mut scene = Scene::begin(folder.path(), text);
    let numbers = [("one.a", 0, 0, 1), ("one.b", 0, 1, 2), ("two.a", 1, 0, 3)];
    for (_, layer, number, count) in numbers {
        for _ in 0..count {
            scene.put(used(Facility::Listen, number, who(layer, 1), Side::Receiver));
        }
    }
    for (number, count) in [(0, 4), (1, 5)] {
        for _ in 0..count {
            let asked = used(Facility::Connect, 0, who(1, 1), Side::None);
            scene.put(Entry { kind: Kind::Broker, method: number, ..asked });
        }
    }
    scene.end();
    let dir = folder.path().to_str().unwrap();
    let named = |name: &str| {
        let told = lines(&says(&["query", dir, "--edge", name, "--format", "json"]));
        assert!(told.iter().all(|it| it["edge"] == name), "{told:?}");
        let stats = says(&["stats", dir, "--edge", name, "--format", "json"]);
        let stats: Value = serde_json::from_str(&stats).unwrap();
        assert_eq!(stats["edges"][0]["edge"], name);
        told.len()
    };
    for (name, _, _, count) in numbers {
        assert_eq!(named(&format!("listen.{name}")), count);
    }
    assert_eq!((named("connect.two.x"), named("connect.two.y")), (4, 5));
    let all = says(&["query", dir, "--edge", "listen"]);
    assert_eq!(all.lines().count(), 6);
    let out = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "query", dir, "--edge", "listen.three.a"])
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2));
    assert!(err.contains("there are one.a, one.b, two.a"), "{err}");
}
