//! A trace for Chrome's tracing and Perfetto, in the trace event format: a process for each layer,
//! a thread for each instance, calls and lives as spans, and an arrow from the end that sent a
//! message to the one that received it.
//!
//! Each record is one event, with its number in `args.index`. An arrow is written once both of its
//! ends are there, a span once it is over or the log ends.

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::{Value, json};

use super::Writer;
use super::clock::Clock;
use crate::audit::entry::{Facility, Kind, Side, Who};
use crate::audit::{Entry, Record};
use crate::cli::audit::calls::{Call, Calls};
use crate::cli::audit::names::{Names, Said, edge, instance, method};
use crate::cli::audit::time::rfc3339;
use crate::cli::audit::traffic::EdgeId;

/// How many messages may wait for their other end. What is behind that has no arrow.
const MOST: usize = 1 << 18;

/// Where something stands: process and thread.
type Track = (u32, u32);
/// A message: facility, edge, sender, receiver, number.
type Message = (Facility, u16, Who, Who, u64);

/// A trace being written.
pub(super) struct Trace<'a> {
    names: &'a Names,
    /// Processes by their layer's name.
    processes: HashMap<String, u32>,
    /// Threads by their instance's name.
    threads: HashMap<String, Track>,
    /// The same by number, which mean something else in other tables.
    places: HashMap<(usize, Who), Track>,
    clock: Clock,
    halves: HashMap<Message, (Side, Track, u64)>,
    calls: Calls,
    /// Since when each instance has lived.
    lives: HashMap<Track, u64>,
    /// Numbers arrows and spans.
    next: u64,
    last: u64,
    begun: bool,
}

impl<'a> Trace<'a> {
    /// One of a log with these names.
    pub(super) fn new(names: &'a Names) -> Self {
        Self {
            names,
            processes: HashMap::new(),
            threads: HashMap::new(),
            places: HashMap::new(),
            clock: Clock::default(),
            halves: HashMap::new(),
            calls: Calls::default(),
            lives: HashMap::new(),
            next: 0,
            last: 0,
            begun: false,
        }
    }

    /// Writes an event at a place and moment.
    fn event(
        &mut self,
        (pid, tid): Track,
        nanoseconds: Option<u64>,
        mut event: Value,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        event["pid"] = pid.into();
        event["tid"] = tid.into();
        let comma = if self.begun { ",\n" } else { "" };
        self.begun = true;
        let text = event.to_string();
        // Microseconds with three more digits are no number that a double holds exactly, so they
        // are written as they are.
        match nanoseconds {
            None => write!(out, "{comma}{text}"),
            Some(n) => {
                let text = &text[..text.len() - 1];
                write!(out, "{comma}{text},\"ts\":{}.{:03}}}", n / 1_000, n % 1_000)
            }
        }
    }

    /// The place of an instance, introduced at first.
    fn place(
        &mut self,
        era: usize,
        index: u64,
        who: Who,
        out: &mut dyn Write,
    ) -> io::Result<Track> {
        if let Some(place) = self.places.get(&(era, who)) {
            return Ok(*place);
        }
        let (layer, thread) = match instance(self.names.at(index), who) {
            Some(it) => (it.layer.to_string(), it.to_string()),
            None => ("nobody".to_owned(), "nobody".to_owned()),
        };
        if !self.threads.contains_key(&thread) {
            let new = !self.processes.contains_key(&layer);
            let next = u32::try_from(self.processes.len()).unwrap_or(u32::MAX) + 1;
            let process = *self.processes.entry(layer.clone()).or_insert(next);
            if new {
                let event = json!({ "ph": "M", "name": "process_name", "args": { "name": layer } });
                self.event((process, 0), None, event, out)?;
            }
            let place = (process, u32::try_from(self.threads.len()).unwrap_or(u32::MAX) + 1);
            let event = json!({ "ph": "M", "name": "thread_name", "args": { "name": thread } });
            self.event(place, None, event, out)?;
            self.threads.insert(thread.clone(), place);
        }
        let place = self.threads[&thread];
        self.places.insert((era, who), place);
        Ok(place)
    }

    /// Writes a span.
    fn span(
        &mut self,
        place: Track,
        (from, to): (u64, u64),
        (name, kind): (String, &str),
        args: &Value,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        self.next += 1;
        let id = format!("{kind}{}", self.next);
        let begin = json!({ "ph": "b", "cat": kind, "id": id, "name": name, "args": args });
        let end = json!({ "ph": "e", "cat": kind, "id": id, "name": name });
        self.event(place, Some(from), begin, out)?;
        self.event(place, Some(to.max(from)), end, out)
    }

