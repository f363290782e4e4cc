//! What every life of a layer has in common, compiled before the first one begins.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::inherited::{Inherited, InheritedError};
use super::listen::{self, Listening};
use super::spawn::StartError;
use crate::confine::cgroup::{self, Group};
use crate::confine::filter::{self, Action, Arch, Filter};
use crate::confine::paths::Grant;
use crate::confine::{Identity, spaces};
use crate::ident::{Instance, Name, PolicyId};
use crate::ipc::message::Side;
use crate::layer::share::Share;
use crate::layer::slice::{ChannelSlice, ReportsSlice};
use crate::policy::plan::{FilePlan, FileRight, LayerPlan, ListenAddress, Plan, Program};
use crate::prepare::own::Own;
use crate::sys::reopen::{reopen, reopen_untruncatable};
use crate::sys::spawn::{IdMap, Namespaces, pin_own_program};
use crate::users::{Claim, Key, Users, UsersError};
use crate::wire::control::Service;

/// What all layers of this daemon stand on.
pub struct Ground {
    /// This program, pinned: an upgrade on disk changes nothing for a running daemon.
    pub program: OwnedFd,
    /// `/dev/null`.
    pub null: OwnedFd,
    /// Namespaces that this kernel and user give.
    pub namespaces: Namespaces,
    /// Who a layer is in its user namespace; `None` as root.
    pub ids: Option<IdMap>,
    /// Where cgroups can be made.
    pub groups: cgroup::Hierarchies,
    /// The users of the layers; `None` for an ordinary user, whose layers are itself.
    pub(super) users: Option<Users>,
}

/// A layer, ready to be started any number of times.
pub struct Image {
    pub(super) ground: Rc<Ground>,
    pub(super) policy: PolicyId,
    pub(super) plan: LayerPlan,
    pub(super) filter: Filter,
    pub(super) channels: Vec<ChannelSlice>,
    pub(super) share: Share,
    pub(super) grants: Vec<Grant>,
    pub(super) directories: Vec<(Name, String)>,
    /// Ports that it may connect to.
    pub(super) ports: Vec<u16>,
    pub(super) settings: Rc<[u8]>,
    /// What is special about it, if it is one of the framework's own.
    pub own: Option<&'static Own>,
    /// Helpers that do something for it.
    pub services: Vec<Service>,
    /// Memory that outlives it, for what its next life must know.
    pub state: Option<OwnedFd>,
    /// How it reports to the auditor.
    pub(super) reports: Option<ReportsSlice>,
    /// Its listening sockets.
    pub listeners: Vec<Listening>,
    /// Files that are handed to it open.
    pub files: Vec<HeldFile>,
    /// The user of each copy, if the policy leaves it open and the supervisor is root.
    users: Vec<u32>,
}

/// A single file that a layer gets as a descriptor.
pub struct HeldFile {
    /// The grant's name.
    pub name: Name,
    path: String,
    flags: OFlags,
    truncates: bool,
}

impl From<InheritedError> for ImageError {
    fn from(error: InheritedError) -> Self {
        Self::Inherited(Box::new(error))
    }
}

/// Why the daemon can't begin.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The filter can't be compiled.
    #[error("[layer.{layer}] syscalls: {error}")]
    Filter {
        /// The layer.
        layer: Name,
        /// What is wrong.
        error: filter::FilterError,
    },
    /// A socket can't be bound.
    #[error("[layer.{layer}] listen: {name} = \"{address}\": {error}{hint}")]
    Listen {
        /// The layer.
        layer: Name,
        /// The socket's name.
        name: Name,
        /// Where it should listen.
        address: ListenAddress,
        /// What the system said.
        error: io::Error,
        /// A way out.
        hint: &'static str,
    },
    /// A socket that was passed isn't the policy's.
    #[error(transparent)]
    Inherited(Box<InheritedError>),
    /// A file isn't there or can't be granted.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The layers can't be users of their own.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// Something else.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl Ground {
    /// Looks at what there is. `home` is where the policy lies, `told` whose users the layers shall
    /// be.
    pub fn survey(plan: &Plan, home: &str, told: Option<&Key>) -> Result<Self, ImageError> {
        let rootless = !rustix::process::geteuid().is_root();
        let program = pin_own_program().map_err(|e| ImageError::System("/proc/self/exe", e))?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            program,
            null: null.map_err(|e| ImageError::System("/dev/null", e.into()))?,
            namespaces: spaces::possible(rootless).namespaces,
            ids: rootless.then(spaces::own_ids),
            groups: cgroup::Hierarchies::find(plan.name.as_str()),
            users: (!rootless).then(|| users_of(plan, home, told)).transpose()?,
        })
    }
}

