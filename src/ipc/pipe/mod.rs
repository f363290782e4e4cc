//! Pipes: one-way streams of bytes from one layer to another.
//!
//! A [`Pipe`] is one end of a declared pipe; [`PipeReader`] and [`PipeWriter`] are what a layer's
//! code holds of it. Every pair of instances has a stream of its own, from its first byte to its
//! end: a peer that is restarted gets a new one, and the old one ends with what the dead writer
//! had written wholly. They are `tokio` streams ([`AsyncRead`], [`AsyncWrite`]); `.blocking()` gives
//! those of the standard library ([`std::io::Read`], [`std::io::Write`]).
//!
//! ```no_run
//! use tokio::io::AsyncWriteExt;
//! # async fn example(layer: cofferdam::Layer) -> Result<(), Box<dyn std::error::Error>> {
//! let mut pictures = layer.pipe_writer("pictures")?;
//! pictures.write_all(b"P6 1 1 255 ...").await?;
//! pictures.shutdown().await?; // the reader reads 0: this was all
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: the bytes come as they were written, in order, none twice; the reader learns
//! whether the writer closed the stream or was cut off; memory is bounded by the pipe's capacity
//! and two frames. Unless the pipe is `raw`, nobody who gets hold of an end can put a byte in
//! unnoticed.
//!
//! What it does not: keep bytes that the reader had taken when it died, or go on with a stream
//! for another instance.

pub mod blocking;
pub mod error;
mod frame;
pub(crate) mod pace;
mod report;
mod stream;
pub(crate) mod wait;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::frame::{FrameReader, FrameWriter};
use self::pace::Pace;
use self::report::StreamTap;
use self::stream::About;
use self::wait::{Waiting, Way, rest};
use crate::channel::Side;
use crate::confine::Confined;
use crate::ident::{EdgeId, Instance};
use crate::ipc::message::Companion;
use crate::mark;
use crate::policy::plan::PipePlan;
use crate::report::{Desk, Facility, Tap};
use crate::seal::handshake::MESSAGE;
use crate::seal::{Identity, Introduction, OsChance, PublicKey, one_way};

pub use self::error::{PipeError, PipeFault};
pub use self::stream::{ReadStream, WriteStream};

/// How many streams wait at most for a layer that doesn't take them up; the oldest goes first.
const WAITING: usize = 64;

/// Which pipe, and which end of it.
#[derive(Clone, Debug)]
pub struct PipeSpec {
    /// The pipe's number in the plan.
    pub number: u16,
    /// What the plan says of it.
    pub plan: PipePlan,
    /// The digest of that, and of whose it is.
    pub edge: EdgeId,
    /// Who we are.
    pub own: Instance,
    /// Which end is ours: [`Side::From`] writes.
    pub side: Side,
}

/// One end of a declared pipe. A handle; clones are the same end.
#[derive(Clone, Debug)]
pub struct Pipe(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spec: PipeSpec,
    identity: Arc<Identity>,
    /// What reports its frames, if anything does.
    tap: Option<Tap>,
    companion: OnceLock<Weak<dyn Companion>>,
    peers: Mutex<Peers>,
}

/// Peers whose streams nobody has taken up yet.
#[derive(Debug, Default)]
struct Peers {
    waiting: VecDeque<Arrival>,
    wakers: Vec<Waker>,
    /// Rung for threads that sleep meanwhile.
    bells: Vec<Arc<OwnedFd>>,
}

#[derive(Debug)]
struct Arrival {
    peer: Instance,
    key: PublicKey,
    fd: OwnedFd,
}

/// The reading end of a pipe: the streams of all peers, one after the other.
///
/// It reads the stream of one peer to its end, which is a 0 or an error, and goes on with that of
/// the next, such as the peer's next life; it waits while there is none. To read several at once,
/// take each by [`PipeReader::next`].
#[derive(Debug)]
pub struct PipeReader {
    pipe: Pipe,
    current: Option<ReadStream>,
}

/// The writing end of a pipe: the streams to all peers, one after the other.
///
/// It writes to one peer until the stream is closed or fails, and goes on with the next; it waits
/// while there is none. To write to several at once, take each by [`PipeWriter::next`].
#[derive(Debug)]
pub struct PipeWriter {
    pipe: Pipe,
    current: Option<WriteStream>,
}

