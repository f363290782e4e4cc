//! The supervisor's part in the audit log: it makes the rings, starts the auditor, and notes its
//! own acts. It never waits for the auditor, and reads nothing from a ring but a position.

mod acts;
mod begin;
mod relay;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::SealFlags;

pub use self::acts::semaphore;
pub use self::begin::{BeginError, Begun};
use super::image::Image;
use super::{Life, Outcome, StartUp, Supervisor};
use crate::audit::entry::{self, Entry, Kind, Moment, Who};
use crate::confine::Identity;
use crate::ident::{Instance, Name};
use crate::layer::slice::ReportsSlice;
use crate::policy::plan::{LayerPlan, Plan, Program};
use crate::ring::{self, Producer};
use crate::sys::mapping::Mapping;
use crate::sys::memory;
use crate::wire::control::ToLayer;

/// Bytes of the ring for the supervisor's own acts.
const OWN: u32 = 1 << 20;

/// How many bytes of acts wait for room in that ring, at most. More are dropped and counted.
const BACKLOG: usize = 4 << 20;

/// What the supervisor calls its own ring.
const OWN_RING: u32 = 0;

/// The supervisor's side of the log.
pub struct Audit {
    /// The place of the auditor among the seats.
    place: usize,
    /// The place of the witness, if any channel has one.
    witness: Option<usize>,
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
    /// The number of the next act.
    number: u64,
    /// Acts that found no room in the ring yet.
    backlog: VecDeque<Vec<u8>>,
    waiting: usize,
    /// Acts that found no room at all.
    lost: u64,
    /// What layers have asked for, by place and request, until it is answered.
    asks: BTreeMap<(usize, u32), Entry>,
}

struct Held {
    reporter: Option<Instance>,
    bytes: u32,
    fd: OwnedFd,
}

impl Audit {
    /// Gives the log to the auditor, has the layers report, and makes the supervisor's own ring.
    pub fn begin(begun: &Begun, plan: &Plan, images: &mut [Image]) -> Result<Self, StartUp> {
        let layers: Vec<Name> = plan.layers.iter().map(|layer| layer.name.clone()).collect();
        let reports = ReportsSlice {
            bytes: begun.ring,
            on_full: plan.audit.on_full,
            layers: layers.clone(),
            payload_key: plan.audit.payload_key,
        };
        for (number, image) in images.iter_mut().enumerate() {
            if number == begun.layer {
                image.settings = begun.settings.clone().into();
                if let Identity::Own { uid, .. } = image.identity(0) {
                    begun.give_to(uid)?;
                }
            } else if matches!(image.plan.program, Program::Run(_)) {
                image.reports = Some(reports.clone());
            }
        }
        // One seat for each copy, and the framework's own layers are the last, with one each.
        let copies = |layer: &LayerPlan| usize::from(layer.instances);
        let place = plan.layers[..begun.layer].iter().map(copies).sum();
        let witness = (begun.own > 1).then_some(place + 1);
        Self::new(place, witness, layers, begun.ring).map_err(StartUp::Reports)
    }

    fn new(
        place: usize,
        witness: Option<usize>,
        layers: Vec<Name>,
        bytes: u32,
    ) -> io::Result<Self> {
        let fd = make_ring(OWN)?;
        let memory = Mapping::sealed(fd.as_fd(), OWN as usize, true)?;
        ring::format(&memory);
        let producer = Producer::resume(&memory);
        let rings = BTreeMap::from([(OWN_RING, Held { reporter: None, bytes: OWN, fd })]);
        Ok(Self {
            place,
            witness,
            layers,
            bytes,
            open: false,
            memory,
            producer,
            rings,
            next_ring: OWN_RING + 1,
            number: 0,
            backlog: VecDeque::new(),
            waiting: 0,
            lost: 0,
            asks: BTreeMap::new(),
        })
    }

    /// Makes the ring for an instance that is about to start.
    pub fn ring(&mut self, reporter: &Instance) -> io::Result<OwnedFd> {
        let fd = make_ring(self.bytes)?;
        let far = fd.try_clone()?;
        let held = Held { reporter: Some(reporter.clone()), bytes: self.bytes, fd };
        self.rings.insert(self.next_ring, held);
        self.next_ring += 1;
        Ok(far)
    }

    /// The numbers of an instance.
    pub fn who(&self, instance: &Instance) -> Who {
        Who::of(&self.layers, instance).unwrap_or(Who::NOBODY)
    }

