//! Tests of ways, on plans made of a few facilities.

use super::*;
use crate::policy::check;
use crate::policy::plan::{Audit, PipePlan, SignalPlan};

/// a calls b, b calls c; c reads the key.
fn chain() -> Plan {
    let text = r#"
        cofferdam = 1
        name = "t"
        [layer.a]
        run = "a"
        syscalls = ["@core"]
        [layer.b]
        run = "b"
        syscalls = ["@core"]
        [layer.c]
        run = "c"
        syscalls = ["@core"]
        [channel.ab]
        from = "a"
        to = "b"
        methods = { ask = { max = "1KiB" } }
        [channel.bc]
        from = "b"
        to = "c"
        methods = { sign = { max = "1KiB" } }
        [file.key]
        path = "/etc/t/key"
        grant = { c = ["read"] }
    "#;
    check("t", text.as_bytes()).plan.unwrap()
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn way(plan: &Plan, from: &str, object: &str, except: &[&str]) -> Option<Vec<String>> {
    let except: Vec<Name> = except.iter().map(|text| name(text)).collect();
    let steps = reach(plan, from, object, &except)?;
    Some(steps.iter().map(ToString::to_string).collect())
}

#[test]
fn a_way_goes_through_those_between() {
    let plan = chain();
    let steps = way(&plan, "a", "file.key", &[]).unwrap();
    let expected = ["a calls ask on channel.ab", "b calls sign on channel.bc", "c reads file.key"];
    assert_eq!(steps, expected);
    assert_eq!(way(&plan, "c", "file.key", &[]).unwrap(), ["c reads file.key"]);
    assert_eq!(way(&plan, "a", "layer.c", &[]).unwrap(), expected[..2]);
    assert_eq!(way(&plan, "a", "file.lock", &[]), None);
    assert_eq!(way(&plan, "z", "file.key", &[]), None);
}

#[test]
fn tolerated_ways_do_not_count() {
    let plan = chain();
    assert_eq!(way(&plan, "a", "file.key", &["c"]), None);
    assert_eq!(way(&plan, "a", "file.key", &["b"]), None);
    // Where a way begins, and the layer that is itself the object, are not on the way.
    assert!(way(&plan, "c", "file.key", &["c"]).is_some());
    assert!(way(&plan, "a", "layer.c", &["c"]).is_some());
    assert_eq!(way(&plan, "a", "layer.c", &["b"]), None);
}

#[test]
fn answers_move_the_one_that_asked() {
    let plan = chain();
    assert_eq!(
        way(&plan, "b", "channel.ab.ask", &[]).unwrap(),
        ["b answers channel.ab.ask"],
        "what it may do by itself is nearer"
    );
    assert_eq!(
        way(&plan, "c", "layer.a", &[]).unwrap(),
        ["c answers b on channel.bc", "b answers a on channel.ab"]
    );
}

#[test]
fn a_one_way_pipe_moves_its_reader_and_tells_it() {
    let mut plan = chain();
    plan.channels.clear();
    plan.facilities.pipes.push(PipePlan {
        name: name("log"),
        from: name("c"),
        to: name("a"),
        raw: false,
        capacity: 4096,
        rate: None,
        audit: Audit::Digest,
    });
    assert_eq!(way(&plan, "c", "layer.a", &[]).unwrap(), ["c sends to a through pipe.log"]);
    assert_eq!(way(&plan, "a", "layer.c", &[]), None);
    // a cannot move c, but what c reads may come to it.
    let told = ["c reads file.key", "c sends to a through pipe.log"];
    assert_eq!(way(&plan, "a", "file.key", &[]).unwrap(), told);
    assert_eq!(way(&plan, "a", "file.key", &["c"]), None);
    assert_eq!(way(&plan, "a", "syscall.read", &[]).unwrap().len(), 1);
}

#[test]
fn a_signal_moves_and_tells_nothing() {
    let mut plan = chain();
    plan.channels.clear();
    plan.facilities.signals.push(SignalPlan {
        name: name("reload"),
        from: name("c"),
        to: name("a"),
        send: vec![1],
        rate: None,
        audit: Audit::Digest,
    });
    assert_eq!(way(&plan, "c", "layer.a", &[]).unwrap(), ["c signals a by signal.reload"]);
    assert_eq!(way(&plan, "a", "file.key", &[]), None);
}

#[test]
fn a_file_moves_its_readers_also_from_above() {
    let text = r#"
        cofferdam = 1
        name = "t"
        [layer.a]
        run = "a"
        syscalls = ["@core"]
        [layer.b]
        run = "b"
        syscalls = ["@core"]
        [file.all]
        path = "/srv/t"
        grant = { a = ["create"] }
        [file.one]
        path = "/srv/t/sub/one"
        grant = { b = ["read"] }
    "#;
    let plan = check("t", text.as_bytes()).plan.unwrap();
    let steps = way(&plan, "a", "layer.b", &[]).unwrap();
    assert_eq!(steps, ["a creates files in file.all, where file.one lies, which b reads"]);
    assert_eq!(way(&plan, "b", "layer.a", &[]), None);
}
