//! The ways of requests, each as steps beneath each other with bars for their time.

use std::fmt::Write;
use std::sync::Arc;

use super::html::text;
use super::show::{duration, moment, number};
use super::story::Story;
use crate::audit::entry::{Entry, Facility, Kind, Who};
use crate::audit::tables::Tables;
use crate::audit::ways::{Step, Way, What};
use crate::cli::audit::names;
use crate::cli::audit::traffic::EdgeId;

/// Beneath each other, each on a scale of its own.
pub(super) fn newest(story: &Story, ways: &[Arc<Way>]) -> String {
    let mut out = String::new();
    for way in ways {
        one(way, story.names.at(way.record), span(way), "", &mut out);
    }
    out
}

/// On one scale, and those that are alike as one: the slowest of them.
pub(super) fn slowest(story: &Story, ways: &[Arc<Way>]) -> String {
    let scale = ways.iter().map(|way| span(way)).max().unwrap_or(1);
    let mut groups: Vec<(Vec<Shape>, Vec<&Way>)> = Vec::new();
    for way in ways {
        let shape = shape(story, way);
        match groups.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, alike)) => alike.push(way),
            None => groups.push((shape, vec![way])),
        }
    }
    let mut out = String::new();
    for (_, alike) in &groups {
        let Some((way, others)) = alike.split_first() else { continue };
        let more = match others {
            [] => String::new(),
            [other] => format!("and one like it, {}", duration(other.took())),
            [first, .., last] => format!(
                "and {} like it, {} to {}",
                others.len(),
                duration(last.took()),
                duration(first.took())
            ),
        };
        one(way, story.names.at(way.record), scale, &more, &mut out);
    }
    out
}

/// What makes two steps alike: from where, over which edge and which method, and behind which step.
type Shape = (String, Option<usize>);

/// The steps in the order of the page.
fn shape(story: &Story, way: &Way) -> Vec<Shape> {
    let tables = story.names.at(way.record);
    let order = order(way);
    let place = |step: usize| order.iter().position(|at| *at == step);
    // One copy of a layer is as good as another.
    let shape =
        |&at: &usize| (line(&way.steps[at], tables, false), way.steps[at].parent.and_then(place));
    order.iter().map(shape).collect()
}

/// How long its picture is, in nanoseconds.
fn span(way: &Way) -> u64 {
    way.last.saturating_sub(way.begun()).max(1)
}

fn one(way: &Way, tables: &Tables, span: u64, more: &str, out: &mut String) {
    let Some(first) = way.steps.first() else { return };
    let took = way.took();
    let unsure = if way.unsure() { "<span class=\"tag\">mixed</span>" } else { "" };
    let _ = writeln!(
        out,
        "<div class=\"way\"><p><b>{}</b> {} <span class=\"dim\">{} · record {}{}</span>{unsure}</p>",
        text(&duration(took)),
        text(&line(first, tables, true)),
        text(&moment(way.at)),
        text(&number(way.record)),
        way.trace.map_or_else(String::new, |it| format!(" · trace {}", it.hexadecimal())),
    );
    let mut depths: Vec<usize> = Vec::with_capacity(way.steps.len());
    // Steps stand beneath the one from which they followed.
    for at in order(way) {
        let step = &way.steps[at];
        let depth = step.parent.and_then(|parent| depths.get(parent)).map_or(0, |depth| depth + 1);
        if depths.len() <= at {
            depths.resize(at + 1, 0);
        }
        depths[at] = depth;
        let begin = step.begun.saturating_sub(way.begun()).min(span);
        let lasted = step.ended.map(|end| end.saturating_sub(step.begun));
        let part = |value: u64| {
            let thousandths = u128::from(value.min(span)) * 1_000 / u128::from(span);
            format!("{}.{}%", thousandths / 10, thousandths % 10)
        };
        let class = match step {
            Step { refused: true, .. } => "bar bad",
            Step { what: What::Request, .. } => "bar",
            _ => "bar one-way",
        };
        let _ = writeln!(
            out,
            "<div class=\"step\"><span class=\"what d{}{}\">{}{}</span>\
             <span class=\"track\"><i class=\"{class}\" style=\"left:{};width:{}\"></i></span>\
             <span class=\"n\">{}</span></div>",
            depth.min(8),
            if at == 0 || step.certain { "" } else { " by-time" },
            text(&line(step, tables, true)),
            if step.unsure { " <span class=\"tag\">unsure</span>" } else { "" },
            part(begin),
            part(lasted.unwrap_or(0)),
            text(&lasted.map_or_else(|| "no answer".to_owned(), duration)),
        );
    }
    if !more.is_empty() {
        let _ = writeln!(out, "<p class=\"dim alike\">{}</p>", text(more));
    }
    if way.more > 0 {
        let _ = writeln!(out, "<p class=\"dim\">and {} steps more</p>", text(&number(way.more)));
    }
    out.push_str("</div>\n");
}

/// The steps so that each stands behind the one from which it followed, in the order of time.
fn order(way: &Way) -> Vec<usize> {
    let mut order = Vec::with_capacity(way.steps.len());
    let mut waiting = vec![0];
    while let Some(at) = waiting.pop() {
        order.push(at);
        let follow = (0..way.steps.len()).rev().filter(|n| way.steps[*n].parent == Some(at));
        waiting.extend(follow);
    }
    order
}

/// `parser → keeper sign` and so on; with the copies' numbers, if that is asked for.
fn line(step: &Step, tables: &Tables, copies: bool) -> String {
    let layer = |who: Who| {
        names::instance(tables, who).map_or_else(String::new, |it| match it.copy {
            copy if copy == 0 || !copies => it.layer.into_owned(),
            copy => format!("{}/{copy}", it.layer),
        })
    };
    let place = Entry {
        facility: step.facility,
        edge: step.edge,
        method: step.method,
        reporter: if step.from == Who::NOBODY { step.to } else { step.from },
        ..Entry::new(Kind::Use)
    };
    let edge = EdgeId::of(&place).and_then(|place| names::edge(tables, place)).unwrap_or_default();
    // A file that is opened without the broker is opened for the same things.
    let asked = step.what == What::Asked || step.facility == Facility::File;
    let kind = if asked { Kind::Broker } else { Kind::Use };
    let method = match step.facility {
        Facility::Connect => None,
        facility => names::method(tables, kind, (facility, step.edge), step.method),
    };
    let method = method.map_or_else(String::new, |name| format!(" {name}"));
    let (from, to) = (layer(step.from), layer(step.to));
    if step.facility == Facility::None {
        return format!("{from}: a request from outside");
    }
    let ends = match (from.is_empty(), to.is_empty()) {
        (false, false) => format!("{from} → {to}"),
        (true, false) => match step.facility {
            Facility::Listen | Facility::Fifo => format!("outside → {to}"),
            _ => format!("→ {to}"),
        },
        _ => from,
    };
    let refused = if step.refused { ", refused" } else { "" };
    format!("{ends}: {edge}{method}{refused}")
}
