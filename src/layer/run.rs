//! Running a layer's function, with the control socket served beside it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::inbox::Heard;
use super::order::{Arrival, Order};
use super::{Layer, Shared};
use crate::ident::Name;
use crate::ipc::gauge::Gauge;
use crate::ipc::message::{Channel, Companion};
use crate::seal::PublicKey;
use crate::wire::control::{FromLayer, Service, ToLayer};

/// What a layer's function comes to: nothing, or the text of its error.
pub type LayerResult = Result<(), String>;

type Running = Pin<Box<dyn Future<Output = LayerResult>>>;

/// A layer's function, as the daemon's program registered it.
pub enum Function {
    /// Runs on tokio's runtime, which has one thread unless the policy says otherwise.
    Async(Box<dyn Fn(Layer) -> Running>),
    /// Runs on the process's only thread; its channels are [`Channel::blocking`].
    ///
    /// [`Channel::blocking`]: crate::ipc::message::Channel::blocking
    Blocking(Box<dyn Fn(Layer) -> LayerResult>),
}

impl Function {
    /// Wraps an async function with an error of any kind.
    pub fn from_async<F, R, E>(function: F) -> Self
    where
        F: Fn(Layer) -> R + 'static,
        R: Future<Output = Result<(), E>> + 'static,
        E: Display,
    {
        Self::Async(Box::new(move |layer| {
            let running = function(layer);
            Box::pin(async move { running.await.map_err(|error| error.to_string()) })
        }))
    }

    /// Wraps a blocking function with an error of any kind.
    pub fn from_blocking<F, E>(function: F) -> Self
    where
        F: Fn(Layer) -> Result<(), E> + 'static,
        E: Display,
    {
        Self::Blocking(Box::new(move |layer| function(layer).map_err(|error| error.to_string())))
    }

    /// Runs the function until it returns or the supervisor is gone.
    pub(crate) fn run(&self, layer: Layer) -> LayerResult {
        match self {
            // What it has of the layer works only as long as the layer is there.
            Self::Blocking(_) if layer.0.threads.is_some() => Err(format!(
                "[layer.{}] runtime: its function is a `blocking_layer`, which has none",
                layer.0.instance.layer
            )),
            Self::Blocking(function) => function(layer.clone()),
            Self::Async(function) => {
                let runtime = runtime(layer.0.threads)
                    .map_err(|error| format!("the async runtime can't start: {error}"))?;
                layer.0.attendant.is_a_task();
                runtime.block_on(async {
                    for channel in layer.0.channels.values() {
                        let channel = channel.clone();
                        tokio::spawn(async move { channel.drive().await });
                    }
                    for broker in layer.0.services.values() {
                        let broker = Arc::clone(broker);
                        tokio::spawn(async move { broker.drive().await });
                    }
                    if let Some(gauge) = layer.0.gauge.clone() {
                        tokio::spawn(async move { gauge.drive().await });
                    }
                    // A task of its own: with several threads it goes on while the function's own
                    // thread is busy.
                    let mut served = tokio::spawn(serve(Arc::clone(&layer.0)));
                    let running = function(layer);
                    tokio::select! {
                        biased;
                        result = running => result,
                        error = &mut served => Err(match error {
                            Ok(error) => error.to_string(),
                            Err(error) => error.to_string(),
                        }),
                    }
                })
            }
        }
    }
}

/// The runtime of a layer: one thread, or workers besides.
fn runtime(threads: Option<u16>) -> io::Result<tokio::runtime::Runtime> {
    use tokio::runtime::Builder;
    match threads {
        None => Builder::new_current_thread().enable_all().build(),
        Some(threads) => {
            Builder::new_multi_thread().worker_threads(threads.into()).enable_all().build()
        }
    }
}

/// A layer that could not be confined or set up exits with this.
pub(super) const SETUP_FAILED: u8 = 70;

/// Says a line in the log, which stamps it with the instance's name.
pub(super) fn say(line: &str) {
    let _ = rustix::io::write(io::stderr(), format!("{line}\n").as_bytes());
}

