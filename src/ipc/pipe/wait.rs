//! Waiting for a pipe, in a task or in a thread.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Instant;

use rustix::event::PollFlags;
use tokio::io::unix::AsyncFd;
use tokio::time::Sleep;

use super::error::PipeError;
use crate::ipc::companion::{Companion, Ends, Waiter, attended};
use crate::ipc::patience::Patience;

/// What one attempt came to.
pub(crate) enum Step<T> {
    /// It is done.
    Done(T),
    /// Not before the descriptor is ready.
    Blocked,
    /// Not before this time.
    Until(Instant),
}

/// Which readiness is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// A non-blocking descriptor, and what watches it.
pub(crate) struct Waiting {
    fd: Arc<OwnedFd>,
    way: Way,
    watch: Option<AsyncFd<Arc<OwnedFd>>>,
    alarm: Option<Pin<Box<Sleep>>>,
    companion: Option<Weak<dyn Companion>>,
    patience: Patience,
}

impl Waiting {
    pub(crate) fn new(fd: Arc<OwnedFd>, way: Way, companion: Option<Weak<dyn Companion>>) -> Self {
        Self { fd, way, watch: None, alarm: None, companion, patience: Patience::default() }
    }

    /// Makes `attempt` again and again, and waits in between as it says.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut attempt: impl FnMut(&OwnedFd) -> io::Result<Step<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            let step = attempt(&self.fd);
            match step {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(Step::Done(value)) => return Poll::Ready(Ok(value)),
                Ok(Step::Until(then)) => ready!(self.alarm(then, cx)),
                // What was found above may be older than the readiness that is asked for now: so
                // it is cleared only after another attempt that finds nothing.
                Ok(Step::Blocked) => {
                    let watch = if let Some(watch) = &mut self.watch {
                        watch
                    } else {
                        attended(self.companion.as_ref());
                        self.watch.insert(crate::sys::socket::watch(Arc::clone(&self.fd))?)
                    };
                    let mut ready = match self.way {
                        Way::In => ready!(watch.poll_read_ready(cx))?,
                        Way::Out => ready!(watch.poll_write_ready(cx))?,
                    };
                    match attempt(&self.fd) {
                        Ok(Step::Blocked) => ready.clear_ready(),
                        Ok(Step::Done(value)) => return Poll::Ready(Ok(value)),
                        Ok(Step::Until(then)) => ready!(self.alarm(then, cx)),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
            }
        }
    }

    fn alarm(&mut self, then: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let then = tokio::time::Instant::from_std(then);
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(then)));
        if alarm.deadline() != then {
            alarm.as_mut().reset(then);
        }
        alarm.as_mut().poll(cx)
    }

    /// The same in a thread, which looks for a while before it sleeps, and attends to the control
    /// socket when it sleeps. A reader that has nothing to read ends with [`PipeError::Stopping`]
    /// when the layer is asked to finish.
    pub(crate) fn block<T>(
        &self,
        mut attempt: impl FnMut(&OwnedFd) -> io::Result<Step<T>>,
    ) -> io::Result<T> {
        let mut try_once = || match attempt(&self.fd) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(Step::Blocked)),
            Ok(Step::Blocked) => Ok(None),
            other => other.map(Some),
        };
        let mut asleep = None;
        loop {
            let mut step = try_once()?;
            if let Some(since) = asleep.take()
                && step.is_some()
            {
                self.patience.slept(Instant::elapsed(&since));
            }
            if step.is_none() {
                step = self.patience.look(&mut try_once)?;
            }
            match step {
                Some(Step::Done(value)) => return Ok(value),
                // Interrupted: at once again.
                Some(Step::Blocked) => {}
                Some(Step::Until(then)) => {
                    rest(self.companion.as_ref(), None, self.way, Some(then))?;
                }
                None => {
                    asleep = Some(Instant::now());
                    rest(self.companion.as_ref(), Some(&self.fd), self.way, None)?;
                }
            }
        }
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("fd", &self.fd).finish_non_exhaustive()
    }
}

/// Sleeps until the descriptor is ready, the time has come or the supervisor has said something;
/// a reader also ends when the layer is asked to finish.
pub(crate) fn rest(
    companion: Option<&Weak<dyn Companion>>,
    fd: Option<&OwnedFd>,
    way: Way,
    until: Option<Instant>,
) -> io::Result<()> {
    let ends = if way == Way::In { Ends::WithLayer } else { Ends::ByItself };
    let waiter = Waiter::new(companion, ends)?;
    if waiter.is_stopping() {
        return Err(PipeError::Stopping.into());
    }
    let flags = if way == Way::In { PollFlags::IN } else { PollFlags::OUT };
    let left = until.map(|until| until.saturating_duration_since(Instant::now()));
    waiter.sleep(fd.map(|fd| (fd.as_fd(), flags)), left).map(drop)
}
