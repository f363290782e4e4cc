//! What every life of a layer has in common: what follows from the plan, and what is held for it.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::fs::{FileType, Mode, OFlags};

use super::listen::Listening;
use super::start_error::StartError;
use crate::confine::cgroup::{self, Group};
use crate::confine::{Identity, spaces};
use crate::ident::Instance;
use crate::layer::logger::kernel;
use crate::layer::slice::ReportsSlice;
use crate::policy::plan::Plan;
use crate::prepare::Made;
use crate::prepare::image::{Access, HeldFile, LayerImage};
use crate::prepare::own::Role;
use crate::prepare::upgrade::state::{self, Fd, Luggage};
use crate::sys::memory;
use crate::sys::pin::pin;
use crate::sys::reopen::{reopen, reopen_untruncatable};
use crate::sys::spawn::{IdMap, Namespaces, pin_own_program};

/// What all layers of this daemon stand on.
pub struct Ground {
    /// This program, pinned: an upgrade on disk changes nothing for a running daemon.
    pub program: OwnedFd,
    /// `/dev/null`.
    pub null: OwnedFd,
    /// Namespaces that this kernel and user give.
    pub namespaces: spaces::Given,
    /// Who a layer is in its user namespace; `None` as root.
    pub ids: Option<IdMap>,
    /// Where cgroups can be made.
    pub groups: cgroup::Hierarchies,
}

/// A layer, ready to be started any number of times.
pub struct Image {
    pub(super) ground: Rc<Ground>,
    /// All that follows from the plan.
    pub data: LayerImage,
    /// What the daemon's program wants every layer to know.
    pub(super) settings: Rc<[u8]>,
    /// How it reports to the auditor.
    pub(super) reports: Option<Rc<ReportsSlice>>,
    /// Memory that outlives it, for what its next life must know.
    pub state: Option<OwnedFd>,
    /// The kernel's log, for who reads it.
    pub kernel_log: Option<OwnedFd>,
    /// Its listening sockets.
    pub listeners: Vec<Listening>,
    /// The user of each copy, if the policy leaves it open and the supervisor is root.
    users: Vec<u32>,
}

/// Why the daemon can't begin.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file isn't there or can't be granted.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Something else.
    #[error("{0}: {1}")]
    System(&'static str, #[source] io::Error),
}

impl Ground {
    /// Looks at what there is, but for namespaces.
    pub fn survey(plan: &Plan) -> Result<Self, ImageError> {
        Self::with(|| cgroup::Hierarchies::find(plan.name.as_str()))
    }

    /// The same, with the groups that the program before has found.
    pub fn with(groups: impl FnOnce() -> cgroup::Hierarchies) -> Result<Self, ImageError> {
        let rootless = !rustix::process::geteuid().is_root();
        let program = pin_own_program().map_err(|e| ImageError::System("/proc/self/exe", e))?;
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
        Ok(Self {
            program,
            null: null.map_err(|e| ImageError::System("/dev/null", e.into()))?,
            namespaces: spaces::Given::new(rootless),
            ids: rootless.then(spaces::own_ids),
            groups: groups(),
        })
    }
}

/// Makes every layer's image, without what is made by name: see [`Image::take`]. What can't be opened now is
/// told before anything runs.
pub fn complete(
    layers: Vec<LayerImage>,
    reports: Option<ReportsSlice>,
    settings: Vec<u8>,
    ground: &Rc<Ground>,
) -> Result<Vec<Image>, ImageError> {
    let images = make(layers, reports, settings, ground)?;
    let mut files = images.iter().flat_map(|image| &image.data.files);
    files.try_for_each(|file| file.open().map(drop))?;
    Ok(images)
}

/// The same, of layers that run already.
pub fn make(
    layers: Vec<LayerImage>,
    reports: Option<ReportsSlice>,
    settings: Vec<u8>,
    ground: &Rc<Ground>,
) -> Result<Vec<Image>, ImageError> {
    let (settings, reports) = (Rc::from(settings), reports.map(Rc::new));
    let mut images = Vec::new();
    for data in layers {
        let bytes = data.own.as_ref().map(|own| own.state).filter(|&bytes| bytes > 0);
        let is_writer = data.own.as_ref().is_some_and(|own| own.role == Role::Log);
        let state = bytes.map(|bytes| memory::create_fixed("state", bytes));
        let image = Image {
            ground: Rc::clone(ground),
            settings: Rc::clone(&settings),
            reports: reports.clone().filter(|_| data.reports),
            state: state.transpose().map_err(|e| ImageError::System("a helper's memory", e))?,
            kernel_log: is_writer.then(kernel::open).flatten(),
            listeners: Vec::new(),
            users: Vec::new(),
            data,
        };
        images.push(image);
    }
    Ok(images)
}

