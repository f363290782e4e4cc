//! Checking orders: methods that wait for others, layers that call each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::code::Code;
use crate::policy::diagnostic::{Diagnostics, Span};
use crate::policy::document::{Document, MethodText};
use crate::policy::nearest::nearest;
use crate::policy::plan::{Direction, MethodPlan};

/// Fills in what comes after what. `plans` are sorted by name.
pub(super) fn methods(texts: &[MethodText], plans: &mut [MethodPlan], out: &mut Diagnostics) {
    let places: BTreeMap<String, usize> =
        plans.iter().enumerate().map(|(at, plan)| (plan.name.as_str().to_owned(), at)).collect();
    let mut waits: BTreeMap<usize, (usize, &Span)> = BTreeMap::new();
    for method in texts {
        let Some(after) = &method.after else { continue };
        let Some(place) = places.get(&after.value) else {
            let message = format!("there is no method `{}`", after.value.escape_debug());
            let near = nearest(&after.value, places.keys().map(String::as_str));
            out.error(Code::UnknownMethod, &after.span, message)
                .label("this method could never be called")
                .did_you_mean(near);
            continue;
        };
        let Some(own) = places.get(&method.name.value) else { continue };
        if let (Some(plan), Some(first)) = (plans.get(*own), plans.get(*place))
            && plan.direction != first.direction
        {
            out.error(
                Code::UnknownMethod,
                &after.span,
                "a method after one of the other direction",
            )
            .label("the other end sends that one")
            .help("each end keeps an order of its own: name one of the same direction");
        }
        waits.insert(*own, (*place, &after.span));
        if let (Some(plan), Ok(place)) = (plans.get_mut(*own), u16::try_from(*place)) {
            plan.after = Some(place);
        }
    }
    let mut told = BTreeSet::new();
    for start in waits.keys() {
        let (mut at, mut way) = (*start, vec![*start]);
        while let Some((next, span)) = waits.get(&at) {
            if next == start {
                if way.iter().all(|one| told.insert(*one)) {
                    out.error(Code::MethodCycle, span, "methods that wait for each other")
                        .label("none of them could ever be called")
                        .help("one of them must come first: take out its `after`");
                }
                break;
            }
            if way.contains(next) {
                break;
            }
            way.push(*next);
            at = *next;
        }
    }
}

/// Layers that wait for each other's answers in a circle can all stop at once.
pub(super) fn calls(document: &Document, out: &mut Diagnostics) {
    let edges = calls_of(document);
    let mut finished = BTreeSet::new();
    for start in edges.keys().copied() {
        circle(start, &edges, &mut finished, out);
    }
}

/// Who calls whom and waits for the answer.
pub(super) fn calls_of(document: &Document) -> Edges<'_> {
    let mut edges: Edges<'_> = BTreeMap::new();
    for channel in &document.channels {
        let (Some(from), Some(to)) = (&channel.from, &channel.to) else { continue };
        let back = |method: &MethodText| {
            method.direction.as_ref().is_some_and(|way| way.value == Direction::Back)
        };
        // Without named methods nothing is known to be a call; those of `back` are one-way.
        let calls = channel.methods.as_ref().is_some_and(|list| !list.value.iter().all(back));
        if calls && from.value != to.value {
            let edge = (to.value.as_str(), &channel.name.span, channel.name.value.as_str());
            edges.entry(&from.value).or_default().push(edge);
        }
    }
    edges
}

/// The calls of each layer: whom it calls, where the channel is, and its name.
pub(super) type Edges<'d> = BTreeMap<&'d str, Vec<(&'d str, &'d Span, &'d str)>>;

/// A layer on the way, which of its calls comes next, and the channel by which it was reached.
type On<'d> = (&'d str, usize, Option<(&'d Span, &'d str)>);

/// Walks depth first without recursion; an edge to a layer on the way closes a circle.
fn circle<'d>(
    start: &'d str,
    edges: &Edges<'d>,
    finished: &mut BTreeSet<&'d str>,
    out: &mut Diagnostics,
) {
    let mut way: Vec<On<'_>> = vec![(start, 0, None)];
    while let Some((layer, next, _)) = way.last_mut() {
        let (layer, index) = (*layer, *next);
        *next += 1;
        let edge = edges.get(layer).and_then(|list| list.get(index)).filter(|_| {
            // What was walked before holds no new circle.
            !finished.contains(layer)
        });
        let Some((to, span, channel)) = edge.copied() else {
            finished.insert(layer);
            way.pop();
            continue;
        };
        if let Some(at) = way.iter().position(|(on_way, ..)| *on_way == to) {
            let on_way = way[at..].iter().map(|(name, ..)| *name).chain([to]);
            let names: Vec<_> = on_way.map(|name| name.escape_debug().to_string()).collect();
            let message = format!("layers call each other in a circle: {}", names.join(" -> "));
            let mistake = out.error(Code::CallCycle, span, message);
            mistake.label("this call closes the circle");
            for (_, _, by) in way[at..].iter().skip(1) {
                if let Some((span, name)) = by {
                    mistake.also(span, format!("it comes here through `{}`", name.escape_debug()));
                }
            }
            mistake.help(
                "answer later with a method of `direction = \"back\"`, which waits for nothing",
            );
        } else if !finished.contains(to) {
            way.push((to, 0, Some((span, channel))));
        }
    }
}
