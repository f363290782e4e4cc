//! The descriptor table: the objects that were made before the first layer starts, kept until the
//! last one has ended, handed out with no more rights than the policy grants.

pub mod queue;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;

use crate::ident::Name;
use crate::mark::reached;
use crate::policy::plan::{FilePlan, FileRight, MapRight, Plan};
use crate::prepare::{Descriptors, FifoAtPath};
use crate::wire::control::{Object, ToLayer, mapped_file_part};

use self::queue::Queue;
use crate::sys::process::landlock_abi;

/// What goes over to a layer: a message and the descriptor that goes with it.
pub type Handed = (ToLayer, OwnedFd);

/// Every object.
pub struct Objects {
    pub queues: Vec<Queue>,
    shared: Vec<Shared>,
    fifos: Vec<(Name, FifoAtPath)>,
    /// Descriptors that nobody else gets: they hold the locks on mapped files.
    _locks: Vec<OwnedFd>,
}

/// A descriptor that layers share.
///
/// Nothing in that is to anybody's harm: maps know neither the position nor the flags of an open
/// file, and nobody locks it.
struct Shared {
    object: Object,
    number: u16,
    part: u32,
    to: Vec<Name>,
    fd: OwnedFd,
}

/// An object can't be had.
#[derive(Debug, thiserror::Error)]
#[error("[{kind}.{name}] {error}")]
pub struct ObjectError {
    kind: &'static str,
    name: Name,
    error: io::Error,
}

impl Objects {
    /// Takes the descriptors that were made for the plan, in the order that
    /// [`make`](crate::prepare::make) gives them in.
    pub fn new(plan: &Plan, mut made: Descriptors) -> Result<Self, ObjectError> {
        let all = &plan.facilities;
        let queues =
            each("queue", &all.queues, |plan| &plan.name, |plan| Queue::new(plan, &mut made))?;
        let (mut shared, mut locks) = (Vec::new(), Vec::new());
        for (number, plan) in (0..).zip(&all.mapped_files) {
            let of = |right| holders(&plan.grant, right);
            let mut share = |part, to, fd| {
                shared.push(Shared { object: Object::MappedFile, number, part, to, fd });
            };
            let one = |made: &mut Descriptors| next("mapped-file", &plan.name, made);
            if plan.is_written() {
                share(mapped_file_part::LIVE, of(MapRight::ReadWrite), one(&mut made)?);
                share(mapped_file_part::LIVE, of(MapRight::Read), one(&mut made)?);
                locks.push(one(&mut made)?);
            } else {
                share(mapped_file_part::COPY, of(MapRight::Read), one(&mut made)?);
            }
        }
        for (number, plan) in (0..).zip(&all.regions) {
            for right in [MapRight::ReadWrite, MapRight::Read] {
                let fd = next("region", &plan.name, &mut made)?;
                let to = holders(&plan.grant, right);
                shared.push(Shared { object: Object::Region, number, part: 0, to, fd });
            }
        }
        let fifos = each(
            "fifo",
            &all.fifos,
            |plan| &plan.name,
            |plan| {
                let mut end = || made.next().ok_or(io::ErrorKind::UnexpectedEof);
                Ok((plan.to.clone(), FifoAtPath::of_descriptors(plan, end()?, end()?)?))
            },
        )?;
        let abi = landlock_abi();
        if !matches!(abi, Ok(3..))
            && let Some(file) = plan.files.iter().find(|file| lacks_truncate(file))
        {
            let text = "to open for writing and not for truncating takes Linux 6.2 with Landlock; \
                        grant `truncate` too";
            let (name, error) = (file.name.clone(), io::Error::other(text));
            return Err(ObjectError { kind: "file", name, error });
        }
        Ok(Self { queues, shared, fifos, _locks: locks })
    }

    /// What `layer` holds from its start.
    pub fn of(&self, layer: &Name) -> io::Result<Vec<Handed>> {
        let mut handed = Vec::new();
        for (number, queue) in (0..).zip(&self.queues) {
            handed.extend(queue.of(layer, number)?);
        }
        for Shared { object: kind, number, part, fd, .. } in
            self.shared.iter().filter(|shared| shared.to.contains(layer))
        {
            reached(if *kind == Object::Region {
                "region.grant.given"
            } else {
                "mapped-file.grant.given"
            });
            let message = ToLayer::Object { kind: *kind, number: *number, part: *part };
            handed.push((message, fd.try_clone()?));
        }
        for (number, (_, fifo)) in (0..).zip(&self.fifos).filter(|(_, (to, _))| to == layer) {
            for (part, fd) in (0..).zip(fifo.reader()?) {
                handed.push((ToLayer::Object { kind: Object::Fifo, number, part }, fd));
            }
        }
        Ok(handed)
    }
}

/// Who has a right on mapped memory.
fn holders(grant: &BTreeMap<Name, MapRight>, right: MapRight) -> Vec<Name> {
    grant.iter().filter(|(_, has)| **has == right).map(|(layer, _)| layer.clone()).collect()
}

fn next(kind: &'static str, name: &Name, made: &mut Descriptors) -> Result<OwnedFd, ObjectError> {
    let missing =
        || ObjectError { kind, name: name.clone(), error: io::ErrorKind::UnexpectedEof.into() };
    made.next().ok_or_else(missing)
}

/// Whether the broker opens it for somebody who may change it and not truncate it.
fn lacks_truncate(file: &FilePlan) -> bool {
    file.grant.iter().any(|(layer, rights)| {
        let has = |right| rights.contains(&right);
        file.is_brokered(layer)
            && (has(FileRight::Write) || has(FileRight::Append))
            && !has(FileRight::Truncate)
    })
}

fn each<P, T>(
    kind: &'static str,
    plans: &[P],
    name: impl Fn(&P) -> &Name,
    mut make: impl FnMut(&P) -> io::Result<T>,
) -> Result<Vec<T>, ObjectError> {
    let blame = |plan: &P, error| ObjectError { kind, name: name(plan).clone(), error };
    plans.iter().map(|plan| make(plan).map_err(|error| blame(plan, error))).collect()
}
