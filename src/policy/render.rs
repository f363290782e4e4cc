//! Diagnostics for people, with the source drawn, and for programs, as JSON.

use std::fmt::Write;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use super::check::Checked;
use super::diagnostic::{Diagnostic, Label, Severity, Span};
use super::texts::line_of;
use super::texts::{Source, Texts};
use crate::text::neutralise;

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
            Severity::Note => Level::NOTE,
        };
        let mut group = Group::with_title(
            level.primary_title(words(&diagnostic.message)).id(diagnostic.code.to_string()),
        );
        for drawing in drawings(&self.places.texts, &diagnostic.labels) {
            let path = one_line(drawing.path);
            let mut snippet = Snippet::source(drawing.source).line_start(drawing.line);
            if drawing.cut {
                let (line, column) = drawing.first;
                group = group.element(Origin::path(path).line(line).char_column(column));
            } else {
                snippet = snippet.path(path);
            }
            for (span, text, primary) in drawing.marks {
                let kind = if primary { AnnotationKind::Primary } else { AnnotationKind::Context };
                let text = (!text.is_empty()).then_some(text);
                snippet = snippet.annotation(kind.span(span).label(text));
            }
            group = group.element(snippet);
        }
        for help in &diagnostic.help {
            group = group.element(Level::HELP.message(words(help)));
        }
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }

    /// Everything for a program.
    ///
    /// `{ path, ok, name, id, layers, channels, files, more, diagnostics: [{ code, severity,
    /// title, message, help, labels: [{ file, start, end, line, column, end_line, end_column, text
    /// }] }] }`; lines and columns count from 1, columns in characters, start and end in bytes.
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
            let Some(text) = self.places.texts.at(label.span.start) else { return json!({}) };
            let span = text.local(&label.span);
            let (line, column) = text.position(span.start);
            let (end_line, end_column) = text.position(span.end);
            json!({
                "file": text.name,
                "start": span.start, "end": span.end,
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
                Severity::Note => "note",
            },
            "message": item.message,
            "help": item.help,
            "labels": item.labels.iter().map(label).collect::<Vec<_>>(),
        })
    }
}

/// A piece of the source with what to mark in it.
struct Drawing<'t> {
    /// The file.
    path: &'t str,
    source: String,
    /// The number of its first line.
    line: usize,
    /// Line and column of its first mark.
    first: (usize, usize),
    /// Whether its first line lacks its beginning, so that columns in it are wrong.
    cut: bool,
    marks: Vec<(Span, String, bool)>,
}

/// The span of a mark within its text, its words, and whether it is the first one.
type Mark<'l> = (Span, &'l Label, bool);

/// The pieces of the texts to draw for `labels`: one for all in a file that are near each other.
fn drawings<'t>(texts: &'t Texts, labels: &[Label]) -> Vec<Drawing<'t>> {
    let mut drawn = Vec::new();
    let mut files: Vec<&Source> = Vec::new();
    for text in labels.iter().filter_map(|label| texts.at(label.span.start)) {
        if !files.iter().any(|known| known.base == text.base) {
            files.push(text);
        }
    }
    for text in files {
        let here = |label: &&Label| texts.at(label.span.start).is_some_and(|t| t.base == text.base);
        let marks: Vec<Mark<'_>> = labels
            .iter()
            .filter(here)
            .map(|label| {
                let primary = labels.first().is_some_and(|first| std::ptr::eq(first, label));
                (mark(&text.text, &text.local(&label.span)), label, primary)
            })
            .collect();
        let start = marks.iter().map(|(span, ..)| window(&text.text, span).start).min();
        let end = marks.iter().map(|(span, ..)| window(&text.text, span).end).max();
        let (start, end) = (start.unwrap_or(0), end.unwrap_or(0));
        if end - start <= JOINED {
            drawn.push(drawing(text, start..end, &marks));
            continue;
        }
        for one in &marks {
            drawn.push(drawing(text, window(&text.text, &one.0), std::slice::from_ref(one)));
        }
    }
    drawn
}

fn drawing<'t>(text: &'t Source, window: Span, marks: &[Mark<'_>]) -> Drawing<'t> {
    let first = marks.iter().find(|(.., primary)| *primary).or(marks.first());
    Drawing {
        path: &text.name,
        source: calm(text.text.get(window.clone()).unwrap_or_default()),
        line: text.position(window.start).0,
        first: text.position(first.map_or(0, |(span, ..)| span.start)),
        cut: line_of(&text.text, window.start).start != window.start,
        marks: marks
            .iter()
            .map(|(span, label, primary)| {
                let inner = span.start - window.start..span.end - window.start;
                (inner, words(&label.text), *primary)
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

/// What is said of the text. It may quote the text, and the renderer takes escape sequences in it
/// for styles.
fn words(text: &str) -> String {
    neutralise(text.as_bytes())
}

/// Text whose C1 control characters are replaced, each by one of the same length; the renderer
/// replaces the other ones.
fn calm(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\u{80}'..='\u{9f}') { '\u{b7}' } else { c }).collect()
}
