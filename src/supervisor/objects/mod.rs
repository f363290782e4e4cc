//! The descriptor table: the objects that were made before the first layer starts, kept until the
//! last one has ended, handed out with no more rights than the policy grants.

pub mod queue;

use std::io;
use std::os::fd::OwnedFd;

use crate::ident::Name;
use crate::mark::reached;
use crate::policy::plan::{LayerPlan, Plan};
use crate::prepare::upgrade::state::{Luggage, State};
use crate::prepare::{FifoAtPath, Use};
use crate::wire::control::{Object, ToLayer};

use self::queue::Queue;

/// What goes over to a layer: a message and the descriptor that goes with it.
pub type Handed = (ToLayer, OwnedFd);

/// Every object.
pub struct Objects {
    pub queues: Vec<Queue>,
    /// What becomes of each descriptor.
    table: Vec<(Use, OwnedFd)>,
    /// Each with the layer that reads it.
    fifos: Vec<(Name, Option<FifoAtPath>)>,
}

/// An object can't be had.
#[derive(Debug, thiserror::Error)]
#[error("[queue.{name}] {error}")]
pub struct ObjectError {
    name: Name,
    error: io::Error,
}

impl Objects {
    /// Takes what was made for the plan.
    pub fn new(
        plan: &Plan,
        table: Vec<(Use, OwnedFd)>,
        fifos: Vec<FifoAtPath>,
    ) -> Result<Self, ObjectError> {
        let all = &plan.facilities;
        let queue = |(number, plan)| {
            let queue = ends(number, &table).and_then(|ends| Queue::new(plan, ends));
            queue.map_err(|error| ObjectError { name: plan.name.clone(), error })
        };
        let queues = (0..).zip(&all.queues).map(queue).collect::<Result<_, _>>()?;
        let readers = all.fifos.iter().map(|plan| plan.to.clone());
        Ok(Self { queues, fifos: readers.zip(fifos.into_iter().map(Some)).collect(), table })
    }

    /// All of them, for a program that takes this one's place.
    pub fn carry(&self, state: &mut State, luggage: &mut Luggage) {
        state.queues = self.queues.iter().map(|queue| queue.carry(luggage)).collect();
        let held = self.table.iter().map(|(becomes, fd)| (becomes.clone(), luggage.add(fd)));
        state.table = held.collect();
        let mut ends = |fifo: &FifoAtPath| fifo.descriptors().map(|fd| luggage.add(fd));
        let fifos = self.fifos.iter().map(|(to, fifo)| (to.clone(), fifo.as_ref().map(&mut ends)));
        state.fifos = fifos.collect();
    }

    /// What the program before has left.
    pub fn carried(plan: &Plan, state: &mut State) -> io::Result<Self> {
        let table = std::mem::take(&mut state.table).into_iter();
        let table = table.map(|(becomes, fd)| Ok((becomes, fd.take()?)));
        let table = table.collect::<io::Result<Vec<_>>>()?;
        let all = &plan.facilities;
        let queues = (0..).zip(all.queues.iter().zip(&state.queues));
        let queue = |(number, (plan, from))| Queue::carried(plan, ends(number, &table)?, from);
        let queues = queues.map(queue).collect::<io::Result<_>>()?;
        let mut fifos = Vec::new();
        for (plan, (to, ends)) in all.fifos.iter().zip(&state.fifos) {
            let fifo = ends.map(|[held, directory]| {
                FifoAtPath::of_descriptors(plan, held.take()?, directory.take()?)
            });
            fifos.push((to.clone(), fifo.transpose()?));
        }
        Ok(Self { queues, table, fifos })
    }

    /// Takes what was made for another plan in the place of this one. `kept` says by queue, FIFO,
    /// region and mapped file which stay; an error has changed nothing.
    pub fn renew(
        &mut self,
        plan: &Plan,
        kept: &[Vec<bool>; 4],
        made: Vec<(Use, OwnedFd)>,
        fifos: Vec<FifoAtPath>,
    ) -> Result<(), ObjectError> {
        let [queues, kept_fifos, regions, files] = kept;
        let all = &plan.facilities;
        let has = |kept: &[bool], number: u16| kept.get(usize::from(number)) == Some(&true);
        let mut fresh = Vec::new();
        for (number, plan) in (0..).zip(&all.queues).filter(|(number, _)| !has(queues, *number)) {
            let queue = ends(number, &made).and_then(|ends| Queue::new(plan, ends));
            let name = || plan.name.clone();
            fresh.push(queue.map_err(|error| ObjectError { name: name(), error })?);
        }
        let mut fresh = fresh.into_iter();
        let mut old = std::mem::take(&mut self.queues).into_iter();
        self.queues = (0..all.queues.len())
            .filter_map(|number| match (queues.get(number), old.next()) {
                (Some(true), Some(queue)) => Some(queue),
                _ => fresh.next(),
            })
            .collect();
        self.table.retain(|(becomes, _)| match becomes {
            Use::Handed(ToLayer::Object { kind, number, .. }, _) => match kind {
                Object::Region => has(regions, *number),
                Object::MappedFile => has(files, *number),
                _ => has(queues, *number),
            },
            _ => true,
        });
        self.table.extend(made);
        let (mut fifos, mut old) = (fifos.into_iter(), std::mem::take(&mut self.fifos).into_iter());
        for (number, plan) in all.fifos.iter().enumerate() {
            let before = old.next();
            let fifo = match before {
                Some((_, fifo)) if kept_fifos.get(number) == Some(&true) => fifo,
                _ if plan.to.as_str().starts_with(LayerPlan::RESERVED) => None,
                _ => fifos.next(),
            };
            self.fifos.push((plan.to.clone(), fifo));
        }
        Ok(())
    }

    /// What `layer` holds from its start.
    pub fn of(&self, layer: &Name) -> io::Result<Vec<Handed>> {
        let mut handed = Vec::new();
        for (becomes, fd) in &self.table {
            let Use::Handed(message, to) = becomes else { continue };
            if !to.contains(layer) {
                continue;
            }
            match message {
                ToLayer::Object { kind: Object::Region, .. } => reached("region.grant.given"),
                ToLayer::Object { kind: Object::MappedFile, .. } => {
                    reached("mapped-file.grant.given");
                }
                _ => {}
            }
            handed.push((message.clone(), fd.try_clone()?));
        }
        for (number, queue) in (0..).zip(&self.queues) {
            handed.extend(queue.keys_of(layer, number)?);
        }
        for (number, (_, fifo)) in (0..).zip(&self.fifos).filter(|(_, (to, _))| to == layer) {
            let ends = fifo.iter().map(FifoAtPath::reader).next().transpose()?;
            for (part, fd) in (0..).zip(ends.into_iter().flatten()) {
                handed.push((ToLayer::Object { kind: Object::Fifo, number, part }, fd));
            }
        }
        Ok(handed)
    }
}

/// The receiving ends of a queue.
fn ends(queue: u16, table: &[(Use, OwnedFd)]) -> io::Result<Vec<OwnedFd>> {
    let is_end = |becomes: &Use| {
        matches!(becomes, Use::Handed(ToLayer::Object { kind: Object::QueueReceive, number, .. }, _)
            if *number == queue)
    };
    table.iter().filter(|(becomes, _)| is_end(becomes)).map(|(_, fd)| fd.try_clone()).collect()
}
