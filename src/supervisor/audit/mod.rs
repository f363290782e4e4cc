//! The supervisor's part in the audit log: it makes the rings, starts the auditor, and notes its
//! own acts. It never waits for the auditor, and reads nothing from a ring but a position.

mod acts;
mod backlog;
mod relay;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use self::backlog::{Backlog, Pushed};
use super::image::Image;
use super::{Life, Outcome, StartUp, Supervisor};
use crate::audit::entry::{Entry, Who};
use crate::ident::{Instance, Name};
use crate::layer::auditor::HALT;
use crate::policy::plan::LogFull;
use crate::prepare::own::Role;
use crate::prepare::upgrade::state::{self, Luggage};
use crate::report::{AT_COUNT, AT_STOP};
use crate::ring::{self, Producer};
use crate::sys::mapping::Mapping;
use crate::sys::memory;
use crate::wire::control::ToLayer;
use crate::wire::life::Ending;

/// Bytes of the ring for the supervisor's own acts.
const OWN: u32 = 1 << 20;

/// How often the ring is looked at for room while acts wait for some: the auditor doesn't say.
pub const FLUSH: Duration = Duration::from_millis(10);

/// How long the auditor may take, once nobody else is left, for what still waits for room.
const LAST_ACTS: Duration = Duration::from_secs(5);

/// What the supervisor calls its own ring.
const OWN_RING: u32 = 0;

/// The supervisor's side of the log.
pub struct Audit {
    /// The plan's layers, then the framework's own.
    layers: Vec<Name>,
    /// Bytes of a layer's ring.
    bytes: u32,
    /// Whether the auditor has the log open: nobody else begins before.
    open: bool,
    memory: Mapping,
    producer: Producer,
    /// The rings that the auditor may still have to read, by what they are called.
    rings: BTreeMap<u32, Held>,
    next_ring: u32,
    /// Acts that found no room in the ring yet.
    backlog: Backlog,
    /// Of whom acts began to be lost, until that is said.
    losing: Vec<Who>,
    /// When the auditor is told to stop though acts still wait; set once nobody else is left.
    until: Option<Instant>,
    /// The auditor has still to be told something else first.
    pub(super) held: bool,
}

struct Held {
    reporter: Option<Instance>,
    bytes: u32,
    fd: OwnedFd,
}

impl Audit {
    /// Makes the supervisor's own ring, for a daemon of these layers.
    pub fn begin(images: &[Image]) -> Result<Self, StartUp> {
        let layers = images.iter().map(|image| image.data.plan.name.clone()).collect();
        let bytes = images.iter().find_map(|image| Some(image.reports.as_ref()?.bytes));
        Self::new(layers, bytes.unwrap_or(OWN)).map_err(StartUp::Reports)
    }

    fn new(layers: Vec<Name>, bytes: u32) -> io::Result<Self> {
        let fd = memory::create_fixed("reports", OWN.into())?;
        let memory = Mapping::sealed(fd.as_fd(), OWN as usize, true)?;
        ring::format(&memory);
        let producer = Producer::resume(&memory);
        let rings = BTreeMap::from([(OWN_RING, Held { reporter: None, bytes: OWN, fd })]);
        Ok(Self::with(layers, bytes, memory, producer, rings))
    }

    fn with(
        layers: Vec<Name>,
        bytes: u32,
        memory: Mapping,
        producer: Producer,
        rings: BTreeMap<u32, Held>,
    ) -> Self {
        Self {
            layers,
            bytes,
            open: false,
            memory,
            producer,
            rings,
            next_ring: OWN_RING + 1,
            backlog: Backlog::default(),
            losing: Vec::new(),
            until: None,
            held: false,
        }
    }

    /// What a program must know that takes this one's place.
    pub(super) fn carry(&self, luggage: &mut Luggage) -> state::Audit {
        let ring = |(&ring, held): (&u32, &Held)| {
            (ring, held.reporter.clone(), held.bytes, luggage.add(&held.fd))
        };
        state::Audit {
            bytes: self.bytes,
            open: self.open,
            rings: self.rings.iter().map(ring).collect(),
            next_ring: self.next_ring,
            acts: (self.backlog.number(), self.backlog.missing()),
        }
    }

    /// What the program before has left, for a daemon of these layers.
    pub(super) fn carried(images: &[Image], from: state::Audit) -> io::Result<Self> {
        let layers = images.iter().map(|image| image.data.plan.name.clone()).collect();
        let ring = |(ring, reporter, bytes, fd): (u32, _, _, state::Fd)| {
            Ok((ring, Held { reporter, bytes, fd: fd.take()? }))
        };
        let rings = from.rings.into_iter().map(ring).collect::<io::Result<BTreeMap<_, _>>>()?;
        let own = rings.get(&OWN_RING).ok_or(io::ErrorKind::NotFound)?;
        let memory = Mapping::sealed(own.fd.as_fd(), OWN as usize, true)?;
        let producer = Producer::resume(&memory);
        let (next_ring, backlog) = (from.next_ring, Backlog::after(from.acts));
        let begun = Self::with(layers, from.bytes, memory, producer, rings);
        Ok(Self { open: from.open, next_ring, backlog, ..begun })
    }

