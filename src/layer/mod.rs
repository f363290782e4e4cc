//! What a layer's code sees: its name, and what its policy grants it, by name.

mod attendant;
pub(crate) mod auditor;
pub(crate) mod connector;
pub(crate) mod control;
mod desk;
pub(crate) mod enter;
pub(crate) mod exec;
mod facilities;
pub(crate) mod files;
mod firsts;
pub(crate) mod hosts;
pub(crate) mod inbox;
mod lanes;
pub(crate) mod ledger;
pub(crate) mod link;
pub(crate) mod logger;
pub(crate) mod metrics;
mod objects;
mod order;
mod own;
pub(crate) mod proxy;
mod reloaded;
mod run;
pub(crate) mod script;
mod service;
pub(crate) mod share;
pub(crate) mod slice;
pub(crate) mod witness;

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;

use crate::confine::receipt::Receipt;
use crate::ident::{Instance, Name, PolicyId};
use crate::ipc::broker::Broker;
use crate::ipc::file::Directory;
use crate::ipc::gauge::Gauge;
use crate::ipc::message::{Channel, Violation};
use crate::ipc::pipe::Pipe;
use crate::ipc::queue::Queue;
use crate::ipc::signal::Inflow;
use crate::policy::plan::FilePlan;
use crate::report::{Desk, Facility};
use crate::wire::control::{FromLayer, Service};

pub use facilities::LayerConnectError;
pub use run::{Function, LayerResult};

/// A running layer, and all that it may reach.
///
/// Cheap to clone. Everything is asked for by the name that the policy gives it; a name that the
/// policy doesn't grant to this layer is [`LayerError::NotGranted`], with the line that would.
#[derive(Clone, Debug)]
pub struct Layer(pub(crate) Arc<Shared>);

/// What all clones of a [`Layer`] share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) instance: Instance,
    /// The daemon's name in its policy.
    pub(crate) daemon: Name,
    pub(crate) policy: PolicyId,
    pub(crate) receipt: Receipt,
    pub(crate) settings: Vec<u8>,
    /// Others, once there are any.
    reloaded: reloaded::Reloaded,
    grace: Duration,
    /// Whether this life serves one connection.
    is_worker: bool,
    /// Counts what this life has in its hands, where the policy has as many copies as there is to do.
    gauge: Option<Arc<Gauge>>,
    pub(crate) inbox: inbox::Inbox,
    attending: Mutex<()>,
    attendant: attendant::Attendant,
    threads: Option<u16>,
    vars: BTreeMap<String, String>,
    pub(crate) channels: BTreeMap<Name, Channel>,
    pub(crate) channel_names: BTreeMap<u16, Name>,
    pub(crate) queues: BTreeMap<u16, Queue>,
    pub(crate) directories: BTreeMap<Name, String>,
    pub(crate) listeners: Mutex<BTreeMap<Name, OwnedFd>>,
    /// A connection that came before this life did.
    held: Mutex<Option<OwnedFd>>,
    pub(crate) files: Mutex<BTreeMap<Name, OwnedFd>>,
    pub(crate) share: share::Share,
    pub(crate) objects: objects::Objects,
    pub(crate) pipes: BTreeMap<u16, Pipe>,
    pub(crate) inflow: Mutex<Option<Arc<Inflow>>>,
    /// Asks the supervisor.
    pub(crate) broker: Arc<Broker>,
    /// Ask helpers.
    pub(crate) services: BTreeMap<Service, Arc<Broker>>,
    pub(crate) maps: facilities::Maps,
    pub(crate) stop: Stop,
    /// Whether it has told that it is ready; `None` if its policy doesn't wait for that.
    told: Option<AtomicBool>,
    /// Where what this layer does is reported.
    pub(crate) desk: Desk,
    firsts: firsts::Firsts,
    /// What a layer of the framework's own was told and has not taken up; `None` in any other.
    pub(crate) orders: Option<order::Orders>,
}

/// Whether the supervisor has asked this layer to finish.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    asked: AtomicBool,
    notify: Notify,
    /// Rung for threads that sleep, once there are any.
    bell: Mutex<Option<Arc<OwnedFd>>>,
}

/// Why a layer doesn't get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The policy grants nothing of that name to this layer.
    #[error("layer '{layer}' has no {kind} '{name}': the policy would need `{line}`")]
    NotGranted {
        /// Who asked.
        layer: Name,
        /// What was asked for: `channel`, `listener`, `file`, `directory`.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// A policy line that would grant it.
        line: String,
    },
    /// What is asked of a grant is more than it allows.
    #[error(transparent)]
    Policy(#[from] Violation),
    /// Our caller's mistake: the policy grants it for another use.
    #[error("`{line}`: {why}")]
    Misused {
        /// The policy's line.
        line: String,
        /// What doesn't fit.
        why: String,
    },
    /// The system refused.
    #[error("{what}: {error}")]
    System {
        /// What was tried.
        what: String,
        /// The system's answer.
        error: io::Error,
    },
}

