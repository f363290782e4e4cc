//! Permits and calls that wait for each other: warnings, for no policy says whether a layer holds
//! a permit when it calls.
//!
//! A layer that takes several permits is kept in their order by the supervisor. A call leads around
//! that order: who answers it may need the permit that the caller holds. What waits for what:
//!
//! | from | to | because |
//! |---|---|---|
//! | semaphore | layer | a holder may call the layer before it gives the permit back |
//! | semaphore | semaphore | a holder may lease the other, which is later in the order |
//! | layer | layer | it may call on before it answers |
//! | layer | semaphore | it may lease a permit before it answers |
//!
//! A circle in it is a wait without an end. A semaphore with a `lease` is left out: nobody waits
//! for it for ever.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::order::calls_of;
use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{Document, SemaphoreText};

/// Who has a permit, or answers calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Node<'d> {
    Semaphore(&'d str),
    Layer(&'d str),
}

/// That one waits for another: where the policy lets it, and why in words.
#[derive(Clone)]
struct Wait<'d> {
    on: Node<'d>,
    span: &'d Span,
    words: String,
}

/// What each waits for.
type Waits<'d> = BTreeMap<Node<'d>, Vec<Wait<'d>>>;

/// Tells the circles, the shortest first and none that another one is part of.
pub(super) fn all(document: &Document, out: &mut Diagnostics) {
    let waits = waits(document);
    // Each has a call under a permit, or there would be no circle; the message begins there.
    let calls = waits.iter().flat_map(|(node, all)| all.iter().map(|wait| (*node, wait)));
    let mut circles: Vec<Vec<&Wait<'_>>> = calls
        .filter(|(node, wait)| matches!((node, wait.on), (Node::Semaphore(_), Node::Layer(_))))
        .filter_map(|(node, wait)| circle(node, wait, &waits))
        .collect();
    circles.sort_by_key(Vec::len);
    let mut told: Vec<BTreeSet<Node<'_>>> = Vec::new();
    for circle in circles {
        let nodes = circle.iter().map(|wait| wait.on).collect();
        if !told.iter().any(|part| part.is_subset(&nodes)) {
            tell(&circle, out);
            told.push(nodes);
        }
    }
}

fn waits(document: &Document) -> Waits<'_> {
    let calls = calls_of(document);
    let endless: Vec<_> = document.semaphores.iter().filter(|it| it.lease.is_none()).collect();
    let mut waits = Waits::new();
    for semaphore in &endless {
        let name = semaphore.name.value.as_str();
        let held = name.escape_debug();
        for holder in holders(semaphore) {
            let me = holder.0.escape_debug();
            for (to, span, _) in calls.get(holder.0).into_iter().flatten() {
                let words = format!("`{me}` may call while it holds `semaphore.{held}`");
                let wait = Wait { on: Node::Layer(to), span, words };
                waits.entry(Node::Semaphore(name)).or_default().push(wait);
            }
            for later in endless.iter().filter(|it| comes_after(semaphore, it)) {
                let Some((_, span)) = holders(later).find(|it| it.0 == holder.0) else { continue };
                let words = format!("`{me}` may lease it while it holds `semaphore.{held}`");
                let wait = Wait { on: Node::Semaphore(&later.name.value), span, words };
                waits.entry(Node::Semaphore(name)).or_default().push(wait);
            }
            let words = format!("`{me}` may lease it before it answers");
            let wait = Wait { on: Node::Semaphore(name), span: holder.1, words };
            waits.entry(Node::Layer(holder.0)).or_default().push(wait);
        }
    }
    for (layer, calls) in &calls {
        for (to, span, _) in calls {
            let words = format!("`{}` may call on before it answers", layer.escape_debug());
            let wait = Wait { on: Node::Layer(to), span, words };
            waits.entry(Node::Layer(layer)).or_default().push(wait);
        }
    }
    waits
}

fn holders(semaphore: &SemaphoreText) -> impl Iterator<Item = (&str, &Span)> {
    let holders = semaphore.holders.iter().flat_map(|list| &list.value);
    holders.map(|one| (one.value.as_str(), &one.span))
}

/// Whether a layer that holds the first may lease the later one.
fn comes_after(first: &SemaphoreText, later: &SemaphoreText) -> bool {
    let (first, later) = (first.order.as_ref(), later.order.as_ref());
    first.zip(later).is_some_and(|(first, later)| first.value < later.value)
}

/// The shortest circle that begins with a wait of `start`.
fn circle<'w, 'd>(
    start: Node<'d>,
    first: &'w Wait<'d>,
    waits: &'w Waits<'d>,
) -> Option<Vec<&'w Wait<'d>>> {
    let mut by: BTreeMap<Node<'d>, (Node<'d>, &'w Wait<'d>)> = BTreeMap::new();
    let mut waiting = VecDeque::from([first.on]);
    by.insert(first.on, (start, first));
    while let Some(at) = waiting.pop_front() {
        for wait in waits.get(&at).into_iter().flatten() {
            if let Entry::Vacant(unseen) = by.entry(wait.on) {
                unseen.insert((at, wait));
                waiting.push_back(wait.on);
            }
        }
    }
    let (mut at, last) = *by.get(&start)?;
    let mut way = vec![last];
    while at != start {
        let (before, wait) = by[&at];
        way.push(wait);
        at = before;
    }
    way.reverse();
    Some(way)
}

fn tell(circle: &[&Wait<'_>], out: &mut Diagnostics) {
    let ([first, rest @ ..], Some(last)) = (circle, circle.last()) else { return };
    let names = std::iter::once(last).chain(circle).map(|wait| match wait.on {
        Node::Semaphore(name) => format!("semaphore.{}", name.escape_debug()),
        Node::Layer(name) => name.escape_debug().to_string(),
    });
    let names: Vec<_> = names.collect();
    let message = format!("a permit and a call can wait for each other: {}", names.join(" -> "));
    let mistake = out.warning(Code::PermitAndCall, first.span, message);
    mistake.label(&first.words);
    for wait in rest {
        mistake.also(wait.span, &wait.words);
    }
    mistake
        .help("give the permit back before the call, or take one of these grants out")
        .help("or add a `lease` to the semaphore: the wait ends when the permit runs out");
}
