//! Which records a verb is asked about: words of the command line, and what they mean by each of
//! a log's tables.

use std::ops::Range;

use super::names::{Names, layer, method, place};
use super::time;
use super::traffic::EdgeId;
use crate::audit::entry::{Entry, Facility, Form, Kind, Record, Verdict, Who};
use crate::audit::query::{Effort, Filter, query};
use crate::audit::runs;
use crate::audit::store::{Store, StoreError};
use crate::audit::tables::Tables;
use crate::audit::traced::{Prefix, Traced};
use crate::audit::ways::{Step, Way};
use crate::text::neutralise;

/// Which records.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct Wanted {
    /// Only where this layer, copy or life is at either end: `keeper`, `keeper/0`, `keeper/0.g2`
    #[arg(long, value_name = "LAYER", value_parser = Party::parse)]
    layer: Option<Party>,
    /// Only this facility, `channel.sign` or `listen.front.https`, or this kind of facility, `channel`
    #[arg(long, value_name = "KIND[.NAME]", value_parser = Subject::parse)]
    edge: Option<Subject>,
    /// Only this method, act, signal or system call
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// Only what came to this: allowed, refused, failed, killed or none
    #[arg(long, value_name = "WORD", value_delimiter = ',', value_parser = verdict)]
    verdict: Vec<Verdict>,
    /// Only records of this kind: use, broker, denial, alarm, spawn, exit and so on
    #[arg(long, value_name = "WORD", value_delimiter = ',', value_parser = kind)]
    kind: Vec<Kind>,
    /// Only what belongs to this trace, by its id, the first digits of that, or a `traceparent`: what
    /// names it, answers to its calls, and the connection that it came by
    #[arg(long, value_name = "ID", value_parser = Prefix::parse)]
    trace: Option<Prefix>,
}

/// From when to when.
#[derive(Clone, Debug, Default, clap::Args)]
pub(in crate::cli) struct Window {
    /// From this moment on: RFC 3339, or how long ago as in `-5m`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time::parse)]
    pub(in crate::cli) since: Option<u64>,
    /// Before this moment
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = time::parse)]
    pub(in crate::cli) until: Option<u64>,
}

/// A layer, or one copy of it, or one life of that.
#[derive(Clone, Debug)]
struct Party {
    layer: String,
    copy: Option<u16>,
    generation: Option<u64>,
}

impl Party {
    fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "write a layer as in `keeper`, `keeper/0` or `keeper/0.g2`";
        let (name, rest) = text.split_once('/').map_or((text, None), |(a, b)| (a, Some(b)));
        let mut party = Self { layer: name.to_owned(), copy: None, generation: None };
        if let Some(rest) = rest {
            let (copy, life) = rest.split_once(".g").map_or((rest, None), |(a, b)| (a, Some(b)));
            party.copy = Some(copy.parse().map_err(|_| FORM)?);
            party.generation = life.map(str::parse).transpose().map_err(|_| FORM)?;
        }
        Ok(party)
    }

    fn is(&self, number: u16, who: Who) -> bool {
        who.layer == number
            && self.copy.is_none_or(|copy| copy == who.copy)
            && self.generation.is_none_or(|life| life == who.generation)
    }
}

/// A kind of facility, or one facility.
#[derive(Clone, Debug)]
struct Subject {
    facility: Facility,
    name: Option<String>,
}

impl Subject {
    fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('.').map_or((text, None), |(a, b)| (a, Some(b)));
        let facility = Facility::ALL.iter().find(|facility| facility.name() == kind);
        let facility = facility.ok_or_else(|| words(Facility::ALL.iter().map(|it| it.name())))?;
        Ok(Self { facility: *facility, name: name.map(str::to_owned) })
    }
}

fn verdict(text: &str) -> Result<Verdict, String> {
    let found = Verdict::ALL.iter().find(|verdict| verdict.name() == text);
    found.copied().ok_or_else(|| words(Verdict::ALL.iter().map(|it| it.name())))
}

fn kind(text: &str) -> Result<Kind, String> {
    let found = Kind::ALL.iter().find(|kind| kind.name() == text);
    found.copied().ok_or_else(|| words(Kind::ALL.iter().map(|it| it.name())))
}

fn words<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("there are {}", names.collect::<Vec<_>>().join(", "))
}

/// What [`Wanted`] means by one of a log's tables.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Meant {
    filter: Filter,
    party: Option<(Party, u16)>,
    facility: Option<Facility>,
    place: Option<EdgeId>,
    /// Facility, edge and number of each method of the name that is asked for.
    methods: Option<Vec<Method>>,
}

/// A method by facility, edge (`None`: any) and number.
type Method = (Facility, Option<u16>, u32);

