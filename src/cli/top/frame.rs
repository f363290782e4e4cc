//! One picture: as many lines as there is room for.

use super::asked::{Asked, KEYS, Sort};
use super::view::{Row, Seat, View};
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

/// What else there is of an instance in a wide picture.
const WIDE: usize = 110;

/// A picture being made.
struct Picture {
    width: usize,
    lines: Vec<Line>,
}

impl Picture {
    fn line(&mut self, look: Look, text: &str) {
        self.lines.push(Line { text: truncate(text, self.width), look });
    }

    /// How many there are besides, or an empty line.
    fn more(&mut self, count: usize) {
        match count {
            0 => self.line(Look::Plain, ""),
            more => self.line(Look::Dim, &format!("and {more} more")),
        }
    }

    /// How wide names are: what the numbers leave, from so many columns on.
    fn names<'a>(&self, least: usize, names: impl Iterator<Item = &'a str>) -> usize {
        let longest = names.map(|name| name.chars().count()).max().unwrap_or(0);
        longest.clamp(least, least + self.width.saturating_sub(80))
    }

    fn title(&mut self, view: &View) {
        let (daemon, policy) = view.title();
        let state = match (view.live, view.damaged) {
            (_, true) => "DAMAGED",
            (true, _) => "live",
            _ => "ended",
        };
        let left = format!("{daemon}  policy {policy}  {} records  {state}", number(view.records));
        let at = moment(view.moment());
        let right = at.get(11..19).unwrap_or(&at);
        let room = self.width.saturating_sub(right.len());
        self.line(Look::Title, &format!("{:room$}{right}", truncate(&left, room)));
    }

    fn seats(&mut self, view: &View, all: &[&Seat], shown: std::ops::Range<usize>) {
        let name = self.names(20, all.iter().map(|seat| seat.name.as_str()));
        let wide = self.width >= WIDE;
        let last = if wide { "last end" } else { "" };
        let head = format!(
            "{:name$} {:9} {:>9} {:>5} {:>7} {:>6} {:18} {last}",
            "layer", "state", "for", "lives", "refused", "denied", "receipt"
        );
        self.line(Look::Head, &head);
        let left_out = all.len() - shown.len();
        for seat in all.get(shown).into_iter().flatten() {
            let state = seat.ended.as_deref().unwrap_or("running");
            let since = duration(view.moment().saturating_sub(seat.since));
            let look = if seat.ended.is_some() { Look::Alarm } else { Look::Plain };
            let text = format!(
                "{:name$} {:9} {since:>9} {:>5} {:>7} {:>6} {:18} {}",
                truncate(&seat.name, name),
                truncate(state, 9),
                short(seat.lives),
                short(seat.refused),
                short(seat.denied),
                seat.receipt,
                seat.last_end.as_deref().filter(|_| wide).unwrap_or_default()
            );
            self.line(look, &text);
        }
        self.more(left_out);
    }

    fn rows(&mut self, all: &[Row], shown: std::ops::Range<usize>) {
        let name = self.names(30, all.iter().map(|row| row.name.as_str()));
        let head = format!(
            "{:name$} {:>8} {:>10} {:>8} {:>9} {:>9}",
            "edge", "each s", "bytes/s", "all", "99 %", "refused"
        );
        self.line(Look::Head, &head);
        let left_out = all.len() - shown.len();
        for row in all.get(shown).into_iter().flatten() {
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
                "{:name$} {:>8} {:>10} {:>8} {slow:>9} {:>9}",
                truncate(&row.name, name),
                rate(messages, span),
                if size > 0 { bytes(size) } else { String::new() },
                short(all.messages()),
                if all.refused > 0 { short(all.refused) } else { String::new() },
            );
            self.line(look, &text);
        }
        self.more(left_out);
    }

    fn foot(&mut self, view: &View, asked: &Asked, alarms: usize) {
        let sorted = match asked.sort {
            Sort::Rate => String::new(),
            other => format!("  sorted by {}", other.word()),
        };
        let filter = match (asked.typing, asked.filter.as_str()) {
            (false, "") => String::new(),
            (typing, filter) => format!("  /{filter}{}", if typing { "_" } else { "" }),
        };
        let lost = if view.lost > 0 {
            format!(", {} reports lost", number(view.lost))
        } else {
            String::new()
        };
        let look = if view.alarm_count > 0 || view.lost > 0 { Look::Alarm } else { Look::Dim };
        let plural = if view.alarm_count == 1 { "" } else { "s" };
        let count = number(view.alarm_count);
        self.line(look, &format!("{count} alarm{plural}{lost}{sorted}{filter}"));
        for (at, text) in view.alarms.iter().rev().take(alarms) {
            let at = moment(*at);
            self.line(Look::Plain, &format!("{} {text}", at.get(11..19).unwrap_or_default()));
        }
    }
}

/// The picture, of at most so many columns and lines. What is asked for is brought within bounds.
pub(super) fn frame(view: &View, asked: &mut Asked, (width, height): (usize, usize)) -> Vec<Line> {
    let mut picture = Picture { width, lines: Vec::new() };
    if asked.help {
        picture.line(Look::Title, "keys");
        for (key, what) in KEYS {
            picture.line(Look::Plain, &format!("{key:20} {what}"));
        }
        picture.lines.truncate(height);
        return picture.lines;
    }
    // Two heads, an empty line before each, the alarms and the last line.
    let alarms = view.alarms.len().clamp(1, if height < 2 * LEAST { 1 } else { 3 });
    let rest = height.saturating_sub(7 + alarms);
    let all = asked.seats(view.seats());
    let rows = asked.rows(view.rows());
    let most = if height < LEAST { rest } else { rest / 2 };
    let seats = all.len().min(most.max(rest.saturating_sub(rows.len())));
    let shown = rows.len().min(rest.saturating_sub(seats));
    let (hidden_seats, hidden_rows) = (all.len() - seats, rows.len() - shown);
    asked.from = asked.from.min(hidden_seats.max(hidden_rows));
    let (seat, row) = (asked.from.min(hidden_seats), asked.from.min(hidden_rows));
    picture.title(view);
    picture.seats(view, &all, seat..seat + seats);
    picture.rows(&rows, row..row + shown);
    picture.foot(view, asked, alarms);
    picture.lines.truncate(height);
    picture.lines
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
