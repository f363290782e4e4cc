//! The kernel objects of the facilities: made before the first layer starts, kept until the last
//! one has ended, handed out as descriptors with no more rights than the policy grants.

mod folder;
mod region;

use std::io;
use std::os::fd::OwnedFd;

use crate::ident::Name;
use crate::policy::plan::{FilePlan, FileRight, Plan};
use crate::wire::control::{Object, ToLayer};

use self::folder::Folder;
use self::region::Region;
use crate::sys::opener::Opener;

pub use self::folder::{Access, FolderError};

/// What goes over to a layer: a message and the descriptor that goes with it.
pub type Handed = (ToLayer, OwnedFd);

/// Every object.
pub struct Objects {
    regions: Vec<Region>,
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
        Ok(Self {
            regions: each("region", &all.regions, |plan| &plan.name, Region::make)?,
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
        for (number, region) in (0..).zip(&self.regions) {
            if let Some(fd) = region.of(layer)? {
                handed.push((ToLayer::Object { kind: Object::Region, number, part: 0 }, fd));
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