/// Serves the control socket for ever; returns why it can't go on.
pub(super) async fn serve(shared: Arc<Shared>) -> io::Error {
    let readiness = match shared.inbox.watch() {
        Ok(readiness) => readiness,
        Err(error) => return error,
    };
    loop {
        let mut ready = match readiness.readable().await {
            Ok(ready) => ready,
            Err(error) => return error,
        };
        if let Err(error) = shared.pump() {
            return error;
        }
        ready.clear_ready();
    }
}

/// What threads that sleep on a channel attend to.
impl Companion for Shared {
    fn socket(&self) -> Arc<OwnedFd> {
        self.inbox.socket()
    }

    fn attend(&self) -> io::Result<()> {
        self.pump()
    }

    fn attend_once(&self) -> io::Result<()> {
        let _one = self.turn();
        let heard = self.inbox.look()?;
        self.handle(heard)
    }

    fn ensure_attended(&self) {
        self.ensure_attendant();
    }

    fn is_stopping(&self) -> bool {
        self.stop.is_asked()
    }

    fn gauge(&self) -> Option<&Arc<Gauge>> {
        self.gauge.as_ref()
    }

    fn stop_bell(&self) -> io::Result<Arc<OwnedFd>> {
        self.stop.bell()
    }
}

impl Shared {
    /// Handles every control message that has come, without waiting.
    ///
    /// An error means that the layer can't go on: the supervisor is gone or speaks nonsense.
    pub(crate) fn pump(&self) -> io::Result<()> {
        let _one = self.turn();
        loop {
            match self.inbox.look()? {
                Heard::Nothing => return Ok(()),
                heard => self.handle(heard)?,
            }
        }
    }

