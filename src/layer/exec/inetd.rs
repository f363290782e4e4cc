//! `pass = "inetd"`: init accepts, and starts the program for each connection.
//!
//! It reads no byte of a connection. While as many programs run as the policy lets, it accepts no
//! more: who comes then waits in the kernel's queue. What one program does, or how it ends, is
//! nothing to the others.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::net::getpeername;
use rustix::process::Pid;

use super::handed::{Handed, take};
use super::said::Said;
use super::teller::Teller;
use super::watch::Watch;
use super::{CANT_BE_TOLD, Started, not_started, pipes, program, reserve, strings};
use crate::confine::filter::Filter;
use crate::confine::init::{Launch, Ready};
use crate::confine::paths::view_entries;
use crate::confine::spawner::Spawner;
use crate::confine::{ConfineError, prepare};
use crate::ipc::socket::{Acceptor, Slotted};
use crate::layer::desk::desk;
use crate::layer::inbox::{Heard, Inbox};
use crate::layer::run::{SETUP_FAILED, say};
use crate::layer::slice::Slice;
use crate::policy::plan::{Audit, StopSignal};
use crate::policy::syscall::EXEC_FD;
use crate::report::{Desk, Facility};
use crate::sys::pidfd::Ended;
use crate::sys::spawn::{FilterLine, SpawnError};
use crate::wire::control::FromLayer;

/// Connections that are accepted in one turn, so that signals are heard between them.
const IN_A_TURN: usize = 16;

/// How long nothing is accepted after the system had no room for a connection or its program.
const REST: Duration = Duration::from_millis(100);

/// Confines this process and serves until the layer is to finish and every program has ended.
pub(super) fn run(
    slice: &Slice,
    argv: &[String],
    mut inbox: Inbox,
) -> Result<ExitCode, (Inbox, String)> {
    let begun = match inbox.above(EXEC_FD) {
        Ok(above) => {
            inbox = above;
            begin(slice, argv, &inbox)
        }
        Err(error) => Err(error.to_string()),
    };
    let Begun { init, filter, rules, program, desk, refusals, reserved } = match begun {
        Ok(begun) => begun,
        Err(error) => return Err((inbox, error)),
    };
    let _ = inbox.say(&FromLayer::Ready { key: [0; 32], receipt: init.receipt().to_bytes() });
    let served = Handed::receive(&inbox).and_then(|handed| {
        let signals = slice.part.share.signals_to(&slice.order.layer.name);
        let stop = slice.order.layer.stop_signal;
        let spawner = init.into_spawner(&signals, stop, || filter.load());
        let spawner = spawner.map_err(|error| error.to_string())?;
        let name = program.argv.first().map(|path| path.to_string_lossy()).unwrap_or_default();
        let teller = Teller::new(Some(refusals), Pid::INIT, &name);
        let order = &slice.order;
        let entries = slice.part.tells_paths.then(|| view_entries(&order.layer, &order.contents));
        let watch = Watch::new(&rules, teller, entries.unwrap_or_default());
        let starts = Starts { spawner, program, watch, reserved };
        let mut server = Server::new(slice, starts, handed, &desk)?;
        server.serve(&inbox).map_err(|error| error.to_string())
    });
    match served {
        Ok(()) => {
            let _ = inbox.say(&FromLayer::Exited { code: 0 });
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            say(&error);
            Ok(ExitCode::from(SETUP_FAILED))
        }
    }
}

/// An init that is confined and knows its program.
struct Begun {
    init: Ready,
    filter: Filter,
    /// What the program's filter answers where it leaves nothing to anybody.
    rules: Filter,
    program: Started,
    desk: Desk,
    /// Where refusals are told.
    refusals: OwnedFd,
    /// All numbers up to [`EXEC_FD`]: a program that is observed finds what it gets there.
    reserved: Vec<OwnedFd>,
}

fn begin(slice: &Slice, argv: &[String], inbox: &Inbox) -> Result<Begun, String> {
    let blame = |error: io::Error| format!("it can't report to the auditor: {error}");
    let desk = slice.reports.as_ref().map_or_else(|| Ok(Desk::default()), desk).map_err(blame)?;
    let filter = slice.part.init.clone().ok_or("its init has no filter")?;
    let rules = slice.part.rules.clone().ok_or("its program has no filter")?;
    let blame = |error: io::Error| format!("its descriptors: {error}");
    let (_, refusals) = pipes(slice).map_err(blame)?;
    let bare = prepare(&slice.order, inbox.as_fd()).map_err(|error| error.to_string())?;
    let refusals = fcntl_dupfd_cloexec(refusals, EXEC_FD + 1).map_err(|it| blame(it.into()))?;
    let reserved = reserve().map_err(blame)?;
    let program = program(slice, argv)?;
    let init = bare.into_init().map_err(|error| error.to_string())?;
    #[cfg(target_env = "gnu")]
    crate::sys::process::prepare_malloc();
    Ok(Begun { init, filter, rules, program, desk, refusals, reserved })
}

