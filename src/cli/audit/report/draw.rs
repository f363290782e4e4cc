//! The time line: how much was reported when, what went wrong, and who lived when.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::html::text;
use super::show::{duration, moment, number};
use super::story::{Life, Story};
use crate::audit::entry::Who;
use crate::cli::audit::names;

/// Width of the picture, and of the names at its left.
const WIDTH: f64 = 1_040.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 12.0;
/// Height of the part with the traffic, and of a life.
const TRAFFIC: f64 = 84.0;
const ROW: f64 = 20.0;
/// The most rows of lives.
const ROWS: usize = 64;

/// The picture, and how many instances it leaves out.
pub(super) fn timeline(story: &Story) -> (String, usize) {
    let rows = rows(story);
    let shown = rows.len().min(ROWS);
    let height = TRAFFIC + 40.0 + ROW * wide(shown as u64) + 8.0;
    let scale = Scale::of(story);
    let mut out = format!(
        "<svg class=\"tl\" viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" \
         aria-label=\"Records and lives over time\">\n"
    );
    density(story, &scale, &mut out);
    axis(&scale, height, &mut out);
    for (at, (name, lives)) in rows.iter().take(ROWS).enumerate() {
        let y = TRAFFIC + 40.0 + ROW * wide(at as u64);
        let _ = writeln!(
            out,
            "<text class=\"tl-name\" x=\"{:.0}\" y=\"{:.1}\">{}</text>",
            LEFT - 10.0,
            y + 13.0,
            text(name)
        );
        for life in lives {
            bar(story, &scale, life, y, &mut out);
        }
    }
    out.push_str("</svg>\n");
    (out, rows.len() - shown)
}

/// The most spans of time that are drawn apart.
const SPANS: usize = 12;
/// Width of what stands for a time in which nothing happened.
const BREAK: f64 = 16.0;

/// Where moments are in the picture: spans of time, and breaks between them.
struct Scale {
    spans: Vec<(u64, u64)>,
    /// All spans together, in nanoseconds.
    span: u64,
}

impl Scale {
    fn of(story: &Story) -> Self {
        let (from, to) = story.total.period.unwrap_or_default();
        let mut spans = story.density.busy();
        // Where there are too many, the shortest breaks are drawn as what they are.
        while spans.len() > SPANS {
            let gap = |at: &usize| spans[at + 1].0 - spans[*at].1;
            let Some(at) = (0..spans.len() - 1).min_by_key(gap) else { break };
            let (_, end) = spans.remove(at + 1);
            spans[at].1 = end;
        }
        if let Some((_, end)) = spans.last_mut() {
            *end = to.max(end.saturating_sub(story.density.width)).saturating_add(1);
        } else {
            spans.push((from, to.max(from + 1)));
        }
        let span = spans.iter().map(|(from, to)| to - from).sum::<u64>().max(1);
        Self { spans, span }
    }

    fn from(&self) -> u64 {
        self.spans.first().map_or(0, |span| span.0)
    }

    fn to(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.1)
    }

    fn x(&self, at: u64) -> f64 {
        let breaks = BREAK * wide(self.spans.len().saturating_sub(1) as u64);
        let scale = (WIDTH - LEFT - RIGHT - breaks) / wide(self.span);
        let mut x = LEFT;
        for (place, &(from, to)) in self.spans.iter().enumerate() {
            if at < from && place > 0 {
                return x - BREAK / 2.0;
            }
            if at <= to || place + 1 == self.spans.len() {
                return x + wide(at.clamp(from, to) - from) * scale;
            }
            x += wide(to - from) * scale + BREAK;
        }
        x
    }
}

#[expect(clippy::cast_precision_loss, reason = "a picture has some thousand points")]
fn wide(value: u64) -> f64 {
    value as f64
}

/// Bars for records, their refused share, and marks for alarms.
fn density(story: &Story, scale: &Scale, out: &mut String) {
    let density = &story.density;
    let Some(from) = density.from else { return };
    let most = density.parts.values().map(|part| part[0]).max().unwrap_or(1).max(1);
    let _ = writeln!(
        out,
        "<text class=\"tl-name\" x=\"{:.0}\" y=\"24\">records</text>\n\
         <text class=\"tl-name tl-dim\" x=\"{:.0}\" y=\"40\">up to {} in {}</text>",
        LEFT - 10.0,
        LEFT - 10.0,
        text(&number(most)),
        text(&duration(density.width)),
    );
    for (place, [records, refused, alarms]) in &density.parts {
        if *records == 0 {
            continue;
        }
        let begin = from.saturating_add(place * density.width);
        let x = scale.x(begin);
        let width = (scale.x(begin.saturating_add(density.width)) - x - 0.6).max(1.0);
        // A single one is still seen.
        let tall = |count: u64| (TRAFFIC - 8.0) * (wide(count) / wide(most)).max(0.02);
        let tip = format!(
            "{}: {} records, {} refused, {} alarms",
            moment(begin),
            number(*records),
            number(*refused),
            number(*alarms)
        );
        let _ = write!(
            out,
            "<g><title>{}</title><rect class=\"tl-bar\" x=\"{x:.1}\" y=\"{:.1}\" \
             width=\"{width:.1}\" height=\"{:.1}\"/>",
            text(&tip),
            TRAFFIC - tall(*records),
            tall(*records)
        );
        if *refused > 0 {
            let _ = write!(
                out,
                "<rect class=\"tl-bad\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
                 height=\"{:.1}\"/>",
                TRAFFIC - tall(*refused),
                tall(*refused)
            );
        }
        if *alarms > 0 {
            let middle = x + width / 2.0;
            let _ = write!(
                out,
                "<path class=\"tl-alarm\" d=\"M{middle:.1} {:.1}l5 9h-10z\"/>",
                TRAFFIC + 2.0
            );
        }
        out.push_str("</g>\n");
    }
}

