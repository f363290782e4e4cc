//! A record made readable: its numbers by the tables in force where it stands, all text
//! neutralised, also that of the tables, for who wrote the log's files is not known here.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;

use super::time::rfc3339;
use super::traffic::EdgeId;
use crate::audit::entry::{Facility, Form, Kind, Record, Side, Trace, Verdict, Who};
use crate::audit::query::{Filter, query};
use crate::audit::runs;
use crate::audit::store::{Store, StoreError};
use crate::audit::tables::{self, Tables};
use crate::audit::traced::taken_up;
use crate::ident::{Name, hex};
use crate::policy::signal::signal_name;
use crate::policy::syscall;
use crate::text::neutralise;
use crate::wire::broker::open;
use crate::wire::report::acts;

/// The tables of a log, each from the record on that brought it.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Names {
    eras: Vec<(u64, Arc<Tables>)>,
    none: Tables,
}

impl Names {
    /// Reads all tables of a log, by its index.
    pub(in crate::cli) fn read(store: &Store) -> Result<Self, StoreError> {
        let mut names = Self::default();
        let policies = Filter { kinds: vec![Kind::Policy], ..Filter::default() };
        query(store, &policies, |record| {
            names.learn(&record);
            true
        })?;
        Ok(names)
    }

    /// Takes a record in, which changes something if it is a policy. In the log's order.
    pub(in crate::cli) fn learn(&mut self, record: &Record) {
        if record.entry.kind != Kind::Policy {
            return;
        }
        let Some(tables) = Tables::parse(&record.entry.detail) else { return };
        let tables = neutral(tables);
        if self.eras.last().is_none_or(|(_, last)| !is_same(last, &tables)) {
            self.eras.push((record.index, Arc::new(addressed(tables))));
        }
    }

    /// The tables in force at a record; without names if there are none. Only the policy's text in
    /// them is as the log has it.
    pub(in crate::cli) fn at(&self, index: u64) -> &Tables {
        self.era(index).checked_sub(1).map_or(&self.none, |at| &self.eras[at].1)
    }

    /// Which of the tables is in force at a record: 0 for none, then in the log's order.
    pub(in crate::cli) fn era(&self, index: u64) -> usize {
        self.eras.partition_point(|(first, _)| *first <= index)
    }

    /// Which records each of the tables is for, in the log's order. The first ones are nameless.
    pub(in crate::cli) fn eras(&self) -> impl Iterator<Item = (Range<u64>, &Tables)> {
        let begins = self.eras.iter().map(|(first, _)| *first);
        let ends = begins.clone().chain([u64::MAX]);
        let all = self.eras.iter().map(|(_, tables)| &**tables);
        [0].into_iter()
            .chain(begins)
            .zip(ends)
            .zip([&self.none].into_iter().chain(all))
            .map(|((from, to), tables)| (from..to, tables))
            .filter(|(range, _)| !range.is_empty())
    }

    /// The record in words.
    pub(in crate::cli) fn say<'a>(&'a self, record: &'a Record) -> Said<'a> {
        say(self.at(record.index), record)
    }
}

/// The tables with their names neutralised.
fn neutral(mut tables: Tables) -> Tables {
    fn clean<'a>(names: impl IntoIterator<Item = &'a mut String>) {
        names.into_iter().for_each(|name| *name = neutralise(name.as_bytes()));
    }
    clean([&mut tables.policy, &mut tables.daemon]);
    clean(&mut tables.layers);
    clean(&mut tables.rules);
    for edge in tables.edges.iter_mut().flat_map(|edges| &mut edges.edges) {
        clean([&mut edge.name]);
        clean(edge.from.iter_mut().chain(&mut edge.to).chain(&mut edge.methods));
    }
    tables
}

/// Whether tables say the same as others did before they were [`addressed`].
fn is_same(known: &Tables, tables: &Tables) -> bool {
    let own = |it: &Tables| (it.policy.clone(), it.daemon.clone(), it.layers.clone());
    known.edges.get(..tables.edges.len()) == Some(tables.edges.as_slice())
        && own(known) == own(tables)
        && known.rules == tables.rules
        && known.text == tables.text
}

