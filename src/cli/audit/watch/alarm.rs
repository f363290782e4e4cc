//! One alarm, in the forms in which it is told.

use serde_json::{Value, json};

use crate::cli::audit::time::{now, rfc3339};
use crate::text::neutralise;

/// What raises an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The auditor wrote one.
    Auditor,
    /// The log was altered, or can't be read.
    Broken,
    /// The ends of an edge contradict each other.
    Suspicion,
    /// Records went before they were read.
    Missed,
    /// Nobody writes the log.
    Absent,
    /// A rule.
    Rule,
}

impl Cause {
    const fn name(self) -> &'static str {
        match self {
            Self::Auditor => "auditor",
            Self::Broken => "broken",
            Self::Suspicion => "suspicion",
            Self::Missed => "missed",
            Self::Absent => "absent",
            Self::Rule => "rule",
        }
    }
}

/// An alarm.
#[derive(Clone, Debug)]
pub(super) struct Alarm {
    cause: Cause,
    /// When, in nanoseconds since 1970.
    at: u64,
    /// The record that it is about, if it is about one.
    record: Option<u64>,
    /// Whether it says that an earlier one is over.
    pub is_over: bool,
    words: String,
}

impl Alarm {
    /// One of this moment.
    pub(super) fn new(cause: Cause, words: &str) -> Self {
        let words = neutralise(words.as_bytes());
        Self { cause, at: now(), record: None, is_over: false, words }
    }

    /// The same, about a record.
    pub(super) fn about(self, record: u64) -> Self {
        Self { record: Some(record), ..self }
    }

    /// The same, of another moment.
    pub(super) fn at(self, at: u64) -> Self {
        Self { at, ..self }
    }

    /// Says that it is over.
    pub(super) fn over(self) -> Self {
        Self { is_over: true, ..self }
    }

    /// Its moment as RFC 3339.
    pub(super) fn time(&self) -> String {
        rfc3339(self.at)
    }

    /// What has happened, in words without the time.
    pub(super) fn words(&self) -> String {
        let record = self.record.map_or_else(String::new, |record| format!(", record {record}"));
        let over = if self.is_over { "over: " } else { "" };
        format!("{} {over}{}{record}", self.cause.name(), self.words)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let colour = if self.is_over { "\x1b[32m" } else { "\x1b[31m" };
        format!("{} {colour}alarm\x1b[0m {}\n", self.time(), self.words())
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        json!({
            "alarm": self.cause.name(),
            "at": self.time(),
            "over": self.is_over,
            "record": self.record,
            "text": self.words,
        })
    }
}
