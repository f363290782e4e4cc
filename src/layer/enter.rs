//! The way into a layer: from the re-executed program to the layer's function, confined.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};

use nix::sys::signal::{SigSet, Signal};

use super::attendant::Attendant;
use super::desk::desk;
use super::facilities::Maps;
use super::firsts::Firsts;
use super::inbox::{Heard, Inbox};
use super::objects::Objects;
use super::order::Orders;
use super::reloaded::Reloaded;
use super::run::{Function, LayerResult, SETUP_FAILED, say};
use super::share::Numbered;
use super::slice::{ChannelSlice, Slice};
use super::{Layer, Shared, Stop, own};
use crate::confine::{Confined, Got, Receipt, confine};
use crate::ipc::broker::Broker;
use crate::ipc::gauge::Gauge;
use crate::ipc::message::{Channel, ChannelSpec, Side};
use crate::ipc::pipe::{Pipe, PipeSpec};
use crate::ipc::queue::{Queue, QueueSpec};
use crate::mark::reached;
use crate::policy::plan::{PipePlan, Program, Ready};
use crate::report::Desk;
use crate::seal::{Identity, OsChance};
use crate::sys::inherit::inherited;
use crate::sys::secret_page::{Kind, SecretPage};
use crate::wire::control::{FromLayer, Service, ToLayer};

/// What the supervisor puts before the instance's name in `argv[0]`.
pub(crate) const TITLE: &str = "cofferdam-layer:";

/// `argv[0]` of a program that only rehearses the place of a running supervisor. A program of a version
/// that knows nothing of upgrades takes it for a layer's, finds nothing that a layer has, and ends.
pub(crate) const REHEARSES: &str = "cofferdam-layer:upgrade";

/// Where the re-executed program finds its slice and its control socket.
const SLICE_FD: i32 = 3;
const CONTROL_FD: i32 = 4;

/// Why a daemon or a layer doesn't begin on a thread of its own.
pub(crate) const NOT_MAIN: &str = "`Daemon::main` was called on another thread than the program's \
    first, as a `#[test]` does. Every layer runs the whole program again, up to that call: so it \
    must be the program's `main` that makes it. A test starts the daemon as a program of its own \
    (`std::process::Command`), or has `harness = false` and a `main` that is the daemon when a \
    layer's name comes as `argv[0]`";

/// Whether this process was started by a supervisor to become a layer.
pub(crate) fn is_layer() -> bool {
    let title = std::env::args_os().next();
    title.is_some_and(|title| {
        title.as_encoded_bytes().starts_with(TITLE.as_bytes()) && title != REHEARSES
    })
}

/// Confines this process and runs its layer.
pub(crate) fn main(functions: &BTreeMap<String, Function>) -> ExitCode {
    let taken = inherited(CONTROL_FD).and_then(Inbox::new);
    let Ok(inbox) = taken else { return ExitCode::from(SETUP_FAILED) };
    // Confining means this thread and those that it makes: there may be no other one.
    if rustix::thread::gettid() != rustix::process::getpid() {
        let _ = inbox.say(&FromLayer::Failed(NOT_MAIN.to_owned()));
        return ExitCode::from(SETUP_FAILED);
    }
    match enter(functions, inbox) {
        Ok(code) => code,
        Err((inbox, error)) => {
            // If this can't be said, the supervisor still sees the exit code.
            let _ = inbox.say(&FromLayer::Failed(error));
            ExitCode::from(SETUP_FAILED)
        }
    }
}

