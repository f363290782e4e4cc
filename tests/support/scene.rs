//! Logs of a daemon at work, made without one: what its layers and its supervisor would report.

use std::collections::HashMap;
use std::path::Path;

use cofferdam::audit::entry::{Entry, Facility, Form, Kind, Moment, Side, Verdict, Who};
use cofferdam::audit::rules::Rules;
use cofferdam::audit::tables::Tables;
use cofferdam::audit::{Log, Options, Store};
use cofferdam::policy::plan::Plan;
use cofferdam::policy::{self, print};
use cofferdam::seal::{Chance, SealError};

pub const SECOND: u64 = 1_000_000_000;
const MILLISECOND: u64 = 1_000_000;

struct Counter(u8);

impl Chance for Counter {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SealError> {
        self.0 = self.0.wrapping_add(1);
        bytes.fill(self.0);
        Ok(())
    }
}

/// A log being written, and the time in it.
pub struct Scene {
    log: Log,
    pub plan: Plan,
    rules: Rules,
    /// Nanoseconds since it began.
    pub now: u64,
    numbers: HashMap<(u16, Who, Who), u64>,
    calls: u32,
    waiting: u32,
}

pub fn plan(text: &str) -> Plan {
    let checked = policy::check("scene.toml", text.as_bytes());
    checked.plan.clone().unwrap_or_else(|| panic!("{}", checked.render(false)))
}

pub fn tables(plan: &Plan) -> Tables {
    let rules = Rules::of(plan).names().to_vec();
    let mut tables = Tables::of(plan, plan.id().unwrap(), print(plan), rules);
    tables.layers.push("cofferdam-auditor".into());
    tables
}

/// A call that was made, to answer it.
#[derive(Clone, Copy)]
pub struct Call {
    pub edge: u16,
    pub method: u32,
    pub number: u32,
    pub caller: Who,
    pub callee: Who,
}

impl Scene {
    /// The daemon starts, with one copy of each layer.
    pub fn begin(dir: &Path, text: &str) -> Self {
        let plan = plan(text);
        let mut scene = Self::bare(dir, plan);
        let tables = tables(&scene.plan);
        scene.log.policy(&tables, scene.at()).unwrap();
        for layer in 0..u16::try_from(scene.plan.layers.len()).unwrap() {
            scene.spawn(who(layer, 1));
        }
        scene
    }

    /// Only the log's own start.
    pub fn bare(dir: &Path, plan: Plan) -> Self {
        let rules = Rules::of(&plan);
        let store = Store::open(dir).unwrap();
        let (log, _) =
            Log::open(store, Options::default(), Box::new(Counter(0)), moment(0)).unwrap();
        let numbers = HashMap::new();
        Self { log, plan, rules, now: 0, numbers, calls: 0, waiting: 0 }
    }

    pub fn tables(&mut self, tables: &Tables) {
        self.log.policy(tables, self.at()).unwrap();
    }

    fn at(&self) -> Moment {
        moment(self.now)
    }

    /// Time passes.
    pub fn pass(&mut self, nanoseconds: u64) {
        self.now += nanoseconds;
    }

    /// The log takes an entry, reported now and ruled as the policy says.
    pub fn put(&mut self, mut entry: Entry) {
        entry.reported = self.at().monotonic;
        entry.rule = self.rules.find(&entry);
        self.log.append(&entry, &[], self.at()).unwrap();
        self.waiting += 1;
        if self.waiting > 5_000 {
            self.commit();
        }
    }

    pub fn commit(&mut self) {
        self.log.commit(self.at()).unwrap();
        self.waiting = 0;
    }

    pub fn end(self) {
        let at = self.at();
        self.log.close(at).unwrap();
    }

    /// The number of a layer.
    pub fn layer(&self, name: &str) -> u16 {
        let at = self.plan.layers.iter().position(|layer| layer.name == *name).unwrap();
        u16::try_from(at).unwrap()
    }

