//! The descriptor table: the objects that were made before the first layer starts, kept until the
//! last one has ended, handed out with no more rights than the policy grants.

pub mod queue;

use std::io;
use std::os::fd::OwnedFd;

use crate::ident::Name;
use crate::mark::reached;
use crate::policy::plan::Plan;
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
    fifos: Vec<(Name, FifoAtPath)>,
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
        Ok(Self { queues, fifos: readers.zip(fifos).collect(), table })
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
            for (part, fd) in (0..).zip(fifo.reader()?) {
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