/// The tables with the names of what layers listen on and connect to, which the policy's text alone
/// has: `listener.https`, in the order of each layer's own numbers.
fn addressed(mut tables: Tables) -> Tables {
    let plan = crate::policy::check("the log's policy", tables.text.as_bytes()).plan;
    let Some(plan) = plan else { return tables };
    let edge = |layer: &Name, name: &Name| tables::Edge {
        name: format!("{layer}.{name}"),
        from: vec![layer.to_string()],
        ..tables::Edge::default()
    };
    let layers = || plan.layers.iter();
    let listens = layers().flat_map(|it| it.listen.iter().map(|at| edge(&it.name, &at.name)));
    let connects = layers().flat_map(|it| it.connect.iter().map(|at| edge(&it.name, &at.name)));
    let kinds: [(Facility, Vec<tables::Edge>); 2] =
        [(Facility::Listen, listens.collect()), (Facility::Connect, connects.collect())];
    for (facility, edges) in kinds {
        if tables.edges(facility).is_empty() {
            tables.edges.push(tables::Edges { facility: facility.name().to_owned(), edges });
        }
    }
    tables
}

/// An instance: `keeper/0.g1`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Instance<'a> {
    /// The layer's name; `supervisor`, `auditor`, or `layer#7` for a number without a name.
    pub(in crate::cli) layer: Cow<'a, str>,
    /// Which copy.
    pub(in crate::cli) copy: u16,
    /// Which life, from 1; 0 for the supervisor and the auditor.
    pub(in crate::cli) generation: u64,
}

impl std::fmt::Display for Instance<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.generation {
            0 => f.write_str(&self.layer),
            generation => write!(f, "{}/{}.g{generation}", self.layer, self.copy),
        }
    }
}

/// The name of an instance; `None` for nobody.
pub(in crate::cli) fn instance(tables: &Tables, who: Who) -> Option<Instance<'_>> {
    if who.layer == Who::NOBODY.layer {
        return None;
    }
    Some(Instance { layer: layer(tables, who.layer), copy: who.copy, generation: who.generation })
}

/// The name of a layer.
pub(in crate::cli) fn layer(tables: &Tables, number: u16) -> Cow<'_, str> {
    match number {
        n if n == Who::SUPERVISOR.layer => "supervisor".into(),
        n if n == Who::AUDITOR.layer => "auditor".into(),
        n => named(&tables.layers, n.into(), || format!("layer#{n}")),
    }
}

/// The name of an edge, `channel.sign` or `listen.listener.https`; `None` for no facility, and for
/// the kinds without names.
pub(in crate::cli) fn edge(tables: &Tables, place: EdgeId) -> Option<String> {
    let EdgeId { facility, edge, layer } = place;
    let number = usize::from(edge);
    let all = tables.edges(facility);
    let found = match facility {
        Facility::None | Facility::Syscall | Facility::Landlock => return None,
        Facility::Listen | Facility::Connect => {
            let owner = tables.layers.get(usize::from(layer));
            let own = |it: &&tables::Edge| it.from.first() == owner && owner.is_some();
            all.iter().filter(own).nth(number)
        }
        _ => all.get(number),
    };
    let name = facility.name();
    Some(match (found, layer == Who::NOBODY.layer) {
        (Some(edge), _) => format!("{name}.{}", edge.name),
        (None, true) => format!("{name}#{number}"),
        (None, false) => format!("{name}.{}#{number}", self::layer(tables, layer)),
    })
}

/// The place of the edge of that name: the facility's word, and what [`edge`] puts behind it.
pub(in crate::cli) fn place(tables: &Tables, facility: Facility, name: &str) -> Option<EdgeId> {
    let nobody = Who::NOBODY.layer;
    let all = tables.edges(facility);
    let number = |number: usize| u16::try_from(number).ok();
    if !matches!(facility, Facility::Listen | Facility::Connect) {
        let edge = match name.strip_prefix('#') {
            Some(digits) => digits.parse().ok()?,
            None => number(all.iter().position(|edge| edge.name == name)?)?,
        };
        return Some(EdgeId { facility, edge, layer: nobody });
    }
    let layers = tables.layers.iter();
    let (owner, edge) = if let Some((owner, digits)) = name.split_once('#') {
        (owner, digits.parse().ok()?)
    } else {
        let found = all.iter().find(|edge| edge.name == name)?;
        let own = |it: &&tables::Edge| it.from == found.from;
        let edge = all.iter().filter(own).position(|edge| edge.name == name)?;
        (found.from.first()?.as_str(), number(edge)?)
    };
    let layer = number(layers.clone().position(|layer| *layer == owner)?)?;
    Some(EdgeId { facility, edge, layer })
}

