//! Spans for OpenTelemetry, in the JSON form of OTLP, an `ExportTraceServiceRequest` a line: as the file
//! exporter of a collector writes them and its `otlpjsonfile` receiver reads them.
//!
//! A call is a span of who made it, from the request to the answer. A connection, a message that wants no
//! answer and any other act is one without length. Only what names its trace is there: nothing is
//! concluded from time. Of messages that two ends report, the sender's report counts.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::Writer;
use super::clock::Clock;
use crate::audit::Record;
use crate::audit::entry::{Facility, Form, Kind, Side, Trace, Verdict, Who};
use crate::audit::traced::taken_up;
use crate::cli::audit::calls::{Call, Calls};
use crate::cli::audit::names::{Names, Said, edge, instance, method};
use crate::cli::audit::traffic::EdgeId;

/// What a span is, as OTLP numbers it (`SpanKind`).
#[derive(Clone, Copy)]
enum Role {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
}

/// Spans being written.
pub(super) struct Spans<'a> {
    names: &'a Names,
    clock: Clock,
    calls: Calls,
}

impl<'a> Spans<'a> {
    /// Those of a log with these names.
    pub(super) fn new(names: &'a Names) -> Self {
        Self { names, clock: Clock::default(), calls: Calls::default() }
    }

    fn write(
        &self,
        (index, who): (u64, Who),
        (trace, role, times): (Trace, Role, (u64, u64)),
        mut span: Value,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let tables = self.names.at(index);
        let who = instance(tables, who);
        let layer = who.as_ref().map_or("nobody", |it| &it.layer);
        span["traceId"] = trace.hexadecimal().into();
        span["spanId"] = format!("{:016x}", trace.span()).into();
        if trace.parent() != 0 {
            span["parentSpanId"] = format!("{:016x}", trace.parent()).into();
        }
        span["kind"] = (role as u8).into();
        span["startTimeUnixNano"] = self.clock.real(times.0).to_string().into();
        span["endTimeUnixNano"] = self.clock.real(times.1).to_string().into();
        let resource = [
            text("service.namespace", &tables.daemon),
            text("service.name", layer),
            text("service.instance.id", &who.as_ref().map(ToString::to_string).unwrap_or_default()),
        ];
        let line = json!({ "resourceSpans": [{
            "resource": { "attributes": resource },
            "scopeSpans": [{ "scope": { "name": "cofferdam.audit" }, "spans": [span] }],
        }] });
        serde_json::to_writer(&mut *out, &line)?;
        out.write_all(b"\n")
    }

    fn call(&self, index: u64, call: &Call, out: &mut dyn Write) -> io::Result<()> {
        let Some(trace) = call.trace else { return Ok(()) };
        let tables = self.names.at(index);
        let facility = Facility::Channel;
        let edge = edge(tables, EdgeId::both(facility, call.edge)).unwrap_or_default();
        let method = method(tables, Kind::Use, (facility, call.edge), call.method);
        let method = method.as_deref().unwrap_or_default();
        let answerer = instance(tables, call.answerer).map(|it| it.to_string());
        let span = json!({
            "name": format!("{edge} {method}").trim_end(),
            "attributes": [
                text("rpc.system", "cofferdam"),
                text("rpc.service", &edge),
                text("rpc.method", method),
                text("cofferdam.peer", answerer.as_deref().unwrap_or_default()),
            ],
            // STATUS_CODE_ERROR, STATUS_CODE_UNSET
            "status": { "code": if call.refused { 2 } else { 0 } },
        });
        let place = (index, call.caller);
        self.write(place, (trace, Role::Client, (call.from, call.to)), span, out)
    }
}

/// An attribute.
fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

impl Writer for Spans<'_> {
    fn begin(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }

    fn record(
        &mut self,
        _: usize,
        record: &Record,
        said: &Said<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (entry, index) = (&record.entry, record.index);
        self.clock.see(record);
        let at = entry.reported.min(record.at.monotonic);
        let refused = matches!(entry.verdict, Verdict::Refused | Verdict::Failed | Verdict::Killed);
        let status = json!({ "code": if refused { 2 } else { 0 } });
        let number =
            json!({ "key": "cofferdam.record", "value": { "intValue": index.to_string() } });
        let place = (index, entry.reporter);
        if let Some((trace, before)) = taken_up(entry) {
            let link = |it: Trace| json!({ "traceId": it.hexadecimal(), "spanId": format!("{:016x}", it.span()) });
            let links: Vec<_> = before.into_iter().map(link).collect();
            let span = json!({ "name": "request", "attributes": [number], "links": links });
            return self.write(place, (trace, Role::Server, (at, at)), span, out);
        }
        let role = match (entry.facility, entry.side, entry.form) {
            _ if entry.kind != Kind::Use => None,
            (Facility::Listen, Side::Receiver, _) => Some(Role::Server),
            (Facility::Channel, Side::Sender, Form::Message)
            | (Facility::Queue | Facility::Pipe, Side::Sender, _) => Some(Role::Producer),
            (Facility::Channel, ..) | (_, Side::Receiver, _) => None,
            _ => Some(Role::Internal),
        };
        if let (Some(trace), Some(role)) = (entry.trace, role) {
            let name = [said.edge.as_deref(), said.method.as_deref()];
            let mut attributes = vec![number];
            attributes.extend(said.peer.as_ref().map(|it| text("cofferdam.peer", &it.to_string())));
            attributes.extend(said.detail.as_deref().map(|it| text("cofferdam.detail", it)));
            let span = json!({
                "name": name.into_iter().flatten().collect::<Vec<_>>().join(" "),
                "attributes": attributes,
                "status": status,
            });
            self.write(place, (trace, role, (at, at)), span, out)?;
        }
        let mut ended = Vec::new();
        self.calls.push(entry, |call| ended.push(call));
        ended.iter().try_for_each(|call| self.call(index, call, out))
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
