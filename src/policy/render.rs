//! Diagnostics for people, with the source drawn, and for programs, as JSON.

use std::fmt::Write;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::check::Checked;
use super::diagnostic::{Diagnostic, Label, Severity, Span};
use super::source::line_of;

/// As much of one line is drawn, around the place. Longer lines are nobody's handwriting.
const LINE_WINDOW: usize = 400;
/// Places of one diagnostic that are further apart are drawn one by one.
const JOINED: usize = 8 << 10;

impl Checked {
    /// Everything for a person. `colour` adds escape sequences for a terminal.
    ///
    /// Control characters of the policy are never printed as such.
    pub fn render(&self, colour: bool) -> String {
        let mut text = String::new();
        for diagnostic in &self.diagnostics {
            text.push_str(&self.render_one(diagnostic, colour));
            text.push_str("\n\n");
        }
        if self.more > 0 {
            let _ = write!(text, "and {} more\n\n", self.more);
        }
        text
    }

    fn render_one(&self, diagnostic: &Diagnostic, colour: bool) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let path = one_line(&self.source_name);
        let mut group = Group::with_title(
            level.primary_title(calm(&diagnostic.message)).id(diagnostic.code.to_string()),
        );
        for drawing in drawings(&self.text, &diagnostic.labels) {
            let (line, column) = position(&self.text, drawing.first);
            let mut snippet = Snippet::source(drawing.source).line_start(drawing.line);
            if drawing.cut {
                let origin = Origin::path(path.clone()).line(line).char_column(column);
                group = group.element(origin);
            } else {
                snippet = snippet.path(path.clone());
            }
            for (span, text, primary) in drawing.marks {
                let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
                let text = (!text.is_empty()).then_some(text);
                snippet = snippet.annotation(kind.span(span).label(text));
            }
            group = group.element(snippet);
        }
        for help in &diagnostic.help {
            group = group.element(Level::HELP.message(calm(help)));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// Everything for a program.
    ///
    /// `{ path, ok, name, id, layers, channels, files, more, diagnostics: [{ code, severity,
    /// title, message, help, labels: [{ start, end, line, column, end_line, end_column, text }]
    /// }] }`; lines and columns count from 1, columns in characters, start and end in bytes.
    pub fn json(&self) -> Value {
        let plan = self.plan.as_ref();
        json!({
            "path": self.source_name,
            "ok": plan.is_some(),
            "name": plan.map(|plan| plan.name.as_str()),
            "id": plan.and_then(|plan| plan.id().ok()).map(|id| id.to_string()),
            "layers": plan.map(|plan| plan.layers.len()),
            "channels": plan.map(|plan| plan.channels.len()),
            "files": plan.map(|plan| plan.files.len()),
            "more": self.more,
            "diagnostics": self.diagnostics.iter().map(|item| self.json_one(item)).collect::<Vec<_>>(),
        })
    }

    fn json_one(&self, item: &Diagnostic) -> Value {
        let label = |label: &Label| {
            let (line, column) = position(&self.text, label.span.start);
            let (end_line, end_column) = position(&self.text, label.span.end);
            json!({
                "start": label.span.start, "end": label.span.end,
                "line": line, "column": column,
                "end_line": end_line, "end_column": end_column,
                "text": label.text,
            })
        };
        json!({
            "code": item.code.to_string(),
            "title": item.code.title(),
            "severity": match item.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            },
            "message": item.message,
            "help": item.help,
            "labels": item.labels.iter().map(label).collect::<Vec<_>>(),
        })
    }
}

/// A piece of the source with what to mark in it.
struct Drawing {
    source: String,
    /// The number of its first line.
    line: usize,
    /// Where its first mark is, in the whole text.
    first: usize,
    /// Whether its first line lacks its beginning, so that columns in it are wrong.
    cut: bool,
    marks: Vec<(Span, String, bool)>,
}

/// The pieces of `text` to draw for `labels`: one if all are near each other.
fn drawings(text: &str, labels: &[Label]) -> Vec<Drawing> {
    let Some(primary) = labels.first() else { return Vec::new() };
    let marks: Vec<_> =
        labels.iter().map(|label| (mark(text, &label.span), label, label == primary)).collect();
    let start = marks.iter().map(|(span, ..)| window(text, span).start).min().unwrap_or(0);
    let end = marks.iter().map(|(span, ..)| window(text, span).end).max().unwrap_or(0);
    if end - start <= JOINED {
        return vec![drawing(text, start..end, &marks)];
    }
    marks.iter().map(|one| drawing(text, window(text, &one.0), std::slice::from_ref(one))).collect()
}

fn drawing(text: &str, window: Span, marks: &[(Span, &Label, bool)]) -> Drawing {
    let first = marks.iter().find(|(.., primary)| *primary).or(marks.first());
    Drawing {
        source: calm(text.get(window.clone()).unwrap_or_default()),
        line: position(text, window.start).0,
        first: first.map_or(0, |(span, ..)| span.start),
        cut: line_of(text, window.start).start != window.start,
        marks: marks
            .iter()
            .map(|(span, label, primary)| {
                let inner = span.start - window.start..span.end - window.start;
                (inner, calm(&label.text), *primary)
            })
            .collect(),
    }
}

/// The span made fit to draw: within the text, on character boundaries, in one line.
fn mark(text: &str, span: &Span) -> Span {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end.max(start));
    let line = line_of(text, start);
    start..end.min(line.end).min(text.ceil_char_boundary(start + LINE_WINDOW)).max(start)
}

/// The line around a mark, or as much of it as is drawn.
fn window(text: &str, mark: &Span) -> Span {
    let line = line_of(text, mark.start);
    let start = line.start.max(text.floor_char_boundary(mark.start.saturating_sub(LINE_WINDOW)));
    let end = line.end.min(text.ceil_char_boundary(mark.end + LINE_WINDOW));
    // A line of usual length is drawn whole.
    if line.end - line.start <= 2 * LINE_WINDOW { line } else { start..end }
}

/// Line and column of a place, from 1, columns in characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let at = text.floor_char_boundary(at);
    let start = line_of(text, at).start;
    let lines = text[..start].matches('\n').count();
    (lines + 1, text[start..at].chars().count() + 1)
}

/// A file's name with its control characters spelled out.
fn one_line(name: &str) -> String {
    let mut line = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}

/// Text whose C1 control characters are replaced, each by one of the same length; the renderer
/// replaces the other ones.
fn calm(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\u{80}'..='\u{9f}') { '\u{b7}' } else { c }).collect()
}
