//! Accepting within the limits that the policy sets.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use rustix::net::SocketFlags;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;

use super::Stream;
use super::limit::{Pace, Slot, Source, Sources};
use crate::ipc::gauge::{Gauge, InHand};
use crate::mark;
use crate::policy::plan::{ListenAddress, ListenPlan};
use crate::report::{Facts, Side, Tap, Verdict, room};
use crate::sys;
use crate::trace::{self, Held, Trace};

/// A listening socket with the limits of its policy.
///
/// `rate`: the next connection is accepted when its time has come; until then it waits in the
/// kernel's queue. `per-source`: a connection of a source that has as many open is closed at once.
/// These limits guard this layer from outside; they bind nobody who has taken it over. Each copy
/// of the layer, and each life, counts for itself.
#[derive(Clone, Debug)]
pub struct Acceptor(Arc<Inner>, Option<Arc<Gauge>>);

#[derive(Debug)]
struct Inner {
    plan: ListenPlan,
    socket: Arc<OwnedFd>,
    ready: OnceCell<AsyncFd<Arc<OwnedFd>>>,
    pace: Option<Pace>,
    sources: Sources,
    closed: AtomicU64,
    tap: Option<Tap>,
    /// One that somebody else has accepted, which comes first.
    held: Mutex<Option<OwnedFd>>,
}

/// An accepted connection; dropping it frees its place among those of its source.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    slot: Slotted,
}

/// A connection that nobody has counted yet.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) fd: OwnedFd,
    address: Option<SocketAddr>,
    pub(super) source: Source,
}

/// Where a connection comes from, and its place.
#[derive(Debug)]
pub(crate) struct Slotted {
    pub(super) source: Source,
    held: Held,
    _slot: Slot,
    _in_hand: Option<InHand>,
}

impl Acceptor {
    /// An acceptor on a listening socket, which must be non-blocking. `tap` reports each connection.
    #[doc(hidden)]
    pub fn new(plan: ListenPlan, socket: OwnedFd, tap: Option<Tap>) -> Self {
        let pace = plan.rate.map(Pace::new);
        let (sources, closed) = (Sources::default(), AtomicU64::new(0));
        let (socket, ready) = (Arc::new(socket), OnceCell::new());
        let held = Mutex::default();
        Self(Arc::new(Inner { plan, socket, ready, pace, sources, closed, tap, held }), None)
    }

    /// The same, with a connection that somebody else has accepted for it.
    pub(crate) fn beginning_with(self, held: Option<OwnedFd>) -> Self {
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self
    }

    /// The same, whose connections are counted as what the layer has in its hands.
    pub(crate) fn measured(self, gauge: Option<&Arc<Gauge>>) -> Self {
        Self(self.0, gauge.cloned())
    }

    /// Waits for a connection. Needs the tokio runtime. Cancelling it loses none.
    ///
    /// An error is the system's (accept(2)), such as `EMFILE` at the layer's limit of descriptors:
    /// close some and try again.
    pub async fn accept(&self) -> io::Result<Connection> {
        let (fd, slot) = self.next(|| self.try_accept()).await?;
        self.connection(fd, slot)
    }

    /// Waits until `take` has taken one, as the policy's rate and the reports let it.
    pub(super) async fn next<T>(&self, take: impl Fn() -> io::Result<Option<T>>) -> io::Result<T> {
        let ready = self.ready().await?;
        loop {
            let wait = self.wait();
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
                continue;
            }
            self.room().await;
            match take() {
                Ok(Some(taken)) => return Ok(taken),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready.readable().await?.clear_ready();
                    mark::reached("socket.accept.woken");
                }
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) async fn ready(&self) -> io::Result<&AsyncFd<Arc<OwnedFd>>> {
        let watch = || async { sys::socket::watch(Arc::clone(&self.0.socket)) };
        self.0.ready.get_or_try_init(watch).await
    }

    pub(super) async fn room(&self) {
        room(self.0.tap.as_ref()).await;
    }

    pub(super) fn per_source(&self) -> Option<u32> {
        self.0.plan.per_source
    }

    pub(super) fn connection(&self, fd: OwnedFd, slot: Slotted) -> io::Result<Connection> {
        Ok(Connection { stream: self.stream(fd)?, slot })
    }

    /// How many connections were closed because their source had too many.
    pub fn closed(&self) -> u64 {
        self.0.closed.load(Ordering::Relaxed)
    }

    pub(crate) fn socket(&self) -> &OwnedFd {
        &self.0.socket
    }

    /// How long the policy's rate still holds the next one up.
    pub(crate) fn wait(&self) -> Duration {
        self.0.pace.as_ref().map_or(Duration::ZERO, |pace| pace.wait(Instant::now()))
    }

