//! The kernel objects of the facilities: made before the first layer starts, kept until the last
//! one has ended, handed out as descriptors with no more rights than the policy grants.

mod fifo;
mod mapped_file;
mod memory;
pub mod queue;
mod region;

use std::io;
use std::os::fd::OwnedFd;

use crate::ident::Name;
use crate::policy::plan::Plan;
use crate::wire::control::{Object, ToLayer, mapped_file_part};

use self::fifo::Fifo;
use self::mapped_file::{Mapped, MappedFile};
use self::queue::Queue;
use self::region::Region;

/// What goes over to a layer: a message and the descriptor that goes with it.
pub type Handed = (ToLayer, OwnedFd);

/// Every object.
pub struct Objects {
    pub queues: Vec<Queue>,
    mapped_files: Vec<MappedFile>,
    regions: Vec<Region>,
    fifos: Vec<Fifo>,
}

/// An object can't be made.
#[derive(Debug, thiserror::Error)]
#[error("[{kind}.{name}] {error}")]
pub struct ObjectError {
    kind: &'static str,
    name: Name,
    error: io::Error,
}

impl Objects {
    /// Makes all that the plan asks for.
    pub fn make(plan: &Plan) -> Result<Self, ObjectError> {
        let all = &plan.facilities;
        let lifted = queue::prepare(&all.queues);
        let queues = each("queue", &all.queues, |plan| &plan.name, Queue::make)?;
        drop(lifted);
        Ok(Self {
            queues,
            mapped_files: each(
                "mapped-file",
                &all.mapped_files,
                |plan| &plan.name,
                MappedFile::make,
            )?,
            regions: each("region", &all.regions, |plan| &plan.name, Region::make)?,
            fifos: each("fifo", &all.fifos, |plan| &plan.name, Fifo::make)?,
        })
    }

    /// What `layer` holds from its start.
    pub fn of(&self, layer: &Name) -> io::Result<Vec<Handed>> {
        let mut handed = Vec::new();
        for (number, queue) in (0..).zip(&self.queues) {
            handed.extend(queue.of(layer, number)?);
        }
        for (number, region) in (0..).zip(&self.regions) {
            if let Some(fd) = region.of(layer)? {
                handed.push((ToLayer::Object { kind: Object::Region, number, part: 0 }, fd));
            }
        }
        for (number, file) in (0..).zip(&self.mapped_files) {
            let (part, fd) = match file.of(layer)? {
                None => continue,
                Some(Mapped::File(fd)) => (mapped_file_part::LIVE, fd),
                Some(Mapped::Copy(fd)) => (mapped_file_part::COPY, fd),
            };
            handed.push((ToLayer::Object { kind: Object::MappedFile, number, part }, fd));
        }
        for (number, fifo) in (0..).zip(&self.fifos) {
            for (part, fd) in (0..).zip(fifo.of(layer)?) {
                handed.push((ToLayer::Object { kind: Object::Fifo, number, part }, fd));
            }
        }
        Ok(handed)
    }
}

/// Makes one object for each plan, and names the one that can't be made.
fn each<P, T>(
    kind: &'static str,
    plans: &[P],
    name: impl Fn(&P) -> &Name,
    make: impl Fn(&P) -> io::Result<T>,
) -> Result<Vec<T>, ObjectError> {
    let blame = |plan: &P, error| ObjectError { kind, name: name(plan).clone(), error };
    plans.iter().map(|plan| make(plan).map_err(|error| blame(plan, error))).collect()
}
