//! An `exec` layer: this process becomes the init of another program.
//!
//! | file | what it does |
//! |---|---|
//! | `inetd` | accepts, and starts the program for each connection |
//! | `handed` | takes the sockets that the supervisor hands over, before the program starts |
//! | `places` | which descriptors the program finds, and what its environment says of them |
//! | `proxied` | what its environment says of the proxy |
//! | `observer` | answers the calls that the program's filter leaves to init |
//! | `bind`, `dial` | what it answers to `bind(2)` and `connect(2)` |
//! | `watch` | the same for the programs of an init that accepts, of refusals alone |
//! | `refused` | what it answers to a call that the filter refuses |
//! | `condemned` | ends the processes that the filter would have ended |
//! | `teller`, `site` | tells what was refused, and where in the program that was called |
//! | `paths` | what calls ask of paths, and what the policy doesn't grant of that |
//! | `asked`, `kind` | what a call is about: the program's socket, and what kind it is |

mod asked;
mod bind;
mod condemned;
mod dial;
mod handed;
mod inetd;
mod kind;
mod observer;
mod paths;
mod places;
mod proxied;
mod refused;
mod said;
mod site;
mod teller;
mod watch;

pub(crate) use self::dial::placeholders;
pub(crate) use self::observer::AT_PATHS;
pub(crate) use self::paths::CALLS as PATH_CALLS;

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
use self::teller::Teller;
use super::inbox::Inbox;
use super::run::{SETUP_FAILED, say};
use super::script::Command;
use super::slice::{PIPE_FDS, Slice};
use crate::confine::filter::Filter;
use crate::confine::init::{Init, Launch, Ready};
use crate::confine::paths::view_entries;
use crate::confine::{ConfineError, Got, prepare};
use crate::policy::plan::{Pass, Protection};
use crate::policy::syscall::EXEC_FD;
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
    if slice.order.layer.is_inetd() {
        return inetd::run(slice, argv, inbox);
    }
    match inbox.above(EXEC_FD) {
        Ok(above) => inbox = above,
        Err(error) => return Err((inbox, error.to_string())),
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

/// Where a program can't be observed.
const CANT_BE_TOLD: &str = "what its program is refused can't be told: an ancestor of this process \
    is observed already (seccomp_unotify(2)), and the kernel lets nobody else";

/// Stays until the program has ended.
fn finish(running: Running, slice: &Slice, inbox: &Inbox) -> ExitCode {
    let Running { mut init, answering, teller, network } = running;
    let ended = if let (Some(listener), Some(rules)) = (init.take_listener(), &slice.part.rules) {
        let order = &slice.order;
        let entries = slice.part.tells_paths.then(|| view_entries(&order.layer, &order.contents));
        let told = (rules, teller, entries.unwrap_or_default());
        Observer::new(&init, inbox, listener, answering, told, network).run()
    } else {
        say(CANT_BE_TOLD);
        init.run()
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
    /// For its standard streams, where the policy attaches something.
    pipes: [Option<OwnedFd>; 3],
    /// Where refusals are told.
    refusals: OwnedFd,
    /// Whether Landlock keeps TCP ports from the layer.
    ports_are_kept: bool,
    /// Numbers that a program which is observed finds something at: nothing of init's is there.
    reserved: Vec<OwnedFd>,
}

/// An init whose program runs.
struct Running {
    init: Init,
    /// What the program finds by binding and connecting; `None`: it has no sockets of the host's.
    answering: Option<(Doors, Dialer)>,
    /// Tells what it is refused.
    teller: Teller,
    /// The layer's own network namespace.
    network: u64,
}

impl Begun {
    fn begin(slice: &Slice, argv: &[String], inbox: &Inbox) -> Result<Self, String> {
        let filter = slice.part.init.clone().ok_or("its init has no filter")?;
        let blame_pipes = |error| format!("its standard streams: {error}");
        let (mut pipes, mut refusals) = pipes(slice).map_err(blame_pipes)?;
        let bare = prepare(&slice.order, inbox.as_fd()).map_err(|error| error.to_string())?;
        for pipe in pipes.iter_mut().flatten().chain([&mut refusals]) {
            *pipe = fcntl_dupfd_cloexec(&*pipe, EXEC_FD + 1).map_err(|e| blame_pipes(e.into()))?;
        }
        let reserved = reserve().map_err(|error| format!("its descriptors: {error}"))?;

        let Started { file: program, argv } = self::program(slice, argv)?;
        let init = bare.into_init().map_err(|error| error.to_string())?;
        let ports_are_kept = init.receipt().got(Protection::LandlockNet) == Got::Enforced;
        Ok(Self { init, filter, program, argv, pipes, refusals, ports_are_kept, reserved })
    }

    /// Starts the program.
    fn launch(self, slice: &Slice, mut handed: Handed) -> Result<Running, String> {
        let Self { init, filter, program, argv, pipes, refusals, ports_are_kept, reserved } = self;
        let order = &slice.order;
        let places = Places::new(&order.layer.listen, &mut handed.listeners)?;
        let mut doors = Vec::new();
        for plan in order.layer.listen.iter().filter(|plan| plan.pass == Pass::Bind) {
            doors.push((plan.address.clone(), take(&mut handed.listeners, &plan.name)?));
        }
        let has_sockets = !order.layer.listen.is_empty() || !order.layer.connect.is_empty();
        // Sockets of the host's take somebody who answers.
        let rules = slice.part.rules.as_ref().filter(|_| !has_sockets);
        let unobserved = rules.map(Filter::unobserved);
        let network = own_network().map_err(|error| format!("its network namespace: {error}"))?;
        let mut stated = proxied::environment(&order.layer);
        stated.extend(order.layer.env.clone());
        let envp = strings(places.environment(&stated).into_iter())?;
        // The spawn has put these in place: the null device and the log's pipes.
        let usual: [&dyn AsFd; 3] = [&io::stdin(), &io::stdout(), &io::stderr()];
        let standard = [0, 1, 2].map(|at: usize| match &pipes[at] {
            Some(attached) => attached.as_fd(),
            None => usual[at].as_fd(),
        });
        let launch = Launch {
            program: program.as_fd(),
            argv: &argv,
            envp: &envp,
            fds: &standard,
            others: &places.borrowed(),
            filter: &slice.part.filter.lines(),
            is_observed: slice.part.filter.is_observed(),
            unobserved: unobserved.as_deref(),
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
        let answering = has_sockets.then(|| {
            let doors = Doors::new(doors, ports_are_kept);
            (doors, Dialer::new(&order.layer.connect, handed.services))
        });
        let name = argv.first().map(|path| path.to_string_lossy()).unwrap_or_default();
        let teller = Teller::new(Some(refusals), init.program(), &name);
        Ok(Running { init, answering, teller, network })
    }
}

/// What is executed.
struct Started {
    /// The program, pinned.
    file: OwnedFd,
    /// Its arguments, the first its path.
    argv: Vec<CString>,
}

/// Finds the program in the layer's own root: what it can't see can't be started.
fn program(slice: &Slice, argv: &[String]) -> Result<Started, String> {
    let path = argv.first().map_or("", String::as_str);
    let layer = &slice.order.layer.name;
    let blame = |error: String| format!("[layer.{layer}] exec: {path}: {error}");
    let Command { program, argv } = Command::find(argv).map_err(blame)?;
    Ok(Started { file: program, argv: strings(argv.into_iter())? })
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

/// What is for the standard streams, where the policy attaches something, and the pipe for refusals,
/// which doesn't wait. After the ring for reports was taken, if there is one.
fn pipes(slice: &Slice) -> io::Result<([Option<OwnedFd>; 3], OwnedFd)> {
    let mut places = PIPE_FDS.skip(usize::from(slice.reports.is_some()));
    let mut streams = [None, None, None];
    for (stream, attached) in streams.iter_mut().zip(slice.order.layer.streams()) {
        if let Some(place) = attached.and_then(|_| places.next()) {
            *stream = Some(inherited(place)?);
        }
    }
    let refusals = inherited(places.next().ok_or(io::ErrorKind::NotFound)?)?;
    rustix::io::ioctl_fionbio(&refusals, true)?;
    Ok((streams, refusals))
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
