//! The supervisor: it starts the layers, introduces them to each other, and sees to it that what
//! ends is cleared away and started anew.
//!
//! One thread, one poll loop. It never waits on a layer: every descriptor that a layer holds the
//! other end of is non-blocking, everything that a layer may say is a message of fixed layout
//! ([`FromLayer`]), and one that can't be told something is ended. It holds no channel's keys and
//! is on no data path.

mod child;
mod daemon;
mod denials;
mod image;
mod listen;
mod lockdown;
mod log;
mod peers;
pub mod policy_file;
mod roster;
mod signals;
mod spawn;

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

pub use daemon::{Daemon, Setup};

use self::child::{Breach, Child, Stage};
use self::denials::{Culprit, Denials};
use self::image::Image;
use self::log::Log;
use self::roster::{Decision, Ending, Seat};
use self::signals::{Order, Signals};
use crate::confine::Receipt;
use crate::confine::cgroup::Group;
use crate::ident::Instance;
use crate::policy::plan::{Plan, Program};
use crate::policy::syscall;
use crate::wire::control::{FromLayer, ToLayer};

/// How long a layer may take to confine itself. It takes milliseconds; on a machine that is
/// starved of processor time it may take seconds.
const CONFINING: Duration = Duration::from_secs(30);

/// How long a layer has to finish after it was asked to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Control messages heard from one layer in one turn. A layer has two to say in its whole life.
const HEARD_IN_A_TURN: usize = 4;

/// How long the kernel's log may take to tell of a killed layer. It is written by a thread of the
/// kernel, which drops what comes in bursts.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(1);

/// How often what the kernel wouldn't give back yet (a cgroup) is tried again.
const SWEEP: Duration = Duration::from_millis(50);

/// How a daemon came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was asked to stop, or every layer had finished.
    Fine,
    /// A layer failed more often than its policy tolerates, or once and for all.
    GaveUp,
    /// A layer could not be started or confined.
    Refused,
}

/// Why a daemon doesn't begin.
#[derive(Debug, thiserror::Error)]
enum StartUp {
    /// The plan has no canonical form.
    #[error("the plan can't be encoded: {0}")]
    Encoding(postcard::Error),
    /// A filter, a socket or a file.
    #[error(transparent)]
    Image(#[from] image::ImageError),
    /// The supervisor can't take its signals.
    #[error("signals: {0}")]
    Signals(std::io::Error),
    /// The supervisor can't confine itself.
    #[error("the supervisor can't confine itself: {0}")]
    Lockdown(std::io::Error),
}

/// A running daemon.
struct Supervisor {
    plan: Plan,
    images: Vec<Image>,
    places: Vec<Place>,
    signals: Signals,
    denials: Denials,
    log: Log,
    leftovers: Vec<Group>,
    unexplained: Vec<Unexplained>,
    stopping: bool,
    outcome: Outcome,
}

/// A layer that was killed for a system call, of which the kernel's log hasn't said yet.
struct Unexplained {
    instance: Instance,
    culprit: Culprit,
    until: Instant,
}

/// A seat and who sits in it.
struct Place {
    seat: Seat,
    life: Life,
}

/// Whether a place is taken.
enum Life {
    /// Nobody, and nobody will come.
    Down,
    /// Nobody until this time.
    Waiting(Instant),
    /// A process.
    Running(Box<Child>),
}

/// What a polled descriptor belongs to.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Stderr,
    Process(usize),
    Control(usize),
    Output(usize, usize),
}

impl Supervisor {
    /// Compiles the plan, binds its sockets and locks the supervisor up. On an error, the log
    /// comes back with it.
    fn new(plan: Plan, settings: Vec<u8>, mut log: Log) -> Result<Self, (StartUp, Log)> {
        let signals = match Signals::new() {
            Ok(signals) => signals,
            Err(error) => return Err((StartUp::Signals(error), log)),
        };
        let denials = Denials::open();
        let compiled = plan
            .id()
            .map_err(StartUp::Encoding)
            .and_then(|id| Ok((id, image::compile(&plan, id, settings)?)));
        let (id, images) = match compiled {
            Ok(compiled) => compiled,
            Err(error) => return Err((error, log)),
        };
        log.say(&format!(
            "{}: {} layers, {} channels, policy {}",
            plan.name,
            plan.layers.len(),
            plan.channels.len(),
            id.short()
        ));
        if let Err(error) = lockdown::lock(&images) {
            return Err((StartUp::Lockdown(error), log));
        }
        let now = Instant::now();
        let place = |seat| Place { seat, life: Life::Waiting(now) };
        let places = roster::seats(&plan).into_iter().map(place).collect();
        Ok(Self {
            plan,
            images,
            places,
            signals,
            denials,
            log,
            leftovers: Vec::new(),
            unexplained: Vec::new(),
            stopping: false,
            outcome: Outcome::Fine,
        })
    }