impl Meant {
    /// Whether a record that a query with the filter found is one of those.
    fn accepts_found(&self, record: &Record) -> bool {
        let entry = &record.entry;
        let of = |number: u32| {
            self.methods.as_ref().is_none_or(|all| {
                all.iter().any(|&(facility, edge, method)| {
                    facility == entry.facility
                        && edge.is_none_or(|edge| edge == entry.edge)
                        && method == number
                })
            })
        };
        let party =
            |(party, n): &(Party, u16)| party.is(*n, entry.reporter) || party.is(*n, entry.peer);
        self.party.as_ref().is_none_or(party)
            && self.facility.is_none_or(|facility| facility == entry.facility)
            && self.place.is_none_or(|place| EdgeId::of(entry) == Some(place))
            && (of(entry.method)
                || entry.form == Form::Batch
                    && runs::of(entry).iter().any(|run| of(run.method.into())))
    }
}

impl Wanted {
    /// What it means by these tables; `None` if a name isn't in them, so no record is meant.
    pub(in crate::cli) fn by(&self, tables: &Tables) -> Option<Meant> {
        let mut filter = Filter { kinds: self.kind.clone(), ..Filter::default() };
        filter.verdicts.clone_from(&self.verdict);
        let party = match &self.layer {
            None => None,
            Some(party) => {
                let number = layer_number(tables, &party.layer)?;
                filter.layer = Some(number);
                Some((party.clone(), number))
            }
        };
        let (mut facility, mut at) = (None, None);
        if let Some(subject) = &self.edge {
            facility = Some(subject.facility);
            if let Some(name) = &subject.name {
                let found = place(tables, subject.facility, name)?;
                at = Some(found);
                // What is connected to has its number in another field.
                if found.facility != Facility::Connect {
                    filter.edge = Some((found.facility, found.edge));
                }
            }
        }
        let methods = match &self.method {
            None => None,
            Some(name) => Some(methods_named(tables, facility, filter.edge, name)?),
        };
        if let Some([(_, _, number), more @ ..]) = methods.as_deref()
            && more.iter().all(|(_, _, other)| other == number)
        {
            filter.method = Some(*number);
        }
        Some(Meant { filter, party, facility, place: at, methods })
    }

    /// Whether it asks for anything but everything.
    pub(in crate::cli) fn narrows(&self) -> bool {
        let Self { layer, edge, method, verdict, kind, trace } = self;
        let some = layer.is_some() || edge.is_some() || method.is_some() || trace.is_some();
        some || !verdict.is_empty() || !kind.is_empty()
    }

    /// Whether a way goes by the layer and the edge that are asked for, and is of the trace.
    pub(in crate::cli) fn goes_by(&self, tables: &Tables, way: &Way) -> bool {
        let Some(Meant { party, facility, place, .. }) = self.by(tables) else { return false };
        let by = |wanted: &dyn Fn(&Step) -> bool| way.steps.iter().any(wanted);
        let at = |step: &Step| {
            let reporter = if step.from == Who::NOBODY { step.to } else { step.from };
            let (facility, edge, method) = (step.facility, step.edge, step.method);
            EdgeId::of(&Entry { facility, edge, method, reporter, ..Entry::new(Kind::Use) })
        };
        party.is_none_or(|(it, n)| by(&|step| it.is(n, step.from) || it.is(n, step.to)))
            && facility.is_none_or(|facility| by(&|step| step.facility == facility))
            && place.is_none_or(|place| by(&|step| at(step) == Some(place)))
            && self.trace.as_ref().is_none_or(|it| way.trace.is_some_and(|trace| it.is_of(trace)))
    }

    /// Refuses a name that is in none of the log's tables.
    pub(in crate::cli) fn check(&self, names: &Names) -> Result<(), String> {
        if names.eras().any(|(_, tables)| self.by(tables).is_some()) {
            return Ok(());
        }
        // The last tables are the ones that a person has in mind.
        let tables = names.at(u64::MAX);
        let list = |all: Vec<String>| match all.as_slice() {
            [] => "the log names none".to_owned(),
            some => format!("there are {}", some.join(", ")),
        };
        let none = |what: &str, name: &str, all| {
            Err(format!("no {what} `{}` in this log: {}", neutralise(name.as_bytes()), list(all)))
        };
        if let Some(party) = &self.layer
            && layer_number(tables, &party.layer).is_none()
        {
            let mut all = tables.layers.clone();
            all.extend(["supervisor".to_owned(), "auditor".to_owned()]);
            return none("layer", &party.layer, all);
        }
        if let Some(Subject { facility, name: Some(name) }) = &self.edge
            && place(tables, *facility, name).is_none()
        {
            let all = tables.edges(*facility).iter().map(|edge| edge.name.clone()).collect();
            return none(facility.name(), name, all);
        }
        let channels = tables.edges(Facility::Channel);
        let all = channels.iter().flat_map(|edge| edge.methods.iter().cloned()).collect();
        none("method", self.method.as_deref().unwrap_or_default(), all)
    }
}