    /// Writes the arrow of a message whose second end this is.
    fn arrow(
        &mut self,
        (entry, said): (&Entry, &Said<'_>),
        place: Track,
        at: u64,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (sender, receiver) = match entry.side {
            Side::Sender => (entry.reporter, entry.peer),
            Side::Receiver => (entry.peer, entry.reporter),
            _ => return Ok(()),
        };
        let receiver = match entry.facility {
            Facility::Channel | Facility::Pipe => receiver,
            Facility::Queue => Who::NOBODY,
            _ => return Ok(()),
        };
        let message = (entry.facility, entry.edge, sender, receiver, entry.sequence);
        let half = self.halves.remove(&message).filter(|(side, ..)| *side != entry.side);
        let Some((side, other, then)) = half else {
            if self.halves.len() < MOST {
                self.halves.insert(message, (entry.side, place, at));
            }
            return Ok(());
        };
        let (from, to) = match side {
            Side::Sender => ((other, then), (place, at)),
            _ => ((place, at), (other, then)),
        };
        self.next += 1;
        let (id, name) = (self.next, said.edge.as_deref().unwrap_or("message"));
        let start = json!({ "ph": "s", "cat": "message", "id": id, "name": name });
        let finish = json!({ "ph": "f", "bp": "e", "cat": "message", "id": id, "name": name });
        self.event(from.0, Some(from.1), start, out)?;
        self.event(to.0, Some(to.1), finish, out)
    }

    fn call(&mut self, era: usize, index: u64, call: &Call, out: &mut dyn Write) -> io::Result<()> {
        let tables = self.names.at(index);
        let facility = Facility::Channel;
        let edge = edge(tables, EdgeId::both(facility, call.edge)).unwrap_or_default();
        let method = method(tables, Kind::Use, (facility, call.edge), call.method);
        let name = format!("{edge}.{}", method.as_deref().unwrap_or("?"));
        let answerer = instance(tables, call.answerer).map(|it| it.to_string());
        let args = json!({
            "call": call.number,
            "by": answerer,
            "declined": call.refused,
            "trace": call.trace.map(|it| it.hexadecimal()),
            "span": call.trace.map(|it| format!("{:016x}", it.span())),
        });
        let place = self.place(era, index, call.caller, out)?;
        let times = (self.clock.at(call.from), self.clock.at(call.to));
        self.span(place, times, (name, "call"), &args, out)
    }
}

impl Writer for Trace<'_> {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(b"{\"displayTimeUnit\":\"ns\",\"traceEvents\":[\n")
    }

    fn record(
        &mut self,
        era: usize,
        record: &Record,
        said: &Said<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (entry, index) = (&record.entry, record.index);
        self.clock.see(record);
        let at = self.clock.of(record);
        self.last = self.last.max(at);
        let nobody = entry.reporter == Who::NOBODY;
        let who = if nobody && entry.peer != Who::NOBODY { entry.peer } else { entry.reporter };
        let place = self.place(era, index, who, out)?;
        let name = [said.edge.as_deref(), said.form, said.method.as_deref()];
        let name = match entry.kind {
            Kind::Use | Kind::Broker => name.into_iter().flatten().collect::<Vec<_>>().join(" "),
            kind => kind.name().to_owned(),
        };
        let args = json!({
            "index": index,
            "kind": said.kind,
            "side": said.side,
            "verdict": said.verdict,
            "rule": said.rule,
            "peer": said.peer.as_ref().map(ToString::to_string),
            "sequence": entry.sequence,
            "length": entry.length,
            "value": entry.value,
            "meaning": said.meaning,
            "detail": said.detail,
            "trace": said.trace,
            "span": said.span,
            "parent": said.parent,
        });
        let event = if entry.kind == Kind::Use {
            json!({ "ph": "X", "cat": said.kind, "name": name, "dur": 0.001, "args": args })
        } else {
            let scope = if entry.kind == Kind::Alarm { "g" } else { "t" };
            json!({ "ph": "i", "cat": said.kind, "name": name, "s": scope, "args": args })
        };
        self.event(place, Some(at), event, out)?;
        match entry.kind {
            Kind::Use => self.arrow((entry, said), place, at, out)?,
            // Lives may be counted anew from here on.
            Kind::Start => self.halves.clear(),
            Kind::Spawn => {
                let place = self.place(era, index, entry.peer, out)?;
                self.lives.insert(place, at);
            }
            Kind::Exit => {
                let place = self.place(era, index, entry.peer, out)?;
                if let Some(from) = self.lives.remove(&place) {
                    let args = json!({ "end": said.meaning });
                    self.span(place, (from, at), ("life".to_owned(), "life"), &args, out)?;
                }
            }
            _ => {}
        }
        let mut ended = Vec::new();
        self.calls.push(entry, |call| ended.push(call));
        ended.iter().try_for_each(|call| self.call(era, index, call, out))
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let last = self.last;
        let mut lives: Vec<_> = std::mem::take(&mut self.lives).into_iter().collect();
        lives.sort_unstable();
        for (place, from) in lives {
            let args = json!({ "end": Value::Null });
            self.span(place, (from, last), ("life".to_owned(), "life"), &args, out)?;
        }
        let base = self.clock.base().map(rfc3339);
        let other = json!({ "zero": base, "by": "cofferdam audit export" });
        write!(out, "\n],\"otherData\":{other}}}\n")
    }
}