/// Claims a user for every copy of every layer that the policy names none for.
fn users_of(plan: &Plan, home: &str, told: Option<&Key>) -> Result<Users, ImageError> {
    let open = plan.layers.iter().filter(|layer| layer.uid.is_none());
    let layers: Vec<_> = open.map(|layer| (&layer.name, layer.instances)).collect();
    let fixed = plan.layers.iter().filter_map(|layer| Some((&layer.name, layer.uid?)));
    let fixed: Vec<_> = fixed.collect();
    let claim = Claim { daemon: &plan.name, home, told, layers: &layers, fixed: &fixed };
    Ok(Users::claim(&claim)?)
}

/// Compiles every layer and binds every socket that wasn't passed to this process.
pub fn compile(
    plan: &Plan,
    policy: PolicyId,
    settings: Vec<u8>,
    mut inherited: Inherited,
    ground: Ground,
) -> Result<Vec<Image>, ImageError> {
    let ground = Rc::new(ground);
    let settings: Rc<[u8]> = settings.into();
    let mut images = Vec::new();
    for layer in &plan.layers {
        let own = Own::find(&layer.name);
        let unlisted = own.map_or(Action::Kill, |own| own.unlisted);
        let filter = filter::compile_with(&layer.syscalls, Arch::NATIVE, unlisted)
            .map_err(|error| ImageError::Filter { layer: layer.name.clone(), error })?;
        let mut image = Image {
            ground: Rc::clone(&ground),
            policy,
            plan: with_init(layer),
            filter,
            channels: channels_of(plan, &layer.name),
            share: Share::of(plan, &layer.name),
            grants: Vec::new(),
            directories: Vec::new(),
            settings: Rc::clone(&settings),
            ports: Vec::new(),
            own,
            services: Own::services(plan, layer),
            state: None,
            reports: None,
            listeners: listeners_of(layer, &mut inherited)?,
            files: Vec::new(),
            users: (0..layer.instances)
                .filter_map(|copy| ground.users.as_ref()?.of(&layer.name, copy))
                .collect(),
        };
        for (file, rights) in plan.files_of(&layer.name) {
            image.grant(file, rights)?;
        }
        images.push(image);
    }
    inherited.end()?;
    Ok(images)
}

/// The init of an `exec` layer is a task too, and the policy doesn't count it.
fn with_init(layer: &LayerPlan) -> LayerPlan {
    let mut plan = layer.clone();
    if matches!(plan.program, Program::Exec(_)) {
        plan.limits.tasks += 1;
    }
    plan
}

fn channels_of(plan: &Plan, layer: &Name) -> Vec<ChannelSlice> {
    let side = |channel: &crate::policy::plan::ChannelPlan| match layer {
        layer if *layer == channel.from => Some(Side::From),
        layer if *layer == channel.to => Some(Side::To),
        _ => None,
    };
    (0..)
        .zip(&plan.channels)
        .filter_map(|(number, channel)| {
            Some(ChannelSlice { number, plan: channel.clone(), side: side(channel)? })
        })
        .collect()
}

fn listeners_of(
    layer: &LayerPlan,
    inherited: &mut Inherited,
) -> Result<Vec<Listening>, ImageError> {
    let mut listeners = Vec::new();
    for listen in &layer.listen {
        let passed = inherited.find(&layer.name, listen)?;
        let socket = passed.map_or_else(|| listen::bind(&listen.address), Ok);
        let socket = socket.map_err(|error| ImageError::Listen {
            layer: layer.name.clone(),
            name: listen.name.clone(),
            address: listen.address.clone(),
            hint: match error.kind() {
                io::ErrorKind::AddrInUse => "; `ss -ltnup` shows who has it",
                io::ErrorKind::PermissionDenied => {
                    "; ports below 1024 take root, and paths a directory that you may write to"
                }
                _ => "",
            },
            error,
        })?;
        listeners.push(Listening::new(listen, socket));
    }
    Ok(listeners)
}

