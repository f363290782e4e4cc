//! Which records belong to one trace: those that name it, the answers to its calls, and the connection by
//! which it came.

use std::collections::HashSet;

use super::entry::{Entry, Facility, Form, Kind, Side, Trace, Verdict, Who};
use super::runs;

/// The most open calls of a trace whose answers are known by it.
const MOST: usize = 1 << 16;

/// A trace that a layer took up from outside, and under which it was until then, if that is what the
/// entry says.
pub fn taken_up(entry: &Entry) -> Option<(Trace, Option<Trace>)> {
    let is_one = entry.kind == Kind::Use
        && (entry.facility, entry.verdict) == (Facility::None, Verdict::Allowed);
    let before = entry.detail.as_slice().try_into().ok().and_then(Trace::from_bytes);
    entry.trace.filter(|_| is_one).map(|taken| (taken, before))
}

/// The first digits of a trace's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix {
    digits: usize,
    value: u128,
}

impl Prefix {
    /// Reads 4 to 32 hexadecimal digits, or a whole `traceparent`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(trace) = Trace::parse(text) {
            return Ok(Self { digits: 32, value: u128::from_be_bytes(trace.id()) });
        }
        let value = u128::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'));
        match value {
            Some(value) if (4..=32).contains(&text.len()) => Ok(Self { digits: text.len(), value }),
            _ => Err("write a trace's id as 4 to 32 hexadecimal digits, or a traceparent".into()),
        }
    }

    /// Whether it is this one's.
    pub fn is_of(&self, trace: Trace) -> bool {
        u128::from_be_bytes(trace.id()) >> (4 * (32 - self.digits)) == self.value
    }
}

/// Finds the records of a trace, as they come.
#[derive(Clone, Debug)]
pub struct Traced {
    wanted: Prefix,
    /// Traces of connections by which it came.
    linked: HashSet<[u8; 16]>,
    /// Calls by edge, caller, callee and number.
    calls: HashSet<(u16, Who, Who, u32)>,
}

impl Traced {
    /// None was found yet.
    pub fn new(wanted: Prefix) -> Self {
        Self { wanted, linked: HashSet::new(), calls: HashSet::new() }
    }

    /// Looks for what the trace came by, in a record that may come later than what is meant.
    pub fn look(&mut self, entry: &Entry) {
        if let Some((taken, Some(before))) = taken_up(entry)
            && self.wanted.is_of(taken)
            && self.linked.len() < MOST
        {
            self.linked.insert(before.id());
        }
    }

    fn names(&self, trace: Option<Trace>) -> bool {
        trace.is_some_and(|it| self.wanted.is_of(it) || self.linked.contains(&it.id()))
    }

    /// Whether a record belongs to the trace. In the log's order.
    pub fn takes(&mut self, entry: &Entry) -> bool {
        if let Some((taken, _)) = taken_up(entry) {
            return self.wanted.is_of(taken);
        }
        if entry.facility != Facility::Channel || entry.kind != Kind::Use {
            return self.names(entry.trace);
        }
        let sends = entry.side != Side::Receiver;
        let mut found = false;
        for run in runs::of(entry) {
            let (asks, answers) = match run.form {
                Form::Request | Form::Cancel | Form::Credit => (true, false),
                Form::Reply | Form::Refusal | Form::Item | Form::End => (false, true),
                _ => (false, false),
            };
            let caller_reports = asks == sends;
            let (caller, other) = if caller_reports {
                (entry.reporter, entry.peer)
            } else {
                (entry.peer, entry.reporter)
            };
            let named = self.names(run.trace);
            found |= named;
            for call in (0..run.messages.min(1 << 16)).map(|n| run.call.wrapping_add(n)) {
                let key = (entry.edge, caller, other, call);
                if named && run.form == Form::Request && self.calls.len() < MOST {
                    self.calls.insert(key);
                } else if run.form == Form::Request {
                    // The number is another call's now.
                    self.calls.remove(&key);
                } else if asks || answers {
                    found |= self.calls.contains(&key);
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARSER: Who = Who { layer: 1, copy: 0, generation: 1 };
    const KEEPER: Who = Who { layer: 2, copy: 0, generation: 1 };

    fn used(reporter: Who, peer: Who, side: Side, form: Form, value: u32) -> Entry {
        let entry = Entry { side, form, reporter, peer, value, ..Entry::new(Kind::Use) };
        Entry { facility: Facility::Channel, verdict: Verdict::Allowed, ..entry }
    }

    #[test]
    fn a_trace_is_its_requests_their_answers_and_the_connection() {
        let (outside, connection) = (Trace::new([9; 16], 5, 4), Trace::new([1; 16], 2, 0));
        let request = |value| used(PARSER, KEEPER, Side::Sender, Form::Request, value);
        let reply = |value| used(KEEPER, PARSER, Side::Sender, Form::Reply, value);
        let got = |value| used(PARSER, KEEPER, Side::Receiver, Form::Reply, value);
        let taken = Entry {
            trace: outside,
            detail: connection.unwrap().to_bytes().to_vec(),
            verdict: Verdict::Allowed,
            ..Entry::new(Kind::Use)
        };
        let accepted = Entry {
            facility: Facility::Listen,
            side: Side::Receiver,
            trace: connection,
            ..Entry::new(Kind::Use)
        };
        let log = [
            (accepted, true),
            (taken, true),
            (Entry { trace: outside, ..request(7) }, true),
            (Entry { trace: Trace::new([8; 16], 1, 0), ..request(8) }, false),
            (reply(8), false),
            (reply(7), true),
            (got(7), true),
            // The same number once more, for somebody else.
            (Entry { trace: Trace::new([8; 16], 3, 0), ..request(7) }, false),
            (reply(7), false),
        ];
        let mut traced = Traced::new(Prefix::parse("0909").unwrap());
        for (entry, _) in &log {
            traced.look(entry);
        }
        for (place, (entry, belongs)) in log.iter().enumerate() {
            assert_eq!(traced.takes(entry), *belongs, "record {place}");
        }
    }

    #[test]
    fn a_trace_is_asked_for_by_its_first_digits_or_its_header() {
        let trace =
            Trace::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        for text in ["4bf9", "4BF92F35", "4bf92f3577b34da6a3ce929d0e0e4736", &trace.to_string()] {
            assert!(Prefix::parse(text).unwrap().is_of(trace), "{text}");
        }
        assert!(!Prefix::parse("4bf8").unwrap().is_of(trace));
        for wrong in ["", "4bf", "xyzw", "+4bf9", "4bf92f3577b34da6a3ce929d0e0e47361"] {
            assert!(Prefix::parse(wrong).is_err(), "{wrong}");
        }
    }
}