fn named(names: &[String], number: usize, other: impl FnOnce() -> String) -> Cow<'_, str> {
    names.get(number).map_or_else(|| other().into(), |name| name.as_str().into())
}

/// The name of a method, act, signal or system call; `None` where there is none to name.
pub(in crate::cli) fn method(
    tables: &Tables,
    kind: Kind,
    (facility, edge): (Facility, u16),
    number: u32,
) -> Option<Cow<'_, str>> {
    let plain = || Cow::from(format!("#{number}"));
    Some(match facility {
        Facility::Channel => {
            let methods = tables.edges(facility).get(usize::from(edge)).map(|edge| &edge.methods);
            let name = methods.and_then(|all| all.get(usize::try_from(number).ok()?));
            name.map_or_else(plain, |name| name.as_str().into())
        }
        Facility::Signal => {
            let name = u8::try_from(number).ok().and_then(signal_name);
            name.map_or_else(plain, Cow::from)
        }
        Facility::Syscall => syscall::name_of(number).map_or_else(plain, Cow::from),
        Facility::File if number > 0 => act_on_file(number).into(),
        Facility::Semaphore if kind == Kind::Broker => match number {
            1 => "acquire".into(),
            2 => "release".into(),
            3 => "expired".into(),
            4 => "abandoned".into(),
            _ => plain(),
        },
        Facility::Queue if kind == Kind::Broker && number == 1 => "make-room".into(),
        Facility::Region if number == acts::OBJECT => "object".into(),
        Facility::Region if number == acts::RING => "ring".into(),
        Facility::MappedFile if number == acts::COMMIT => "commit".into(),
        _ if number == 0 => return None,
        _ => plain(),
    })
}

/// What a file was opened for, out of the bits in which a layer asks for it.
fn act_on_file(bits: u32) -> String {
    const BITS: [(u16, &str); 14] = [
        (open::READ, "read"),
        (open::WRITE, "write"),
        (open::APPEND, "append"),
        (open::TRUNCATE, "truncate"),
        (open::CREATE, "create"),
        (open::EXCLUSIVE, "exclusive"),
        (open::REMOVE, "remove"),
        (open::DRAFT, "draft"),
        (open::REPLACE, "replace"),
        (open::LIST, "list"),
        (open::MKDIR, "mkdir"),
        (open::RMDIR, "rmdir"),
        (open::RENAME, "rename"),
        (open::MOVE, "move"),
    ];
    let all: Vec<_> =
        BITS.iter().filter(|(bit, _)| bits & u32::from(*bit) != 0).map(|(_, name)| *name).collect();
    if all.is_empty() { format!("#{bits}") } else { all.join("+") }
}

/// Messages of one form and method in a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Part<'a> {
    /// What they are; `None` if they were too various to list.
    pub(in crate::cli) form: Option<&'static str>,
    /// The method's name.
    pub(in crate::cli) method: Option<Cow<'a, str>>,
    /// The first one's call, or 0.
    pub(in crate::cli) call: u32,
    /// How many there are.
    pub(in crate::cli) messages: u32,
    /// The trace that they belong to: its id, in hexadecimal digits.
    pub(in crate::cli) trace: Option<String>,
    /// The first one's place in it; the others' follow.
    pub(in crate::cli) span: Option<String>,
    /// The place that they follow from.
    pub(in crate::cli) parent: Option<String>,
}

/// A payload, as far as the record itself tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Payload {
    /// Its length in bytes.
    pub(in crate::cli) length: u32,
    /// Its digest, in hexadecimal digits.
    pub(in crate::cli) digest: String,
}