impl Image {
    /// Takes the layer's users and its listening sockets. All layers are asked, in the plan's order.
    pub fn take(&mut self, made: &mut Made) {
        self.take_users(made);
        let plan = &self.data.plan;
        let listeners = plan.listen.iter().zip(&mut made.listeners);
        self.listeners = listeners.map(|(plan, socket)| Listening::new(plan, socket)).collect();
    }

    /// Takes the layer's users.
    pub fn take_users(&mut self, made: &mut Made) {
        let plan = &self.data.plan;
        let copies = (0..plan.instances).map(|copy| (plan.name.clone(), copy));
        self.users = copies.filter_map(|copy| made.users.remove(&copy)).collect();
    }

    /// Takes what can't be had any more from the one that it takes the place of; if a life is the
    /// `same` by both, what that has kept too.
    pub fn inherit(&mut self, old: &mut Self, same: bool) {
        self.kernel_log = self.kernel_log.take().or_else(|| old.kernel_log.take());
        if same && old.state.is_some() {
            self.state = old.state.take();
        }
    }

    /// What is held for it, for a program that takes this one's place.
    pub fn carry(&self, luggage: &mut Luggage) -> state::Layer {
        state::Layer {
            state: self.state.as_ref().map(|fd| luggage.add(fd)),
            kernel_log: self.kernel_log.as_ref().map(|fd| luggage.add(fd)),
            listeners: luggage.all(self.listeners.iter().map(Listening::socket)),
            users: self.users.clone(),
        }
    }

    /// Takes what the program before has held for it.
    pub fn carried(&mut self, from: state::Layer) -> io::Result<()> {
        self.state = from.state.map(Fd::take).transpose()?;
        self.kernel_log = from.kernel_log.map(Fd::take).transpose()?;
        let listeners = self.data.plan.listen.iter().zip(from.listeners);
        let listeners = listeners.map(|(plan, fd)| Ok(Listening::new(plan, fd.take()?)));
        self.listeners = listeners.collect::<io::Result<_>>()?;
        self.users = from.users;
        Ok(())
    }

    /// The user that copy `index` of this layer is.
    pub(super) fn identity(&self, index: u16) -> Identity {
        let (uid, group) = (self.data.plan.uid, self.data.plan.group);
        if self.ground.ids.is_some() {
            let (own, own_group) = spaces::own_numbers();
            let gid = group.or(uid).unwrap_or(own_group);
            return Identity::Mapped { uid: uid.unwrap_or(own), gid };
        }
        // A seat for each copy, and a user for each seat.
        let uid = uid.unwrap_or_else(|| self.users[usize::from(self.data.plan.turn(index))]);
        Identity::Own { uid, gid: group.unwrap_or(uid) }
    }

    /// The namespaces that it gets.
    pub(super) fn namespaces(&self) -> Namespaces {
        let all = self.ground.namespaces.get();
        if self.data.own.as_ref().is_some_and(|own| own.networked) {
            all.without(Namespaces::NET)
        } else {
            all
        }
    }

    /// A fresh cgroup for `instance`, where there can be one.
    pub(super) fn group(&self, instance: &Instance) -> io::Result<Option<Group>> {
        self.ground.groups.make(&instance.to_string().replace('/', "-"), &self.data.plan.limits)
    }
}

impl HeldFile {
    /// Opens the file anew: every life has its own position in it. Where the policy grants only to
    /// write, it can't be truncated by the descriptor.
    pub fn open(&self) -> Result<OwnedFd, StartError> {
        let flags = match self.access {
            Access::Read => OFlags::RDONLY,
            Access::Write => OFlags::WRONLY,
            Access::ReadWrite => OFlags::RDWR,
            Access::Append => OFlags::WRONLY | OFlags::APPEND,
        };
        let writes = self.access != Access::Read;
        // It is a regular file, but a lease on it would still be waited for (threat D13).
        let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
        pin(&self.path)
            .and_then(|(pinned, stat)| match FileType::from_raw_mode(stat.st_mode) {
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

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, inotify};
    use rustix::io::Errno;

    use super::*;
    use crate::ident::Name;

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
            access: Access::Read,
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