/// Accepts, starts and reaps.
struct Server<'a> {
    starts: Starts<'a>,
    doors: Vec<Door>,
    environment: BTreeMap<String, String>,
    filter: Vec<FilterLine>,
    /// The same, for where the kernel lets nobody observe the program.
    unobserved: Vec<FilterLine>,
    /// Whose connection a program has.
    served: HashMap<Pid, (usize, Slotted)>,
    /// Nothing is accepted until then.
    rests_until: Option<Instant>,
    stops: bool,
    said: Said,
}

/// What starting the program takes, and what it needs while it runs.
struct Starts<'a> {
    spawner: Spawner,
    program: Started,
    /// Answers what it is refused.
    watch: Watch<'a>,
    /// Numbers that are free only while it is started.
    reserved: Vec<OwnedFd>,
}

/// A listening socket.
struct Door {
    acceptor: Acceptor,
    max: usize,
}

/// What there is to wait for.
enum Source {
    /// Signals, or the supervisor.
    Others,
    /// A connection at this door.
    Door(usize),
    /// A call of a program, by its number in the watch.
    Call(u64),
}

impl<'a> Server<'a> {
    fn new(
        slice: &Slice,
        starts: Starts<'a>,
        mut handed: Handed,
        desk: &Desk,
    ) -> Result<Self, String> {
        let layer = &slice.order.layer;
        let mut doors = Vec::new();
        for (number, plan) in (0..).zip(&layer.listen) {
            let socket = take(&mut handed.listeners, &plan.name)?;
            rustix::io::ioctl_fionbio(&socket, true).map_err(|error| error.to_string())?;
            let tap = desk.tap(Facility::Listen, number, Audit::Digest);
            let max = plan.max.unwrap_or(1).try_into().unwrap_or(usize::MAX);
            doors.push(Door { acceptor: Acceptor::new(plan.clone(), socket, tap), max });
        }
        let unobserved = starts.watch.unobserved();
        Ok(Self {
            starts,
            doors,
            environment: layer.env.clone(),
            filter: slice.part.filter.lines(),
            unobserved,
            served: HashMap::new(),
            rests_until: None,
            stops: false,
            said: Said::new(&layer.name),
        })
    }

    fn serve(&mut self, inbox: &Inbox) -> io::Result<()> {
        loop {
            let happened = self.starts.spawner.attend()?;
            for (pid, how) in happened.ended {
                self.served.remove(&pid);
                if let Ended::Killed(signal) = self.starts.watch.ending(pid, how)
                    && !self.stops
                {
                    self.tell_killed(signal);
                }
            }
            if happened.stops {
                self.stops = true;
                // The supervisor keeps them for the next life.
                self.doors.clear();
            }
            if self.stops && self.starts.spawner.running() == 0 {
                self.starts.watch.finish();
                return Ok(());
            }
            self.starts.watch.look_after()?;
            for (source, found) in self.wait(inbox)? {
                match source {
                    Source::Door(at) => self.accept(at)?,
                    Source::Call(number) => self.starts.watch.serve(number, found)?,
                    Source::Others => {
                        if matches!(inbox.look()?, Heard::HungUp) {
                            return Err(io::Error::other("the supervisor is gone"));
                        }
                    }
                }
            }
        }
    }

