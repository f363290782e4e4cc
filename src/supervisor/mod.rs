//! The supervisor: it starts the layers, introduces them to each other, and sees to it that what
//! ends is cleared away and started anew.
//!
//! One thread, one loop by epoll. It never waits on a layer: every descriptor that a layer holds the
//! other end of is non-blocking, everything that a layer may say is a message of fixed layout
//! ([`FromLayer`](crate::wire::control::FromLayer)), and one that can't be told something is ended.
//! It holds no channel's keys and is on no data path.

mod audit;
mod broker;
mod child;
mod control;
mod elastic;
mod health;
mod hosts;
mod image;
mod listen;
mod lives;
mod lockdown;
mod log;
mod manager;
mod objects;
mod order;
mod outbox;
mod pace;
mod peers;
mod pipes;
mod places;
mod poll;
mod reload;
mod roster;
mod services;
mod signals;
mod spawn;
mod start_error;
mod stop;
mod upgrade;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::ClockId;

use self::audit::Audit;
use self::broker::signal::Switchboard;
use self::child::{Child, Printing};
use self::control::Door;
use self::image::{Ground, Image};
pub(crate) use self::lockdown::NEEDED;
use self::manager::Manager;
pub(crate) use self::manager::ServiceManager;
use self::objects::Objects;
use self::pace::Pace;
use self::pipes::Pipes;
use self::places::Places;
use self::poll::{Due, Source};
use self::reload::{Asker, Reloads};
use self::roster::Seat;
use self::signals::{Order, Signals};
pub(crate) use self::upgrade::resume;
use self::workers::Held;
use crate::confine::cgroup::Group;
use crate::layer::logger::log::Log;
use crate::policy::plan::Plan;
use crate::prepare::assembler::{self, Request};
use crate::prepare::assembly::Assembly;
use crate::prepare::image::LayerImage;
use crate::prepare::own::Role;
use crate::prepare::planner::Planned;
use crate::prepare::relations::Relations;
use crate::prepare::steward::{Found, Steward};
use crate::prepare::{self, LogDirectory, Passed, Wanted};
use crate::registry::door_beside;
use crate::sys::clock::nanoseconds;
use crate::sys::poller::{Agenda, Poller};
use crate::text::counted;
use crate::users::Key;
use crate::wire::life::End;
use crate::wire::life::Ending;

/// How a daemon came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to stop, or every layer had finished.
    Fine,
    /// A layer failed more often than its policy tolerates, or once and for all, at last so.
    GaveUp(Ending),
    /// A layer could not be started or confined.
    Refused,
}

/// What a daemon starts from.
pub(crate) struct Start {
    /// Its plan, and what goes with it.
    pub found: Found,
    /// Sockets that were passed to this process.
    pub passed: Vec<Passed>,
    /// Where the audit log is kept, if not where the policy says.
    pub audit: Option<PathBuf>,
    /// Whose users the layers shall be.
    pub users: Option<Key>,
    /// Whether whole receipts are shown.
    pub receipts: bool,
    /// Who has it prepared anew for a reload.
    pub steward: Steward,
    /// What is to hear of it, if anything is.
    pub manager: Option<ServiceManager>,
}

/// Runs a daemon until every layer is down.
pub(crate) fn run(start: Start, log: &mut Log) -> Result<Outcome, StartUp> {
    Ok(Supervisor::new(start, log)?.run())
}

