//! Waiting for room or for a message: looking for a while, then sleeping, in a task or in a thread.
//!
//! Whether there is something is always asked by trying, never told by a flag of the descriptor,
//! which all members that hold the same open queue share.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::Shared;
use super::error::QueueError;
use crate::ipc::companion::{Companion, Ends, Waiter, attended};
use crate::sys;

/// One of the kernel's queues, open in one direction.
pub(super) struct Lane {
    pub(super) fd: Arc<OwnedFd>,
    watch: Mutex<Option<Watch>>,
}

type Watch = Arc<AsyncFd<Arc<OwnedFd>>>;

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Room,
    Message,
}

impl Lane {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd: Arc::new(fd), watch: Mutex::new(None) }
    }

    /// The runtime's watch over it, from its first use on.
    fn watch(&self) -> Result<Watch, QueueError> {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watch) = &*watch {
            return Ok(Arc::clone(watch));
        }
        let new = sys::socket::watch(Arc::clone(&self.fd))
            .map_err(|error| QueueError::System { what: "epoll_ctl", error })?;
        Ok(Arc::clone(watch.insert(Arc::new(new))))
    }
}

impl For {
    fn interest(self) -> Interest {
        match self {
            Self::Room => Interest::WRITABLE,
            Self::Message => Interest::READABLE,
        }
    }

    fn flags(self) -> PollFlags {
        match self {
            Self::Room => PollFlags::OUT,
            Self::Message => PollFlags::IN,
        }
    }
}

impl Shared {
    /// Waits in this task until `attempt` gives something.
    pub(super) async fn wait<R>(
        &self,
        lanes: &[Arc<Lane>],
        what: For,
        mut attempt: impl FnMut() -> Result<Option<R>, QueueError>,
    ) -> Result<R, QueueError> {
        // A task that always finds what it wants lets others have their turn too.
        tokio::task::coop::consume_budget().await;
        if let Some(result) = attempt()? {
            return Ok(result);
        }
        // Looking holds up the other tasks, so only for what comes by itself.
        if what == For::Message
            && let Some(result) = self.patience.look(&mut attempt)?
        {
            return Ok(result);
        }
        attended(self.companion.get());
        let watches: Vec<Watch> =
            lanes.iter().map(|lane| lane.watch()).collect::<Result<_, _>>()?;
        let begin = Instant::now();
        loop {
            let mut ready = any(&watches, what.interest()).await?;
            if let Some(result) = attempt()? {
                self.patience.slept(begin.elapsed());
                return Ok(result);
            }
            ready.clear_ready();
        }
    }

    /// Waits in this thread until `attempt` gives something, or until `deadline`.
    pub(super) fn block<R>(
        &self,
        lanes: &[Arc<Lane>],
        what: For,
        deadline: Option<Instant>,
        mut attempt: impl FnMut() -> Result<Option<R>, QueueError>,
    ) -> Result<Option<R>, QueueError> {
        if let Some(result) = attempt()? {
            return Ok(Some(result));
        }
        let found = match what {
            For::Message => self.patience.look(&mut attempt)?,
            // Trying seals the message each time; asking is cheaper.
            For::Room => {
                self.patience.look(|| if has_room(lanes)? { attempt() } else { Ok(None) })?
            }
        };
        if found.is_some() {
            return Ok(found);
        }
        let ends = if what == For::Message { Ends::WithLayer } else { Ends::ByItself };
        let waiter = Waiter::new(self.companion.get(), ends).map_err(control)?;
        let begin = Instant::now();
        loop {
            if let Some(result) = attempt()? {
                self.patience.slept(begin.elapsed());
                return Ok(Some(result));
            }
            let rest = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if rest == Some(Duration::ZERO) {
                return Ok(None);
            }
            if waiter.is_stopping() {
                return Err(QueueError::Stopping);
            }
            let watched = lanes.iter().map(|lane| (lane.fd.as_fd(), what.flags()));
            waiter.sleep(watched, rest).map_err(control)?;
        }
    }
}

/// Handles what the supervisor has said.
pub(super) fn attend(companion: &dyn Companion) -> Result<(), QueueError> {
    companion.attend().map_err(control)
}

fn control(error: io::Error) -> QueueError {
    QueueError::System { what: "the control socket", error }
}

/// Waits until one of the lanes may be ready.
async fn any(
    watches: &[Watch],
    interest: Interest,
) -> Result<tokio::io::unix::AsyncFdReadyGuard<'_, Arc<OwnedFd>>, QueueError> {
    let refused = |error| QueueError::System { what: "epoll_wait", error };
    if let [watch] = watches {
        return watch.ready(interest).await.map_err(refused);
    }
    let mut waits: Vec<_> = watches.iter().map(|watch| Box::pin(watch.ready(interest))).collect();
    poll_fn(|cx| {
        let ready = waits.iter_mut().find_map(|wait| match wait.as_mut().poll(cx) {
            Poll::Ready(ready) => Some(ready.map_err(refused)),
            Poll::Pending => None,
        });
        ready.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

fn has_room(lanes: &[Arc<Lane>]) -> Result<bool, QueueError> {
    Ok(ready(lanes, For::Room)?.contains(&true))
}

/// Which of the lanes hold a message, by place.
pub(super) fn filled(lanes: &[Arc<Lane>]) -> Result<Vec<usize>, QueueError> {
    let ready = ready(lanes, For::Message)?;
    Ok((0..ready.len()).filter(|place| ready[*place]).collect())
}

/// Which of the lanes are ready now.
fn ready(lanes: &[Arc<Lane>], what: For) -> Result<Vec<bool>, QueueError> {
    let mut fds: Vec<_> = lanes.iter().map(|lane| PollFd::new(&*lane.fd, what.flags())).collect();
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(QueueError::System { what: "poll", error: error.into() }),
    }
    Ok(fds.iter().map(|fd| fd.revents().contains(what.flags())).collect())
}
