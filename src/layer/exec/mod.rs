//! An `exec` layer: this process becomes the init of another program.
//!
//! | file | what it does |
//! |---|---|
//! | `handed` | takes the sockets that the supervisor hands over, before the program starts |
//! | `places` | which descriptors the program finds, and what its environment says of them |
//! | `proxied` | what its environment says of the proxy |
//! | `observer` | answers the calls that the program's filter leaves to init |
//! | `bind`, `dial` | what it answers to `bind(2)` and `connect(2)` |
//! | `asked`, `kind` | what a call is about: the program's socket, and what kind it is |

mod asked;
mod bind;
mod dial;
mod handed;
mod kind;
mod observer;
mod places;
mod proxied;

pub(crate) use self::dial::placeholders;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;

use rustix::io::fcntl_dupfd_cloexec;

use self::bind::Doors;
use self::dial::Dialer;
use self::handed::{Handed, take};
use self::observer::{Observer, own_network};
use self::places::Places;
use super::inbox::Inbox;
use super::run::{SETUP_FAILED, say};
use super::script::Command;
use super::slice::{PIPE_FDS, Slice};
use crate::confine::filter::{self, Arch, Filter};
use crate::confine::init::{Init, Launch, Ready};
use crate::confine::{ConfineError, Got, prepare};
use crate::policy::plan::{Pass, Protection};
use crate::policy::syscall::{EXEC_FD, init_plan};
use crate::sys::inherit::inherited;
use crate::sys::pidfd::Ended;
use crate::sys::spawn::{SpawnError, Step};
use crate::wire::control::FromLayer;

/// Confines this process, runs the program beneath it, and tells the supervisor how it ended.
pub(super) fn run(
    slice: &Slice,
    argv: &[String],
    mut inbox: Inbox,
) -> Result<ExitCode, (Inbox, String)> {
    let is_observed = slice.part.filter.is_observed();
    if is_observed {
        match inbox.above(EXEC_FD) {
            Ok(above) => inbox = above,
            Err(error) => return Err((inbox, error.to_string())),
        }
    }
    let begun = match Begun::begin(slice, argv, &inbox) {
        Ok(begun) => begun,
        Err(error) => return Err((inbox, error)),
    };
    let ready = FromLayer::Ready { key: [0; 32], receipt: begun.init.receipt().to_bytes() };
    let plan = &slice.order.layer;
    if plan.listen.is_empty() && plan.connect.is_empty() {
        return match begun.launch(slice, Handed::default()) {
            Err(error) => Err((inbox, error)),
            Ok(running) => {
                // When the supervisor is gone there is nobody to tell, and the kernel is about to
                // end us.
                let _ = inbox.say(&ready);
                Ok(finish(running, slice, &inbox))
            }
        };
    }
    // The supervisor hands sockets over to who is confined, and the program starts with them.
    let _ = inbox.say(&ready);
    match Handed::receive(&inbox).and_then(|handed| begun.launch(slice, handed)) {
        Ok(running) => Ok(finish(running, slice, &inbox)),
        Err(error) => {
            say(&error);
            Ok(ExitCode::from(SETUP_FAILED))
        }
    }
}

/// Stays until the program has ended.
fn finish(running: Running, slice: &Slice, inbox: &Inbox) -> ExitCode {
    let Running { mut init, doors, dialer, network } = running;
    let ended = match init.take_listener() {
        None => init.run(),
        Some(listener) => {
            let name = &slice.order.layer.name;
            Observer::new(&init, inbox, listener, (doors, dialer), name, network).run()
        }
    };
    let last_words = match ended {
        Ok(Ended::Exited(code)) => FromLayer::Exited { code },
        Ok(Ended::Killed(signal)) => FromLayer::Killed { signal },
        Err(_) => return ExitCode::FAILURE,
    };
    let _ = inbox.say(&last_words);
    ExitCode::SUCCESS
}

/// An init that is confined and knows its program.
struct Begun {
    init: Ready,
    filter: Filter,
    program: OwnedFd,
    argv: Vec<CString>,
    /// For standard input and output, where the policy attaches them.
    pipes: [Option<OwnedFd>; 2],
    /// Whether Landlock keeps TCP ports from the layer.
    ports_are_kept: bool,
    /// Numbers that a program which is observed finds something at: nothing of init's is there.
    reserved: Vec<OwnedFd>,
}

/// An init whose program runs.
struct Running {
    init: Init,
    /// What the program finds by binding.
    doors: Doors,
    /// What it may connect to.
    dialer: Dialer,
    /// The layer's own network namespace; 0 where nobody asks.
    network: u64,
}