fn layer_number(tables: &Tables, name: &str) -> Option<u16> {
    let special = [Who::SUPERVISOR.layer, Who::AUDITOR.layer];
    let numbers = (0..).take(tables.layers.len()).chain(special);
    numbers.into_iter().find(|number| layer(tables, *number) == name)
}

/// All methods of that name, as narrow as the edge that is asked for.
fn methods_named(
    tables: &Tables,
    facility: Option<Facility>,
    edge: Option<(Facility, u16)>,
    name: &str,
) -> Option<Vec<Method>> {
    let number = name.strip_prefix('#').and_then(|number| number.parse().ok());
    let mut all: Vec<Method> = Vec::new();
    for &kind in Facility::ALL.iter().filter(|kind| facility.is_none_or(|only| only == **kind)) {
        match (number, kind) {
            (Some(number), _) => all.push((kind, None, number)),
            (None, Facility::Channel) => {
                for (at, channel) in (0..).zip(tables.edges(kind)) {
                    if edge.is_none_or(|only| only == (kind, at)) {
                        let found = (0..).zip(&channel.methods).find(|(_, method)| *method == name);
                        all.extend(found.map(|(number, _)| (kind, Some(at), number)));
                    }
                }
            }
            // Acts, signals and system calls have their names from us; few enough to try.
            (None, _) => {
                let called = |number: &u32| {
                    let record_kind = Kind::Broker;
                    method(tables, record_kind, (kind, 0), *number).is_some_and(|it| it == name)
                };
                all.extend((0..1_024).filter(called).map(|number| (kind, None, number)));
            }
        }
    }
    (!all.is_empty()).then_some(all)
}

/// What is wanted, of records that come one after the other.
#[derive(Debug)]
pub(in crate::cli) struct Sieve {
    wanted: Wanted,
    traced: Option<Traced>,
    /// What it means by the tables in force, and which these are.
    meant: Option<(usize, Option<Meant>)>,
}

impl Sieve {
    /// One that lets through what is wanted.
    pub(in crate::cli) fn new(wanted: Wanted) -> Self {
        let traced = wanted.trace.clone().map(Traced::new);
        Self { wanted, traced, meant: None }
    }

    /// Whether the record is wanted.
    pub(in crate::cli) fn accepts(&mut self, names: &Names, record: &Record) -> bool {
        if let Some(traced) = &mut self.traced
            && !traced.takes(&record.entry)
        {
            return false;
        }
        let era = names.era(record.index);
        if self.meant.as_ref().is_none_or(|(known, _)| *known != era) {
            self.meant = Some((era, self.wanted.by(names.at(record.index))));
        }
        let meant = self.meant.as_ref().and_then(|(_, meant)| meant.as_ref());
        meant.is_some_and(|meant| meant.filter.matches(record) && meant.accepts_found(record))
    }
}

/// Gives every record that is wanted to `each`, in order, until that says no. Records of a range
/// of numbers alone, and of a window of time; `full` is to trust no index.
pub(in crate::cli) fn search(
    store: &Store,
    names: &Names,
    (wanted, window): (&Wanted, &Window),
    (range, full): (Range<u64>, bool),
    mut each: impl FnMut(Record) -> bool,
) -> Result<Effort, StoreError> {
    let mut all = Effort::default();
    let mut go_on = true;
    let mut traced = wanted.trace.clone().map(Traced::new);
    if let Some(traced) = &mut traced {
        // What it came by stands before what says so.
        let uses = Filter { kinds: vec![Kind::Use], full, ..Filter::default() };
        query(store, &uses, |record| {
            traced.look(&record.entry);
            true
        })?;
    }
    for (era, tables) in names.eras() {
        let (first, end) = (era.start.max(range.start), era.end.min(range.end));
        let Some(meant) = wanted.by(tables).filter(|_| first < end && go_on) else { continue };
        let filter = Filter {
            first,
            full,
            end: Some(end),
            from: window.since,
            to: window.until,
            ..meant.filter.clone()
        };
        let effort = query(store, &filter, |record| {
            let belongs = traced.as_mut().is_none_or(|it| it.takes(&record.entry));
            if belongs && meant.accepts_found(&record) {
                all.found += 1;
                go_on = each(record);
            }
            go_on
        })?;
        all.read += effort.read;
        all.damaged += effort.damaged;
        all.growing |= effort.growing;
    }
    Ok(all)
}