impl Pipe {
    /// An end without peers yet. The supervisor brings them. What goes through is reported at
    /// `desk` as the plan says.
    ///
    /// `_proof`: only a confined process talks to another.
    #[doc(hidden)]
    pub fn new(spec: PipeSpec, identity: Arc<Identity>, desk: &Desk, _proof: &Confined) -> Self {
        let tap = desk.tap(Facility::Pipe, spec.number, spec.plan.audit);
        let peers = Mutex::default();
        Self(Arc::new(Shared { spec, identity, tap, companion: OnceLock::new(), peers }))
    }

    /// Names who is attended to by threads that sleep on this pipe, once.
    #[doc(hidden)]
    pub fn accompany(&self, companion: Weak<dyn Companion>) {
        let _ = self.0.companion.set(companion);
    }

    /// Takes a peer up: the supervisor says that `peer` with this key holds the other end of
    /// the pipe of which `fd` is ours.
    pub fn arrived(&self, peer: Instance, key: PublicKey, fd: OwnedFd) {
        mark::reached("pipe.peer.arrived");
        let mut peers = self.peers();
        if self.0.spec.side == Side::From {
            // Nobody reads what is written for a life that has ended.
            peers.waiting.retain(|other| other.peer.index != peer.index);
        }
        if peers.waiting.len() >= WAITING {
            peers.waiting.pop_front();
        }
        peers.waiting.push_back(Arrival { peer, key, fd });
        let wakers = std::mem::take(&mut peers.wakers);
        for bell in &peers.bells {
            // It refuses only at its maximum, and then it has rung.
            let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
        }
        drop(peers);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Which end this is.
    pub fn side(&self) -> Side {
        self.0.spec.side
    }

    /// The reading end; several share the peers that come.
    pub fn reader(&self) -> PipeReader {
        PipeReader { pipe: self.clone(), current: None }
    }

    /// The writing end; several share the peers that come.
    pub fn writer(&self) -> PipeWriter {
        PipeWriter { pipe: self.clone(), current: None }
    }

    fn poll_arrival(&self, cx: &mut Context<'_>) -> Poll<Arrival> {
        let mut peers = self.peers();
        if let Some(arrival) = peers.waiting.pop_front() {
            return Poll::Ready(arrival);
        }
        if !peers.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            peers.wakers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn wait_for_arrival(&self) -> io::Result<Arrival> {
        let bell = Bell::hang(self)?;
        loop {
            if let Some(arrival) = self.peers().waiting.pop_front() {
                return Ok(arrival);
            }
            // Whoever waits for a peer ends with the layer, writers too.
            rest(self.0.companion.get(), Some(&bell.fd), Way::In, None)?;
            let _ = rustix::io::read(&*bell.fd, &mut [0_u8; 8]);
        }
    }

    fn read_stream(&self, arrival: Arrival) -> ReadStream {
        let about = self.about(&arrival.peer);
        let frames = (!self.0.spec.plan.raw).then(|| {
            let introduction = self.introduction(arrival.peer.clone(), self.0.spec.own.clone());
            let (identity, key) = (Arc::clone(&self.0.identity), arrival.key);
            let tap = self.stream_tap(&arrival.peer);
            let greet = move |hello: &[u8; MESSAGE]| {
                mark::reached("pipe.read.hello");
                one_way::accept(identity, &key, &introduction, hello)
            };
            FrameReader::new(Box::new(greet), tap)
        });
        ReadStream::new(about, self.waiting(arrival.fd, Way::In), frames)
    }

    fn write_stream(&self, arrival: Arrival) -> io::Result<WriteStream> {
        let about = self.about(&arrival.peer);
        let frames = if self.0.spec.plan.raw {
            None
        } else {
            let tap = self.stream_tap(&arrival.peer);
            let introduction = self.introduction(self.0.spec.own.clone(), arrival.peer);
            let identity = Arc::clone(&self.0.identity);
            let begun = one_way::begin(identity, &arrival.key, &introduction, Box::new(OsChance));
            let (session, hello) = begun
                .map_err(|error| PipeError::Seal { pipe: self.0.spec.plan.name.clone(), error })?;
            mark::reached("pipe.write.hello");
            Some(FrameWriter::new(session, &hello, tap))
        };
        Ok(WriteStream::new(about, self.waiting(arrival.fd, Way::Out), frames))
    }

    fn stream_tap(&self, peer: &Instance) -> Option<StreamTap> {
        self.0.tap.as_ref().map(|tap| StreamTap::new(tap.clone(), tap.who(peer)))
    }

    fn about(&self, peer: &Instance) -> About {
        let plan = &self.0.spec.plan;
        let pace = plan.rate.map(|rate| Pace::new(rate, Instant::now()));
        About { pipe: plan.name.clone(), peer: peer.clone(), pace }
    }

    fn waiting(&self, fd: OwnedFd, way: Way) -> Waiting {
        Waiting::new(Arc::new(fd), way, self.0.companion.get().cloned())
    }

    fn introduction(&self, from: Instance, to: Instance) -> Introduction {
        let PipeSpec { number, plan, edge, .. } = &self.0.spec;
        let channel = plan.name.as_str().to_owned();
        Introduction { edge: *edge, number: *number, channel, from, to }
    }

    fn peers(&self) -> std::sync::MutexGuard<'_, Peers> {
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event descriptor that is rung when a peer comes, for as long as a thread waits for one.
struct Bell<'a> {
    pipe: &'a Pipe,
    fd: Arc<OwnedFd>,
}

impl<'a> Bell<'a> {
    fn hang(pipe: &'a Pipe) -> io::Result<Self> {
        let fd = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        pipe.peers().bells.push(Arc::clone(&fd));
        Ok(Self { pipe, fd })
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        self.pipe.peers().bells.retain(|bell| !Arc::ptr_eq(bell, &self.fd));
    }
}

impl PipeReader {
    /// The stream of the next peer, once there is one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> ReadStream {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same end, for code that waits by blocking its thread.
    pub fn blocking(self) -> blocking::PipeReader {
        blocking::PipeReader(self)
    }

    fn next_blocking(&mut self) -> io::Result<ReadStream> {
        Ok(self.pipe.read_stream(self.pipe.wait_for_arrival()?))
    }

    /// Whose stream is being read.
    pub fn peer(&self) -> Option<&Instance> {
        self.current.as_ref().map(ReadStream::peer)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ReadStream> {
        self.pipe.poll_arrival(cx).map(|arrival| self.pipe.read_stream(arrival))
    }
}

impl AsyncRead for PipeReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.current.is_none() {
            this.current = Some(ready!(this.poll_next(cx)));
        }
        let Some(stream) = &mut this.current else { return Poll::Pending };
        let result = ready!(Pin::new(&mut *stream).poll_read(cx, buf));
        if stream.is_over() {
            this.current = None;
        }
        Poll::Ready(result)
    }
}

impl PipeWriter {
    /// The stream to the next peer, once there is one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> io::Result<WriteStream> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The same end, for code that waits by blocking its thread.
    pub fn blocking(self) -> blocking::PipeWriter {
        blocking::PipeWriter(self)
    }

    fn next_blocking(&mut self) -> io::Result<WriteStream> {
        self.pipe.write_stream(self.pipe.wait_for_arrival()?)
    }

    /// To whom is being written.
    pub fn peer(&self) -> Option<&Instance> {
        self.current.as_ref().map(WriteStream::peer)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<WriteStream>> {
        self.pipe.poll_arrival(cx).map(|arrival| self.pipe.write_stream(arrival))
    }
}

impl AsyncWrite for PipeWriter {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.current.is_none() {
            this.current = Some(ready!(this.poll_next(cx))?);
        }
        let Some(stream) = &mut this.current else { return Poll::Pending };
        let result = ready!(Pin::new(&mut *stream).poll_write(cx, data));
        if stream.is_over() {
            this.current = None;
        }
        Poll::Ready(result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().current {
            Some(stream) => Pin::new(stream).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Some(stream) = &mut this.current else { return Poll::Ready(Ok(())) };
        let result = ready!(Pin::new(stream).poll_shutdown(cx));
        this.current = None;
        Poll::Ready(result)
    }
}
