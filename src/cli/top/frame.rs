//! One picture: as many lines as there is room for.

use super::view::View;
use crate::cli::audit::report::show::{bytes, duration, moment, number, rate, short};

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Plain,
    Title,
    Head,
    Dim,
    Alarm,
}

/// A line, no wider than asked for.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) look: Look,
}

/// The smallest height that has room for everything in short.
const LEAST: usize = 12;

/// The picture, of at most so many columns and lines.
pub(super) fn frame(view: &View, width: usize, height: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut line = |look, text: String| lines.push(Line { text: truncate(&text, width), look });
    let (daemon, policy) = view.title();
    let state = match (view.live, view.damaged) {
        (_, true) => "DAMAGED",
        (true, _) => "live",
        _ => "ended",
    };
    let left = format!("{daemon}  policy {policy}  {} records  {state}", number(view.records));
    let at = moment(view.moment());
    let right = at.get(11..19).unwrap_or(&at);
    let room = width.saturating_sub(right.len());
    line(Look::Title, format!("{:room$}{right}", truncate(&left, room)));

    // Two heads, an empty line before each, the alarms and the last line.
    let alarms = view.alarms.len().clamp(1, if height < 2 * LEAST { 1 } else { 3 });
    let rest = height.saturating_sub(7 + alarms);
    let rows = view.rows();
    let most = if height < LEAST { rest } else { rest / 2 };
    let seats = view.seats().len().min(most.max(rest.saturating_sub(rows.len())));

    line(
        Look::Head,
        format!(
            "{:20} {:9} {:>9} {:>5} {:>7} {:>6} receipt",
            "layer", "state", "for", "lives", "refused", "denied"
        ),
    );
    for seat in view.seats().take(seats) {
        let state = seat.ended.as_deref().unwrap_or("running");
        let since = duration(view.moment().saturating_sub(seat.since));
        let look = if seat.ended.is_some() { Look::Alarm } else { Look::Plain };
        let text = format!(
            "{:20} {:9} {since:>9} {:>5} {:>7} {:>6} {}",
            truncate(&seat.name, 20),
            truncate(state, 9),
            short(seat.lives),
            short(seat.refused),
            short(seat.denied),
            seat.receipt
        );
        line(look, text);
    }
    if view.seats().len() > seats {
        line(Look::Dim, format!("and {} more", view.seats().len() - seats));
    } else {
        line(Look::Plain, String::new());
    }

    line(
        Look::Head,
        format!(
            "{:30} {:>8} {:>10} {:>8} {:>9} {:>9}",
            "edge", "each s", "bytes/s", "all", "99 %", "refused"
        ),
    );
    let shown = rows.len().min(rest.saturating_sub(seats));
    for row in rows.iter().take(shown) {
        let all = &row.edge.all;
        let (messages, size, span) = row.recent;
        let size = size.saturating_mul(1_000_000_000) / span.max(1);
        let slow = all.latency.quantile(990).map_or_else(String::new, duration);
        let look = match () {
            () if all.refused > 0 => Look::Alarm,
            () if messages == 0 => Look::Dim,
            () => Look::Plain,
        };
        let text = format!(
            "{:30} {:>8} {:>10} {:>8} {slow:>9} {:>9}",
            truncate(&row.name, 30),
            rate(messages, span),
            if size > 0 { bytes(size) } else { String::new() },
            short(all.messages()),
            if all.refused > 0 { short(all.refused) } else { String::new() },
        );
        line(look, text);
    }
    if rows.len() > shown {
        line(Look::Dim, format!("and {} more", rows.len() - shown));
    } else {
        line(Look::Plain, String::new());
    }

    let lost =
        if view.lost > 0 { format!(", {} reports lost", number(view.lost)) } else { String::new() };
    let look = if view.alarm_count > 0 || view.lost > 0 { Look::Alarm } else { Look::Dim };
    line(
        look,
        format!(
            "{} alarm{}{lost}",
            number(view.alarm_count),
            if view.alarm_count == 1 { "" } else { "s" }
        ),
    );
    for (at, text) in view.alarms.iter().rev().take(alarms) {
        line(Look::Plain, format!("{} {text}", moment(*at).get(11..19).unwrap_or_default()));
    }
    lines.truncate(height);
    lines
}

/// The text in at most so many columns.
fn truncate(text: &str, width: usize) -> String {
    let mut room = width;
    let mut out = String::new();
    for c in text.chars() {
        let wide =
            if u32::from(c) >= 0x1100 && !('\u{2000}'..'\u{2e80}').contains(&c) { 2 } else { 1 };
        let Some(left) = room.checked_sub(wide) else { break };
        room = left;
        out.push(if c == '\t' { ' ' } else { c });
    }
    out
}