/// Why a daemon doesn't begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartUp {
    /// A socket or a file.
    #[error(transparent)]
    Image(#[from] image::ImageError),
    /// A layer can't be assembled, or the objects of the facilities can't be made.
    #[error(transparent)]
    Prepare(#[from] prepare::PrepareError),
    /// An object of a facility can't be held.
    #[error(transparent)]
    Object(#[from] objects::ObjectError),
    /// The ring for the supervisor's own acts can't be made.
    #[error("reports to the auditor: {0}")]
    Reports(std::io::Error),
    /// The supervisor can't take its signals.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// The limit of open descriptors can't be raised.
    #[error("the limit of open descriptors: {0}")]
    Descriptors(std::io::Error),
    /// The supervisor can't confine itself.
    #[error("the supervisor can't confine itself: {0}")]
    Lockdown(std::io::Error),
}

/// A running daemon.
struct Supervisor<'a> {
    plan: Plan,
    relations: Relations,
    images: Vec<Image>,
    objects: Objects,
    pipes: Pipes,
    /// Queues whose senders get their new keys once the receivers have them.
    late_keys: BTreeSet<usize>,
    /// Connections that wait for a process, by layer.
    held: BTreeMap<usize, Held>,
    /// When it was told last that a layer has as many copies as it may, all of them busy.
    full: BTreeMap<usize, Instant>,
    switchboard: Switchboard,
    places: Places,
    /// Where somebody is to begin.
    waiting: BTreeSet<usize>,
    /// What has to be looked at when.
    agenda: Agenda<Due>,
    poller: Poller,
    /// Acts waited for room in the log when who is listened to was looked at last.
    crowded: bool,
    signals: Signals,
    manager: Manager,
    reloads: Reloads,
    /// `None`: the daemon keeps no audit log.
    audit: Option<Audit>,
    /// Where the daemon is asked; `None`: it can't be.
    door: Option<Door>,
    /// By what this daemon is found, as long as it runs.
    registered: Option<Registered>,
    log: &'a mut Log,
    leftovers: Leftovers,
    receipts: bool,
    stopping: bool,
    outcome: Outcome,
}

/// What is left of instances that have ended.
#[derive(Default)]
struct Leftovers {
    /// What they printed, by place and generation, until it is written.
    printing: BTreeMap<(u32, u64), Rc<Printing>>,
    /// Their cgroups, until the kernel gives them back.
    groups: Vec<Group>,
}

impl Leftovers {
    fn sweep(&mut self) {
        self.groups.retain_mut(|group| !group.remove());
    }
}

/// A seat and who sits in it.
struct Place {
    seat: Seat,
    life: Life,
    /// Since when it is what it is: `CLOCK_MONOTONIC`, in nanoseconds.
    since: u64,
    /// How the life before ended.
    last: Option<Box<End>>,
    pace: Pace,
    /// The policy hasn't it any more: nobody comes here.
    retired: bool,
    /// What comes here holds what a reload has changed: it begins once all have ended that hold what
    /// there was before.
    fresh: bool,
    /// Who is here runs a former program, and somebody else has its seat.
    former: bool,
}

/// Whether a place is taken.
enum Life {
    /// Nobody, and nobody will come.
    Down,
    /// Nobody, until one more worker is needed.
    Spare,
    /// Nobody until this time.
    Waiting(Instant),
    /// A process.
    Running(Box<Child>),
}

impl Place {
    /// One where nobody was yet.
    fn new(image: &LayerImage, seat: Seat, now: Instant) -> Self {
        Self {
            life: Life::first(image, seat.instance.index, now),
            since: nanoseconds(ClockId::Monotonic),
            last: None,
            pace: Pace::new(now),
            retired: false,
            fresh: false,
            former: false,
            seat,
        }
    }
}

impl Life {
    /// How the place of a copy begins.
    fn first(image: &LayerImage, index: u16, now: Instant) -> Self {
        // Who answers at the door is there only if somebody comes.
        let dormant = image.own.as_ref().is_some_and(|own| own.role == Role::Control);
        match image.plan.first_instances() {
            _ if dormant => Self::Down,
            first if image.plan.turn(index) >= first => Self::Spare,
            _ => Self::Waiting(now),
        }
    }
}

/// The file by which this daemon is found, locked as long as it runs, and its socket.
struct Registered {
    path: PathBuf,
    lock: OwnedFd,
}

impl Drop for Registered {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(door_beside(&self.path));
        let _ = std::fs::remove_file(&self.path);
    }
}

