//! Calls, put together from what their callers report: when the request went out, and when the
//! reply or the refusal came in.

use std::collections::HashMap;

use crate::audit::entry::{Entry, Form, Kind, Side, Trace, Who};
use crate::audit::runs;

/// How many calls may be open at once. One more is not measured.
const MOST: usize = 1 << 18;

/// A call that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) struct Call {
    /// The channel's number.
    pub(in crate::cli) edge: u16,
    /// The method's number.
    pub(in crate::cli) method: u32,
    /// Who called.
    pub(in crate::cli) caller: Who,
    /// Who answered.
    pub(in crate::cli) answerer: Who,
    /// The call's number.
    pub(in crate::cli) number: u32,
    /// When the request went out, as its caller says, in nanoseconds of `CLOCK_MONOTONIC`.
    pub(in crate::cli) from: u64,
    /// When the answer came in.
    pub(in crate::cli) to: u64,
    /// Whether that was a refusal.
    pub(in crate::cli) refused: bool,
    /// The trace that it belongs to.
    pub(in crate::cli) trace: Option<Trace>,
}

/// A call that nobody has answered yet: when it was made, of which method, and for what.
#[derive(Clone, Copy, Debug)]
struct Asked {
    from: u64,
    method: u32,
    trace: Option<Trace>,
}

/// Calls that are open.
#[derive(Debug, Default)]
pub(in crate::cli) struct Calls {
    open: HashMap<(u16, Who, Who, u32), Asked>,
    /// Requests that were not measured since too many were open.
    pub(in crate::cli) unmeasured: u64,
}

impl Calls {
    /// Takes a record in, and gives each call that it ends.
    pub(in crate::cli) fn push(&mut self, entry: &Entry, mut each: impl FnMut(Call)) {
        match (entry.kind, entry.side) {
            (Kind::Exit, _) => {
                let who = entry.peer;
                self.open.retain(|(_, caller, answerer, _), _| *caller != who && *answerer != who);
            }
            (Kind::Use, Side::Sender) if asks(entry.form) => {
                for run in runs::of(entry).into_iter().filter(|run| run.form == Form::Request) {
                    for (n, call) in (0..).zip(calls(&run)) {
                        if self.open.len() >= MOST {
                            self.unmeasured += 1;
                            continue;
                        }
                        let key = (entry.edge, entry.reporter, entry.peer, call);
                        let (from, method, trace) =
                            (entry.reported, run.method.into(), run.trace_of(n));
                        self.open.insert(key, Asked { from, method, trace });
                    }
                }
            }
            (Kind::Use, Side::Receiver) if answers(entry.form) => {
                let ends = |form| matches!(form, Form::Reply | Form::Refusal);
                for run in runs::of(entry).into_iter().filter(|run| ends(run.form)) {
                    for call in calls(&run) {
                        let key = (entry.edge, entry.reporter, entry.peer, call);
                        let Some(asked) = self.open.remove(&key) else { continue };
                        let Asked { from, method, trace } = asked;
                        each(Call {
                            edge: entry.edge,
                            method,
                            caller: entry.reporter,
                            answerer: entry.peer,
                            number: call,
                            from,
                            to: entry.reported.max(from),
                            refused: run.form == Form::Refusal,
                            trace,
                        });
                    }
                }
            }
            _ => {}
        }
    }
}

fn asks(form: Form) -> bool {
    matches!(form, Form::Request | Form::Batch)
}

fn answers(form: Form) -> bool {
    matches!(form, Form::Reply | Form::Refusal | Form::Batch)
}

/// The calls of a run; a hostile one may claim 4 thousand million, of which no more are looked at
/// than can be open.
fn calls(run: &runs::Run) -> impl Iterator<Item = u32> {
    let (first, most) = (run.call, u32::try_from(MOST).unwrap_or(u32::MAX));
    (0..run.messages.min(most)).map(move |n| first.wrapping_add(n))
}
