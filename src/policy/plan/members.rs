//! Which layers take part in which facilities.

use super::{Audit, Facilities, Plan, words};
use crate::ident::Name;

/// That a layer takes part in a facility.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'p> {
    /// The facility's kind.
    pub kind: FacilityKind,
    /// Its place among those of its kind, which are sorted by name.
    pub place: usize,
    /// Its name.
    pub name: &'p Name,
    /// What the audit log keeps of it.
    pub audit: Audit,
    /// The layer.
    pub layer: &'p Name,
    /// At which end it is.
    pub end: End,
}

/// The kinds of facilities of which a policy has a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FacilityKind {
    /// `[channel.*]`.
    Channel,
    /// `[file.*]`.
    File,
    /// `[signal.*]`.
    Signal,
    /// `[queue.*]`.
    Queue,
    /// `[pipe.*]`.
    Pipe,
    /// `[fifo.*]`.
    Fifo,
    /// `[semaphore.*]`.
    Semaphore,
    /// `[region.*]`.
    Region,
    /// `[mapped-file.*]`.
    MappedFile,
}

words!(FacilityKind {
    Channel = "channel",
    File = "file",
    Signal = "signal",
    Queue = "queue",
    Pipe = "pipe",
    Fifo = "fifo",
    Semaphore = "semaphore",
    Region = "region",
    MappedFile = "mapped-file",
});

/// The end of a facility at which a layer is: by which key the policy says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `from`.
    From,
    /// `to`.
    To,
    /// `send`.
    Send,
    /// `receive`.
    Receive,
    /// `holders`.
    Holders,
    /// `grant`.
    Grant,
    /// The only one that a facility has within the daemon.
    Only,
}

impl Part<'_> {
    /// The facility, as a policy names it: `queue.jobs`.
    pub fn object(&self) -> String {
        format!("{}.{}", self.kind.name(), self.name)
    }

    /// The rule that lets the layer take part, by its path in the policy: `queue.jobs.send.worker`.
    pub fn rule(&self) -> String {
        let (object, layer) = (self.object(), self.layer);
        match self.end {
            End::From => format!("{object}.from"),
            End::To => format!("{object}.to"),
            End::Send => format!("{object}.send.{layer}"),
            End::Receive => format!("{object}.receive.{layer}"),
            End::Holders => format!("{object}.holders.{layer}"),
            End::Grant => format!("{object}.grant.{layer}"),
            End::Only => object,
        }
    }
}

impl Plan {
    /// Every part of every layer in every facility, kind by kind, each kind sorted by name.
    pub fn parts(&self) -> Vec<Part<'_>> {
        use FacilityKind as Kind;
        // Taken apart, so that the compiler names this when there is one kind more.
        let Facilities { signals, queues, pipes, fifos, semaphores, regions, mapped_files } =
            &self.facilities;
        let mut found = Parts(Vec::new());
        for (place, it) in self.channels.iter().enumerate() {
            found.two(Kind::Channel, place, (&it.name, it.audit), &it.from, &it.to);
        }
        for (place, it) in self.files.iter().enumerate() {
            found.many(Kind::File, place, (&it.name, it.audit), End::Grant, it.grant.keys());
        }
        for (place, it) in signals.iter().enumerate() {
            found.two(Kind::Signal, place, (&it.name, it.audit), &it.from, &it.to);
        }
        for (place, it) in queues.iter().enumerate() {
            found.many(Kind::Queue, place, (&it.name, it.audit), End::Send, &it.send);
            found.many(Kind::Queue, place, (&it.name, it.audit), End::Receive, &it.receive);
        }
        for (place, it) in pipes.iter().enumerate() {
            found.two(Kind::Pipe, place, (&it.name, it.audit), &it.from, &it.to);
        }
        for (place, it) in fifos.iter().enumerate() {
            found.many(Kind::Fifo, place, (&it.name, it.audit), End::Only, [&it.to]);
        }
        for (place, it) in semaphores.iter().enumerate() {
            found.many(Kind::Semaphore, place, (&it.name, it.audit), End::Holders, &it.holders);
        }
        for (place, it) in regions.iter().enumerate() {
            found.many(Kind::Region, place, (&it.name, it.audit), End::Grant, it.grant.keys());
        }
        for (place, it) in mapped_files.iter().enumerate() {
            found.many(Kind::MappedFile, place, (&it.name, it.audit), End::Grant, it.grant.keys());
        }
        found.0
    }

    /// The facilities of which `layer` is a part, each once, kind by kind, each sorted by name.
    pub fn parts_of(&self, layer: &Name) -> Vec<Part<'_>> {
        let mut parts = self.parts();
        parts.retain(|part| part.layer == layer);
        parts.dedup_by_key(|part| (part.kind, part.place));
        parts
    }
}

/// The parts so far.
struct Parts<'p>(Vec<Part<'p>>);

impl<'p> Parts<'p> {
    fn many(
        &mut self,
        kind: FacilityKind,
        place: usize,
        (name, audit): (&'p Name, Audit),
        end: End,
        layers: impl IntoIterator<Item = &'p Name>,
    ) {
        let part = |layer| Part { kind, place, name, audit, layer, end };
        self.0.extend(layers.into_iter().map(part));
    }

    fn two(
        &mut self,
        kind: FacilityKind,
        place: usize,
        named: (&'p Name, Audit),
        from: &'p Name,
        to: &'p Name,
    ) {
        self.many(kind, place, named, End::From, [from]);
        self.many(kind, place, named, End::To, [to]);
    }
}
