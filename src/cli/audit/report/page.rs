//! The page: its sections, its style and the little script that sorts tables.

use std::fmt::Write;

use base64::Engine;
use sha2::{Digest, Sha256};

use super::html::{Cell, Table, excerpt, text};
use super::show::{bytes, duration, moment, number, rate, short};
use super::story::{Groups, Story};
use super::{draw, ways};
use crate::audit::entry::Kind;
use crate::audit::usage::unaudited;
use crate::cli::audit::traffic::Count;
use crate::policy::ways::Ways;
use crate::review::exposure;
use crate::review::graph::{Graph, Traffic};

const HEAD: &str = include_str!("head.html");
const SHEET: &str = include_str!("report.css");
const SCRIPT: &str = include_str!("report.js");
/// The most rows of a table.
const ROWS: usize = 250;

/// The whole page.
pub(super) fn page(story: &Story) -> String {
    let daemon = text(&story.tables().daemon);
    let digest = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT));
    // The name comes last: it may be anything.
    let head = HEAD.replace("{digest}", &digest).replace("{sheet}", SHEET);
    let mut out = head.replace("{daemon}", &daemon);
    summary(story, &daemon, &mut out);
    topology(story, &mut out);
    edges(story, &mut out);
    time(story, &mut out);
    trouble(story, &mut out);
    unused(story, &mut out);
    requests(story, &mut out);
    let _ = write!(out, "</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    out
}

fn section(title: &str, id: &str, out: &mut String) {
    let _ = writeln!(out, "<h2 id=\"{id}\">{title}</h2>");
}

fn summary(story: &Story, daemon: &str, out: &mut String) {
    let tables = story.tables();
    let (from, to) = story.total.period.unwrap_or_default();
    let _ = writeln!(
        out,
        "<header><h1>{daemon}</h1><p class=\"dim\">audit report · policy <code>{}</code> · {} to {} \
         UTC, {}</p></header>",
        text(tables.policy.get(..12).unwrap_or(&tables.policy)),
        text(&moment(from)),
        text(&moment(to)),
        text(&duration(to.saturating_sub(from))),
    );
    if story.narrowed {
        out.push_str(
            "<p class=\"dim\">This page tells of a part of the log that was asked for. Whether the log is \
             sound, whether its reporters agree, and which grants nothing used, is said of all of it.</p>\n",
        );
    }
    let messages: u64 = story.total.edges.values().map(|edge| edge.all.messages()).sum();
    let calls: u64 = story.total.edges.values().map(|edge| edge.all.latency.total).sum();
    let cards = [
        ("records", story.total.records, false),
        ("messages and uses", messages, false),
        ("calls answered", calls, false),
        ("lives", story.lives.all, false),
        ("ended badly", story.lives.failed, true),
        ("refusals", story.refusals.all, true),
        ("kernel denials", story.denials.all, true),
        ("alarms", story.total.of(Kind::Alarm), true),
        ("reports lost", story.losses.all, true),
    ];
    out.push_str("<ul class=\"cards\">\n");
    for (what, count, bad) in cards {
        let mut class = String::new();
        if bad && count > 0 {
            class.push_str("bad ");
        }
        if count >= 10_000_000 {
            class.push_str("long");
        }
        let _ = writeln!(out, "<li class=\"{}\"><b>{}</b>{what}</li>", class.trim(), number(count));
    }
    out.push_str("</ul>\n");
    verdicts(story, out);
}