/// Everything up to the layer's own code; an error is told to the supervisor.
fn enter(
    functions: &BTreeMap<String, Function>,
    inbox: Inbox,
) -> Result<ExitCode, (Inbox, String)> {
    let slice = match inherited(SLICE_FD).and_then(Slice::unseal) {
        Ok(slice) => slice,
        Err(error) => return Err((inbox, format!("its part of the plan can't be read: {error}"))),
    };
    match slice.order.layer.program.clone() {
        Program::Exec(argv) => super::exec::run(&slice, &argv, inbox),
        Program::Run(name) => {
            if let Some(mark) = slice.part.events {
                crate::log::begin(mark, slice.order.layer.log.level);
            }
            let own = if slice.part.own { own::function(&name) } else { None };
            let Some(function) = own.as_ref().or_else(|| functions.get(name.as_str())) else {
                return Err((inbox, format!("the program has no function {name} any more")));
            };
            Ok(finish(&run(slice, function, inbox)?))
        }
    }
}

/// What a layer's error looks like in the log, and its exit code.
fn finish(result: &LayerResult) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}

fn run(slice: Slice, function: &Function, inbox: Inbox) -> Result<LayerResult, (Inbox, String)> {
    // Before the filter is there: it allows no more memory of this kind.
    let pages = slice.part.share.queues.iter().map(|_| SecretPage::new().map(|(page, _)| page));
    let pages = match pages.collect::<io::Result<Vec<_>>>() {
        Ok(pages) => pages,
        Err(error) => return Err((inbox, format!("no memory for a queue's keys: {error}"))),
    };
    let desk = match slice.reports.as_ref().map_or_else(|| Ok(Desk::default()), desk) {
        Ok(desk) => desk,
        Err(error) => return Err((inbox, format!("it can't report to the auditor: {error}"))),
    };
    let confined =
        Identity::generate(&mut OsChance).map_err(|error| error.to_string()).and_then(|identity| {
            let hidden = match identity.hidden() {
                Kind::Secret => Got::Enforced,
                Kind::Locked => Got::Fallback,
                Kind::Plain => Got::Missing(0),
            };
            let load = || {
                #[cfg(target_env = "gnu")]
                crate::sys::process::prepare_malloc();
                slice.part.filter.load()
            };
            confine(&slice.order, inbox.as_fd(), hidden, load)
                .map(|(confined, receipt)| (identity, confined, receipt))
                .map_err(|error| error.to_string())
        });
    let (identity, confined, receipt) = match confined {
        Ok(confined) => confined,
        Err(error) => return Err((inbox, error)),
    };
    // Before there is another thread, and before anybody may send one: a layer that isn't ready is
    // sent none, and all of its threads inherit the mask.
    let mut signals = slice.part.share.signals_to(&slice.order.layer.name);
    if slice.order.lingers {
        signals.extend(u8::try_from(libc::SIGTERM));
    }
    if let Err(errno) = block(&signals) {
        return Err((inbox, format!("its signals can't be blocked: {errno}")));
    }
    reached("signal.block.done");
    let ready = FromLayer::Ready { key: identity.public().0, receipt: receipt.to_bytes() };
    if inbox.say(&ready).is_err() {
        return Ok(Err("the supervisor is gone".to_owned()));
    }
    reached("layer.ready.said");
    let shared = match shared(slice, identity, pages, &desk, &confined, receipt, inbox) {
        Ok(shared) => shared,
        Err(error) => return Ok(Err(error.to_string())),
    };
    match shared.receive_grants() {
        Ok(()) => {
            let shared = Arc::new(shared);
            let companion: Weak<Shared> = Arc::downgrade(&shared);
            shared.attendant.belongs_to(companion.clone());
            for channel in shared.channels.values() {
                channel.accompany(companion.clone());
            }
            for queue in shared.queues.values() {
                queue.accompany(companion.clone());
            }
            if let Some(gauge) = &shared.gauge {
                shared.channels.values().for_each(|channel| channel.measure(gauge));
                shared.queues.values().for_each(|queue| queue.measure(gauge));
            }
            for pipe in shared.pipes.values() {
                pipe.accompany(companion.clone());
            }
            for broker in shared.services.values() {
                broker.accompany(companion.clone());
            }
            shared.broker.accompany(companion);
            Ok(function.run(Layer(shared)))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// Blocks signals, to be taken by a descriptor. Two of them nobody can block.
fn block(signals: &[u8]) -> nix::Result<()> {
    let known = |&number: &u8| Signal::try_from(i32::from(number)).ok();
    let set: SigSet = signals.iter().filter_map(known).collect();
    set.thread_block()
}

fn shared(
    slice: Slice,
    identity: Identity,
    pages: Vec<SecretPage>,
    desk: &Desk,
    confined: &Confined,
    receipt: Receipt,
    inbox: Inbox,
) -> Result<Shared, postcard::Error> {
    let daemon = &slice.part.daemon;
    let identity = Arc::new(identity);
    let own = slice.order.instance;
    let mut channels = BTreeMap::new();
    let mut channel_names = BTreeMap::new();
    for ChannelSlice { number, plan, side } in slice.part.channels {
        let name = plan.name.clone();
        let edge = plan.edge(daemon)?;
        let spec = ChannelSpec { number, plan, edge, own: own.clone(), side };
        channel_names.insert(number, name.clone());
        channels.insert(name, Channel::new(spec, Arc::clone(&identity), desk, confined));
    }
    let pipe = |pipe: &Numbered<PipePlan>| {
        let side = if pipe.plan.from == own.layer { Side::From } else { Side::To };
        let (number, plan) = (pipe.number, pipe.plan.clone());
        let edge = plan.edge(daemon)?;
        let spec = PipeSpec { number, plan, edge, own: own.clone(), side };
        Ok((number, Pipe::new(spec, Arc::clone(&identity), desk, confined)))
    };
    let pipes = slice.part.share.pipes.iter().map(pipe).collect::<Result<_, postcard::Error>>()?;
    let broker = Arc::new(Broker::new(inbox.socket()));
    let service = |service: Service| (service, Arc::new(Broker::of_service()));
    let services: BTreeMap<_, _> = slice.part.services.into_iter().map(service).collect();
    // One that has no such helper asks for nothing.
    let asked = services.get(&Service::Ledger).unwrap_or(&broker);
    let mut queues = BTreeMap::new();
    for (Numbered { number, plan }, page) in slice.part.share.queues.iter().zip(pages) {
        let (number, plan, own) = (*number, plan.clone(), own.clone());
        let edge = plan.edge(daemon)?;
        let spec = QueueSpec { number, plan, edge, own };
        queues.insert(number, Queue::new(spec, page, Arc::clone(asked), desk, confined));
    }
    Ok(Shared {
        instance: own,
        daemon: slice.part.daemon.clone(),
        policy: slice.part.policy,
        receipt,
        settings: slice.settings,
        reloaded: Reloaded::default(),
        grace: slice.order.layer.grace,
        gauge: slice.order.layer.elastic.map(|it| Gauge::new(it.busy, inbox.socket())),
        is_worker: slice.order.layer.workers.is_some(),
        inbox,
        attending: Mutex::default(),
        attendant: Attendant::default(),
        threads: slice.order.layer.threads,
        vars: slice.order.layer.vars,
        channels,
        channel_names,
        queues,
        directories: slice.part.directories.into_iter().collect(),
        listeners: Mutex::default(),
        held: Mutex::default(),
        files: Mutex::default(),
        share: slice.part.share,
        objects: Objects::default(),
        pipes,
        inflow: Mutex::default(),
        broker,
        services,
        maps: Maps::default(),
        stop: Stop::default(),
        told: (slice.order.layer.ready == Ready::Told).then(AtomicBool::default),
        desk: desk.clone(),
        firsts: Firsts::default(),
        orders: slice.part.own.then(Orders::default),
    })
}

impl Shared {
    /// Takes what the supervisor hands over, until it says start.
    fn receive_grants(&self) -> io::Result<()> {
        loop {
            match self.inbox.wait()? {
                Heard::Message(ToLayer::Start, None) => return Ok(()),
                heard => self.handle(heard)?,
            }
        }
    }
}
