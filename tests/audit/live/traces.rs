//! Which request something was done for is in the log, however many there are at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Barrier;

use cofferdam::Layer;
use cofferdam::audit::Record;
use cofferdam::audit::entry::{Facility, Form, Kind, Side, Verdict};
use cofferdam::audit::ways::{Found, Ways};
use cofferdam::ipc::message::Message;
use cofferdam::ipc::socket::blocking::Connection;
use serde_json::Value;

use super::layers::say;
use super::log::{alarms, assert_sound, assert_two_sided, records};
use super::{Outcome, Test};
use crate::harness::Daemon;
use crate::support::log::daemon::{audit, lists};

pub(crate) const TESTS: &[Test] = &[
    ("traces::requests_at_once_are_told_apart_for_certain", at_once),
    ("traces::a_trace_from_outside_is_found_with_all_that_belongs_to_it", outside),
];

/// Requests that are in the middle at once.
const AT_ONCE: usize = 4;

const POLICY: &str = r#"
[audit]
directory = "DIR/log"
[layer.front]
run = "trace_front"
syscalls = ["@core", "@thread"]
limits = { tasks = 16 }
listen = { door = "unix:DIR/door" }
[layer.middle]
run = "trace_middle"
syscalls = ["@core", "@thread"]
limits = { tasks = 16 }
[layer.back]
run = "trace_back"
syscalls = ["@core"]
[channel.ask]
from = "front"
to = "middle"
methods = ["ask"]
[channel.fetch]
from = "middle"
to = "back"
methods = ["fetch"]
[queue.notes]
send = ["middle"]
receive = ["back"]
"#;

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Serves each connection in a thread: a line, which may be a `traceparent`, makes a request.
pub(crate) fn trace_front(layer: Layer) -> Outcome {
    let acceptor = layer.blocking_acceptor("door").map_err(words)?;
    std::thread::scope(|scope| {
        while let Some(connection) = acceptor.accept().map_err(words)? {
            let layer = layer.clone();
            scope.spawn(move || serve(&layer, connection).unwrap_or_else(|error| say(&error)));
        }
        Ok(())
    })
}

fn serve(layer: &Layer, connection: Connection) -> Outcome {
    let ask = layer.channel("ask").map_err(words)?.blocking();
    let mut connection = BufReader::new(connection);
    let mut line = String::new();
    while connection.read_line(&mut line).map_err(words)? > 0 {
        if !line.trim().is_empty() {
            layer.trace(Some(line.trim()));
        }
        line.clear();
        ask.call("ask").send(Message::default()).map_err(words)?;
        connection.get_mut().write_all(b"done\n").map_err(words)?;
    }
    Ok(())
}

/// Has so many requests in hand at once before it goes on with any.
pub(crate) fn trace_middle(layer: Layer) -> Outcome {
    let (ask, fetch) =
        (layer.channel("ask").map_err(words)?, layer.channel("fetch").map_err(words)?);
    let (ask, fetch) = (ask.blocking(), fetch.blocking());
    let all_here = Barrier::new(AT_ONCE);
    let one = || {
        ask.serve(|_| {
            all_here.wait();
            let notes = layer.queue("notes").map_err(words)?.blocking();
            notes.send(b"noted", 0).map_err(words)?;
            fetch.call("fetch").send(Message::default()).map_err(words)
        })
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one)).collect();
        threads.into_iter().try_for_each(|it| it.join().unwrap().map_err(words))
    })
}

pub(crate) fn trace_back(layer: Layer) -> Outcome {
    let fetch = layer.channel("fetch").map_err(words)?.blocking();
    fetch.serve(|_| Ok::<_, String>(Message::default())).map_err(words)
}

/// As many clients as the middle waits for, each with a line; twice on the same connection.
fn play(lines: [&str; AT_ONCE]) -> (Daemon, Vec<Record>) {
    let mut daemon = Daemon::start("-", POLICY);
    for layer in ["front/0.g1", "middle/0.g1", "back/0.g1"] {
        daemon.confined(layer);
    }
    let door = daemon.directory().join("door");
    let client = |line: &str| -> std::io::Result<()> {
        let mut stream = UnixStream::connect(&door)?;
        let mut answer = [0; 5];
        for _ in 0..2 {
            stream.write_all(format!("{line}\n").as_bytes())?;
            stream.read_exact(&mut answer)?;
            assert_eq!(&answer, b"done\n");
        }
        Ok(())
    };
    let served = std::thread::scope(|scope| {
        let clients = lines.map(|line| {
            scope.spawn({
                let client = &client;
                move || client(line)
            })
        });
        clients.into_iter().try_for_each(|client| client.join().unwrap())
    });
    assert_eq!((daemon.stop(), served.is_ok()), (Some(0), true), "{served:?}: {daemon}");
    let log = daemon.directory().join("log");
    assert_sound(&log);
    let records = records(&log);
    assert_two_sided(&records);
    assert_eq!(alarms(&records), [""; 0]);
    (daemon, records)
}