/// A record in words, and as JSON. What doesn't apply is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Said<'a> {
    /// Its number.
    pub(in crate::cli) index: u64,
    /// When the log took it: RFC 3339.
    pub(in crate::cli) time: String,
    /// The same by `CLOCK_MONOTONIC`, in nanoseconds.
    pub(in crate::cli) monotonic: u64,
    /// When its reporter says it happened, by the same clock.
    pub(in crate::cli) reported: Option<u64>,
    /// What it is about.
    pub(in crate::cli) kind: &'static str,
    /// Which end reports.
    pub(in crate::cli) side: Option<&'static str>,
    /// What became of it.
    pub(in crate::cli) verdict: Option<&'static str>,
    /// The kind of facility.
    pub(in crate::cli) facility: Option<&'static str>,
    /// The facility: `channel.sign`.
    pub(in crate::cli) edge: Option<String>,
    /// What the message is.
    pub(in crate::cli) form: Option<&'static str>,
    /// The method, act, signal or system call.
    pub(in crate::cli) method: Option<Cow<'a, str>>,
    /// The rule that decided.
    pub(in crate::cli) rule: Option<Cow<'a, str>>,
    /// The message's number.
    pub(in crate::cli) sequence: u64,
    /// Its length, or a count.
    pub(in crate::cli) length: u64,
    /// How many descriptors came along.
    pub(in crate::cli) descriptors: u8,
    /// Who reports.
    pub(in crate::cli) reporter: Option<Instance<'a>>,
    /// Who is at the other end.
    pub(in crate::cli) peer: Option<Instance<'a>>,
    /// A call's number, a batch's messages, a refusal's code, a wait status.
    pub(in crate::cli) value: u32,
    /// What that number means, where it is more than a number.
    pub(in crate::cli) meaning: Option<String>,
    /// The messages of a batch.
    pub(in crate::cli) batch: Vec<Part<'a>>,
    /// The trace that it belongs to: its id, in hexadecimal digits.
    pub(in crate::cli) trace: Option<String>,
    /// Its place in the trace.
    pub(in crate::cli) span: Option<String>,
    /// The place that it follows from.
    pub(in crate::cli) parent: Option<String>,
    /// The hash of header and ciphertext, in hexadecimal digits.
    pub(in crate::cli) hash: Option<String>,
    /// The payload beside it.
    pub(in crate::cli) payload: Option<Payload>,
    /// Text: of a policy, its id and daemon alone.
    pub(in crate::cli) detail: Option<String>,
    /// Of a call that was refused, its parts.
    pub(in crate::cli) refused: Option<Refused>,
}

/// A call that the program of an `exec` layer was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Refused {
    /// With its arguments.
    pub(in crate::cli) call: String,
    /// Who made it.
    pub(in crate::cli) program: String,
    /// Its thread, by its number within the layer.
    pub(in crate::cli) thread: String,
    /// The module and the function that made it.
    pub(in crate::cli) site: String,
    /// What would allow it, in words.
    pub(in crate::cli) remedy: String,
    /// What it asked for.
    pub(in crate::cli) asked: Option<String>,
}

/// The record in words of these tables.
pub(in crate::cli) fn say<'a>(tables: &'a Tables, record: &'a Record) -> Said<'a> {
    let entry = &record.entry;
    let place = (entry.facility, entry.edge);
    let named = |number| method(tables, entry.kind, place, number);
    let rule = usize::try_from(entry.rule).ok().filter(|_| entry.rule != u32::MAX);
    let batch = entry.kind == Kind::Use && entry.form == Form::Batch;
    let part = |run: runs::Run| Part {
        form: (run.form != Form::None).then_some(run.form.name()),
        method: named(run.method.into()).filter(|_| run.form != Form::None),
        call: run.call,
        messages: run.messages,
        trace: run.trace.map(|it| it.hexadecimal()),
        span: run.trace.map(|it| span(it.span())),
        parent: parent(run.trace),
    };
    Said {
        index: record.index,
        time: rfc3339(record.at.real),
        monotonic: record.at.monotonic,
        reported: (entry.reported > 0).then_some(entry.reported),
        kind: entry.kind.name(),
        side: (entry.side != Side::None).then_some(entry.side.name()),
        verdict: (entry.verdict != Verdict::None).then_some(entry.verdict.name()),
        facility: (entry.facility != Facility::None).then_some(entry.facility.name()),
        edge: EdgeId::of(entry).and_then(|place| edge(tables, place)),
        form: (entry.form != Form::None).then_some(entry.form.name()),
        method: named(entry.method),
        rule: rule.map(|n| self::named(&tables.rules, n, || format!("rule#{n}"))),
        sequence: entry.sequence,
        length: entry.length,
        descriptors: entry.descriptors,
        reporter: instance(tables, entry.reporter),
        peer: instance(tables, entry.peer),
        value: entry.value,
        meaning: meaning(record),
        batch: if batch { runs::of(entry).into_iter().map(part).collect() } else { Vec::new() },
        trace: entry.trace.map(|it| it.hexadecimal()),
        span: entry.trace.map(|it| span(it.span())),
        parent: parent(entry.trace),
        hash: (entry.hash != [0; 32]).then(|| hex(&entry.hash)),
        payload: record
            .payload
            .map(|mark| Payload { length: mark.length, digest: hex(&mark.digest) }),
        detail: detail(record).filter(|_| !batch),
        refused: refused(record),
    }
}