/// Whether the log is sound, and whether its reporters agree.
fn verdicts(story: &Story, out: &mut String) {
    let verified = &story.verified;
    let sound = verified.sound();
    let _ = writeln!(
        out,
        "<div class=\"verdict {}\"><b>{}</b> {} of {} records are signed by a checkpoint, in {} \
         epoch{}{}.",
        if sound { "good" } else { "bad" },
        if sound { "The log is sound." } else { "The log is broken." },
        number(verified.signed.saturating_sub(verified.first)),
        number(verified.size.saturating_sub(verified.first)),
        number(verified.epochs),
        if verified.epochs == 1 { "" } else { "s" },
        if story.live { "; a daemon is writing it" } else { "" },
    );
    for finding in verified.findings.iter().take(20) {
        let record = finding.record.map_or_else(String::new, |it| format!(", record {it}"));
        let words = format!("{}{record}: {}", finding.file, finding.what);
        let _ = writeln!(out, "<br>{}", text(&words));
    }
    if verified.findings.len() > 20 {
        let _ = writeln!(out, "<br>and {} more", verified.findings.len() - 20);
    }
    if !verified.unknown.is_empty() {
        out.push_str("<details open><summary>What can’t be known from the log alone</summary><ul>");
        for unknown in &verified.unknown {
            let _ = write!(out, "<li>{}</li>", text(&unknown.to_string()));
        }
        out.push_str("</ul></details>");
    }
    out.push_str("</div>\n");
    let counts = &story.reconciled;
    let honest = counts.honest();
    let _ = write!(
        out,
        "<div class=\"verdict {}\"><b>{}</b> {} messages were reported alike by both ends",
        if honest { "good" } else { "bad" },
        if honest { "Both ends agree." } else { "Some ends disagree." },
        number(counts.matched),
    );
    for (outcome, count) in &counts.others {
        let _ = write!(out, "; {} {}", number(*count), outcome.name());
    }
    out.push_str(".</div>\n");
}

fn topology(story: &Story, out: &mut String) {
    section("Who spoke with whom", "topology", out);
    let Some(plan) = &story.plan else {
        out.push_str("<p>The log holds no policy that this version can read.</p>\n");
        return;
    };
    let exposed = Ways::of(plan);
    let mut graph = Graph::new(plan, &|layer| exposure(layer, &exposed).score);
    let most = story.total.edges.values().map(|edge| edge.all.messages()).max().unwrap_or(0);
    graph.show_traffic(&|name, layer| Some(on_edge(story, most, name, layer)));
    let picture = graph.svg();
    // It is made smaller to fit, but not so small that nobody can read it.
    let width = picture.split_once(" width=\"").and_then(|(_, rest)| rest.split('"').next());
    let width: u32 = width.and_then(|it| it.parse().ok()).unwrap_or(0);
    let _ = writeln!(
        out,
        "<div class=\"wide picture topology\" style=\"--least:{}px\">{picture}</div>",
        width / 4 * 3
    );
}

/// What a picture says about an edge; of a thing that several layers use, what one of them did.
fn on_edge(story: &Story, most: u64, name: &str, layer: Option<&str>) -> Traffic {
    let audited = story.plan.as_ref().is_none_or(|plan| !unaudited(plan).contains(name));
    let Some(edge) = story.total.edges.get(name) else {
        let line = if audited { "nothing" } else { "not audited" };
        return Traffic { line: line.to_owned(), share: 0, alarm: false };
    };
    let all = &edge.all;
    let count = match layer {
        Some(layer) => {
            edge.layers.iter().filter(|((name, _), _)| *name == layer).map(|it| it.1).sum()
        }
        None => all.messages(),
    };
    let mut line = short(count);
    if layer.is_none() && all.bytes() > 0 {
        let _ = write!(line, ", {}", bytes(all.bytes()));
    }
    let alarm = layer.is_none() && all.refused > 0;
    if alarm {
        let _ = write!(line, ", {} refused", short(all.refused));
    }
    Traffic { line, share: share(count, most), alarm }
}

/// How much on a scale of doublings from the most, so that little is not nothing.
fn share(count: u64, most: u64) -> u8 {
    if count == 0 {
        return 0;
    }
    let behind = most.max(1).ilog2().saturating_sub(count.ilog2());
    Traffic::MOST.saturating_sub(u8::try_from(behind / 2).unwrap_or(u8::MAX)).max(1)
}