fn ways(records: &[Record]) -> Found {
    let mut ways = Ways::new(100);
    for record in records {
        ways.take(record);
    }
    ways.finish()
}

fn at_once() {
    let (_daemon, records) = play([""; AT_ONCE]);
    let found = ways(&records);
    assert_eq!((found.all, found.unsure), (4, 0), "a connection is a way");
    for way in &found.newest {
        let steps: Vec<_> = way.steps.iter().map(|it| (it.facility, it.edge, it.parent)).collect();
        let expected = [
            (Facility::Listen, 0, None),
            (Facility::Channel, 0, Some(0)),
            (Facility::Queue, 0, Some(1)),
            (Facility::Channel, 1, Some(1)),
            (Facility::Channel, 0, Some(0)),
            (Facility::Queue, 0, Some(4)),
            (Facility::Channel, 1, Some(4)),
        ];
        assert_eq!(steps, expected);
        assert!(way.steps[1..].iter().all(|step| step.certain));
        assert!(way.trace.is_some());
    }
}

/// A client's trace, of so many of the same digit.
fn traceparent(digit: char) -> String {
    format!("00-{}-00f067aa0ba902b7-01", digit.to_string().repeat(32))
}

fn outside() {
    let lines = ['a', 'b', 'c', 'd'].map(traceparent);
    let (daemon, records) = play(lines.each_ref().map(String::as_str));
    let found = ways(&records);
    assert_eq!((found.all, found.unsure), (8, 0), "each request is a way");
    for way in &found.newest {
        let facilities: Vec<_> = way.steps.iter().map(|step| step.facility).collect();
        let channel = Facility::Channel;
        assert_eq!(facilities, [Facility::Listen, channel, Facility::Queue, channel]);
        assert!(way.trace.unwrap().hexadecimal().starts_with(['a', 'b', 'c', 'd']));
    }

    let log = daemon.directory().join("log");
    let log = log.to_str().unwrap();
    let told = lists(&["query", log, "--trace", "bbbbbbbb"]);
    // The connection and, for each of its two requests: that it was taken up, four reports of each call,
    // and the note.
    assert_eq!(told.len(), 1 + 2 * (1 + 2 * 4 + 1));
    let of = |key: &str, word: &str| told.iter().filter(|it| it[key] == word).count();
    assert_eq!((of("edge", "listen.front.door"), of("meaning", "takes up a trace")), (1, 2));
    assert_eq!((of("form", "request"), of("form", "reply"), of("facility", "queue")), (8, 8, 2));
    assert_eq!(of("trace", &"b".repeat(32)), 2 + 8 + 2);
    let taken = told.iter().find(|it| it["meaning"] == "takes up a trace").unwrap();
    assert_eq!(taken["parent"], "00f067aa0ba902b7");

    assert_eq!(lists(&["query", log, "--trace", "0123456789"]), [Value::Null; 0]);
    spans(log);
    agreed(&records);
}

/// The spans of a trace form one tree, whose root the client's span is.
fn spans(log: &str) {
    let told = audit(&["export", log, "--format", "otlp", "--trace", "cccc"]);
    let text = String::from_utf8(told.stdout).unwrap();
    let spans: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["resourceSpans"][0]["scopeSpans"][0]["spans"][0].clone())
        .collect();
    let of =
        |id: &str| spans.iter().filter(|it| it["traceId"] == id.repeat(32)).collect::<Vec<_>>();
    let own = of("c");
    // Of each of two requests: the taking up, a call, a note, a call.
    assert_eq!(own.len(), 8);
    for span in &own {
        let mut at = *span;
        while at["parentSpanId"] != "00f067aa0ba902b7" {
            let parent = own.iter().find(|it| it["spanId"] == at["parentSpanId"]);
            at = parent.unwrap_or_else(|| panic!("{at} has no parent"));
        }
        assert_eq!(at["name"], "request");
    }
    let connection = spans.iter().find(|it| it["name"] == "listen.front.door").unwrap();
    let root = own.iter().find(|it| it["name"] == "request").unwrap();
    assert_eq!(root["links"][0]["traceId"], connection["traceId"]);
    assert_eq!(root["links"][0]["spanId"], connection["spanId"]);
}

/// Both ends of a request name the same trace.
fn agreed(records: &[Record]) {
    let of = |side| {
        let mut all: Vec<_> = records
            .iter()
            .map(|record| &record.entry)
            .filter(|it| it.kind == Kind::Use && it.side == side && it.form == Form::Request)
            .map(|it| (it.verdict, it.trace.unwrap().to_bytes()))
            .collect();
        all.sort_unstable();
        all
    };
    let sent = of(Side::Sender);
    assert_eq!(sent.len(), 16);
    assert_eq!(sent, of(Side::Receiver));
    assert!(sent.iter().all(|(verdict, _)| *verdict == Verdict::Allowed));
}