fn span(number: u64) -> String {
    format!("{number:016x}")
}

fn parent(trace: Option<Trace>) -> Option<String> {
    trace.map(|it| it.parent()).filter(|&it| it != 0).map(span)
}

fn refused(record: &Record) -> Option<Refused> {
    if record.entry.kind != Kind::Denial {
        return None;
    }
    let parts: Vec<String> = record.entry.detail.split(|&byte| byte == 0).map(neutralise).collect();
    // What the kernel's log tells is one text.
    let [call, program, thread, site, remedy, rest @ ..] = parts.as_slice() else { return None };
    let [call, program, thread, site, remedy] =
        [call, program, thread, site, remedy].map(String::clone);
    let asked = rest.first().filter(|asked| !asked.is_empty()).cloned();
    Some(Refused { call, program, thread, site, remedy, asked })
}

fn detail(record: &Record) -> Option<String> {
    let detail = &record.entry.detail;
    if record.entry.kind == Kind::Policy {
        let text = Tables::parse(detail).map_or_else(
            || "tables that can't be read".to_owned(),
            |tables| format!("{} {}", tables.daemon, tables.policy),
        );
        return Some(neutralise(text.as_bytes()));
    }
    if record.entry.kind == Kind::Denial {
        // What is there of the call, who made it, and what would allow it. What was asked for, which comes
        // last, is for programs.
        let parts = detail.split(|&byte| byte == 0).take(5).filter(|part| !part.is_empty());
        let parts: Vec<String> = parts.map(neutralise).collect();
        return (!parts.is_empty()).then(|| parts.join("; "));
    }
    if let Some((_, before)) = taken_up(&record.entry) {
        let came =
            |it: Trace| format!("until then at {} of trace {}", span(it.span()), it.hexadecimal());
        return before.map(came);
    }
    (!detail.is_empty()).then(|| neutralise(detail))
}

/// What a record's value says, where it is a code.
fn meaning(record: &Record) -> Option<String> {
    const REFUSALS: [&str; 11] = [
        "not-granted",
        "limit",
        "peer-dead",
        "timeout",
        "order",
        "denied",
        "malformed",
        "not-regular",
        "not-resolved",
        "system",
        "unanswered",
    ];
    let Record { entry, .. } = record;
    let value = entry.value;
    let own = matches!(entry.facility, Facility::File | Facility::Signal | Facility::None);
    let refuses = entry.kind == Kind::Broker || own;
    match entry.kind {
        Kind::Exit => Some(ended(value)),
        Kind::Broker | Kind::Use if refuses && entry.verdict != Verdict::Allowed => {
            let refusal = usize::try_from(value).ok()?.checked_sub(1)?;
            REFUSALS.get(refusal).map(|name| (*name).to_owned())
        }
        Kind::Start if record.index == 0 => Some("a new log".to_owned()),
        Kind::Start if value == 1 => Some("the last one stopped in order".to_owned()),
        Kind::Start => Some("the last one did not stop in order".to_owned()),
        Kind::Use if taken_up(entry).is_some() => Some("takes up a trace".to_owned()),
        Kind::ClockJump if value == 1 => Some("back".to_owned()),
        _ => None,
    }
}

/// A wait status in words (`wait(2)`).
pub(in crate::cli) fn ended(status: u32) -> String {
    let signal = status & 0x7f;
    if signal == 0 {
        return format!("exit {}", status >> 8 & 0xff);
    }
    let name = u8::try_from(signal).ok().and_then(signal_name);
    name.map_or_else(|| format!("signal {signal}"), |name| format!("SIG{name}"))
}
