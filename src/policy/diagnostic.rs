//! Diagnostics: what is wrong in a policy, where, and the way out.

use std::ops::Range;

use super::code::Code;

/// A place in the policy's text, in bytes. The files that a policy includes follow it, each after
/// a gap of one; [`SourceMap`](super::SourceMap) tells files and lines.
pub type Span = Range<usize>;

/// One mistake, or one warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Its kind.
    pub code: Code,
    /// Whether the policy can be used nevertheless.
    pub severity: Severity,
    /// What is wrong, in one sentence that names the thing.
    pub message: String,
    /// The places, the first one being where it is; empty if it is not in the text.
    pub labels: Vec<Label>,
    /// Ways out, the best one first.
    pub help: Vec<String>,
}

/// Whether a policy with this in it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It can't.
    Error,
    /// It can.
    Warning,
    /// It can: what is told is about the machine that it was looked at on.
    Note,
}

/// A place in the text and what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What is there; may be empty.
    pub text: String,
}

impl Diagnostic {
    /// A diagnostic about the whole file, with no place in its text.
    pub fn about_file(code: Code, severity: Severity, message: impl Into<String>) -> Self {
        Self { code, severity, message: message.into(), labels: Vec::new(), help: Vec::new() }
    }

    /// Says what is at the first place.
    pub(crate) fn label(&mut self, text: impl Into<String>) -> &mut Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Adds the other place that takes part in a conflict.
    pub(crate) fn also(&mut self, span: &Span, text: impl Into<String>) -> &mut Self {
        self.labels.push(Label { span: span.clone(), text: text.into() });
        self
    }

    /// Adds a way out.
    pub fn help(&mut self, text: impl Into<String>) -> &mut Self {
        self.help.push(text.into());
        self
    }

    /// Adds "did you mean ...?", if there is anything near.
    pub(crate) fn did_you_mean(&mut self, near: Option<&str>) -> &mut Self {
        if let Some(near) = near {
            self.help.push(format!("did you mean `{near}`?"));
        }
        self
    }
}

/// Collects diagnostics; never more than [`Diagnostics::LIMIT`], the rest is counted.
#[derive(Debug, Default)]
pub(crate) struct Diagnostics {
    list: Vec<Diagnostic>,
    errors: usize,
    dropped: usize,
}

impl Diagnostics {
    /// So many are kept of one file. More than anybody reads, and little memory.
    pub(crate) const LIMIT: usize = 100;

    /// Adds a mistake.
    pub(crate) fn error(
        &mut self,
        code: Code,
        span: &Span,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.errors += 1;
        self.add(code, Severity::Error, span, message.into())
    }

    /// Adds a warning.
    pub(crate) fn warning(
        &mut self,
        code: Code,
        span: &Span,
        message: impl Into<String>,
    ) -> &mut Diagnostic {
        self.add(code, Severity::Warning, span, message.into())
    }

    fn add(
        &mut self,
        code: Code,
        severity: Severity,
        span: &Span,
        message: String,
    ) -> &mut Diagnostic {
        // The newest is always kept until the next one comes, so that the caller can finish it.
        if self.list.len() > Self::LIMIT {
            self.list.truncate(Self::LIMIT);
            self.dropped += 1;
        }
        let index = self.list.len();
        let labels = vec![Label { span: span.clone(), text: String::new() }];
        self.list.push(Diagnostic { code, severity, message, labels, help: Vec::new() });
        &mut self.list[index]
    }

    /// Adds one that is complete.
    pub(crate) fn push(&mut self, item: Diagnostic) {
        self.errors += usize::from(item.severity == Severity::Error);
        if self.list.len() > Self::LIMIT {
            self.dropped += 1;
        } else {
            self.list.push(item);
        }
    }

    /// Adds what was told of one text, whose first byte is at `base`.
    pub(crate) fn absorb(&mut self, other: Self, base: usize) {
        let (list, dropped) = (other.list, other.dropped);
        for mut item in list {
            for label in &mut item.labels {
                label.span = label.span.start + base..label.span.end + base;
            }
            self.push(item);
        }
        self.errors += dropped;
        self.dropped += dropped;
    }

    /// Whether anything was wrong so far.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether what comes now is only counted, so that no work need go into its words.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() > Self::LIMIT
    }

    /// Removes those that only follow from broken syntax.
    pub(crate) fn retain(&mut self, keep: impl FnMut(&Diagnostic) -> bool) {
        self.list.retain(keep);
    }

    /// All of them in the order of the text, and how many more there were.
    pub(crate) fn finish(mut self) -> (Vec<Diagnostic>, usize) {
        if self.list.len() > Self::LIMIT {
            self.list.truncate(Self::LIMIT);
            self.dropped += 1;
        }
        self.list.sort_by_key(|item| item.labels.first().map_or(0, |label| label.span.start));
        (self.list, self.dropped)
    }
}