    /// One thread at a time reads and handles: so messages are handled in their order, and who
    /// finds nothing knows that all that had come has been handled.
    fn turn(&self) -> MutexGuard<'_, ()> {
        self.attending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles one control message; see [`Shared::pump`].
    pub(super) fn handle(&self, heard: Heard) -> io::Result<()> {
        let keep = |table: &Mutex<BTreeMap<Name, OwnedFd>>, name, fd| {
            table.lock().unwrap_or_else(PoisonError::into_inner).insert(name, fd);
        };
        match heard {
            Heard::Nothing => {}
            Heard::HungUp => {
                let what = "the supervisor is gone";
                return Err(io::Error::new(io::ErrorKind::ConnectionAborted, what));
            }
            Heard::Message(ToLayer::Stop, None) => {
                self.stop.ask();
                self.channels.values().for_each(Channel::finish);
            }
            Heard::Message(ToLayer::Settings { bytes }, Some(memory)) => {
                self.reloaded.put(&memory, bytes)?;
            }
            Heard::Message(ToLayer::AreYouWell, None) => self.inbox.say(&FromLayer::Well)?,
            Heard::Message(ToLayer::Listener(name), Some(fd)) => keep(&self.listeners, name, fd),
            Heard::Message(ToLayer::Connection, Some(fd)) => self.hold(fd),
            Heard::Message(ToLayer::File(name), Some(fd)) => keep(&self.files, name, fd),
            Heard::Message(ToLayer::Object { kind, number, part }, Some(fd)) => {
                let rest = match &self.orders {
                    // It uses them as they are.
                    Some(_) => Some(fd),
                    None => self.take_queue_part(kind, number, part, fd)?,
                };
                if let Some(fd) = rest {
                    self.objects.keep(kind, number, part, fd);
                }
            }
            Heard::Message(ToLayer::Reports { ring, reporter, bytes }, Some(fd)) => {
                self.order(Order::Reports(Arrival { ring, reporter, bytes, fd }))?;
            }
            Heard::Message(ToLayer::Answer { request, answer }, fd) => {
                self.broker.answered(request, answer, fd);
            }
            Heard::Message(ToLayer::Pipe { pipe, peer, key }, Some(fd)) => {
                let place = self.pipes.get(&pipe);
                let place = place.ok_or_else(|| io::Error::other("a pipe of another layer"))?;
                place.arrived(peer, PublicKey(key), fd);
            }
            Heard::Message(ToLayer::Introduce { channel, peer, key, witness }, Some(socket)) => {
                let who = peer.to_string();
                let channel = self.channel_of(channel)?;
                if let Err(error) = channel.introduce_through(peer, PublicKey(key), socket, witness)
                {
                    // A peer with a key that nobody may use, or that is gone already: its loss.
                    say(&format!("{who} is left out: {error}"));
                }
            }
            Heard::Message(ToLayer::Departed { channel, peer }, None) if self.orders.is_some() => {
                self.order(Order::Departed { channel, peer })?;
            }
            Heard::Message(ToLayer::Departed { channel, peer }, None) => {
                self.channel_of(channel)?.departed(&peer);
            }
            Heard::Message(ToLayer::PeerDown { channel }, None) => {
                self.channel_of(channel)?.peer_down();
            }
            Heard::Message(ToLayer::Relay { channel, near, far, fds, link }, Some(socket)) => {
                self.order(Order::Relay { channel, near, far, fds, link, socket })?;
            }
            Heard::Message(ToLayer::Client { seat, client, key }, Some(socket)) => {
                self.order(Order::Client { seat, client, key, socket })?;
            }
            Heard::Message(ToLayer::ClientGone { seat }, None) => {
                self.order(Order::ClientGone { seat })?;
            }
            Heard::Message(ToLayer::Say { at, how, text }, None) => {
                self.order(Order::Say { at, how, text })?;
            }
            Heard::Message(ToLayer::Output { seat, instance, culprit, part, over }, Some(fd)) => {
                self.order(Order::Output { seat, instance, culprit, part, over, fd })?;
            }
            Heard::Message(ToLayer::Ended { at, end, hushed }, None) => {
                self.order(Order::Ended { at, end, hushed })?;
            }
            Heard::Message(ToLayer::Caller { caller }, Some(line)) => {
                self.order(Order::Caller { caller, line })?;
            }
            Heard::Message(ToLayer::Told { caller, text, last }, None) => {
                self.order(Order::Told { caller, text, last })?;
            }
            Heard::Message(ToLayer::Policy(policy), None) => self.order(Order::Policy(policy))?,
            Heard::Message(ToLayer::Standing(standing), None) => {
                self.order(Order::Standing(standing))?;
            }
            Heard::Message(ToLayer::Counter { seat, counter }, Some(file)) => {
                self.order(Order::Counter { seat, counter, file })?;
            }
            Heard::Message(ToLayer::Service(service), Some(socket)) => {
                self.renew(service, socket)?;
            }
            Heard::Message(message, _) => {
                return Err(io::Error::other(format!("{message:?} is out of place")));
            }
        }
        Ok(())
    }

    /// Takes the socket to another life of a helper.
    fn renew(&self, service: Service, socket: OwnedFd) -> io::Result<()> {
        // One of our own uses it as it is.
        if self.orders.is_some() {
            return self.order(Order::Service { socket });
        }
        let broker = self.services.get(&service);
        broker.ok_or_else(|| io::Error::other("a helper of another layer"))?.renew(socket)
    }

    /// Keeps the connection that this life is for.
    fn hold(&self, connection: OwnedFd) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(connection);
    }

    /// Keeps what a layer of the framework's own is told.
    fn order(&self, order: Order) -> io::Result<()> {
        let orders = self.orders.as_ref();
        orders.ok_or_else(|| io::Error::other("an order for another layer"))?.push(order);
        Ok(())
    }

    fn channel_of(&self, number: u16) -> io::Result<&Channel> {
        self.channel_names
            .get(&number)
            .and_then(|name| self.channels.get(name))
            .ok_or_else(|| io::Error::other(format!("channel number {number} is not this layer's")))
    }
}