    /// Whether an act waits for room.
    pub(super) fn waits(&self) -> bool {
        !self.backlog.is_empty() || self.held
    }

    /// Takes the layers that there are from now on: those of before are the first.
    pub fn renumber(&mut self, images: &[Image]) {
        self.layers = images.iter().map(|image| image.data.plan.name.clone()).collect();
    }

    /// Makes the ring for an instance that is about to start.
    pub fn ring(&mut self, reporter: &Instance) -> io::Result<OwnedFd> {
        let fd = memory::create_fixed("reports", self.bytes.into())?;
        let far = fd.try_clone()?;
        let held = Held { reporter: Some(reporter.clone()), bytes: self.bytes, fd };
        self.rings.insert(self.next_ring, held);
        self.next_ring += 1;
        Ok(far)
    }

    /// What the ring is called that was made last, if it is that of `reporter`.
    fn ring_of(&self, reporter: &Instance) -> Option<u32> {
        let (&ring, held) = self.rings.last_key_value()?;
        (held.reporter.as_ref() == Some(reporter)).then_some(ring)
    }

    /// The numbers of an instance.
    pub fn who(&self, instance: &Instance) -> Who {
        Who::of(&self.layers, instance).unwrap_or(Who::NOBODY)
    }

    /// Notes an act.
    pub fn note(&mut self, entry: &Entry) {
        if self.backlog.push(entry) == Pushed::FirstLost {
            self.losing.push(backlog::whom(entry));
        }
        // By this the auditor counts what was lost, even if nobody can tell it any more.
        self.memory.store(AT_COUNT, self.backlog.number());
        self.flush();
    }

    /// Puts what waits into the ring, as far as there is room.
    pub fn flush(&mut self) {
        if self.held {
            return;
        }
        let Self { backlog, producer, memory, .. } = self;
        // A position that can't be: the auditor lies, and what it doesn't take is lost.
        backlog.flush(|bytes| producer.send(memory, bytes).unwrap_or(false));
    }

    /// Whether the next request of an instance could find no room.
    pub fn is_full_of(&self, instance: &Instance) -> bool {
        !self.backlog.is_empty() && self.backlog.is_full_of(self.who(instance))
    }

    /// Whether acts wait that the auditor still has the time to take; `more` may come.
    pub(super) fn is_draining(&self, more: bool) -> bool {
        (more || !self.backlog.is_empty()) && self.until.is_none_or(|until| Instant::now() < until)
    }

    /// Has an instance that waits for room in its ring wait no longer: it is asked to stop.
    fn release(&self, instance: &Instance) {
        let of_it = |held: &&Held| held.reporter.as_ref() == Some(instance);
        if let Some(held) = self.rings.values().rev().find(of_it) {
            // Memory of our own making, whose size nobody changes: it takes a word.
            let _ = rustix::io::pwrite(&held.fd, &1_u64.to_ne_bytes(), AT_STOP as u64);
        }
    }

    /// Has the auditor look at its control socket.
    pub fn nudge(&self) {
        self.producer.nudge(&self.memory);
    }
}