    /// Runs until every layer is down.
    fn run(&mut self) -> Outcome {
        loop {
            self.start_what_is_due();
            self.stop_what_is_next();
            self.leftovers.retain_mut(|group| !group.remove());
            self.explain_denials();
            if self.places.iter().all(|place| matches!(place.life, Life::Down)) {
                break;
            }
            for source in self.wait() {
                self.serve(source);
            }
            self.kill_what_is_late();
            self.log.flush();
        }
        self.finish()
    }

    /// Starts every layer whose time has come.
    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for place in 0..self.places.len() {
            let due = matches!(self.places[place].life, Life::Waiting(at) if at <= now);
            if due && !self.stopping {
                self.start(place, now);
            }
        }
    }

    fn start(&mut self, place: usize, now: Instant) {
        let seat = &mut self.places[place].seat;
        let instance = seat.begin(now);
        match self.images[seat.layer].spawn(instance.clone()) {
            Ok(mut child) => {
                child.deadline = Some(now + CONFINING);
                self.places[place].life = Life::Running(Box::new(child));
            }
            Err(error) => {
                self.log.say(&format!("{instance} can't be started: {error}"));
                self.places[place].life = Life::Down;
                self.stop(Outcome::Refused);
            }
        }
    }

    /// Waits for something to happen and says what.
    fn wait(&mut self) -> Vec<Source> {
        let stderr = std::io::stderr();
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        if !self.log.is_empty() {
            sources.push(Source::Stderr);
            fds.push(PollFd::from_borrowed_fd(stderr.as_fd(), PollFlags::OUT));
        }
        for (index, place) in self.places.iter().enumerate() {
            let Life::Running(child) = &place.life else { continue };
            // Control before process, so that last words are heard before the end is.
            sources.push(Source::Control(index));
            fds.push(PollFd::new(&child.control, PollFlags::IN));
            sources.push(Source::Process(index));
            fds.push(PollFd::new(&child.process, PollFlags::IN));
            if self.log.has_room() {
                for (which, pipe) in child.output.iter().enumerate() {
                    sources.push(Source::Output(index, which));
                    fds.push(PollFd::new(pipe.fd(), PollFlags::IN));
                }
            }
        }
        let timeout = self.next_deadline().map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        if rustix::event::poll(&mut fds, timeout.as_ref()).is_err() {
            return Vec::new();
        }
        // A control socket whose other end is closed polls as hung up for ever; what matters then
        // is the process's end, so only input counts.
        let ready = |source, fd: &PollFd<'_>| match source {
            Source::Control(_) => fd.revents().contains(PollFlags::IN),
            _ => !fd.revents().is_empty(),
        };
        sources.into_iter().zip(&fds).filter(|&(s, fd)| ready(s, fd)).map(|(s, _)| s).collect()
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_place = |place: &Place| match &place.life {
            Life::Down => None,
            Life::Waiting(at) => Some(*at),
            Life::Running(child) => child.deadline,
        };
        let waits = !(self.leftovers.is_empty() && self.unexplained.is_empty());
        let sweep = waits.then(|| Instant::now() + SWEEP);
        self.places.iter().filter_map(of_place).chain(sweep).min()
    }

    fn serve(&mut self, source: Source) {
        match source {
            Source::Stderr => {} // flushed at the end of every turn
            Source::Signals => {
                while let Some(order) = self.signals.next() {
                    self.obey(order);
                }
            }
            Source::Output(place, which) => {
                if let Life::Running(child) = &mut self.places[place].life {
                    child.read_output(which, &mut self.log);
                }
            }
            Source::Control(place) => self.hear(place),
            Source::Process(place) => self.bury(place),
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Reload => self.log.say("SIGHUP: nothing is reloaded; restart to change policy"),
            Order::Stop if self.stopping => self.children().for_each(Child::kill),
            Order::Stop => {
                self.log.say("stopping");
                self.stop(Outcome::Fine);
            }
        }
    }

    /// From now on nothing is started and everything is asked to finish.
    fn stop(&mut self, outcome: Outcome) {
        if !self.stopping {
            self.stopping = true;
            self.outcome = outcome;
        }
        for place in &mut self.places {
            if matches!(place.life, Life::Waiting(_)) {
                place.life = Life::Down;
            }
        }
    }

    /// Asks those layers to finish that no running layer may still call, so that work under way
    /// is carried to its end. Layers that call each other in a circle are asked together.
    fn stop_what_is_next(&mut self) {
        if !self.stopping {
            return;
        }
        let runs = |layer: &str| self.children().any(|child| child.instance.layer == *layer);
        let is_called = |layer: &str| {
            let mut channels = self.plan.channels.iter();
            channels.any(|c| c.to == *layer && c.from != c.to && runs(c.from.as_str()))
        };
        let running: Vec<usize> = (0..self.places.len())
            .filter(|&place| matches!(self.places[place].life, Life::Running(_)))
            .collect();
        let layer_of = |place: usize| self.places[place].seat.instance.layer.as_str();
        let mut next: Vec<usize> =
            running.iter().copied().filter(|&place| !is_called(layer_of(place))).collect();
        if next.is_empty() {
            next = running;
        }
        for place in next {
            let Life::Running(child) = &mut self.places[place].life else { continue };
            // Who still confines itself is asked once that is done.
            if child.is_serving() && child.deadline.is_none() {
                child.deadline = Some(Instant::now() + GRACE);
                match self.plan.layers[self.places[place].seat.layer].program {
                    Program::Run(_) => self.tell(place, &ToLayer::Stop, None),
                    Program::Exec(_) => self.terminate(place),
                }
            }
        }
    }

    fn kill_what_is_late(&mut self) {
        let now = Instant::now();
        for place in &mut self.places {
            let Life::Running(child) = &mut place.life else { continue };
            if child.deadline.is_some_and(|at| at <= now) {
                let why = if child.is_serving() { "finish" } else { "confine itself" };
                self.log.say(&format!("{} did not {why} in time and is killed", child.instance));
                child.deadline = Some(now + GRACE);
                child.kill();
            }
        }
    }

    /// Hears what a layer says of itself.
    fn hear(&mut self, place: usize) {
        for _ in 0..HEARD_IN_A_TURN {
            let Life::Running(child) = &mut self.places[place].life else { return };
            match (child.hear(), child.stage) {
                (Ok(None), _) => return,
                (Ok(Some(FromLayer::Ready { key, receipt })), Stage::Confining) => {
                    match Receipt::from_bytes(&receipt) {
                        Some(receipt) => self.admit(place, key, &receipt),
                        None => self.breach(place, Breach::Protocol),
                    }
                }
                (Ok(Some(words @ FromLayer::Failed(_))), Stage::Confining)
                | (
                    Ok(Some(words @ (FromLayer::Exited { .. } | FromLayer::Killed { .. }))),
                    Stage::Serving(_),
                ) if child.last_words.is_none() => child.last_words = Some(words),
                (Ok(Some(_)), _) => return self.breach(place, Breach::Protocol),
                (Err(breach), _) => return self.breach(place, breach),
            }
        }
    }

    /// Lets a confined layer in, if it is confined as its policy asks.
    fn admit(&mut self, place: usize, key: [u8; 32], receipt: &Receipt) {
        let Place { seat, life: Life::Running(child) } = &mut self.places[place] else { return };
        let plan = &self.plan.layers[seat.layer];
        let missing = receipt.missing_against(plan);
        if !missing.is_empty() {
            let names: Vec<_> = missing.iter().map(|protection| protection.name()).collect();
            self.log.say(&format!(
                "{} runs without {}, which its policy demands; add it to `optional` in [layer.{}] \
                 to run without, `cofferdam doctor` tells why",
                child.instance,
                names.join(", "),
                child.instance.layer
            ));
            child.kill();
            return self.stop(Outcome::Refused);
        }
        child.stage = Stage::Serving(key);
        child.deadline = None;
        let (instance, pid) = (child.instance.clone(), child.pid);
        self.log.say(&format!("{instance} is confined, pid {pid}: {}", receipt.summary()));
        if let Err(error) = self.hand_over(place) {
            self.log.say(&format!("{instance} can't be given what it needs: {error}"));
            self.kill(place);
            self.stop(Outcome::Refused);
        }
    }

    /// Gives a confined layer what it holds from the start, and its peers.
    fn hand_over(&mut self, place: usize) -> Result<(), spawn::StartError> {
        let image = &self.images[self.places[place].seat.layer];
        let mut messages = Vec::new();
        for (name, socket) in &image.listeners {
            messages.push((ToLayer::Listener(name.clone()), socket.try_clone()?));
        }
        for file in &image.files {
            messages.push((ToLayer::File(file.name.clone()), file.open()?));
        }
        for (message, fd) in &messages {
            self.tell(place, message, Some(fd));
        }
        self.introduce(place)?;
        self.tell(place, &ToLayer::Start, None);
        Ok(())
    }

    /// Clears away a process that has ended, and decides what follows.
    fn bury(&mut self, place: usize) {
        self.hear(place);
        let Life::Running(child) = &mut self.places[place].life else { return };
        let Some(mut ending) = child.ending() else { return };
        let Life::Running(mut child) = std::mem::replace(&mut self.places[place].life, Life::Down)
        else {
            return;
        };
        for pipe in child.output.drain(..) {
            pipe.drain(&mut self.log);
        }
        match child.last_words {
            Some(FromLayer::Exited { code }) => ending = Ending::Exited(code.into()),
            Some(FromLayer::Killed { signal }) => ending = Ending::Killed(signal.into()),
            _ => {}
        }
        self.report(&child, ending);
        self.leftovers.extend(child.cgroup.take());
        self.announce_departure(&child);
        if matches!(child.last_words, Some(FromLayer::Failed(_))) {
            return self.stop(Outcome::Refused);
        }
        if self.stopping {
            return;
        }
        match self.places[place].seat.ended(ending, Instant::now()) {
            Decision::RestartAt(at) => self.places[place].life = Life::Waiting(at),
            // Nobody hears of it again, so the daemon's exit code does.
            Decision::LeaveDown if ending.is_failure() => self.outcome = Outcome::GaveUp,
            Decision::LeaveDown => {}
            Decision::StopDaemon => {
                self.log.say(&format!(
                    "{} has failed too often: the daemon stops (`restart` in [layer.{}])",
                    child.instance, child.instance.layer
                ));
                self.stop(Outcome::GaveUp);
            }
        }
    }

    /// Says how a layer ended.
    fn report(&mut self, child: &Child, ending: Ending) {
        let name = &child.instance;
        let text = match (&child.last_words, ending) {
            (Some(FromLayer::Failed(why)), _) => format!("{name} could not be confined: {why}"),
            (_, Ending::Exited(code)) => format!("{name} ended with exit code {code}"),
            (_, Ending::Killed(libc::SIGSYS)) => self.denied(child),
            (_, Ending::Killed(signal)) => {
                let signal = nix::sys::signal::Signal::try_from(signal)
                    .map_or_else(|_| format!("signal {signal}"), |s| s.as_str().to_owned());
                format!("{name} was killed by {signal}")
            }
        };
        self.log.say(&text);
    }

    /// Says that a layer was killed for a system call. Which one, the kernel's log tells in a
    /// moment, if it can be read.
    fn denied(&mut self, child: &Child) -> String {
        let hint = if self.denials.is_available() {
            let until = Instant::now() + EXPLAINED_WITHIN;
            let (instance, culprit) = (child.instance.clone(), child.culprit);
            self.unexplained.push(Unexplained { instance, culprit, until });
            ""
        } else {
            " (which one is in the kernel's log, and this user can't read it)"
        };
        format!(
            "{} was killed by SIGSYS: it made a system call that `syscalls` in [layer.{}] does \
             not grant{hint}",
            child.instance, child.instance.layer
        )
    }

    /// Says which system calls layers were killed for, and what would allow them.
    fn explain_denials(&mut self) {
        if self.unexplained.is_empty() {
            return;
        }
        self.denials.read();
        let now = Instant::now();
        let (denials, log) = (&mut self.denials, &mut self.log);
        self.unexplained.retain(|Unexplained { instance, culprit, until }| {
            let Some(number) = denials.number_for(*culprit) else { return *until > now };
            let layer = &instance.layer;
            let Some(call) = syscall::name_of(number) else {
                log.say(&format!("{instance} made a system call of the unknown number {number}"));
                return false;
            };
            let groups = syscall::offering(number);
            let groups: String = groups
                .iter()
                .filter(|group| group.dangerous.is_none())
                .map(|group| format!(" or \"@{}\"", group.name))
                .collect();
            log.say(&format!(
                "{instance} made the system call {call} in a way that isn't granted: \"{call}\" in \
                 `syscalls` of [layer.{layer}]{groups} would allow it, `refuse = {{ {call} = \
                 \"EPERM\" }}` would refuse it without killing"
            ));
            false
        });
    }

    fn breach(&mut self, place: usize, breach: Breach) {
        let name = self.places[place].seat.instance.clone();
        self.log.say(&format!("{name} is killed: {breach}"));
        self.kill(place);
    }

    /// Asks another program to finish, in the way that it knows: its init passes SIGTERM on.
    fn terminate(&self, place: usize) {
        if let Life::Running(child) = &self.places[place].life {
            child.terminate();
        }
    }

    fn kill(&self, place: usize) {
        if let Life::Running(child) = &self.places[place].life {
            child.kill();
        }
    }

    /// Tells a layer something; one that can't be told is ended.
    fn tell(&mut self, place: usize, message: &ToLayer, fd: Option<&std::os::fd::OwnedFd>) {
        let Life::Running(child) = &self.places[place].life else { return };
        if let Err(breach) = child.tell(message, fd.map(AsFd::as_fd)) {
            self.breach(place, breach);
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
        let until = Instant::now() + Duration::from_secs(1);
        while Instant::now() < until && !(self.leftovers.is_empty() && self.log.is_empty()) {
            self.leftovers.retain_mut(|group| !group.remove());
            self.log.flush();
            if !(self.leftovers.is_empty() && self.log.is_empty()) {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        self.outcome
    }
}
