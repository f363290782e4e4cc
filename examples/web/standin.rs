//! A stand-in for the library while it is being built: every layer is a thread of this process,
//! every channel a queue, and nothing is confined. It goes away.

#![allow(clippy::pedantic, clippy::unit_arg, reason = "it goes away")]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::fs::{File, Metadata};
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cofferdam::ident::{Instance, Name};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot, watch};

pub(crate) struct Setup {
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) settings: Vec<u8>,
}

type Running = Pin<Box<dyn Future<Output = Result<(), String>>>>;
type Function = Arc<dyn Fn(Layer) -> Running + Send + Sync>;

pub(crate) struct Daemon<S> {
    setup: S,
    layers: Vec<(&'static str, Function)>,
}

impl<S, E> Daemon<S>
where
    S: FnOnce() -> Result<Setup, E>,
    E: Display,
{
    pub(crate) fn from_setup(setup: S) -> Self {
        Self { setup, layers: Vec::new() }
    }

    pub(crate) fn layer<F, R, O>(mut self, name: &'static str, function: F) -> Self
    where
        F: Fn(Layer) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), O>> + 'static,
        O: Display,
    {
        let function: Function = Arc::new(move |layer| {
            let running = function(layer);
            Box::pin(async move { running.await.map_err(|error| error.to_string()) })
        });
        self.layers.push((name, function));
        self
    }

    pub(crate) fn main(self) -> ExitCode {
        match (self.setup)() {
            Ok(setup) => run(setup, &self.layers).unwrap_or_else(|error| {
                eprintln!("stand-in: {error}");
                ExitCode::from(3)
            }),
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}

fn run(setup: Setup, layers: &[(&'static str, Function)]) -> Result<ExitCode, Box<dyn Error>> {
    let policy: toml::Table = setup.text.parse().map_err(|e| format!("{}: {e}", setup.name))?;
    let at = |path: &[&str]| -> Option<String> {
        let (last, tables) = path.split_last()?;
        let table = tables.iter().try_fold(&policy, |t, key| t.get(*key)?.as_table())?;
        table.get(*last)?.as_str().map(str::to_owned)
    };
    let files = ["key", "site"].map(|n| (n, at(&["file", n, "path"]).unwrap_or_default()));
    let https = at(&["layer", "listener", "listen", "https"]).unwrap_or_default();
    let https = https.trim_start_matches("tcp:").to_owned();
    let socket = std::net::TcpListener::bind(&https)?;
    socket.set_nonblocking(true)?;
    let (stop, stopped) = watch::channel(false);

    let count = |layer: &str| if layer == "parser" { 2_u16 } else { 1 };
    let mut ends: BTreeMap<(&str, u16, &str), Channel> = BTreeMap::new();
    for (channel, from, to) in [
        ("connections", "listener", "parser"),
        ("open", "parser", "opener"),
        ("sign", "parser", "keeper"),
    ] {
        let mut senders = Vec::new();
        for index in 0..count(to) {
            let (sender, receiver) = mpsc::channel(64);
            senders.push(sender);
            let own = instance(to, index);
            let end = Channel::new(own, Vec::new(), Some(receiver));
            ends.insert((to, index, channel), end);
        }
        for index in 0..count(from) {
            let end = Channel::new(instance(from, index), senders.clone(), None);
            ends.insert((from, index, channel), end);
        }
    }

    let mut threads = Vec::new();
    for (name, function) in layers {
        for index in 0..count(name) {
            let channels = ["connections", "open", "sign"]
                .iter()
                .filter_map(|c| Some(((*c).to_owned(), ends.remove(&(*name, index, *c))?)))
                .collect();
            let layer = Layer(Arc::new(Shared {
                instance: instance(name, index),
                settings: setup.settings.clone(),
                channels,
                files: files.clone().into_iter().map(|(n, p)| (n.to_owned(), p)).collect(),
                socket: socket.try_clone()?,
                stopped: stopped.clone(),
            }));
            let function = Arc::clone(function);
            let give_up = stop.clone();
            threads.push(std::thread::Builder::new().name((*name).to_owned()).spawn(
                move || {
                    let id = layer.instance().clone();
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    let result = runtime.block_on(function(layer));
                    eprintln!("stand-in: {id}: {result:?}");
                    if result.is_err() {
                        give_up.send_replace(true);
                    }
                    result.is_ok()
                },
            )?);
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        use tokio::signal::unix::{SignalKind, signal};
        let mut given_up = stopped.clone();
        let mut term = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = term.recv() => Ok(()),
            _ = given_up.wait_for(|stopped| *stopped) => Ok(()),
            result = tokio::signal::ctrl_c() => result,
        }
    })?;
    stop.send_replace(true);
    let fine = threads.into_iter().all(|thread| thread.join().unwrap_or(false));
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn instance(layer: &str, index: u16) -> Instance {
    Instance { layer: Name::new(layer).unwrap(), index, generation: 1 }
}

#[derive(Clone)]
pub(crate) struct Layer(Arc<Shared>);

struct Shared {
    instance: Instance,
    settings: Vec<u8>,
    channels: BTreeMap<String, Channel>,
    files: BTreeMap<String, String>,
    socket: std::net::TcpListener,
    stopped: watch::Receiver<bool>,
}

impl Layer {
    pub(crate) fn instance(&self) -> &Instance {
        &self.0.instance
    }

    pub(crate) fn settings(&self) -> &[u8] {
        &self.0.settings
    }

    pub(crate) fn channel(&self, name: &str) -> io::Result<Channel> {
        self.0.channels.get(name).cloned().ok_or_else(|| io::Error::other(name.to_owned()))
    }

    pub(crate) fn listener(&self, _: &str) -> io::Result<tokio::net::TcpListener> {
        tokio::net::TcpListener::from_std(self.0.socket.try_clone()?)
    }

    pub(crate) fn file(&self, name: &str) -> io::Result<File> {
        File::open(&self.0.files[name])
    }

    pub(crate) fn directory(&self, name: &str) -> io::Result<Directory> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Directory(rustix::fs::openat(CWD, &self.0.files[name], flags, Mode::empty())?))
    }

    pub(crate) async fn stopping(&self) {
        let _ = self.0.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

pub(crate) struct Directory(OwnedFd);

impl Directory {
    pub(crate) fn open_read(&self, relative: &str) -> io::Result<(File, Metadata)> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve =
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.0, relative, flags, Mode::empty(), resolve)?;
        let file = File::from(file);
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if !metadata.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        Ok((file, metadata))
    }
}

pub(crate) struct Message {
    pub(crate) body: Vec<u8>,
    pub(crate) fds: Vec<OwnedFd>,
}

impl Message {
    pub(crate) fn encode<T: Serialize>(value: &T) -> Result<Self, postcard::Error> {
        Ok(Self { body: postcard::to_stdvec(value)?, fds: Vec::new() })
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T, postcard::Error> {
        postcard::from_bytes(&self.body)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the channel is closed")]
pub(crate) struct ChannelError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("not delivered")]
    NotDelivered,
    #[error("refused: {0}")]
    Refused(String),
    #[error("may have executed")]
    MayHaveExecuted,
    #[error(transparent)]
    Typed(#[from] postcard::Error),
}

#[expect(dead_code, reason = "the example needs only a part of an event")]
pub(crate) enum Event {
    Request { from: Instance, method: Name, message: Message, reply: Replier },
    Message { from: Instance, method: Name, message: Message },
    PeerGone(Instance),
}

type Answer = Result<Message, CallError>;

pub(crate) struct Replier(Box<dyn FnOnce(Answer) + Send>);

impl Replier {
    pub(crate) async fn reply(self, message: Message) -> Result<(), ChannelError> {
        std::future::ready((self.0)(Ok(message))).await;
        Ok(())
    }

    pub(crate) async fn reply_typed<T: Serialize>(self, value: &T) -> Result<(), ChannelError> {
        self.reply(Message::encode(value).map_err(|_| ChannelError)?).await
    }

    pub(crate) async fn refuse(self, why: &str) -> Result<(), ChannelError> {
        std::future::ready((self.0)(Err(CallError::Refused(why.to_owned())))).await;
        Ok(())
    }
}

struct Parcel {
    from: Instance,
    method: Name,
    message: Message,
    reply: Option<Replier>,
}

#[derive(Clone)]
pub(crate) struct Channel(Arc<Ends>);

struct Ends {
    own: Instance,
    next: AtomicUsize,
    senders: Vec<mpsc::Sender<Parcel>>,
    receiver: Option<AsyncMutex<mpsc::Receiver<Parcel>>>,
}

impl Channel {
    fn new(
        own: Instance,
        senders: Vec<mpsc::Sender<Parcel>>,
        receiver: Option<mpsc::Receiver<Parcel>>,
    ) -> Self {
        let receiver = receiver.map(AsyncMutex::new);
        Self(Arc::new(Ends { own, next: AtomicUsize::new(0), senders, receiver }))
    }

    fn parcel(&self, method: &str, message: Message, reply: Option<Replier>) -> Parcel {
        Parcel { from: self.0.own.clone(), method: Name::new(method).unwrap(), message, reply }
    }

    fn peer(&self) -> &mpsc::Sender<Parcel> {
        let next = self.0.next.fetch_add(1, Ordering::Relaxed);
        &self.0.senders[next % self.0.senders.len()]
    }

    pub(crate) async fn send(&self, method: &str, message: Message) -> Result<(), ChannelError> {
        let parcel = self.parcel(method, message, None);
        self.peer().send(parcel).await.map_err(|_| ChannelError)
    }

    pub(crate) async fn call(&self, method: &str, message: Message) -> Answer {
        let (sender, receiver) = oneshot::channel();
        let reply = Replier(Box::new(move |answer| drop(sender.send(answer))));
        let parcel = self.parcel(method, message, Some(reply));
        self.peer().send(parcel).await.map_err(|_| CallError::NotDelivered)?;
        receiver.await.unwrap_or(Err(CallError::MayHaveExecuted))
    }

    pub(crate) fn peers(&self) -> Vec<Instance> {
        let closed = self.0.receiver.as_ref().and_then(|receiver| receiver.try_lock().ok());
        let closed = closed.is_some_and(|receiver| receiver.sender_strong_count() == 0);
        if closed { Vec::new() } else { vec![self.0.own.clone()] }
    }

    pub(crate) async fn recv(&self) -> Result<Event, ChannelError> {
        let receiver = self.0.receiver.as_ref().ok_or(ChannelError)?;
        let Some(parcel) = receiver.lock().await.recv().await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            return Ok(Event::PeerGone(self.0.own.clone()));
        };
        let Parcel { from, method, message, reply } = parcel;
        Ok(match reply {
            Some(reply) => Event::Request { from, method, message, reply },
            None => Event::Message { from, method, message },
        })
    }

    pub(crate) fn blocking(&self) -> Blocking<'_> {
        Blocking(self.clone(), PhantomData)
    }
}

pub(crate) struct Blocking<'a>(Channel, PhantomData<&'a Mutex<()>>);

impl Blocking<'_> {
    pub(crate) fn call_typed<Q: Serialize, R: DeserializeOwned>(
        &self,
        method: &str,
        request: &Q,
        timeout: Option<Duration>,
    ) -> Result<R, CallError> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        let reply = Replier(Box::new(move |answer| drop(sender.send(answer))));
        let parcel = self.0.parcel(method, Message::encode(request)?, Some(reply));
        self.0.peer().try_send(parcel).map_err(|_| CallError::NotDelivered)?;
        let answer = receiver
            .recv_timeout(timeout.unwrap_or(Duration::from_secs(60)))
            .map_err(|_| CallError::MayHaveExecuted)??;
        Ok(answer.decode()?)
    }
}
