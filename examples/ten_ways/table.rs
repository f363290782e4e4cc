//! The ten rows.

use std::error::Error;
use std::fmt::Display;

use crate::Outcome;

/// One way to communicate: what came of using it, and of using it for more than is granted.
pub(crate) struct Row {
    way: &'static str,
    allowed: String,
    refused: String,
}

impl Row {
    /// A row, once both have been tried.
    pub(crate) fn new(way: &'static str, allowed: impl Into<String>, refused: String) -> Self {
        Self { way, allowed: allowed.into(), refused }
    }
}

/// What was said to an attempt that the policy doesn't grant. That it succeeds is an error.
pub(crate) fn refusal<T, E: Display>(attempt: Result<T, E>) -> Outcome<String> {
    match attempt {
        Ok(_) => Err("what the policy doesn't grant was not refused".into()),
        Err(error) => Ok(error.to_string()),
    }
}

/// Says of an error which way it happened on.
pub(crate) fn on(way: &'static str) -> impl FnOnce(Box<dyn Error>) -> Box<dyn Error> {
    move |error| format!("{way}: {error}").into()
}

/// Prints the table. A layer's standard output is a pipe to the supervisor, which puts the
/// layer's name before each line.
pub(crate) fn print(rows: &[Row]) {
    let width = rows.iter().map(|row| row.way.len()).max().unwrap_or(0);
    for Row { way, allowed, refused } in rows {
        println!("{way:width$} | allowed | {allowed}");
        println!("{:width$} | refused | {refused}", "");
    }
}
