//! The messages of a batch, as a record of it lists them: runs of messages of one form and method.
//!
//! ```text
//! a run: form u8, flags u8, method u16, first call u32, messages u32, [trace 32 bytes if flags is 1]
//! ```
//! A run's calls are numbered one after the other; messages that belong to no call have number 0. Where
//! it has a trace, all messages of the run follow from the same, and their spans are numbered one after
//! the other too.
//! What doesn't fit into [`MOST`] runs is counted in a last one without a form.

use super::Form;
use crate::wire::trace::{TRACE, Trace};

/// The most runs that are listed.
pub const MOST: usize = 64;
/// Bytes of a run, at most.
pub const BYTES: usize = SHORT + TRACE;
/// Bytes of a run without a trace.
const SHORT: usize = 12;

/// Messages of one form and method that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// What they are; [`Form::None`] if they were too various to list.
    pub form: Form,
    /// The method's number.
    pub method: u16,
    /// The first one's call, or 0.
    pub call: u32,
    /// How many there are.
    pub messages: u32,
    /// The first one's trace.
    pub trace: Option<Trace>,
}

impl Run {
    /// The trace of one of its messages.
    pub fn trace_of(&self, message: u32) -> Option<Trace> {
        let first = self.trace?;
        Trace::new(first.id(), first.span().wrapping_add(message.into()), first.parent())
    }
}

/// Appends a run at the end of `out`.
pub fn encode(run: &Run, out: &mut Vec<u8>) {
    out.extend_from_slice(&[run.form as u8, run.trace.is_some().into()]);
    out.extend_from_slice(&run.method.to_le_bytes());
    out.extend_from_slice(&run.call.to_le_bytes());
    out.extend_from_slice(&run.messages.to_le_bytes());
    if let Some(trace) = &run.trace {
        out.extend_from_slice(&trace.to_bytes());
    }
}

/// Reads a list of runs. It ends at what is malformed in it: a layer wrote it.
pub fn decode(mut list: &[u8]) -> impl Iterator<Item = Run> {
    let next = move || {
        let (run, rest) = list.split_first_chunk::<SHORT>()?;
        let word = |at: usize| Some(u32::from_le_bytes(*run.get(at..)?.first_chunk()?));
        let (trace, rest) = match run[1] {
            0 => (None, rest),
            1 => {
                let (trace, rest) = rest.split_first_chunk()?;
                (Some(Trace::from_bytes(trace)?), rest)
            }
            _ => return None,
        };
        list = rest;
        Some(Run {
            form: Form::from_byte(run[0])?,
            method: u16::from_le_bytes([run[2], run[3]]),
            call: word(4)?,
            messages: word(8)?,
            trace,
        })
    };
    std::iter::from_fn(next).take(MOST + 1)
}

/// Counts a message in: in the last run if it continues that, otherwise in a new one.
pub fn count(runs: &mut Vec<Run>, form: Form, method: u16, call: u32, trace: Option<Trace>) {
    let listed = runs.len();
    if let Some(last) = runs.last_mut()
        && (listed > MOST || continues(last, form, method, call, trace))
    {
        last.messages = last.messages.saturating_add(1);
    } else if listed == MOST {
        runs.push(Run { form: Form::None, method: 0, call: 0, messages: 1, trace: None });
    } else {
        runs.push(Run { form, method, call, messages: 1, trace });
    }
}

fn continues(last: &Run, form: Form, method: u16, call: u32, trace: Option<Trace>) -> bool {
    let next = if last.call == 0 { 0 } else { last.call.wrapping_add(last.messages) };
    (last.form, last.method, next, last.trace_of(last.messages)) == (form, method, call, trace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_as_they_were_counted() {
        let mut runs = Vec::new();
        for call in 5..9 {
            count(&mut runs, Form::Request, 1, call, Trace::new([1; 16], call.into(), 3));
        }
        for _ in 0..3 {
            count(&mut runs, Form::Message, 2, 0, None);
        }
        let mut detail = Vec::new();
        for run in &runs {
            encode(run, &mut detail);
        }
        let trace = Trace::new([1; 16], 5, 3);
        let expected = [
            Run { form: Form::Request, method: 1, call: 5, messages: 4, trace },
            Run { form: Form::Message, method: 2, call: 0, messages: 3, trace: None },
        ];
        assert_eq!(decode(&detail).collect::<Vec<_>>(), expected);
        assert_eq!(expected[0].trace_of(3), Trace::new([1; 16], 8, 3));
        assert_eq!(decode(&detail[..BYTES + SHORT - 1]).count(), 1);
    }

    #[test]
    fn messages_of_different_requests_are_told_apart() {
        let mut runs = Vec::new();
        for (call, (id, span)) in (1..).zip([(1, 1), (1, 2), (2, 3), (2, 9)]) {
            count(&mut runs, Form::Request, 1, call, Trace::new([id; 16], span, 0));
        }
        assert_eq!(runs.iter().map(|run| run.messages).collect::<Vec<_>>(), [2, 1, 1]);
    }

    #[test]
    fn what_is_too_various_is_counted_still() {
        let mut runs = Vec::new();
        for method in 0..200 {
            count(&mut runs, Form::Message, method, 0, None);
        }
        assert_eq!(runs.len(), MOST + 1);
        assert_eq!(runs.iter().map(|run| run.messages).sum::<u32>(), 200);
        assert_eq!(runs[MOST].form, Form::None);
    }
}
