//! How a thread sleeps: what every blocking verb of the facilities shares.
//!
//! A layer whose code blocks has nobody else to serve its control socket, so whichever thread
//! sleeps watches it beside its own descriptors. Of several such threads only one reads what
//! comes there; the others learn of a stop by a bell that stays rung.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::gauge::Gauge;

/// What a thread that sleeps attends to besides: the layer's control socket, by which new peers
/// come and a stop is asked for. A task leaves that to the runtime.
pub trait Companion: Send + Sync {
    /// The socket to watch.
    fn socket(&self) -> Arc<OwnedFd>;

    /// Handles what has come, without waiting. An error says that the layer can't go on.
    fn attend(&self) -> io::Result<()>;

    /// Handles one thing that has come, if there is one, without waiting.
    fn attend_once(&self) -> io::Result<()> {
        self.attend()
    }

    /// Has the present runtime read the socket while its tasks wait, unless somebody does.
    fn ensure_attended(&self) {}

    /// Whether the layer has been asked to finish.
    fn is_stopping(&self) -> bool;

    /// What counts how much the layer has to do, if anybody wants to know. A thread that sleeps tells
    /// it when it is due.
    fn gauge(&self) -> Option<&Arc<Gauge>> {
        None
    }

    /// A descriptor that can be read once the layer has been asked to finish.
    fn stop_bell(&self) -> io::Result<Arc<OwnedFd>>;
}

/// Sees to it that somebody reads the control socket while a task waits: in a layer whose code
/// brings its own runtime there is no task of ours for it.
pub(crate) fn attended(companion: Option<&Weak<dyn Companion>>) {
    // One that has ended is told of by the wait itself.
    if let Some(companion) = companion.and_then(Weak::upgrade) {
        companion.ensure_attended();
    }
}

/// Whether a wait goes on when the layer is asked to finish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ends {
    /// It ends: who waits for something new need not wait any longer.
    WithLayer,
    /// It goes on: what was begun is to be finished first.
    ByItself,
}

/// One wait of a thread.
pub(crate) struct Waiter {
    companion: Option<Arc<dyn Companion>>,
    /// Of a wait that ends with the layer.
    bell: Option<Arc<OwnedFd>>,
}

impl Waiter {
    /// A wait beside `companion`; an error says that the layer is gone, or has no descriptor left.
    ///
    /// Without a companion, as a test's end of a channel is, it watches nothing besides.
    pub(crate) fn new(companion: Option<&Weak<dyn Companion>>, ends: Ends) -> io::Result<Self> {
        let gone = || io::Error::other("the layer has ended");
        let companion = companion.map(|it| it.upgrade().ok_or_else(gone)).transpose()?;
        let bell = match (&companion, ends) {
            (Some(companion), Ends::WithLayer) => Some(companion.stop_bell()?),
            _ => None,
        };
        Ok(Self { companion, bell })
    }

    /// Handles a thing that the supervisor has said, without waiting: for who doesn't sleep.
    pub(crate) fn attend(&self) -> io::Result<()> {
        self.companion.as_ref().map_or(Ok(()), |companion| companion.attend_once())
    }

    /// Whether the wait is over because the layer is asked to finish.
    pub(crate) fn is_stopping(&self) -> bool {
        self.bell.is_some() && self.companion.as_ref().is_some_and(|it| it.is_stopping())
    }

    /// Sleeps until one of `watched` is ready, the supervisor has said something, the wait is over
    /// or `rest` has passed; a signal may wake it before. Gives whether one of `watched` is ready.
    ///
    /// What the supervisor has said is handled, a thing each time; only then is its socket read.
    pub(crate) fn sleep<'a>(
        &self,
        watched: impl IntoIterator<Item = (BorrowedFd<'a>, PollFlags)>,
        rest: Option<Duration>,
    ) -> io::Result<bool> {
        let control = self.companion.as_ref().map(|companion| companion.socket());
        let gauge = self.companion.as_ref().and_then(|companion| companion.gauge());
        let due = gauge.and_then(|gauge| gauge.settle());
        let rest = rest.into_iter().chain(due).min();
        let mut fds: Vec<_> =
            watched.into_iter().map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags)).collect();
        let own = fds.len();
        let besides = control.iter().chain(&self.bell);
        fds.extend(besides.map(|fd| PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)));
        if let Some(gauge) = gauge {
            fds.push(PollFd::new(gauge.bell()?, PollFlags::IN));
        }
        // A time beyond what the kernel can tell is none.
        let rest = rest.and_then(|rest| Timespec::try_from(rest).ok());
        match poll(&mut fds, rest.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        }
        let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
        if let Some(companion) = &self.companion
            && fds.get(own).is_some_and(is_ready)
        {
            companion.attend_once()?;
        }
        if let Some(gauge) = gauge.filter(|_| fds.last().is_some_and(is_ready)) {
            gauge.silence();
        }
        Ok(fds[..own].iter().any(is_ready))
    }
}