    /// Notes an act.
    pub fn note(&mut self, entry: &Entry) {
        let mut bytes = Vec::new();
        entry::encode(self.number, Moment::default(), entry, None, &mut bytes);
        if self.waiting + bytes.len() > BACKLOG || bytes.len() > ring::capacity(OWN as usize) {
            self.lost += 1;
            return;
        }
        self.number += 1;
        self.waiting += bytes.len();
        self.backlog.push_back(bytes);
        self.flush();
    }

    /// Puts what waits into the ring, as far as there is room.
    pub fn flush(&mut self) {
        while let Some(bytes) = self.backlog.front() {
            // A position that can't be: the auditor lies, and what it doesn't take is dropped at
            // the backlog's bound.
            if !self.producer.send(&self.memory, bytes).unwrap_or(false) {
                return;
            }
            self.waiting -= bytes.len();
            self.backlog.pop_front();
        }
        if self.lost > 0 {
            let length = std::mem::take(&mut self.lost);
            self.note(&Entry { reporter: Who::SUPERVISOR, length, ..Entry::new(Kind::Loss) });
        }
    }

    /// Has the auditor look at its control socket.
    pub fn nudge(&self) {
        self.producer.nudge(&self.memory);
    }
}

fn make_ring(bytes: u32) -> io::Result<OwnedFd> {
    let fd = memory::create_sized("reports", bytes.into())?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(fd)
}

impl Supervisor<'_> {
    /// Notes an act in the audit log, if there is one. `entry` is only made then.
    pub(super) fn note(&mut self, entry: impl FnOnce(&Audit) -> Entry) {
        if let Some(audit) = &mut self.audit {
            let entry = entry(audit);
            audit.note(&entry);
        }
    }

    /// The ring for an instance of a layer that is about to start, if it reports. The auditor gets
    /// it too.
    pub(super) fn ring_for(
        &mut self,
        layer: usize,
        instance: &Instance,
    ) -> io::Result<Option<OwnedFd>> {
        let reports = self.images[layer].reports.is_some();
        let Some(audit) = self.audit.as_mut().filter(|_| reports) else { return Ok(None) };
        let ring = audit.ring(instance)?;
        self.hand_over_new_ring();
        Ok(Some(ring))
    }

    /// Puts what waits into the ring.
    pub(super) fn flush_notes(&mut self) {
        if let Some(audit) = &mut self.audit {
            audit.flush();
        }
    }

    /// Once nobody else is left or will come, auditor and witness have nothing more to do.
    pub(super) fn stop_with_nothing_to_audit(&mut self) {
        let over = |(at, place): (usize, &super::Place)| {
            self.is_own(at) || matches!(place.life, Life::Down)
        };
        if !self.stopping && self.audit.is_some() && self.places.iter().enumerate().all(over) {
            self.stop(self.outcome);
        }
    }

    /// Whether a place is the auditor's.
    pub(super) fn is_auditor(&self, place: usize) -> bool {
        self.audit.as_ref().is_some_and(|audit| audit.place == place)
    }

    /// Whether a place must wait because the log isn't open yet.
    pub(super) fn waits_for_log(&self, place: usize) -> bool {
        self.audit.as_ref().is_some_and(|audit| !audit.open && audit.place != place)
    }

    /// Whether a place is one of the framework's own layers'.
    pub(super) fn is_own(&self, place: usize) -> bool {
        self.is_auditor(place) || self.is_witness(place)
    }

    /// Whether somebody still runs who ends before a place: everybody does before the auditor, and
    /// the policy's layers do before the witness.
    pub(super) fn waits_for_others(&self, place: usize) -> bool {
        let runs = |place: &super::Place| matches!(place.life, Life::Running(_));
        let before = |at: usize| match (self.is_auditor(place), self.is_witness(place)) {
            (true, _) => !self.is_auditor(at),
            (_, true) => !self.is_own(at),
            _ => false,
        };
        self.places.iter().enumerate().any(|(at, place)| before(at) && runs(place))
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

    /// Gives the auditor the ring that was made last, if it runs; otherwise it gets it with all
    /// others.
    pub(super) fn hand_over_new_ring(&mut self) {
        let Some(audit) = &self.audit else { return };
        let Some((&ring, _)) = audit.rings.last_key_value() else { return };
        let place = audit.place;
        if matches!(&self.places[place].life, Life::Running(it) if it.is_serving()) {
            self.hand_over_ring(place, ring);
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