fn edges(story: &Story, out: &mut String) {
    section("Edges", "edges", out);
    if story.total.edges.is_empty() {
        out.push_str("<p>No use of any facility is in the log.</p>\n");
        return;
    }
    let columns = [
        "edge",
        "method",
        "#records",
        "#messages",
        "#bytes",
        "#per second",
        "#median",
        "#99 %",
        "#longest",
        "#refused",
        "#failed",
        "#lost",
    ];
    let mut table = Table::new(&columns);
    let span = story.total.span();
    let mut rows = 0;
    for (name, edge) in &story.total.edges {
        rows += 1 + edge.methods.len();
        if rows > ROWS {
            break;
        }
        table.row("edge", counts(name, "", &edge.all, edge.lost, span));
        let several = edge.methods.len() > 1 || edge.methods.keys().any(|it| !it.starts_with('#'));
        for (method, count) in edge.methods.iter().filter(|_| several) {
            table.row("", counts(name, method, count, 0, span));
        }
    }
    out.push_str(&table.end());
    if rows > ROWS {
        out.push_str(
            "<p class=\"dim\">There are more; <code>cofferdam audit stats</code> lists all.</p>\n",
        );
    }
    out.push_str(
        "<p class=\"dim\">Median, 99 % and longest are of calls, as their callers saw them. A message \
         counts if either end reports it.</p>\n",
    );
}

fn counts(edge: &str, method: &str, count: &Count, lost: u64, span: u64) -> Vec<Cell> {
    let plain =
        |value: u64| Cell::Number(if value == 0 { String::new() } else { number(value) }, value);
    let alarm = |value: u64| if value == 0 { plain(0) } else { Cell::Alarm(number(value), value) };
    let time = |value: Option<u64>| {
        Cell::Number(value.map_or_else(String::new, duration), value.unwrap_or(0))
    };
    let latency = &count.latency;
    let longest = (latency.total > 0).then_some(latency.max);
    let all = count.bytes();
    vec![
        Cell::Text(edge.to_owned()),
        Cell::Text(method.to_owned()),
        plain(count.records),
        plain(count.messages()),
        Cell::Number(if all == 0 { String::new() } else { bytes(all) }, all),
        Cell::Number(rate(count.messages(), span), count.messages()),
        time(latency.quantile(500)),
        time(latency.quantile(990)),
        time(longest),
        alarm(count.refused),
        alarm(count.failed),
        alarm(lost),
    ]
}

fn time(story: &Story, out: &mut String) {
    section("Time line", "time", out);
    let (picture, hidden) = draw::timeline(story);
    let _ = writeln!(out, "<div class=\"wide picture\">{picture}</div>");
    let shown = story.lives.shown.len() as u64;
    if story.lives.all > shown || hidden > 0 {
        let _ = writeln!(
            out,
            "<p class=\"dim\">Shown are the {} newest of {} lives{}.</p>",
            number(shown),
            number(story.lives.all),
            if hidden > 0 { ", of the first instances by name" } else { "" },
        );
    }
}

/// A section of things that are counted by kind; none if there are none.
fn groups<const N: usize>(
    title: &str,
    id: &str,
    columns: [&str; N],
    all: &Groups<N>,
    out: &mut String,
) {
    if all.all == 0 {
        return;
    }
    section(title, id, out);
    let columns: Vec<&str> =
        ["#count"].into_iter().chain(columns).chain(["last", "#record"]).collect();
    let mut table = Table::new(&columns);
    let sorted = all.sorted();
    for (what, group) in sorted.iter().take(ROWS) {
        let short = |it: &String| Cell::Text(it.chars().take(200).collect());
        let mut cells = vec![Cell::Number(number(group.count), group.count)];
        cells.extend(what.iter().map(short));
        cells.push(Cell::Text(moment(group.last)));
        cells.push(Cell::Number(number(group.record), group.record));
        table.row("", cells);
    }
    out.push_str(&table.end());
    let rest: u64 = sorted.iter().skip(ROWS).map(|(_, group)| group.count).sum();
    let rest = rest.saturating_add(all.others);
    if rest > 0 {
        let _ = writeln!(out, "<p class=\"dim\">and {} of other kinds</p>", number(rest));
    }
}