impl Image {
    /// Decides how the layer gets a file: a directory by path, a single file as a descriptor,
    /// except that another program can only open paths.
    fn grant(&mut self, file: &FilePlan, rights: &[FileRight]) -> Result<(), ImageError> {
        let (name, path) = (file.name.clone(), file.path.clone());
        let refuse = |error| StartError::File { name: name.clone(), path: path.clone(), error };
        let (_, kind) = pin(&path).map_err(refuse)?;
        let by_path = matches!(self.plan.program, Program::Exec(_));
        match kind {
            // The broker opens what lies beneath.
            FileType::Directory if file.is_brokered(&self.plan.name) => {}
            FileType::RegularFile if file.max_open.is_some() || !file.deny.is_empty() => {
                let what = "`deny` and `max-open` are for directories, and this is a file";
                return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, what)).into());
            }
            FileType::Directory | FileType::RegularFile
                if by_path || kind == FileType::Directory =>
            {
                let rights = rights.to_vec();
                self.grants.push(Grant { path: path.clone(), rights, served: false });
                self.directories.push((name, path));
            }
            FileType::RegularFile => {
                let Some(flags) = access(rights) else {
                    let what = "one descriptor can't both read and append alone: grant the \
                                directory that it lies in";
                    return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, what)).into());
                };
                let truncates = rights.contains(&FileRight::Truncate);
                let held = HeldFile { name, path, flags, truncates };
                held.open()?;
                self.files.push(held);
            }
            _ => {
                let what = "it is neither a regular file nor a directory";
                return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, what)).into());
            }
        }
        Ok(())
    }

    /// The user that copy `index` of this layer is.
    pub(super) fn identity(&self, index: u16) -> Identity {
        match (&self.ground.ids, self.plan.uid) {
            (Some(_), Some(uid)) => Identity::Mapped { uid, gid: uid },
            (Some(_), None) => {
                let (uid, gid) = spaces::own_numbers();
                Identity::Mapped { uid, gid }
            }
            (None, Some(uid)) => Identity::Own { uid, gid: uid },
            // A seat for each copy, and a user for each seat.
            (None, None) => {
                let uid = self.users[usize::from(index)];
                Identity::Own { uid, gid: uid }
            }
        }
    }

    /// The namespaces that it gets.
    pub(super) fn namespaces(&self) -> Namespaces {
        let all = self.ground.namespaces;
        if self.own.is_some_and(|own| own.networked) { all.without(Namespaces::NET) } else { all }
    }

    /// A fresh cgroup for `instance`, where there can be one.
    pub(super) fn group(&self, instance: &Instance) -> io::Result<Option<Group>> {
        self.ground.groups.make(&instance.to_string().replace('/', "-"), &self.plan.limits)
    }
}

impl HeldFile {
    /// Opens the file anew: every life has its own position in it. Where the policy grants only to
    /// write, it can't be truncated by the descriptor.
    pub fn open(&self) -> Result<OwnedFd, StartError> {
        let writes = self.flags.intersects(OFlags::WRONLY | OFlags::RDWR);
        // It is a regular file, but a lease on it would still be waited for (threat D13).
        let flags = self.flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        pin(&self.path)
            .and_then(|(pinned, kind)| match kind {
                FileType::RegularFile if writes && !self.truncates => {
                    reopen_untruncatable(&pinned, flags)
                }
                FileType::RegularFile => reopen(&pinned, flags),
                _ => Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "it is no regular file any more",
                )),
            })
            .map_err(|error| StartError::File {
                name: self.name.clone(),
                path: self.path.clone(),
                error,
            })
    }
}

/// A handle on what is at an absolute path, through no symbolic link, and what it is. It opens
/// nothing yet: a FIFO or a device notices nothing of it.
fn pin(path: &str) -> io::Result<(OwnedFd, FileType)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let pinned = rustix::fs::openat2(rustix::fs::CWD, path, flags, Mode::empty(), resolve);
    let pinned = pinned.map_err(|errno| {
        if errno == rustix::io::Errno::LOOP {
            let what = "a part of this path is a symbolic link; write the path that it leads to";
            io::Error::new(io::ErrorKind::InvalidInput, what)
        } else {
            errno.into()
        }
    })?;
    let kind = FileType::from_raw_mode(rustix::fs::fstat(&pinned)?.st_mode);
    Ok((pinned, kind))
}

/// `None`: to read and to append alone can't be one descriptor, for memory that is mapped by one
/// that reads and writes is written anywhere.
fn access(rights: &[FileRight]) -> Option<OFlags> {
    let writes = rights.iter().any(|r| matches!(r, FileRight::Write | FileRight::Truncate));
    let appends = rights.contains(&FileRight::Append);
    Some(match (rights.contains(&FileRight::Read), writes, appends) {
        (true, true, _) => OFlags::RDWR,
        (false, true, _) => OFlags::WRONLY,
        (true, false, true) => return None,
        (false, false, true) => OFlags::WRONLY | OFlags::APPEND,
        (_, false, false) => OFlags::RDONLY,
    })
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, inotify};
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_took_the_place_of_a_file_is_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&watch, &path, inotify::WatchFlags::OPEN).unwrap();
        let held = HeldFile {
            name: Name::new("f").unwrap(),
            path: path.to_str().unwrap().to_owned(),
            flags: OFlags::RDONLY,
            truncates: false,
        };
        held.open().unwrap_err();
        let mut events = [0; 256];
        assert_eq!(rustix::io::read(&watch, &mut events), Err(Errno::AGAIN));
        // Whoever opens it is noticed.
        drop(rustix::fs::open(&path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).unwrap());
        assert!(rustix::io::read(&watch, &mut events).is_ok());
    }
}