impl Layer {
    /// Which layer this is, which copy, and in which life.
    pub fn instance(&self) -> &Instance {
        &self.0.instance
    }

    /// The digest of the policy that it runs under.
    pub fn policy(&self) -> PolicyId {
        self.0.policy
    }

    /// Tells that this layer is ready, where its policy says `ready = "told"`: those that start
    /// `after` it begin, and so may a service manager's other services. Once it has done so, and
    /// under another policy, this does nothing.
    ///
    /// An error says that the supervisor is gone.
    pub fn ready(&self) -> io::Result<()> {
        match &self.0.told {
            Some(told) if !told.swap(true, Ordering::Relaxed) => self.0.inbox.say(&FromLayer::Up),
            _ => Ok(()),
        }
    }

    /// What the kernel enforces on this process.
    pub fn receipt(&self) -> &Receipt {
        &self.0.receipt
    }

    /// The bytes that the daemon's program gave to every layer
    /// ([`Daemon::settings`](crate::Daemon::settings)) when this life began. What a reload finds is
    /// [`Layer::reloaded`].
    pub fn settings(&self) -> &[u8] {
        &self.0.settings
    }

    /// The value of the variable `name` of the policy's `[vars]`, if `vars` of this layer names it.
    pub fn var(&self, name: &str) -> Result<&str, LayerError> {
        let found = self.0.vars.get(name).map(String::as_str);
        found.ok_or_else(|| {
            let line = format!("[layer.{}] vars = [\"{name}\"]", self.0.instance.layer);
            self.not_granted("variable", name, line)
        })
    }

    /// The channel `name`, of which this layer is one end.
    pub fn channel(&self, name: &str) -> Result<Channel, LayerError> {
        self.0.channels.get(name).cloned().ok_or_else(|| {
            let layer = &self.0.instance.layer;
            self.not_granted("channel", name, format!("[channel.{name}] from = \"{layer}\""))
        })
    }

    /// The file `name`, opened by the supervisor with the granted rights when the layer started.
    /// All handles to it share one file position. If the file has lost its name since, to another
    /// that was renamed into its place or to nothing, the log says so, once.
    ///
    /// One with `follow` or `optional` in the policy is opened anew, by a helper, each time: it is
    /// the one that has the name then, with a position of its own.
    pub fn file(&self, name: &str) -> Result<File, LayerError> {
        let shared = &self.0;
        let granted = shared.share.files.iter().find(|it| it.plan.name == *name);
        if let Some(file) = granted.filter(|it| it.plan.is_opened_on_demand()) {
            let (plan, layer) = (file.plan.clone(), shared.instance.layer.clone());
            let broker = shared.service(Service::Files)?;
            let opened = Directory::open_single(file.number, plan, layer, broker);
            let opened = opened.map_err(|error| system("file", name, error.into()))?;
            return Ok(OwnedFd::from(opened).into());
        }
        let file = self.duplicate(&shared.files, "file", name, || self.file_line(name))?;
        if let Some(granted) = granted {
            let rights = granted.plan.grant.get(&shared.instance.layer);
            let how = firsts::opened(rights.map_or(&[], Vec::as_slice));
            let place = (Facility::File, granted.number);
            let (audit, path) = (granted.plan.audit, &granted.plan.path);
            shared.report_first(place, audit, how.into(), path.as_bytes());
            shared.tell_replaced(granted.number, &granted.plan, &file);
        }
        Ok(file.into())
    }

    /// The directory `name`.
    pub fn directory(&self, name: &str) -> Result<Directory, LayerError> {
        let shared = &self.0;
        let layer = &shared.instance.layer;
        let file = shared.share.files.iter().find(|it| it.plan.name == *name);
        let is_directory =
            |plan: &FilePlan| shared.directories.contains_key(name) || plan.is_brokered(layer);
        let Some(file) = file.filter(|it| is_directory(&it.plan)) else {
            return Err(self.not_granted("directory", name, self.file_line(name)));
        };
        // One that has no such helper asks for nothing.
        let broker = shared.services.get(&Service::Files).unwrap_or(&shared.broker);
        let broker = Arc::clone(broker);
        let tap = shared.desk.tap(Facility::File, file.number, file.plan.audit);
        Directory::new(file.number, file.plan.clone(), layer.clone(), broker, tap)
            .map_err(|error| system("directory", name, error))
    }

    /// How long this layer may take to return once it was asked to finish, before it is killed:
    /// `grace` in its policy.
    pub fn grace(&self) -> Duration {
        self.0.grace
    }

    /// Waits until the supervisor asks this layer to finish. Then it has its [`grace`](Self::grace)
    /// to return before it is killed.
    pub async fn stopping(&self) {
        self.0.ensure_attendant();
        let mut notified = std::pin::pin!(self.0.stop.notify.notified());
        notified.as_mut().enable();
        if !self.is_stopping() {
            notified.await;
        }
    }

