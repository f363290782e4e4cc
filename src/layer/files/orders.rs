//! What the helper for files learns of the plan.

use std::collections::BTreeMap;
use std::io;

use rustix::fs::FileType;
use serde::{Deserialize, Serialize};

use crate::confine::paths::Grant;
use crate::ident::Name;
use crate::policy::plan::{FilePlan, FileRight, LayerPlan, Plan, Program};
use crate::sys::pin::pin;

/// Its settings.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The daemon's name.
    pub daemon: Name,
    /// As root, the supervisor's user, to whom all that is made is given.
    pub owner: Option<u32>,
    /// The directories that it serves, by the grant's number in the plan.
    pub served: BTreeMap<u16, Served>,
}

/// A directory that it serves.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Served {
    /// What the policy says of it.
    pub plan: FilePlan,
    /// The directory; of a single file, the one that it lies in.
    pub path: String,
    /// The single file's name there.
    pub name: Option<String>,
    /// The directory's device and inode when the daemon began; another that has its path later is
    /// not served. `None`: there was none.
    pub numbers: Option<(u64, u64)>,
}

impl Orders {
    /// Looks at the plan's directories. What is none is for others to complain of.
    pub fn of(plan: &Plan) -> Self {
        let served = served(plan).filter_map(|(number, file)| Some((number, Served::of(file)?)));
        let own = rustix::process::geteuid();
        let owner = own.is_root().then_some(own.as_raw());
        Self { daemon: plan.name.clone(), owner, served: served.collect() }
    }

    /// As it is handed over.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_stdvec(self)
    }

    pub(super) fn decode(bytes: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(io::Error::other)
    }
}

impl Served {
    /// Looks where the grant's file or directory lies. `None`: nothing there can be served.
    fn of(file: &FilePlan) -> Option<Self> {
        let served = |path: &str, name, numbers| {
            Some(Self { plan: file.clone(), path: path.to_owned(), name, numbers })
        };
        if let Ok(Some(numbers)) = numbers(&file.path) {
            return served(&file.path, None, Some(numbers));
        }
        if !file.is_opened_on_demand() {
            return None;
        }
        if !file.deny.is_empty() || file.max_open.is_some() {
            // A directory, once it is there.
            return served(&file.path, None, None);
        }
        let (parent, name) = file.path.rsplit_once('/')?;
        let parent = if parent.is_empty() { "/" } else { parent };
        served(parent, Some(name.to_owned()), numbers(parent).ok().flatten())
    }
}

/// Whether a layer asks the helper for anything.
pub(crate) fn serves(plan: &Plan, layer: &LayerPlan) -> bool {
    plan.files.iter().any(|file| asks(plan, file, &layer.name))
}

/// What the helper sees: the directories that it serves, each with what its clients may do there.
pub(crate) fn view(plan: &Plan) -> Vec<Grant> {
    let mut view = BTreeMap::<String, Vec<FileRight>>::new();
    for (_, file) in served(plan) {
        // What isn't there is in no view.
        let Some(Served { path, numbers: Some(_), .. }) = Served::of(file) else { continue };
        view.entry(path).or_default().extend(helper_rights(plan, file));
    }
    let grant = |(path, mut rights): (String, Vec<FileRight>)| {
        rights.sort_unstable();
        rights.dedup();
        Grant { served: true, ..Grant::new(path, &rights) }
    };
    view.into_iter().map(grant).collect()
}

/// What the helper may do for all that ask it for `file`.
fn helper_rights(plan: &Plan, file: &FilePlan) -> Vec<FileRight> {
    let clients = file.grant.iter().filter(|(layer, _)| asks(plan, file, layer));
    let rights = clients.flat_map(|(_, rights)| rights.iter().copied());
    let mut rights: Vec<_> = rights.filter(|right| !right.is_direct_only()).collect();
    // To append and to truncate is to write, for who opens.
    let follows = |has, adds| rights.contains(&has).then_some(adds);
    let write = follows(FileRight::Append, FileRight::Write)
        .or(follows(FileRight::Truncate, FileRight::Write));
    // What is put in place of a file removes it, and is removed if it can't be.
    let remove = follows(FileRight::Create, FileRight::Remove);
    // A file that is made without a name is open to write.
    let draft = follows(FileRight::Create, FileRight::Write);
    rights.extend(write.into_iter().chain(remove).chain(draft));
    rights
}

fn served(plan: &Plan) -> impl Iterator<Item = (u16, &FilePlan)> {
    let asked = |file: &FilePlan| file.grant.keys().any(|layer| asks(plan, file, layer));
    (0..).zip(&plan.files).filter(move |(_, file)| asked(file))
}

/// Whether `layer` has anything done there: all, or, where it sees the directory itself, what
/// takes a draft. A foreign program asks nobody. The framework's own do what they do by themselves:
/// nobody but the auditor holds the log's directory.
fn asks(plan: &Plan, file: &FilePlan, layer: &Name) -> bool {
    let own = layer.as_str().starts_with(LayerPlan::RESERVED);
    let program = plan.layer(layer.as_str()).map(|layer| &layer.program);
    let runs = matches!(program, Some(Program::Run(_)));
    let rights = file.grant.get(layer).filter(|_| runs && !own);
    rights.is_some_and(|rights| {
        file.is_brokered(layer) || file.is_opened_on_demand() || replaces(rights)
    })
}

/// Whether these rights are enough to replace files.
pub(super) fn replaces(rights: &[FileRight]) -> bool {
    [FileRight::Create, FileRight::Write, FileRight::Truncate].iter().all(|it| rights.contains(it))
}

/// Device and inode of a directory; `None` if it is something else.
fn numbers(path: &str) -> io::Result<Option<(u64, u64)>> {
    let (_, stat) = pin(path)?;
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    Ok(is_directory.then_some((stat.st_dev, stat.st_ino)))
}