impl Supervisor<'_> {
    /// Notes an act in the audit log, if there is one. `entry` is only made then.
    pub(super) fn note(&mut self, entry: impl FnOnce(&Audit) -> Entry) {
        if let Some(audit) = &mut self.audit {
            let entry = entry(audit);
            audit.note(&entry);
        }
    }

    /// The ring for an instance of a layer that is about to start, if it reports.
    pub(super) fn ring_for(
        &mut self,
        layer: usize,
        instance: &Instance,
    ) -> io::Result<Option<OwnedFd>> {
        let reports = self.images[layer].reports.is_some();
        let Some(audit) = self.audit.as_mut().filter(|_| reports) else { return Ok(None) };
        Ok(Some(audit.ring(instance)?))
    }

    /// Puts what waits into the ring, and says of whom acts are being lost.
    pub(super) fn flush_notes(&mut self) {
        let Some(audit) = &mut self.audit else { return };
        audit.flush();
        let losing = std::mem::take(&mut audit.losing);
        let halts = self.plan.audit.on_full == LogFull::Halt;
        let then = if halts { "the daemon stops" } else { "they are counted" };
        for who in &losing {
            let name = audit.layers.get(usize::from(who.layer)).map_or("?", Name::as_str);
            self.log.say(&format!(
                "acts about {name}/{}.g{} find no room on their way to the audit log; {then} \
                 (`on-full`)",
                who.copy, who.generation
            ));
        }
        if halts && !losing.is_empty() {
            self.stop(Outcome::Refused);
        }
        self.begin_last_acts();
    }

    /// When to look for room again, if acts wait for some.
    pub(super) fn flushes_at(&self) -> Option<Instant> {
        let waits = |audit: &Audit| {
            !audit.backlog.is_empty() || audit.until.is_some() && self.may_report_denials()
        };
        self.audit.as_ref().is_some_and(waits).then(|| Instant::now() + FLUSH)
    }

    /// From when the auditor is alone, its time to take what waits is bounded.
    fn begin_last_acts(&mut self) {
        let alone = self.stopping && !self.others_run();
        if let Some(audit) = self.audit.as_mut().filter(|_| alone) {
            audit.until.get_or_insert_with(|| Instant::now() + LAST_ACTS);
        }
    }

    /// Whether a place is the auditor's.
    pub(super) fn is_auditor(&self, place: usize) -> bool {
        self.role(place) == Some(Role::Auditor)
    }

    /// Whether anybody runs whose doings are still to be written down.
    fn others_run(&self) -> bool {
        let last = |place| matches!(self.role(place), Some(Role::Auditor | Role::Log));
        (0..self.places.len()).any(|place| !last(place) && self.runs(place))
    }

    pub(super) fn runs(&self, place: usize) -> bool {
        matches!(self.places[place].life, Life::Running(_))
    }

    /// Whether an auditor that is down must come again though everything stops: others still report,
    /// or what they reported is still to be taken.
    pub(super) fn needs_auditor(&self, place: usize) -> bool {
        let Some(audit) = self.audit.as_ref().filter(|_| self.is_auditor(place)) else {
            return false;
        };
        let in_time = audit.until.is_none_or(|until| Instant::now() < until);
        let others = self.others_run();
        audit.open && in_time && (others || !audit.backlog.is_empty() || audit.rings.len() > 1)
    }

    /// Has a layer that is asked to stop wait for the log no longer.
    pub(super) fn release_reports(&self, place: usize) {
        if let Some(audit) = &self.audit {
            audit.release(&self.places[place].seat.instance);
        }
    }

    /// Stops the daemon where the auditor says by its exit code that it must, for it couldn't say
    /// why. True: it does.
    pub(super) fn auditor_halts(&mut self, place: usize, ending: Ending) -> bool {
        let halts = self.is_auditor(place) && ending == Ending::Exited(HALT);
        if halts {
            self.log.say("the auditor has ended because the daemon must stop (`on-full`)");
            self.stop(Outcome::Refused);
        }
        halts
    }

    /// Says at the end what is not in the log.
    pub(super) fn tell_missing_acts(&mut self) {
        let missing = self.audit.as_ref().map_or(0, |audit| audit.backlog.missing());
        if missing > 0 {
            self.log.say(&format!("{missing} acts of the supervisor are not in the audit log"));
        }
    }

    /// Whether a place must wait because the log isn't open yet.
    pub(super) fn waits_for_log(&self, place: usize) -> bool {
        let first = matches!(self.role(place), Some(Role::Auditor | Role::Log));
        self.audit.as_ref().is_some_and(|audit| !audit.open) && !first
    }

    /// Gives the auditor every ring that it may have to read.
    pub(super) fn hand_over_rings(&mut self, place: usize) {
        let rings = self.audit.iter().flat_map(|audit| audit.rings.keys().copied());
        for ring in rings.collect::<Vec<_>>() {
            self.hand_over_ring(place, ring);
        }
    }

    fn hand_over_ring(&mut self, place: usize, ring: u32) {
        let Some(held) = self.audit.as_ref().and_then(|audit| audit.rings.get(&ring)) else {
            return;
        };
        let message = ToLayer::Reports { ring, reporter: held.reporter.clone(), bytes: held.bytes };
        match held.fd.try_clone() {
            Ok(fd) => self.tell(place, &message, Some(&fd)),
            Err(error) => self.log.say(&format!("a ring of reports is lost: {error}")),
        }
    }

    /// Gives the auditor the ring of `instance`, which has just started, if the auditor runs;
    /// otherwise it gets it with all others.
    pub(super) fn hand_over_new_ring(&mut self, instance: &Instance) {
        let Some(audit) = &self.audit else { return };
        let Some(ring) = audit.ring_of(instance) else { return };
        let Some(place) = self.place_of(Role::Auditor) else { return };
        if matches!(&self.places[place].life, Life::Running(it) if it.is_serving()) {
            self.hand_over_ring(place, ring);
        }
    }

    /// Forgets the ring of an instance that could not start.
    pub(super) fn forget_ring(&mut self, instance: &Instance) {
        if let Some(audit) = &mut self.audit
            && let Some(ring) = audit.ring_of(instance)
        {
            audit.rings.remove(&ring);
        }
    }

    /// All reports of an instance that has ended are in the log.
    pub(super) fn taken(&mut self, ring: u32) {
        if let Some(audit) = &mut self.audit
            && ring != OWN_RING
        {
            audit.rings.remove(&ring);
        }
    }

    /// The auditor says something for a person.
    pub(super) fn log_says(&mut self, halt: bool, text: &str) {
        self.log.say(text);
        if halt {
            self.stop(Outcome::Refused);
        } else if let Some(audit) = &mut self.audit {
            audit.open = true;
        }
    }
}
