//! Shared memory: regions that several layers map.
//!
//! A region is used in one of three ways, as its layers' code decides:
//! - **published objects** ([`Publisher`], [`Subscriber`]): one layer publishes, any number read,
//!   and always get the newest whole object;
//! - **a ring** ([`RingProducer`], [`RingConsumer`]): messages from one layer to another, without a
//!   system call while both are awake;
//! - **plain bytes** ([`Region::read_at`], [`Region::write_at`]).
//!
//! Nothing lends out memory that others may change: everything is copied, and what is believed is
//! what was checked in the copy. See [`crate::sys::mapping`].

mod digest;
mod error;
mod publish;
mod report;
mod slots;
mod stream;
mod wait;
mod watch;

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use super::message::Companion;
use crate::ident::Name;
use crate::mark::reached;
use crate::report::{Facts, Side, Tap};
use crate::sys::mapping::Mapping;
use crate::wire::report::acts;

pub use self::error::RegionError;
pub use self::publish::{Object, Publisher, Subscriber};
pub use self::stream::{RingConsumer, RingProducer};
pub(crate) use self::{digest::digest, digest::name as name_digest};

/// What a layer knows of a region that it maps.
#[derive(Clone, Debug)]
pub struct RegionSpec {
    /// The region's name.
    pub region: Name,
    /// This layer.
    pub layer: Name,
    /// Which copy of this layer: what it holds in a region passes to the copy's next life.
    pub index: u16,
    /// The region's size in bytes, of whole pages.
    pub size: u64,
    /// Whether the layer may write.
    pub writable: bool,
}

/// A region that is mapped. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Region(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spec: RegionSpec,
    memory: Mapping,
    /// The parts that handles of this process have, in bits.
    parts: AtomicU8,
    companion: Option<Weak<dyn Companion>>,
    /// What reports its use, if anything does.
    tap: Option<Tap>,
}

/// A part in a region that one at most may have.
#[derive(Clone, Copy, Debug)]
enum Part {
    Publisher = 1,
    Producer = 2,
    Consumer = 4,
}

/// A part that a handle has, until it is dropped.
#[derive(Debug)]
struct Held(Region, Part);

impl Region {
    /// Maps the region behind `fd`, a memfd that is sealed against shrinking.
    ///
    /// `companion` is what a thread that waits attends to besides; `tap` reports what it is used
    /// for.
    pub fn map(
        spec: RegionSpec,
        fd: impl AsFd,
        companion: Option<Weak<dyn Companion>>,
        tap: Option<Tap>,
    ) -> Result<Self, RegionError> {
        let size = usize::try_from(spec.size).map_err(std::io::Error::other)?;
        reached("region.map.begin");
        let memory = Mapping::sealed(fd.as_fd(), size, spec.writable)?;
        reached("region.map.mapped");
        if let Some(tap) = &tap {
            let facts = Facts { method: acts::MAP, length: spec.size, ..tap.facts(Side::None) };
            tap.report(&facts, &[], &[]);
        }
        Ok(Self(Arc::new(Shared { spec, memory, parts: AtomicU8::new(0), companion, tap })))
    }

    /// The region's name.
    pub fn name(&self) -> &Name {
        &self.0.spec.region
    }

    /// How many bytes it has.
    pub fn size(&self) -> usize {
        self.0.memory.size()
    }

    /// Whether this layer may write.
    pub fn is_writable(&self) -> bool {
        self.0.spec.writable
    }

    /// Copies bytes out, beginning at `offset`.
    ///
    /// A writer that is at work meanwhile may be seen in parts, and in any order: agree on
    /// something by which a reader knows, or publish.
    pub fn read_at(&self, into: &mut [u8], offset: usize) -> Result<(), RegionError> {
        self.within(offset, into.len())?;
        self.0.memory.copy_out(offset, into);
        Ok(())
    }

    /// Copies bytes in, beginning at `offset`.
    pub fn write_at(&self, from: &[u8], offset: usize) -> Result<(), RegionError> {
        self.must_write("write")?;
        self.within(offset, from.len())?;
        reached("region.write.begin");
        self.0.memory.copy_in(offset, from);
        reached("region.write.copied");
        Ok(())
    }

    /// Becomes the region's publisher, and goes on with the numbers of the one before. `T` is
    /// `[u8]`, or anything that serde can write.
    ///
    /// A region has one publisher. Its part passes to the next life of the same copy of the layer;
    /// anybody else gets [`RegionError::Taken`].
    pub fn publisher<T: ?Sized>(&self) -> Result<Publisher<T>, RegionError> {
        Publisher::new(self)
    }

    /// Reads what is published in the region. Any number may.
    pub fn subscriber<T: ?Sized>(&self) -> Subscriber<T> {
        Subscriber::new(self)
    }

    /// Becomes the end of the region's ring that sends. There is one, as with
    /// [`publisher`](Self::publisher).
    pub fn ring_producer(&self) -> Result<RingProducer, RegionError> {
        RingProducer::new(self)
    }

    /// Becomes the end of the region's ring that receives. There is one, as with
    /// [`publisher`](Self::publisher); and it needs `"rw"`, since it tells how far it has read.
    pub fn ring_consumer(&self) -> Result<RingConsumer, RegionError> {
        RingConsumer::new(self)
    }

    fn must_write(&self, act: &'static str) -> Result<(), RegionError> {
        let RegionSpec { region, layer, writable, .. } = &self.0.spec;
        if *writable {
            return Ok(());
        }
        Err(RegionError::ReadOnly { region: region.clone(), layer: layer.clone(), act })
    }

    fn within(&self, offset: usize, bytes: usize) -> Result<(), RegionError> {
        let size = self.size();
        match offset.checked_add(bytes) {
            Some(end) if end <= size => Ok(()),
            _ => Err(RegionError::Outside { region: self.name().clone(), offset, bytes, size }),
        }
    }

    fn fits(&self, what: &'static str, bytes: usize, most: usize) -> Result<(), RegionError> {
        if bytes <= most {
            return Ok(());
        }
        Err(RegionError::TooLarge { region: self.name().clone(), what, bytes, most })
    }

    fn other_use(&self, wanted: &'static str) -> RegionError {
        RegionError::OtherUse { region: self.name().clone(), wanted }
    }

    /// Takes a part, for which the region has a word at `at`.
    ///
    /// The word keeps honest layers from each other's way. Who may write the region may write the
    /// word too; it is no protection, and none is needed: what a second writer could destroy, the
    /// first one could.
    fn take(&self, part: Part, at: usize) -> Result<Held, RegionError> {
        let bit = part as u8;
        let taken = || RegionError::Taken { region: self.name().clone(), role: part.role() };
        if self.0.parts.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(taken());
        }
        let held = Held(self.clone(), part);
        let me = name_digest(&format!("{}/{}", self.0.spec.layer, self.0.spec.index));
        match self.0.memory.exchange(at, 0, me) {
            Ok(()) => {}
            Err(holder) if holder == me => {}
            Err(_) => return Err(taken()),
        }
        reached("region.part.taken");
        Ok(held)
    }
}

impl Part {
    fn role(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.parts.fetch_and(!(self.1 as u8), Ordering::AcqRel);
    }
}
