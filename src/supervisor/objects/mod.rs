//! The kernel objects of the facilities: made before the first layer starts, kept until the last
//! one has ended, handed out as descriptors with no more rights than the policy grants.

mod fifo;
mod folder;
mod mapped_file;
pub(super) mod memory;
pub mod queue;
mod region;

use std::io;
use std::os::fd::OwnedFd;

use crate::ident::Name;
use crate::policy::plan::{FilePlan, FileRight, Plan};
use crate::wire::control::{Object, ToLayer, mapped_file_part};

use self::fifo::Fifo;
use self::folder::Folder;
use self::mapped_file::{Mapped, MappedFile};
use self::queue::Queue;
use self::region::Region;
use crate::sys::opener::Opener;

pub use self::folder::{Access, FolderError};

/// What goes over to a layer: a message and the descriptor that goes with it.
pub type Handed = (ToLayer, OwnedFd);

/// Every object.
pub struct Objects {
    pub queues: Vec<Queue>,
    mapped_files: Vec<MappedFile>,
    regions: Vec<Region>,
    fifos: Vec<Fifo>,
    folders: Vec<Option<Folder>>,
    opener: Option<Opener>,
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
        let folder = |file: &FilePlan| Folder::make(&plan.name, file);
        let opener = Opener::new();
        if let Err(error) = &opener
            && let Some(file) = plan.files.iter().find(|file| lacks_truncate(file))
        {
            let text = format!(
                "to open for writing and not for truncating takes Linux 6.2 with Landlock \
                 ({error}); grant `truncate` too"
            );
            let (name, error) = (file.name.clone(), io::Error::other(text));
            return Err(ObjectError { kind: "file", name, error });
        }
        let map = MappedFile::make;
        Ok(Self {
            queues,
            mapped_files: each("mapped-file", &all.mapped_files, |plan| &plan.name, map)?,
            regions: each("region", &all.regions, |plan| &plan.name, Region::make)?,
            fifos: each("fifo", &all.fifos, |plan| &plan.name, Fifo::make)?,
            folders: each("file", &plan.files, |plan| &plan.name, folder)?,
            opener: opener.ok(),
        })
    }

    /// The directory of the file grant `number`, and what opens for writing alone.
    pub fn folder(&self, number: u16) -> Option<(&Folder, Option<&Opener>)> {
        let folder = self.folders.get(usize::from(number))?.as_ref()?;
        Some((folder, self.opener.as_ref()))
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

/// Whether the broker opens it for somebody who may change it and not truncate it.
fn lacks_truncate(file: &FilePlan) -> bool {
    file.grant.iter().any(|(layer, rights)| {
        let has = |right| rights.contains(&right);
        file.is_brokered(layer)
            && (has(FileRight::Write) || has(FileRight::Append))
            && !has(FileRight::Truncate)
    })
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