impl<'a> Supervisor<'a> {
    /// Has the layers assembled and what they hold made, and locks the supervisor up.
    fn new(start: Start, log: &'a mut Log) -> Result<Self, StartUp> {
        let Start { found, passed, audit, users, receipts, manager, steward } = start;
        let Found { planned, settings, tells_paths, .. } = found;
        let manager = Manager::new(manager);
        let signals = Signals::new().map_err(StartUp::Signals)?;
        let Planned { name, mut plan, id } = planned;
        let directory = LogDirectory::find(&plan, audit.as_deref())?;
        let (assembly, memory) = assembler::assemble(&Request {
            plan: &plan,
            policy: id,
            log: directory.as_ref().map(|it| (it.path(), it.identity())),
            waiting: outbox::MOST_DESCRIPTORS,
            tells_paths,
            settings: &settings,
            before: None,
            program: false,
        })?;
        let Assembly { images, relations, reports, filter, descriptors, .. } = assembly;
        let stated = plan.layers.len();
        plan.layers.extend(images.iter().skip(stated).map(|image| image.plan.clone()));
        lockdown::raise_descriptors(descriptors).map_err(StartUp::Descriptors)?;
        let ground = Rc::new(Ground::survey(&plan)?);
        let mut images = image::complete(images, reports, settings, &ground)?;
        let (users, log_directory) = (users.as_ref(), directory.as_ref());
        let (log_of, runs) = (log_directory, false);
        let wanted = Wanted { plan: &plan, policy: &name, users, runs, log: log_of, passed };
        let mut made = prepare::make(wanted)?;
        let (registered, door) = made.entered.take().map_or((None, None), |entered| {
            let registered = Registered { path: entered.path, lock: entered.lock };
            (Some(registered), Some(Door::new(entered.door)))
        });
        for image in &mut images {
            image.take(&mut made);
        }
        let objects = Objects::new(&plan, made.objects, made.fifos)?;
        log.note(&format!(
            "{}: {}, {}, policy {}",
            plan.name,
            counted(stated as u64, "layer"),
            counted(plan.channels.len() as u64, "channel"),
            id.short()
        ));
        made.notes.iter().for_each(|note| log.note(note));
        let audit = directory.map(|_| Audit::begin(&images)).transpose()?;
        lockdown::lock(&filter, &images).map_err(StartUp::Lockdown)?;
        let now = Instant::now();
        let place = |seat: Seat| Place::new(&images[seat.layer].data, seat, now);
        let places = roster::seats(&plan).into_iter().map(place).collect();
        Ok(Self {
            plan,
            relations,
            images,
            objects,
            pipes: Pipes::default(),
            late_keys: BTreeSet::new(),
            held: BTreeMap::new(),
            full: BTreeMap::new(),
            switchboard: Switchboard::default(),
            places,
            waiting: BTreeSet::new(),
            agenda: Agenda::default(),
            poller: Poller::new().map_err(StartUp::Signals)?,
            crowded: false,
            signals,
            manager,
            reloads: Reloads::new(steward, memory, made.key),
            audit,
            door,
            registered,
            log,
            leftovers: Leftovers::default(),
            receipts,
            stopping: false,
            outcome: Outcome::Fine,
        })
    }

    /// Runs until every layer is down.
    fn run(&mut self) -> Outcome {
        self.log.flush();
        self.keep_listeners(&BTreeSet::new());
        loop {
            self.start_what_is_due();
            self.flush_log();
            self.stop_with_nobody_to_serve();
            self.stop_what_is_next();
            self.leftovers.sweep();
            if self.places.iter().all(|place| matches!(place.life, Life::Down)) {
                break;
            }
            for source in self.wait() {
                self.serve(source);
            }
            self.look_after_who_is_due();
            self.tell_late_keys();
            self.close_what_waited();
            self.flush_notes();
            self.watch_steward();
            self.go_on_with_reload();
            self.manager.tell_alive();
        }
        self.finish()
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Signals => {
                while let Some(order) = self.signals.next() {
                    self.obey(order);
                }
            }
            Source::Door => self.answer_door(),
            Source::Steward => self.hear_steward(),
            Source::Waiting(layer) => self.hold(layer),
            Source::Control(place) => {
                self.flush_outbox(place);
                self.serve_control(place);
            }
            Source::Process(place) => self.reap(place),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Reload => {
                let who = "SIGHUP".to_owned();
                self.reload(Asker { caller: None, who, gain: true, program: false });
            }
            Order::Upgrade => {
                let who = "SIGUSR2".to_owned();
                self.reload(Asker { caller: None, who, gain: true, program: true });
            }
            Order::Stop if self.stopping => self.stop_at_once(),
            Order::Stop => {
                self.log.note("stopping");
                self.stop(Outcome::Fine);
            }
        }
    }

    fn children(&self) -> impl Iterator<Item = &Child> {
        self.places.iter().filter_map(|place| match &place.life {
            Life::Running(child) => Some(&**child),
            _ => None,
        })
    }

    /// Gives back what is left, and lets the last lines out.
    fn finish(&mut self) -> Outcome {
        self.tell_missing_acts();
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until && !(self.leftovers.groups.is_empty() && self.log.is_empty()) {
            self.leftovers.sweep();
            self.log.flush();
            if !(self.leftovers.groups.is_empty() && self.log.is_empty()) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.outcome
    }
}
