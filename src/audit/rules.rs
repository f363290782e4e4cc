//! The rules of a policy, numbered: which one allows or refuses what a record reports.
//!
//! A rule is a place in the policy, by its dotted path, as
//! [`SourceMap::nearest`](crate::policy::SourceMap::nearest) finds it:
//! `channel.sign.methods.sign`, `queue.jobs.send.worker`. Its number is its place in
//! [`Rules::names`], which [`Tables`](super::tables::Tables) keeps beside the records.

use super::entry::{Entry, Facility, Form, Kind, Side};
use super::runs;
use crate::ident::Name;
use crate::policy::plan::{ChannelPlan, End, FacilityKind, FilePlan, FileRight, LayerPlan, Plan};
use crate::policy::signal::signal_name;
use crate::wire::broker::open;

/// The numbered rules of a plan. The same plan always numbers them alike.
#[derive(Clone, Debug)]
pub struct Rules {
    names: Vec<String>,
    /// What a record says of an act, in one number, and the rule; sorted.
    places: Vec<(u64, u32)>,
}

/// The rights that a deed on a file can take, the one first that says most about it.
const RIGHTS: [FileRight; 11] = [
    FileRight::Move,
    FileRight::Rmdir,
    FileRight::Mkdir,
    FileRight::Remove,
    FileRight::Create,
    FileRight::Truncate,
    FileRight::Write,
    FileRight::Append,
    FileRight::List,
    FileRight::Read,
    FileRight::Execute,
];

/// In place of a layer: the rule holds for whoever reports.
const ANYBODY: u16 = u16::MAX;

/// In place of a method: the rule holds whatever it is.
const ANY_METHOD: u32 = 0xff_ffff;

/// What tells the two ends of a queue or pipe apart.
const SENDS: u32 = 0;
const RECEIVES: u32 = 1;

const fn key(facility: Facility, edge: u16, layer: u16, part: u32) -> u64 {
    (facility as u64) << 56 | (edge as u64) << 40 | (layer as u64) << 24 | (part as u64 & 0xff_ffff)
}

fn numbered<T>(list: &[T]) -> impl Iterator<Item = (u16, &T)> {
    (0..ANYBODY).zip(list)
}

impl Rules {
    /// Numbers the rules of a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut all = Builder { plan, rules: Self { names: Vec::new(), places: Vec::new() } };
        for (number, layer) in numbered(&plan.layers) {
            all.layer(number, layer);
        }
        for (edge, channel) in numbered(&plan.channels) {
            all.channel(edge, channel);
        }
        for (edge, file) in numbered(&plan.files) {
            all.file(edge, file);
        }
        all.facilities();
        let Self { names, mut places } = all.rules;
        places.sort_unstable();
        Self { names, places }
    }

    /// The rules; the place of each is its number.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The rule that allows or refuses what an entry reports; [`Entry::NO_RULE`] where none speaks
    /// of it, so that nothing allows it. Of a batch, the rule of its first message.
    pub fn find(&self, entry: &Entry) -> u32 {
        let (layer, edge) = (entry.reporter.layer, entry.edge);
        let place = match entry.facility {
            Facility::None | Facility::Landlock => return Entry::NO_RULE,
            Facility::File => return self.file(entry).unwrap_or(Entry::NO_RULE),
            // Its methods are sealed to the witness.
            Facility::Channel if entry.side == Side::Witness && entry.form == Form::Batch => {
                key(Facility::Channel, edge, ANYBODY, ANY_METHOD)
            }
            Facility::Channel => key(Facility::Channel, edge, ANYBODY, entry.method),
            // An address is a number in its layer's own table.
            Facility::Connect => key(Facility::Connect, 0, layer, entry.method),
            Facility::Signal => key(Facility::Signal, edge, layer, entry.method),
            Facility::Queue | Facility::Pipe => {
                let receives = entry.kind != Kind::Broker && entry.side == Side::Receiver;
                key(entry.facility, edge, layer, if receives { RECEIVES } else { SENDS })
            }
            Facility::Syscall => key(Facility::Syscall, 0, entry.peer.layer, 0),
            facility => key(facility, edge, layer, 0),
        };
        self.at(place).unwrap_or(Entry::NO_RULE)
    }

    /// Gives every rule that an entry's act needed to `each`: all methods of a batch, all rights
    /// that a file was opened with. May name one twice.
    pub fn each(&self, entry: &Entry, mut each: impl FnMut(u32)) {
        match entry.facility {
            Facility::File => {
                for right in RIGHTS.into_iter().filter(|right| self.needs(entry, *right)) {
                    self.right(entry, right).into_iter().for_each(&mut each);
                }
            }
            Facility::Channel if entry.form == Form::Batch => {
                for run in runs::of(entry) {
                    let place = key(Facility::Channel, entry.edge, ANYBODY, run.method.into());
                    if run.form != Form::None {
                        self.at(place).into_iter().for_each(&mut each);
                    }
                }
            }
            _ => match self.find(entry) {
                Entry::NO_RULE => {}
                rule => each(rule),
            },
        }
    }

    /// The most telling of the rights that a deed on a file took; none if one isn't granted.
    fn file(&self, entry: &Entry) -> Option<u32> {
        let mut decides = None;
        for right in RIGHTS.into_iter().filter(|right| self.needs(entry, *right)) {
            let rule = self.right(entry, right)?;
            decides = decides.or(Some(rule));
        }
        decides
    }

    /// Whether a deed takes a right, as the broker reckons.
    fn needs(&self, entry: &Entry, right: FileRight) -> bool {
        let has = |bits: u16| entry.method & u32::from(bits) != 0;
        let replaces = has(open::DRAFT | open::REPLACE);
        let anywhere = || self.right(entry, FileRight::Write).is_some();
        match right {
            FileRight::Remove => has(open::REMOVE),
            FileRight::List => has(open::LIST),
            FileRight::Read => has(open::READ),
            FileRight::Create => has(open::CREATE) || replaces,
            FileRight::Truncate => has(open::TRUNCATE) || replaces,
            // Whoever may write anywhere may write at the end.
            FileRight::Write => has(open::WRITE) || replaces || has(open::APPEND) && anywhere(),
            FileRight::Append => has(open::APPEND) && !anywhere(),
            FileRight::Mkdir => has(open::MKDIR),
            FileRight::Rmdir => has(open::RMDIR),
            FileRight::Move => has(open::MOVE),
            // Nobody but the kernel hears of these.
            FileRight::Execute | FileRight::Symlink | FileRight::Socket | FileRight::Fifo => false,
        }
    }

    fn right(&self, entry: &Entry, right: FileRight) -> Option<u32> {
        self.at(key(Facility::File, entry.edge, entry.reporter.layer, right as u32))
    }

    fn at(&self, place: u64) -> Option<u32> {
        let found = self.places.binary_search_by_key(&place, |(place, _)| *place).ok()?;
        self.places.get(found).map(|(_, rule)| *rule)
    }
}

