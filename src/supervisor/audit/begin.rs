//! The beginning of a log: its directory, and the auditor's part of the plan.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};

use super::relay;
use crate::audit::Store;
use crate::ident::{Name, PolicyId};
use crate::layer::auditor::NAME;
use crate::layer::auditor::orders::Orders;
use crate::policy::plan::{Audit, Plan};
use crate::policy::{self, Inputs};
use crate::seal::{Chance, OsChance, SealError};

/// What the auditor may do, as a policy of its own.
const POLICY: &str = include_str!("auditor.toml");

/// The least bytes of a ring that payloads go through: a record of the largest size, sealed, and
/// what is said of it.
const LEAST_FOR_PAYLOADS: u32 = 256 << 10;

/// How long the auditor of a supervisor that was killed may take to write down what was left.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the log can't begin.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The policy demands a log, and nobody says where.
    #[error(
        "the policy demands an audit log, and nobody says where: give `--audit DIR`, or \
         `directory` in [audit]"
    )]
    Nowhere,
    /// The directory can't be had.
    #[error("the audit log's directory {0}: {1}")]
    Directory(PathBuf, io::Error),
    /// Somebody else may write there.
    #[error(
        "the audit log's directory {0} is writable to others (mode {1:o}): `chmod go-w {0}`, or \
         give another one"
    )]
    Open(PathBuf, u32),
    /// It belongs to somebody else.
    #[error("the audit log's directory {0} belongs to user {1}, who could alter it")]
    Foreign(PathBuf, u32),
    /// It is used for something else.
    #[error(
        "the audit log's directory {0} holds {1:?}, which is no part of a log: give one that is \
         empty, isn't there yet, or holds a log"
    )]
    Used(PathBuf, String),
    /// A layer can reach it.
    #[error(
        "the audit log's directory {0} is within reach of [{1}]: give one that no layer is \
         granted anything in, at or around"
    )]
    Reached(PathBuf, String),
    /// A mistake of ours.
    #[error("the framework's own policy is wrong: {0}")]
    Own(String),
    /// The system has no randomness.
    #[error(transparent)]
    Chance(#[from] SealError),
    /// The plan has no canonical form.
    #[error("the plan can't be encoded: {0}")]
    Encoding(#[from] postcard::Error),
}

/// A plan with an auditor in it.
pub struct Begun {
    /// The auditor's settings.
    pub settings: Vec<u8>,
    /// The auditor's place among the layers. The witness's is behind it.
    pub layer: usize,
    /// How many layers of the framework's own there are, which come last.
    pub own: usize,
    /// Bytes of a layer's ring.
    pub ring: u32,
    /// The log's directory.
    pub directory: PathBuf,
}

impl Begun {
    /// Makes the directory, and adds the auditor to the plan. `None`: the daemon keeps no log.
    pub fn begin(
        plan: &mut Plan,
        policy: PolicyId,
        directory: Option<&Path>,
    ) -> Result<Option<Self>, BeginError> {
        let stated = plan.audit.directory.as_deref().map(Path::new);
        let Some(directory) = directory.or(stated) else {
            return if plan.audit.demanded { Err(BeginError::Nowhere) } else { Ok(None) };
        };
        let directory = make_directory(directory)?;
        if let Some(rule) = plan.reaching(&directory.display().to_string()).into_iter().next() {
            return Err(BeginError::Reached(directory, rule));
        }
        let own = auditor_plan(&directory)?;
        let name = Name::new(NAME).map_err(|error| BeginError::Own(error.to_string()))?;
        let mut run = [0; 8];
        OsChance.fill(&mut run)?;
        let path = directory.display().to_string();
        let witness = relay::layer(plan)?;
        let names = [&name].into_iter().chain(witness.as_ref().map(|layer| &layer.name));
        let orders = Orders {
            directory: path,
            run: u64::from_le_bytes(run),
            policy,
            plan: plan.clone(),
            own: names.cloned().collect(),
        };
        let own_layers = orders.own.len();
        let settings = orders.encode()?;
        let layer = plan.layers.len();
        for mut one in own.layers {
            one.name = name.clone();
            one.program = crate::policy::plan::Program::Run(name.clone());
            one.limits.file_size = plan.audit.segment_bytes.saturating_mul(4).max(1 << 30);
            plan.layers.push(one);
        }
        for mut file in own.files {
            file.name = name.clone();
            file.grant = file.grant.into_values().map(|rights| (name.clone(), rights)).collect();
            plan.files.push(file);
        }
        plan.layers.extend(witness);
        let captures = plan.channels.iter().any(|channel| channel.audit == Audit::Payload);
        let least = if captures { LEAST_FOR_PAYLOADS } else { 0 };
        let ring = plan.audit.ring_bytes.max(least);
        Ok(Some(Self { settings, layer, own: own_layers, ring, directory }))
    }

    /// Gives the directory and all that is in it to the auditor's user.
    pub fn give_to(&self, uid: u32) -> Result<(), BeginError> {
        let failed = |error: io::Error| BeginError::Directory(self.directory.clone(), error);
        let dir = File::open(&self.directory).map_err(failed)?;
        let (owner, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        for name in names(&dir).map_err(failed)? {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            rustix::fs::chownat(dir.as_fd(), &name, Some(owner), Some(group), flags)
                .map_err(|e| failed(e.into()))?;
        }
        rustix::fs::fchown(&dir, Some(owner), Some(group)).map_err(|e| failed(e.into()))
    }
}

/// Makes the directory if it isn't there, and looks whether it is nobody else's to write in.
///
/// The path comes out without symbolic links, for the auditor's own view follows none.
fn make_directory(path: &Path) -> Result<PathBuf, BeginError> {
    let failed = |error| BeginError::Directory(path.to_owned(), error);
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let path = std::fs::canonicalize(path).map_err(failed)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let dir = File::from(dir);
    let about = dir.metadata().map_err(failed)?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(BeginError::Open(path, mode));
    }
    let own = rustix::process::geteuid().as_raw();
    if own != 0 && about.uid() != own {
        return Err(BeginError::Foreign(path, about.uid()));
    }
    let foreign = names(&dir).map_err(failed)?.into_iter().find(|name| !is_of_a_log(name));
    if let Some(name) = foreign {
        return Err(BeginError::Used(path, name));
    }
    wait_until_free(dir);
    Ok(path)
}

/// Waits a moment while somebody holds the log: the auditor of a supervisor that was killed is
/// about to write down what was left, and what this daemon's start clears away would end it.
fn wait_until_free(dir: File) {
    let store = Store::from_fd(dir.into());
    let until = Instant::now() + LAST_WORDS;
    while store.is_held() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What is in a directory.
fn names(dir: &File) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !matches!(name.as_str(), "." | "..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a log has files of that name (`docs/audit-format.md`, section 2).
fn is_of_a_log(name: &str) -> bool {
    let name = name.strip_suffix(".draft").unwrap_or(name);
    let numbered = |rest: &str| rest.len() >= 8 && rest.bytes().all(|byte| byte.is_ascii_digit());
    matches!(name, "epochs.note" | "key" | "key.next" | "lock")
        || name.rsplit_once('.').is_some_and(|(number, kind)| {
            matches!(kind, "log" | "note" | "idx") && numbered(number)
        })
}

/// The auditor as a plan of its own, for this directory.
fn auditor_plan(directory: &Path) -> Result<Plan, BeginError> {
    let vars = [("directory".to_owned(), directory.display().to_string())];
    let inputs = Inputs { load: None, vars: &vars, ceiling: None };
    own_plan("auditor.toml", POLICY, &inputs)
}

/// A policy of the framework's own as a plan.
pub(super) fn own_plan(name: &str, text: &str, inputs: &Inputs<'_>) -> Result<Plan, BeginError> {
    let checked = policy::check_with(name, text.as_bytes(), inputs);
    let complaint = checked.render(false);
    checked.plan.ok_or(BeginError::Own(complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_something_else_is_left_alone() {
        for name in ["00000000.log", "00000012.idx.draft", "key.next", "lock", "123456789.note"] {
            assert!(is_of_a_log(name), "{name}");
        }
        for name in ["passwd", "1.log", "0000000x.log", "00000000.txt", ".draft", "keys"] {
            assert!(!is_of_a_log(name), "{name}");
        }
    }

    #[test]
    fn the_auditors_own_policy_is_sound() {
        let plan = auditor_plan(Path::new("/var/log/x")).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(plan.files[0].path, "/var/log/x");
        assert_eq!(plan.layers.len(), 1);
    }
}