fn axis(scale: &Scale, height: f64, out: &mut String) {
    let _ = writeln!(out, "<path class=\"tl-rule\" d=\"M{LEFT} {TRAFFIC}H{:.0}\"/>", WIDTH - RIGHT);
    for pair in scale.spans.windows(2) {
        let (end, next) = (pair[0].1, pair[1].0);
        let _ = writeln!(
            out,
            "<g><title>{}</title><rect class=\"tl-break\" x=\"{:.1}\" y=\"8\" width=\"{BREAK}\" \
             height=\"{:.0}\"/></g>",
            text(&format!("nothing for {}", duration(next.saturating_sub(end)))),
            scale.x(next) - BREAK,
            height - 8.0
        );
    }
    let begin = scale.from();
    let since = |at: u64| format!("+{}", duration(at.saturating_sub(begin)));
    tick(LEFT, "start", &moment(begin), height, out);
    let mut last = LEFT + 150.0;
    let end = WIDTH - RIGHT;
    let mut between = |at: u64, out: &mut String| {
        let x = scale.x(at);
        if x - last > 60.0 && end - x > 120.0 {
            tick(x, "middle", &since(at), height, out);
            last = x;
        }
    };
    if let [(from, to)] = scale.spans[..] {
        (1..4).for_each(|step| between(from + (to - from) / 4 * step, out));
    }
    for &(next, _) in scale.spans.iter().skip(1) {
        between(next, out);
    }
    tick(end, "end", &since(scale.to()), height, out);
}

fn tick(x: f64, anchor: &str, words: &str, height: f64, out: &mut String) {
    let _ = writeln!(
        out,
        "<path class=\"tl-rule\" d=\"M{x:.1} {:.1}V{height:.0}\"/>\
         <text class=\"tl-time\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
        TRAFFIC + 30.0,
        TRAFFIC + 26.0,
        text(words)
    );
}

/// The lives of each instance, by name and copy.
fn rows(story: &Story) -> Vec<(String, Vec<&Life>)> {
    let mut rows: BTreeMap<(String, u16), Vec<&Life>> = BTreeMap::new();
    for life in &story.lives.shown {
        let Who { layer, copy, .. } = life.who;
        let name = names::layer(story.names.at(life.record), layer).into_owned();
        rows.entry((name, copy)).or_default().push(life);
    }
    let several = |name: &String| rows.keys().filter(|(other, _)| other == name).count() > 1;
    let title = |name: &String, copy: u16| {
        if several(name) { format!("{name}/{copy}") } else { name.clone() }
    };
    rows.iter().map(|((name, copy), lives)| (title(name, *copy), lives.clone())).collect()
}

fn bar(story: &Story, scale: &Scale, life: &Life, y: f64, out: &mut String) {
    let end = life.to.unwrap_or(scale.to());
    let (x, to) = (scale.x(life.from), scale.x(end));
    let failed = life.status.is_some_and(|status| status != 0);
    let class = if life.to.is_none() { "tl-life tl-open" } else { "tl-life" };
    let name = names::instance(story.names.at(life.record), life.who);
    let name = name.map_or_else(String::new, |it| it.to_string());
    let ended = match (life.to, life.status) {
        (None, _) => "still there".to_owned(),
        (_, Some(status)) => names::ended(status),
        _ => "its end is not in the log".to_owned(),
    };
    let lived = duration(end.saturating_sub(life.from));
    let tip = format!("{name}: from {}, {lived}, {ended}", moment(life.from));
    // Lives that follow each other are told apart, and short ones are seen.
    let width = (to - x - 1.0).max(2.0);
    let _ = write!(
        out,
        "<g><title>{}</title><rect class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" \
         height=\"12\" rx=\"2\"/>",
        text(&tip),
        y + 3.0
    );
    if failed {
        // Only the end is bad.
        let cap = width.min(5.0);
        let _ = write!(
            out,
            "<rect class=\"tl-failed\" x=\"{:.1}\" y=\"{:.1}\" width=\"{cap:.1}\" height=\"16\" \
             rx=\"1\"/>",
            x + width - cap,
            y + 1.0
        );
    }
    out.push_str("</g>\n");
}