fn trouble(story: &Story, out: &mut String) {
    let columns = ["layer", "act", "at", "why", "rule"];
    groups("Refusals", "refusals", columns, &story.refusals, out);
    groups("Denials by the kernel", "denials", ["layer", "what", "detail"], &story.denials, out);
    alarms(story, out);
    groups("Lost reports", "losses", ["layer", "edge"], &story.losses, out);
    let counts = [
        ("refusals", story.refusals.all),
        ("denials by the kernel", story.denials.all),
        ("alarms", story.alarms.len() as u64),
        ("lost reports", story.losses.all),
    ];
    let none: Vec<&str> =
        counts.iter().filter(|(_, count)| *count == 0).map(|(what, _)| *what).collect();
    if !none.is_empty() {
        let what = if story.narrowed { "what was asked for" } else { "the log" };
        let _ =
            writeln!(out, "<p class=\"dim none\">There are no {} in {what}.</p>", none.join(", "));
    }
}

fn alarms(story: &Story, out: &mut String) {
    if story.alarms.is_empty() {
        return;
    }
    section("Alarms", "alarms", out);
    let mut table = Table::new(&["when", "#record", "what"]);
    for (record, at, detail) in story.alarms.iter().rev() {
        let _ = writeln!(
            table.raw(),
            "<tr><td class=\"t\">{}</td><td class=\"n\" data-v=\"{record}\">{}</td><td>{}</td></tr>",
            text(&moment(*at)),
            number(*record),
            excerpt(detail, 500)
        );
    }
    out.push_str(&table.end());
    let all = story.total.of(Kind::Alarm);
    let shown = story.alarms.len() as u64;
    if all > shown {
        let _ = writeln!(out, "<p class=\"dim\">and {} before these</p>", number(all - shown));
    }
}

fn unused(story: &Story, out: &mut String) {
    section("Grants that nothing used", "unused", out);
    let Some(usage) = &story.usage else {
        out.push_str("<p>The log holds no policy that this version can read.</p>\n");
        return;
    };
    let judged = usage.judged().count();
    let unused: Vec<_> = usage.unused().collect();
    let _ = writeln!(
        out,
        "<p>{} of {} grants of this policy that a log can judge, by {} records and {} lives under \
         it. <code>cofferdam audit unused</code> prints the policy without them.</p>",
        number(unused.len() as u64),
        number(judged as u64),
        number(usage.evidence().records),
        number(usage.evidence().lives),
    );
    if !unused.is_empty() {
        out.push_str("<ul class=\"grants\">\n");
        for grant in unused.iter().take(ROWS) {
            let _ = writeln!(out, "<li><code>{}</code></li>", text(&grant.rule));
        }
        out.push_str("</ul>\n");
    }
    let blind: Vec<_> = usage.blind().collect();
    if !blind.is_empty() {
        let _ = writeln!(
            out,
            "<details><summary>{} grants can’t be judged</summary><ul class=\"grants\">",
            number(blind.len() as u64)
        );
        for (grant, why) in blind.iter().take(ROWS) {
            let _ = writeln!(
                out,
                "<li><code>{}</code> <span class=\"dim\">{}</span></li>",
                text(&grant.rule),
                text(why.why())
            );
        }
        out.push_str("</ul></details>\n");
    }
}

fn requests(story: &Story, out: &mut String) {
    section("Ways of requests", "ways", out);
    let found = &story.ways;
    let _ = writeln!(
        out,
        "<p>{} requests, connections and messages had consequences. Which step followed from which, \
         records say that name a trace. Steps in italics don’t: it is concluded from time, for the same \
         instance did it after it had the request, and before it answered. {} may be mixed up with \
         others that the instance was at then, and are marked.</p>",
        number(found.all),
        number(found.unsure),
    );
    if found.all == 0 {
        return;
    }
    out.push_str(
        "<h3>The slowest</h3>\n<p class=\"dim\">All on one scale; those that took the same steps \
                  stand for each other.</p>\n",
    );
    out.push_str(&ways::slowest(story, &found.slowest));
    out.push_str("<h3>The newest</h3>\n");
    out.push_str(&ways::newest(story, &found.newest));
}