    /// Waits for `future`, or until the supervisor asks this layer to finish: then `None`, and the
    /// future is dropped. For loops over what doesn't end with the layer by itself:
    ///
    /// ```no_run
    /// # async fn example(layer: cofferdam::Layer) -> Result<(), Box<dyn std::error::Error>> {
    /// let https = layer.acceptor("https")?;
    /// while let Some(connection) = layer.until_stopping(https.accept()).await {
    ///     drop(connection?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn until_stopping<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.stopping() => None,
            done = future => Some(done),
        }
    }

    /// Whether the supervisor has asked this layer to finish.
    pub fn is_stopping(&self) -> bool {
        if !self.0.stop.is_asked() {
            self.0.look_now_and_then();
        }
        self.0.stop.is_asked()
    }

    /// Handles what the supervisor has said, without waiting. Verbs that wait do so by themselves,
    /// and so does [`Layer::is_stopping`]: this is for a blocking layer that wants to know at once
    /// who has come. An error says that the supervisor is gone.
    pub fn attend(&self) -> io::Result<()> {
        self.0.pump()?;
        self.0.services.values().try_for_each(|broker| broker.pump())
    }

    /// The socket to a helper, once there is one, for tests of layers that don't care for the library's rules.
    #[cfg(feature = "testing")]
    pub fn service_socket(&self, service: Service) -> Option<Arc<OwnedFd>> {
        let broker = self.0.services.get(&service)?;
        loop {
            if let Some(line) = broker.line() {
                return Some(line);
            }
            self.0.pump().ok()?;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// Says anything to the supervisor, for tests of layers that lie.
    #[cfg(feature = "testing")]
    pub fn say(&self, words: &FromLayer) -> io::Result<()> {
        self.0.inbox.say(words)
    }

    /// Where this layer reports, for tests of layers that lie.
    #[cfg(feature = "testing")]
    pub fn desk(&self) -> &Desk {
        &self.0.desk
    }

    fn duplicate(
        &self,
        table: &Mutex<BTreeMap<Name, OwnedFd>>,
        kind: &'static str,
        name: &str,
        line: impl FnOnce() -> String,
    ) -> Result<OwnedFd, LayerError> {
        let table = table.lock().unwrap_or_else(PoisonError::into_inner);
        match table.get(name) {
            Some(fd) => fd.try_clone().map_err(|error| system(kind, name, error)),
            None => Err(self.not_granted(kind, name, line())),
        }
    }

    fn file_line(&self, name: &str) -> String {
        format!("[file.{name}] grant = {{ {} = [\"read\"] }}", self.0.instance.layer)
    }

    /// What the policy grants of a kind under `name`; `line` is the policy's line that would.
    fn granted<'a, T>(
        &'a self,
        kind: &'static str,
        all: &'a [share::Numbered<T>],
        name_of: impl Fn(&T) -> &Name,
        name: &str,
        line: impl FnOnce(&Name) -> String,
    ) -> Result<&'a share::Numbered<T>, LayerError> {
        let found = all.iter().find(|it| name_of(&it.plan).as_str() == name);
        found.ok_or_else(|| self.not_granted(kind, name, line(&self.0.instance.layer)))
    }

    fn not_granted(&self, kind: &'static str, name: &str, line: String) -> LayerError {
        let layer = self.0.instance.layer.clone();
        let error = LayerError::NotGranted { layer, kind, name: name.to_owned(), line };
        self.0.desk.refused(&error.to_string());
        error
    }
}

impl Shared {
    /// The way to a helper.
    fn service(&self, service: Service) -> Result<Arc<Broker>, LayerError> {
        let found = self.services.get(&service).cloned();
        let missing = || system("helper", "of this facility", io::ErrorKind::NotFound.into());
        found.ok_or_else(missing)
    }
}

impl Stop {
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::SeqCst)
    }

    /// Tells everybody who waits, and everybody who asks later.
    pub(crate) fn ask(&self) {
        self.asked.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
        if let Some(bell) = &*self.hung() {
            ring(bell);
        }
    }

    /// Can be read once the layer has been asked to finish.
    pub(crate) fn bell(&self) -> io::Result<Arc<OwnedFd>> {
        let mut hung = self.hung();
        if let Some(bell) = &*hung {
            return Ok(Arc::clone(bell));
        }
        let bell =
            hung.insert(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?));
        // Whoever asks from now on finds the bell; who asked before has not.
        if self.is_asked() {
            ring(bell);
        }
        Ok(Arc::clone(bell))
    }

    fn hung(&self) -> std::sync::MutexGuard<'_, Option<Arc<OwnedFd>>> {
        self.bell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ring(bell: &OwnedFd) {
    // It refuses only at its maximum, and then it has rung.
    let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
}

fn system(kind: &str, name: &str, error: io::Error) -> LayerError {
    LayerError::System { what: format!("{kind} '{name}'"), error }
}