    pub fn spawn(&mut self, who: Who) {
        let supervisor = Who::SUPERVISOR;
        let side = Side::Supervisor;
        self.put(Entry { side, reporter: supervisor, peer: who, ..Entry::new(Kind::Spawn) });
        let detail =
            b"seccomp: enforced\nlandlock: enforced (ABI 7)\ncgroup.memory: fallback".to_vec();
        let receipt = Entry::new(Kind::Receipt);
        self.put(Entry { side, reporter: supervisor, peer: who, detail, ..receipt });
        self.pass(MILLISECOND);
    }

    pub fn exit(&mut self, who: Who, status: u32) {
        let (side, reporter) = (Side::Supervisor, Who::SUPERVISOR);
        self.put(Entry { side, reporter, peer: who, value: status, ..Entry::new(Kind::Exit) });
    }

    /// One end's word about a message.
    fn half(&mut self, side: Side, message: &Entry) {
        let mut entry = message.clone();
        entry.side = side;
        if side == Side::Receiver {
            std::mem::swap(&mut entry.reporter, &mut entry.peer);
        }
        self.put(entry);
    }

    /// A message from its sender to its receiver, reported by both.
    pub fn send(&mut self, message: Entry, wire: u64) {
        let stream = (message.edge, message.reporter, message.peer);
        let number = self.numbers.entry(stream).or_default();
        let mut message = Entry { sequence: *number, ..message };
        *number += 1;
        message.hash[..8].copy_from_slice(&message.sequence.to_le_bytes());
        self.half(Side::Sender, &message);
        self.pass(wire);
        self.half(Side::Receiver, &message);
    }

    pub fn channel(&self, name: &str, method: &str) -> (u16, u32) {
        let (edge, channel) = self.plan.channel(name).unwrap();
        let method = channel.methods.iter().position(|one| one.name == *method).unwrap();
        (edge, u32::try_from(method).unwrap())
    }

    /// A one-way message with some descriptors.
    pub fn message(&mut self, name: &str, method: &str, from: Who, to: Who, descriptors: u8) {
        let (edge, method) = self.channel(name, method);
        let entry = said(Form::Message, edge, method, from, to, 96);
        self.send(Entry { descriptors, ..entry }, 20_000);
    }

    pub fn call(&mut self, name: &str, method: &str, from: Who, to: Who, length: u64) -> Call {
        let (edge, method) = self.channel(name, method);
        self.calls += 1;
        let number = self.calls;
        let entry = said(Form::Request, edge, method, from, to, length);
        self.send(Entry { value: number, ..entry }, 15_000);
        Call { edge, method, number, caller: from, callee: to }
    }

    pub fn answer(&mut self, call: Call, form: Form, length: u64, descriptors: u8) {
        let entry = said(form, call.edge, call.method, call.callee, call.caller, length);
        self.send(Entry { value: call.number, descriptors, ..entry }, 15_000);
    }

    /// The broker's answer: `refusal` 0 is yes.
    pub fn asked(&mut self, entry: Entry, refusal: u32) {
        let verdict = if refusal == 0 { Verdict::Allowed } else { Verdict::Refused };
        self.put(Entry { kind: Kind::Broker, verdict, value: refusal, ..entry });
    }

    pub fn alarm(&mut self, detail: &str) {
        let reporter = Who::AUDITOR;
        let detail = detail.as_bytes().to_vec();
        self.put(Entry { reporter, detail, ..Entry::new(Kind::Alarm) });
    }
}

pub fn moment(now: u64) -> Moment {
    Moment { real: 1_767_225_600 * SECOND + now, monotonic: 500 * SECOND + now }
}

pub fn who(layer: u16, generation: u64) -> Who {
    Who { layer, copy: 0, generation }
}

fn said(form: Form, edge: u16, method: u32, from: Who, to: Who, length: u64) -> Entry {
    Entry {
        verdict: Verdict::Allowed,
        facility: Facility::Channel,
        edge,
        form,
        method,
        reporter: from,
        peer: to,
        length,
        ..Entry::new(Kind::Use)
    }
}

/// A use of a facility that is no channel.
pub fn used(facility: Facility, edge: u16, reporter: Who, side: Side) -> Entry {
    Entry { verdict: Verdict::Allowed, facility, edge, reporter, side, ..Entry::new(Kind::Use) }
}
