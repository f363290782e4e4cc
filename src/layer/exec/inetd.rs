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
use rustix::io::Errno;
use rustix::net::getpeername;
use rustix::process::Pid;

use super::handed::{Handed, take};
use super::said::Said;
use super::{Started, not_started, program, strings};
use crate::confine::filter::Filter;
use crate::confine::init::{Launch, Ready};
use crate::confine::spawner::Spawner;
use crate::confine::{ConfineError, prepare};
use crate::ipc::socket::{Acceptor, Slotted};
use crate::layer::desk::desk;
use crate::layer::inbox::{Heard, Inbox};
use crate::layer::run::{SETUP_FAILED, say};
use crate::layer::slice::Slice;
use crate::policy::plan::{Audit, StopSignal};
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
    inbox: Inbox,
) -> Result<ExitCode, (Inbox, String)> {
    let begun = match begin(slice, argv, &inbox) {
        Ok(begun) => begun,
        Err(error) => return Err((inbox, error)),
    };
    let (init, filter, program, desk) = begun;
    let _ = inbox.say(&FromLayer::Ready { key: [0; 32], receipt: init.receipt().to_bytes() });
    let served = Handed::receive(&inbox).and_then(|handed| {
        let signals = slice.part.share.signals_to(&slice.order.layer.name);
        let stop = slice.order.layer.stop_signal;
        let spawner = init.into_spawner(&signals, stop, || filter.load());
        let spawner = spawner.map_err(|error| error.to_string())?;
        let mut server = Server::new(slice, spawner, program, handed, &desk)?;
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

fn begin(
    slice: &Slice,
    argv: &[String],
    inbox: &Inbox,
) -> Result<(Ready, Filter, Started, Desk), String> {
    let blame = |error: io::Error| format!("it can't report to the auditor: {error}");
    let desk = slice.reports.as_ref().map_or_else(|| Ok(Desk::default()), desk).map_err(blame)?;
    let filter = slice.part.init.clone().ok_or("its init has no filter")?;
    let bare = prepare(&slice.order, inbox.as_fd()).map_err(|error| error.to_string())?;
    let program = program(slice, argv)?;
    let init = bare.into_init().map_err(|error| error.to_string())?;
    #[cfg(target_env = "gnu")]
    crate::sys::process::prepare_malloc();
    Ok((init, filter, program, desk))
}

/// Accepts, starts and reaps.
struct Server {
    spawner: Spawner,
    doors: Vec<Door>,
    program: Started,
    environment: BTreeMap<String, String>,
    filter: Vec<FilterLine>,
    /// Whose connection a program has.
    served: HashMap<Pid, (usize, Slotted)>,
    /// Nothing is accepted until then.
    rests_until: Option<Instant>,
    stops: bool,
    said: Said,
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
}

impl Server {
    fn new(
        slice: &Slice,
        spawner: Spawner,
        program: Started,
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
        Ok(Self {
            spawner,
            doors,
            program,
            environment: layer.env.clone(),
            filter: slice.part.filter.lines(),
            served: HashMap::new(),
            rests_until: None,
            stops: false,
            said: Said::new(&layer.name),
        })
    }

    fn serve(&mut self, inbox: &Inbox) -> io::Result<()> {
        loop {
            let happened = self.spawner.attend()?;
            for (pid, how) in happened.ended {
                self.served.remove(&pid);
                if let Ended::Killed(signal) = how
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
            if self.stops && self.spawner.running() == 0 {
                return Ok(());
            }
            for source in self.wait(inbox)? {
                match source {
                    Source::Door(at) => self.accept(at),
                    Source::Others => {
                        if matches!(inbox.look()?, Heard::HungUp) {
                            return Err(io::Error::other("the supervisor is gone"));
                        }
                    }
                }
            }
        }
    }

    /// Waits until something happens.
    fn wait(&mut self, inbox: &Inbox) -> io::Result<Vec<Source>> {
        let now = Instant::now();
        self.rests_until = self.rests_until.filter(|&until| until > now);
        let mut timeout = self.rests_until.map(|until| until - now);
        let mut sources = vec![Source::Others, Source::Others];
        let mut polled =
            vec![PollFd::new(&self.spawner, PollFlags::IN), PollFd::new(inbox, PollFlags::IN)];
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
        let found: Vec<bool> = polled.iter().map(|it| !it.revents().is_empty()).collect();
        Ok(sources.into_iter().zip(found).filter(|(_, found)| *found).map(|(it, _)| it).collect())
    }

    /// How many programs serve the connections of a door.
    fn at(&self, door: usize) -> usize {
        self.served.values().filter(|(at, _)| *at == door).count()
    }

    /// Takes what has come at a door.
    fn accept(&mut self, at: usize) {
        for _ in 0..IN_A_TURN {
            let Some(door) = self.doors.get(at).filter(|door| self.at(at) < door.max) else {
                return;
            };
            if !door.acceptor.wait().is_zero() {
                return;
            }
            match door.acceptor.try_accept() {
                // Closed at once for its source, or gone already.
                Ok(None) => {}
                Ok(Some((connection, slot))) => match self.start(&connection) {
                    Ok(pid) => drop(self.served.insert(pid, (at, slot))),
                    Err(why) => {
                        self.said.once(|layer| {
                            format!("[layer.{layer}] a connection was closed: {why}")
                        });
                        self.rests_until = Some(Instant::now() + REST);
                        return;
                    }
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.said.once(|layer| format!("[layer.{layer}] accepting: {error}"));
                    self.rests_until = Some(Instant::now() + REST);
                    return;
                }
            }
        }
    }

    /// Starts the program for a connection.
    fn start(&mut self, connection: &OwnedFd) -> Result<Pid, String> {
        rustix::io::ioctl_fionbio(connection, false).map_err(|error| error.to_string())?;
        let mut environment = self.environment.clone();
        environment.extend(peer(connection));
        let envp = strings(environment.iter().map(|(name, value)| format!("{name}={value}")))?;
        let stderr = io::stderr();
        let started = self.spawner.spawn(&Launch {
            program: self.program.file.as_fd(),
            argv: &self.program.argv,
            envp: &envp,
            fds: &[connection.as_fd(), connection.as_fd(), stderr.as_fd()],
            others: &[],
            filter: &self.filter,
            is_observed: false,
            unobserved: None,
            signals: &[],
            stop: StopSignal::default(),
        });
        started.map_err(|error| match error {
            SpawnError::Clone(cause) if cause.raw_os_error() == Some(libc::EAGAIN) => {
                format!(
                    "{cause}: no task is left of `limits.tasks`; a higher one, or a lower `max`"
                )
            }
            error => not_started(&ConfineError::Spawn(error)),
        })
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
