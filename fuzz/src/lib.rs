//! What the fuzz targets do with bytes: everything that reads them, and what must then hold.
//!
//! ```text
//! cargo fuzz run -s none policy fuzz/corpus/policy policies tests/policies/bad
//! cargo fuzz run -s none record -- -max_total_time=300
//! cargo +nightly fuzz run control        with the address sanitizer
//! ```
//!
//! `-s none` is for a stable compiler. What is found on the way goes to the first directory, where
//! git ignores it.
//!
//! `tests/language/fuzz_smoke.rs` takes in this file, and replays the seeds and changes of them without
//! cargo-fuzz. So a mistake that fuzzing finds becomes a seed: a file `seed-*` in the corpus.

use std::collections::BTreeMap;

use cofferdam::confine::filter::{Arch, Verdict, compile};
use cofferdam::confine::receipt::Receipt;
use cofferdam::policy;
use cofferdam::policy::plan::{Plan, SyscallPlan};
use cofferdam::policy::syscall::meaning::permits;
use cofferdam::policy::syscall::name_of;
use cofferdam::policy::ways::Ways;
use cofferdam::review;
use cofferdam::review::can::can;
use cofferdam::review::diff::diff;
use cofferdam::review::export;
use cofferdam::review::graph::Graph;
use cofferdam::wire::control::{FromLayer, MAX_CONTROL, ToLayer};
use cofferdam::wire::record::{Frame, HEADER, Head, Kind, Opening};

/// Bytes as a policy: document, checker, plan, filters, printing, and what questions they answer.
pub fn policy(bytes: &[u8]) {
    let checked = policy::check("fuzz.toml", bytes);
    let told = checked.render(false);
    assert!(!told.contains('\u{1b}'), "a message passes escape sequences on");
    let _ = checked.json();
    let Some(plan) = checked.plan else {
        assert!(
            checked.diagnostics.iter().any(|item| !item.message.is_empty()),
            "refused silently"
        );
        return;
    };
    let packed = postcard::to_stdvec(&plan).expect("every plan can be packed");
    let again: Plan = postcard::from_bytes(&packed).expect("and unpacked");
    assert_eq!(again, plan);
    let id = plan.id().expect("every plan has a digest");
    for layer in &plan.layers {
        filter(&layer.syscalls);
    }
    let printed = policy::check("printed.toml", policy::print(&plan).as_bytes());
    assert_eq!(printed.plan.map(|plan| plan.id()), Some(Ok(id)), "printing changes the policy");
    questions(&plan);
}

/// What people ask about an accepted policy: it is answered, and a picture holds no control
/// characters.
fn questions(plan: &Plan) {
    let ways = Ways::of(plan);
    for layer in &plan.layers {
        let account = review::explain(plan, layer, &ways);
        assert!((0.0..=10.0).contains(&account.exposure.score), "{}", account.exposure.score);
        let _ = export::systemd(plan, layer);
        let _ = export::oci_seccomp(plan, layer);
        for file in &plan.files {
            let object = format!("file.{}", file.name);
            let answer = can(plan, layer.name.as_str(), "open", &object).expect("a sound question");
            assert_eq!(answer.yes, file.grant.contains_key(&layer.name));
        }
    }
    let graph = Graph::new(plan, &|layer| review::exposure(layer, &ways).score);
    for picture in [graph.svg(), graph.dot(), graph.mermaid()] {
        assert!(!picture.contains(|c: char| c.is_control() && c != '\n'), "{picture:?}");
    }
    assert!(diff(plan, plan).is_empty(), "a policy differs from itself");
}

/// The filter of an accepted layer compiles, and answers as its plan means.
fn filter(plans: &[SyscallPlan]) {
    let filter = compile(plans, Arch::NATIVE).expect("an accepted layer has a filter");
    let known: BTreeMap<u32, &SyscallPlan> = plans.iter().map(|plan| (plan.number, plan)).collect();
    // A few of all numbers: `tests/language/properties.rs` asks every one.
    let numbers = known.keys().copied().chain([3, 200, 470, 600, 0x4000_0000, u32::MAX]);
    for number in numbers {
        for arguments in [[0; 6], [1; 6], [u64::MAX; 6], [u64::from(u32::MAX); 6]] {
            let expected = match known.get(&number) {
                None if number < 0x4000_0000 && name_of(number).is_none() => Verdict::Errno(38),
                None => Verdict::Kill,
                Some(plan) if permits(plan, &arguments) => Verdict::Allow,
                Some(plan) => plan.otherwise.map_or(Verdict::Kill, Verdict::Errno),
            };
            assert_eq!(filter.evaluate(Arch::NATIVE.audit(), number, arguments), expected);
        }
    }
}

/// Bytes as a record that was opened: what decodes encodes to the same bytes.
pub fn record(bytes: &[u8]) {
    if let Ok(head) = Head::decode(bytes) {
        assert_eq!(head.encode(), bytes[..HEADER]);
        let body = &bytes[HEADER..];
        if head.kind == Kind::Batch {
            frames(body);
        } else if let Ok(opening) = Opening::decode(head, body) {
            let mut again = Vec::new();
            opening.encode(head.kind, &mut again);
            assert_eq!(again, body);
        }
    }
    frames(bytes);
}

fn frames(bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let before = rest;
        let Ok(frame) = Frame::decode(&mut rest) else { break };
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(again, before[..before.len() - rest.len()]);
    }
}

/// Bytes as what a layer tells its supervisor, and as what the supervisor tells it.
pub fn control(bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(MAX_CONTROL)];
    if let Some(message) = FromLayer::decode(bytes) {
        match &message {
            // Text that was no UTF-8 is replaced, so it may read back otherwise, but it reads.
            FromLayer::Failed(_) | FromLayer::Log { .. } => {
                assert!(FromLayer::decode(&message.encode()).is_some());
            }
            FromLayer::Ready { receipt, .. } => {
                if let Some(known) = Receipt::from_bytes(receipt) {
                    assert_eq!(known.to_bytes(), *receipt, "two receipts say the same");
                    let _ = known.summary();
                }
                assert_eq!(message.encode(), bytes);
            }
            _ => assert_eq!(message.encode(), bytes),
        }
    }
    if let Ok(message) = postcard::from_bytes::<ToLayer>(bytes) {
        let packed = postcard::to_stdvec(&message).expect("what was read can be written");
        assert_eq!(postcard::from_bytes::<ToLayer>(&packed).as_ref(), Ok(&message));
    }
}