    /// Waits until something happens: what, and how it is.
    fn wait(&mut self, inbox: &Inbox) -> io::Result<Vec<(Source, PollFlags)>> {
        let now = Instant::now();
        self.rests_until = self.rests_until.filter(|&until| until > now);
        let due = [self.rests_until, self.starts.watch.deadline()].into_iter().flatten().min();
        let mut timeout = due.map(|until| until.saturating_duration_since(now));
        let mut sources = vec![Source::Others, Source::Others];
        let mut polled = vec![
            PollFd::new(&self.starts.spawner, PollFlags::IN),
            PollFd::new(inbox, PollFlags::IN),
        ];
        for (number, listener) in self.starts.watch.questions() {
            sources.push(Source::Call(number));
            polled.push(PollFd::from_borrowed_fd(listener, PollFlags::IN));
        }
        for (at, door) in self.doors.iter().enumerate() {
            if self.rests_until.is_some() || self.at(at) >= door.max {
                continue;
            }
            let held_up = door.acceptor.wait();
            if held_up.is_zero() {
                sources.push(Source::Door(at));
                polled.push(PollFd::new(door.acceptor.socket(), PollFlags::IN));
            } else {
                timeout = Some(timeout.map_or(held_up, |it| it.min(held_up)));
            }
        }
        let timeout = timeout.and_then(|it| Timespec::try_from(it).ok());
        match poll(&mut polled, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
        let found = sources.into_iter().zip(polled.iter().map(PollFd::revents));
        Ok(found.filter(|(_, found)| !found.is_empty()).collect())
    }

    /// How many programs serve the connections of a door.
    fn at(&self, door: usize) -> usize {
        self.served.values().filter(|(at, _)| *at == door).count()
    }

    /// Takes what has come at a door.
    fn accept(&mut self, at: usize) -> io::Result<()> {
        for _ in 0..IN_A_TURN {
            let Some(door) = self.doors.get(at).filter(|door| self.at(at) < door.max) else {
                break;
            };
            if !door.acceptor.wait().is_zero() {
                break;
            }
            match door.acceptor.try_accept() {
                // Closed at once for its source, or gone already.
                Ok(None) => {}
                Ok(Some((connection, slot))) => match self.start(&connection)? {
                    Ok(pid) => drop(self.served.insert(pid, (at, slot))),
                    Err(why) => {
                        self.said.once(|layer| {
                            format!("[layer.{layer}] a connection was closed: {why}")
                        });
                        self.rests_until = Some(Instant::now() + REST);
                        break;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    self.said.once(|layer| format!("[layer.{layer}] accepting: {error}"));
                    self.rests_until = Some(Instant::now() + REST);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Starts the program for a connection; the inner error is why it could not be.
    fn start(&mut self, connection: &OwnedFd) -> io::Result<Result<Pid, String>> {
        let mut environment = self.environment.clone();
        environment.extend(peer(connection));
        let envp = strings(environment.iter().map(|(name, value)| format!("{name}={value}")));
        let envp = match (rustix::io::ioctl_fionbio(connection, false), envp) {
            (Ok(()), Ok(envp)) => envp,
            (Err(errno), _) => return Ok(Err(errno.to_string())),
            (_, Err(why)) => return Ok(Err(why)),
        };
        let stderr = io::stderr();
        let Starts { spawner, program, watch, reserved } = &mut self.starts;
        reserved.clear();
        let started = spawner.spawn(&Launch {
            program: program.file.as_fd(),
            argv: &program.argv,
            envp: &envp,
            fds: &[connection.as_fd(), connection.as_fd(), stderr.as_fd()],
            others: &[],
            filter: &self.filter,
            is_observed: true,
            unobserved: Some(&self.unobserved),
            signals: &[],
            stop: StopSignal::default(),
        });
        *reserved = reserve()?;
        let (pid, listener) = match started {
            Ok(started) => started,
            Err(SpawnError::Clone(cause)) if cause.raw_os_error() == Some(libc::EAGAIN) => {
                return Ok(Err(format!(
                    "{cause}: no task is left of `limits.tasks`; a higher one, or a lower `max`"
                )));
            }
            Err(error) => return Ok(Err(not_started(&ConfineError::Spawn(error)))),
        };
        match listener {
            Some(listener) => watch.begin(pid, listener),
            None => self.said.once(|layer| format!("[layer.{layer}] {CANT_BE_TOLD}")),
        }
        Ok(Ok(pid))
    }

    fn tell_killed(&mut self, signal: u8) {
        let name = nix::sys::signal::Signal::try_from(i32::from(signal))
            .map_or_else(|_| format!("signal {signal}"), |it| it.as_str().to_owned());
        let hint = if i32::from(signal) == libc::SIGSYS {
            ": it made a system call that `syscalls` doesn't grant"
        } else {
            ""
        };
        self.said.once(|layer| {
            format!("[layer.{layer}] the program of a connection was killed by {name}{hint}")
        });
    }
}

/// Who is at the other end, as service managers tell it to such programs.
fn peer(connection: &OwnedFd) -> Vec<(String, String)> {
    let address = getpeername(connection).ok().flatten();
    let address = address.and_then(|it| std::net::SocketAddr::try_from(it).ok());
    address.map_or_else(Vec::new, |it| {
        let host = it.ip().to_canonical().to_string();
        [("REMOTE_ADDR", host), ("REMOTE_PORT", it.port().to_string())]
            .map(|(name, value)| (name.to_owned(), value))
            .into()
    })
}