impl Begun {
    fn begin(slice: &Slice, argv: &[String], inbox: &Inbox) -> Result<Self, String> {
        let observes = slice.part.filter.is_observed();
        let filter = filter::compile(&init_plan(observes), Arch::NATIVE)
            .map_err(|error| error.to_string())?;
        let blame_pipes = |error| format!("standard input and output: {error}");
        let mut pipes = pipes(slice).map_err(blame_pipes)?;
        let bare = prepare(&slice.order, inbox.as_fd()).map_err(|error| error.to_string())?;
        let mut reserved = Vec::new();
        if observes {
            for pipe in pipes.iter_mut().flatten() {
                *pipe =
                    fcntl_dupfd_cloexec(&*pipe, EXEC_FD + 1).map_err(|e| blame_pipes(e.into()))?;
            }
            reserved = reserve().map_err(|error| format!("its descriptors: {error}"))?;
        }

        // Opened in the layer's own root: what it can't see can't be started.
        let path = argv.first().map_or("", String::as_str);
        let layer = &slice.order.layer.name;
        let blame = |error: String| format!("[layer.{layer}] exec: {path}: {error}");
        let Command { program, argv } = Command::find(argv).map_err(blame)?;
        let argv = strings(argv.into_iter())?;
        let init = bare.into_init().map_err(|error| error.to_string())?;
        let ports_are_kept = init.receipt().got(Protection::LandlockNet) == Got::Enforced;
        Ok(Self { init, filter, program, argv, pipes, ports_are_kept, reserved })
    }

    /// Starts the program.
    fn launch(self, slice: &Slice, mut handed: Handed) -> Result<Running, String> {
        let Self { init, filter, program, argv, pipes, ports_are_kept, reserved } = self;
        let order = &slice.order;
        let places = Places::new(&order.layer.listen, &mut handed.listeners)?;
        let mut doors = Vec::new();
        for plan in order.layer.listen.iter().filter(|plan| plan.pass == Pass::Bind) {
            doors.push((plan.address.clone(), take(&mut handed.listeners, &plan.name)?));
        }
        let is_observed = slice.part.filter.is_observed();
        let network = if is_observed { own_network() } else { Ok(0) };
        let network = network.map_err(|error| format!("its network namespace: {error}"))?;
        let mut stated = proxied::environment(&order.layer);
        stated.extend(order.layer.env.clone());
        let envp = strings(places.environment(&stated).into_iter())?;
        // The spawn has put these in place: the null device and the log's pipes.
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let [input, output] = &pipes;
        let launch = Launch {
            program: program.as_fd(),
            argv: &argv,
            envp: &envp,
            fds: &[
                input.as_ref().map_or(stdin.as_fd(), AsFd::as_fd),
                output.as_ref().map_or(stdout.as_fd(), AsFd::as_fd),
                stderr.as_fd(),
            ],
            others: &places.borrowed(),
            filter: &slice.part.filter.lines(),
            is_observed,
            signals: &slice.part.share.signals_to(&order.layer.name),
            stop: order.layer.stop_signal,
        };
        drop(reserved);
        let init = init.launch(&launch, || filter.load()).map_err(|error| {
            let path = argv.first().map(|path| path.to_string_lossy()).unwrap_or_default();
            format!("[layer.{}] exec: {path}: {}", order.layer.name, not_started(&error))
        })?;
        places.told_right(init.program())?;
        // The program's alone from here on: an end that init kept would be one that never closes.
        drop((pipes, places));
        let doors = Doors::new(doors, ports_are_kept);
        let dialer = Dialer::new(&order.layer.connect, handed.services);
        Ok(Running { init, doors, dialer, network })
    }
}

/// Takes all numbers that are free up to [`EXEC_FD`].
fn reserve() -> io::Result<Vec<OwnedFd>> {
    let mut taken = Vec::new();
    loop {
        let next = fcntl_dupfd_cloexec(io::stdin(), 3)?;
        if next.as_raw_fd() > EXEC_FD {
            return Ok(taken);
        }
        taken.push(next);
    }
}

/// The pipes for standard input and output, where the policy attaches them.
fn pipes(slice: &Slice) -> io::Result<[Option<OwnedFd>; 2]> {
    let layer = &slice.order.layer;
    let mut places = PIPE_FDS;
    let mut take = |attached: bool| match attached.then(|| places.next()).flatten() {
        Some(place) => inherited(place).map(Some),
        None => Ok(None),
    };
    let input = take(layer.stdin.is_some())?;
    Ok([input, take(layer.stdout.is_some())?])
}

/// Why a program that is there could not be started.
fn not_started(error: &ConfineError) -> String {
    let ConfineError::Spawn(SpawnError::Child(Step::Exec, cause)) = error else {
        return error.to_string();
    };
    match cause.raw_os_error() {
        Some(libc::ENOENT) => format!(
            "{error}: what loads its libraries isn't in the layer's view (`readelf -l` shows its \
             path); `view = \"system\"` has the system's"
        ),
        Some(libc::ENOEXEC) => format!(
            "{error}: it is neither a program for this machine nor a script, whose first line \
             begins with `#!`"
        ),
        Some(libc::EACCES) => {
            format!("{error}: the layer's user may not execute it; `chmod a+x` it")
        }
        _ => error.to_string(),
    }
}

fn strings(texts: impl Iterator<Item = String>) -> Result<Vec<CString>, String> {
    texts
        .map(|text| CString::new(text).map_err(|_| "an argument holds a zero byte".to_owned()))
        .collect()
}
