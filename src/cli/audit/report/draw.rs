//! The time line: how much was reported when, what went wrong, and who lived when.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::html::text;
use super::show::{duration, moment, number};
use super::story::{Life, PARTS, Story};
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

struct Scale {
    from: u64,
    span: u64,
}

impl Scale {
    fn of(story: &Story) -> Self {
        let from = story.density.from.unwrap_or(story.total.period.unwrap_or_default().0);
        let to = story.total.period.unwrap_or_default().1.max(from);
        let lives = story.lives.shown.iter().filter_map(|life| life.to).max().unwrap_or(0);
        Self { from, span: (to.max(lives) - from).max(1) }
    }

    fn x(&self, at: u64) -> f64 {
        let since = at.saturating_sub(self.from).min(self.span);
        LEFT + (WIDTH - LEFT - RIGHT) * wide(since) / wide(self.span)
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
    let most = density.parts.iter().map(|part| part[0]).max().unwrap_or(1).max(1);
    let _ = writeln!(
        out,
        "<text class=\"tl-name\" x=\"{:.0}\" y=\"24\">records</text>\n\
         <text class=\"tl-name tl-dim\" x=\"{:.0}\" y=\"40\">up to {} in {}</text>",
        LEFT - 10.0,
        LEFT - 10.0,
        text(&number(most)),
        text(&duration(density.width)),
    );
    let places = (0_u64..).zip(&density.parts).take(PARTS);
    for (place, [records, refused, alarms]) in places {
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
    let y = TRAFFIC + 21.0;
    let _ = writeln!(out, "<path class=\"tl-rule\" d=\"M{LEFT} {TRAFFIC}H{:.0}\"/>", WIDTH - RIGHT);
    for step in 0..=4_u64 {
        let after = scale.span / 4 * step;
        let x = scale.x(scale.from.saturating_add(after));
        let (anchor, words) = match step {
            0 => ("start", moment(scale.from)),
            4 => ("end", format!("+{}", duration(scale.span))),
            _ => ("middle", format!("+{}", duration(after))),
        };
        let _ = writeln!(
            out,
            "<path class=\"tl-rule\" d=\"M{x:.1} {:.1}V{height:.0}\"/>\
             <text class=\"tl-time\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            TRAFFIC + 30.0,
            y + 5.0,
            text(&words)
        );
    }
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
    let end = life.to.unwrap_or(scale.from.saturating_add(scale.span));
    let (x, to) = (scale.x(life.from), scale.x(end));
    let failed = life.status.is_some_and(|status| status != 0);
    let class = match (life.to, failed) {
        (None, _) => "tl-life tl-open",
        (_, true) => "tl-life tl-failed",
        _ => "tl-life",
    };
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
        let _ = write!(
            out,
            "<path class=\"tl-end\" d=\"M{:.1} {:.1}l6 6m0 -6l-6 6\"/>",
            x + width - 3.0,
            y + 6.0
        );
    }
    out.push_str("</g>\n");
}