struct Builder<'a> {
    plan: &'a Plan,
    rules: Rules,
}

impl Builder<'_> {
    fn rule(&mut self, name: String, places: impl IntoIterator<Item = u64>) {
        let Ok(number) = u32::try_from(self.rules.names.len()) else { return };
        self.rules.names.push(name);
        self.rules.places.extend(places.into_iter().map(|place| (place, number)));
    }

    fn number(&self, layer: &Name) -> Option<u16> {
        numbered(&self.plan.layers).find(|(_, one)| one.name == *layer).map(|(number, _)| number)
    }

    /// A rule about what one layer does with a facility.
    fn own(&mut self, name: String, facility: Facility, edge: u16, layer: &Name, part: u32) {
        let place = self.number(layer).map(|layer| key(facility, edge, layer, part));
        self.rule(name, place);
    }

    fn layer(&mut self, number: u16, layer: &LayerPlan) {
        let table = format!("layer.{}", layer.name);
        self.rule(format!("{table}.syscalls"), [key(Facility::Syscall, 0, number, 0)]);
        for (edge, listen) in numbered(&layer.listen) {
            let place = key(Facility::Listen, edge, number, 0);
            self.rule(format!("{table}.listen.{}", listen.name), [place]);
        }
        for (address, connect) in numbered(&layer.connect) {
            let place = key(Facility::Connect, 0, number, address.into());
            self.rule(format!("{table}.connect.{}", connect.name), [place]);
        }
    }

    fn channel(&mut self, edge: u16, channel: &ChannelPlan) {
        let table = format!("channel.{}", channel.name);
        if channel.methods.is_empty() {
            let places = [0, ANY_METHOD].map(|part| key(Facility::Channel, edge, ANYBODY, part));
            self.rule(table.clone(), places);
        }
        for (number, method) in numbered(&channel.methods) {
            let place = key(Facility::Channel, edge, ANYBODY, number.into());
            self.rule(format!("{table}.methods.{}", method.name), [place]);
        }
    }

    fn file(&mut self, edge: u16, file: &FilePlan) {
        for (layer, rights) in &file.grant {
            for right in rights {
                let name = format!("file.{}.grant.{layer}.{}", file.name, right.name());
                self.own(name, Facility::File, edge, layer, *right as u32);
            }
        }
    }

    fn facilities(&mut self) {
        for (edge, signal) in numbered(&self.plan.facilities.signals) {
            for number in &signal.send {
                let name = signal_name(*number).map_or_else(|| number.to_string(), str::to_owned);
                // The broker names who sends it, a report who receives it.
                let ends = [self.number(&signal.from), self.number(&signal.to)];
                let part = u32::from(*number);
                let places = ends.map(|end| Some(key(Facility::Signal, edge, end?, part)));
                let name = format!("signal.{}.send.{name}", signal.name);
                self.rule(name, places.into_iter().flatten());
            }
        }
        for part in self.plan.parts() {
            let facility = match part.kind {
                FacilityKind::Queue => Facility::Queue,
                FacilityKind::Pipe => Facility::Pipe,
                FacilityKind::Fifo => Facility::Fifo,
                FacilityKind::Semaphore => Facility::Semaphore,
                FacilityKind::Region => Facility::Region,
                FacilityKind::MappedFile => Facility::MappedFile,
                // Their rules are their methods, rights and signals.
                FacilityKind::Channel | FacilityKind::File | FacilityKind::Signal => continue,
            };
            let end = if matches!(part.end, End::To | End::Receive) { RECEIVES } else { SENDS };
            if let Some(edge) = u16::try_from(part.place).ok().filter(|edge| *edge < ANYBODY) {
                self.own(part.rule(), facility, edge, part.layer, end);
            }
        }
    }
}