    pub(super) fn is_tcp(&self) -> bool {
        matches!(self.0.plan.address, ListenAddress::Tcp(_))
    }

    /// Accepts one, without waiting; `None` if it was closed at once, or gone already.
    pub(crate) fn try_accept(&self) -> io::Result<Option<(OwnedFd, Slotted)>> {
        let Some(taken) = self.take()? else { return Ok(None) };
        let per_source = self.0.plan.per_source;
        let Some(slotted) = self.admit(&taken, per_source) else {
            self.turn_away(&taken);
            return Ok(None);
        };
        Ok(Some((taken.fd, slotted)))
    }

    /// Closes a connection that its source may not have.
    pub(super) fn turn_away(&self, taken: &Taken) {
        self.0.closed.fetch_add(1, Ordering::Relaxed);
        self.report(Verdict::Refused, taken.address, taken.source, None);
        mark::reached("socket.accept.closed");
    }

    /// Counts and reports a connection, if its source may have it.
    pub(super) fn admit(&self, taken: &Taken, per_source: Option<u32>) -> Option<Slotted> {
        let source = taken.source;
        let slot = self.0.sources.enter(source, per_source)?;
        if let Some(pace) = &self.0.pace {
            pace.count(Instant::now());
        }
        let trace = trace::begin();
        self.report(Verdict::Allowed, taken.address, source, Some(trace));
        mark::reached("socket.accept.counted");
        let in_hand = self.1.as_ref().map(Gauge::take);
        let held = Held::carried(Some(trace));
        Some(Slotted { source, held, _slot: slot, _in_hand: in_hand })
    }

    /// Accepts one, without waiting, and looks where it comes from; `None` if it is gone already.
    pub(super) fn take(&self) -> io::Result<Option<Taken>> {
        use rustix::io::Errno;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let held = self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        let accepted = match held {
            // One whose client is gone is refused here, and dropped.
            Some(fd) => rustix::net::getpeername(&fd).map(|address| (fd, address)),
            None => rustix::net::acceptfrom_with(self.socket(), flags),
        };
        let (fd, address) = match accepted {
            Ok(accepted) => accepted,
            // accept(2): errors of the new connection, which concern nobody else.
            Err(
                Errno::INTR
                | Errno::CONNABORTED
                | Errno::NOTCONN
                | Errno::NETDOWN
                | Errno::PROTO
                | Errno::NOPROTOOPT
                | Errno::HOSTDOWN
                | Errno::NONET
                | Errno::HOSTUNREACH
                | Errno::OPNOTSUPP
                | Errno::NETUNREACH,
            ) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        mark::reached("socket.accept.accepted");
        let address = address.and_then(|it| SocketAddr::try_from(it).ok());
        let source = match address {
            Some(address) => address.ip().into(),
            // Its process number is 0 in this namespace, so only the user tells it apart.
            None => Source::User(getsockopt(&fd, PeerCredentials)?.uid()),
        };
        Ok(Some(Taken { fd, address, source }))
    }

    /// Reports a connection that has come, before anybody reads from it.
    fn report(
        &self,
        verdict: Verdict,
        address: Option<SocketAddr>,
        source: Source,
        trace: Option<Trace>,
    ) {
        let Some(tap) = &self.0.tap else { return };
        let from = match (address, source) {
            (Some(address), _) => address.to_string(),
            (None, Source::User(user)) => format!("user {user}"),
            (None, Source::V4(_) | Source::V6(_)) => String::new(),
        };
        let facts = Facts { verdict, trace, ..tap.facts(Side::Receiver) };
        tap.report(&facts, &[], from.as_bytes());
    }

    fn stream(&self, fd: OwnedFd) -> io::Result<Stream> {
        if self.is_tcp() {
            Ok(Stream::Tcp(TcpStream::from_std(fd.into())?))
        } else {
            Ok(Stream::Unix(UnixStream::from_std(fd.into())?))
        }
    }
}

impl Slotted {
    /// This task or thread is at this connection.
    pub(super) fn used(&self) {
        self.held.used();
    }

    /// The trace that the connection began.
    pub(super) const fn trace(&self) -> Option<Trace> {
        self.held.trace()
    }
}

impl Connection {
    /// The trace that it begins: of whoever uses it, unless that takes another one up.
    pub const fn trace(&self) -> Option<Trace> {
        self.slot.trace()
    }

    /// Where it comes from, as the limits see it.
    pub const fn source(&self) -> Source {
        self.slot.source
    }

    /// The stream beneath, to ask and set its options.
    pub fn stream(&self) -> &Stream {
        self.slot.used();
        &self.stream
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let own = self.get_mut();
        own.slot.used();
        Pin::new(&mut own.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let own = self.get_mut();
        own.slot.used();
        Pin::new(&mut own.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
