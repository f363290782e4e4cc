//! Waiting: looking for a while, then sleeping, in a task or in a thread.
//!
//! A task that waits leaves its waker in the [`State`]; the sockets are watched under one waker
//! of the channel's own ([`Hub`]), which has the driver look, or everyone if there is none.

use std::convert::Infallible;
use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFlags, eventfd};
use tokio::io::unix::AsyncFd;
use tokio::time::Sleep;

use super::error::ChannelError;
use super::state::{Link, Pumped, State};
use crate::ipc::companion::{Companion, Ends, Waiter, attended};
use crate::ipc::gauge::{Gauge, InHand};
use crate::ipc::patience::Patience;
use crate::sys;
use crate::wire::limits::TURN;

/// What the handles of one channel share.
pub(super) struct Shared {
    state: Mutex<State>,
    driver: Mutex<Option<Waker>>,
    /// Whether there is a driver, to be asked without a lock.
    driven: AtomicBool,
    hub: OnceLock<Waker>,
    /// Whether the layer has been asked to finish.
    stopping: AtomicBool,
    bells: Mutex<Vec<Arc<OwnedFd>>>,
    companion: OnceLock<Weak<dyn Companion>>,
    gauge: OnceLock<Arc<Gauge>>,
    pub(super) patience: Patience,
}

impl Shared {
    pub(super) fn new(state: State) -> Arc<Self> {
        let shared = Arc::new(Self {
            state: Mutex::new(state),
            driver: Mutex::new(None),
            driven: AtomicBool::new(false),
            hub: OnceLock::new(),
            stopping: AtomicBool::new(false),
            bells: Mutex::default(),
            companion: OnceLock::new(),
            gauge: OnceLock::new(),
            patience: Patience::default(),
        });
        let hub = Hub(Arc::downgrade(&shared));
        let _ = shared.hub.set(Waker::from(Arc::new(hub)));
        shared
    }

    /// Names the companion of threads that sleep here, once.
    pub(super) fn accompany(&self, companion: Weak<dyn Companion>) {
        let _ = self.companion.set(companion);
    }

    /// Names who counts what comes here and is to be answered, once.
    pub(super) fn measure(&self, gauge: &Arc<Gauge>) {
        let _ = self.gauge.set(Arc::clone(gauge));
    }

    /// Something has been taken, if anybody counts that.
    pub(super) fn take(&self) -> Option<InHand> {
        self.gauge.get().map(Gauge::take)
    }

    /// Looks at the state, and wakes whom that concerns once the mutex is free.
    pub(super) fn with<R>(&self, look: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let result = look(&mut state);
        let wakers = std::mem::take(&mut state.to_wake);
        if std::mem::take(&mut state.changed) && !state.sleepers.is_empty() {
            for bell in &state.sleepers {
                // A bell that was rung already can refuse only because it is at its maximum.
                let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
            }
        }
        drop(state);
        for waker in wakers {
            waker.wake();
        }
        result
    }

    /// Looks again and again for a bounded while, giving the processor away in between.
    pub(super) fn look<R>(&self, mut attempt: impl FnMut(&mut State) -> Option<R>) -> Option<R> {
        let look = || Ok::<_, Infallible>(self.with(&mut attempt));
        self.patience.look(look).unwrap_or_default()
    }

    /// Looks at the links whose sockets are ready, and has the runtime watch the others.
    pub(super) fn poll_links(&self, cx: &mut Context<'_>) -> Result<(), ChannelError> {
        let Some(hub) = self.hub.get() else { return Ok(()) };
        let mut hub = Context::from_waker(hub);
        let more = self.with(|state| poll_links(state, &mut hub))?;
        if more {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Takes the driver's place. Whoever holds it is woken for everything that sockets tell.
    pub(super) fn set_driver(&self, waker: Option<&Waker>) {
        let mut driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *driver, waker) {
            (Some(old), Some(new)) => old.clone_from(new),
            (driver, new) => *driver = new.cloned(),
        }
        self.driven.store(driver.is_some(), Ordering::Relaxed);
    }

    /// Whether somebody drives.
    pub(super) fn driven(&self) -> bool {
        self.driven.load(Ordering::Relaxed)
    }

    /// The layer is asked to finish: whoever waits for something new looks again.
    pub(super) fn finish(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.with(State::wake_everyone);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Has the driver look, if there is one; else everyone.
    pub(super) fn wake_driver(&self) {
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match driver {
            Some(driver) => driver.wake(),
            None => self.with(State::wake_everyone),
        }
    }

    /// Waits in this task until `attempt` gives something.
    pub(super) async fn wait<R>(
        &self,
        who: Who,
        mut attempt: impl FnMut(&mut State) -> Option<R>,
    ) -> Result<R, ChannelError> {
        let mut looked = false;
        let mut asleep = None;
        let mut alarm: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            if let Some(result) = self.with(&mut attempt) {
                if let Some(since) = asleep {
                    self.patience.slept(Instant::elapsed(&since));
                }
                return Poll::Ready(Ok(result));
            }
            if !std::mem::replace(&mut looked, true) && self.with(|state| who.may_look(state)) {
                let found = self.look(|state| {
                    state.pump();
                    attempt(state)
                });
                if let Some(result) = found {
                    return Poll::Ready(Ok(result));
                }
            }
            self.poll_links(cx)?;
            let (result, again) = self.with(|state| {
                let result = attempt(state);
                if result.is_none() {
                    state.end_burst();
                    who.leave(state, cx.waker());
                }
                (result, state.look_again())
            });
            if let Some(result) = result {
                return Poll::Ready(Ok(result));
            }
            if let Some(again) = again {
                let alarm = alarm.insert(Box::pin(tokio::time::sleep(again)));
                if alarm.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            if asleep.is_none() {
                attended(self.companion.get());
                asleep = Some(Instant::now());
            }
            Poll::Pending
        })
        .await
    }

    /// Drives the channel for as long as it is polled.
    pub(super) async fn drive(&self) -> Result<Infallible, ChannelError> {
        let _driving = Driving(self);
        let mut alarm: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|cx| {
            self.set_driver(Some(cx.waker()));
            self.with(State::flush);
            if let Some(again) = self.with(|state| state.look_again()) {
                let alarm = alarm.insert(Box::pin(tokio::time::sleep(again)));
                if alarm.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            match self.poll_links(cx) {
                Ok(()) => Poll::Pending,
                Err(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// Waits in this thread until `attempt` gives something, or until `deadline`.
    pub(super) fn block<R>(
        &self,
        deadline: Option<Instant>,
        attempt: impl FnMut(&mut State) -> Option<R>,
    ) -> Result<Option<R>, ChannelError> {
        self.block_until(deadline, Ends::ByItself, attempt)
    }

    /// The same, and at most until the layer is asked to finish if it `ends` with that.
    pub(super) fn block_until<R>(
        &self,
        deadline: Option<Instant>,
        ends: Ends,
        mut attempt: impl FnMut(&mut State) -> Option<R>,
    ) -> Result<Option<R>, ChannelError> {
        if let Some(result) = self.with(&mut attempt) {
            return Ok(Some(result));
        }
        let mut try_once = |state: &mut State| {
            state.pump();
            attempt(state)
        };
        // Right after sending there is nothing to be had yet: let the peer have the processor.
        let asked = self.with(|state| state.asked);
        let found = if asked { None } else { self.with(&mut try_once) };
        if let Some(result) = found.or_else(|| self.look(&mut try_once)) {
            return Ok(Some(result));
        }
        let bell = Bell::take(self)?;
        let refused = |error| ChannelError::from_io("the control socket", &error);
        let waiter = Waiter::new(self.companion.get(), ends).map_err(refused)?;
        let begin = Instant::now();
        loop {
            let (result, watched, again) = self.with(|state| {
                let result = try_once(state);
                (result, watched(state), state.look_again())
            });
            if let Some(result) = result {
                self.patience.slept(begin.elapsed());
                return Ok(Some(result));
            }
            let mut rest = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            if rest == Some(Duration::ZERO) {
                return Ok(None);
            }
            if let Some(again) = again {
                rest = Some(rest.map_or(again, |rest| rest.min(again)));
            }
            if waiter.is_stopping() {
                return Err(ChannelError::Stopping);
            }
            let links = watched.iter().map(|(socket, flags)| (socket.as_fd(), *flags));
            let own = std::iter::once((bell.fd.as_fd(), PollFlags::IN));
            let woken = waiter.sleep(links.chain(own), rest);
            if woken.map_err(refused)? {
                bell.silence();
            }
        }
    }
}

/// Who waits, and so where its waker is left.
#[derive(Clone, Copy)]
pub(super) enum Who {
    Receiver,
    Sender,
    Caller(u32),
    /// Who handles a call, by link and number, and waits for its being given up.
    Answerer(u64, u32),
}

impl Who {
    /// Looking holds up the other tasks of the runtime, so only who is alone looks.
    fn may_look(self, state: &State) -> bool {
        match self {
            Self::Receiver => !state.owes(),
            Self::Caller(_) => state.calls.len() == 1,
            Self::Sender | Self::Answerer(..) => false,
        }
    }

    fn leave(self, state: &mut State, waker: &Waker) {
        let crowd = match self {
            Self::Receiver => &mut state.receivers,
            Self::Sender => &mut state.senders,
            Self::Caller(call) => {
                if let Some(call) = state.calls.get_mut(&call) {
                    call.waker = Some(waker.clone());
                }
                return;
            }
            Self::Answerer(link, call) => return state.await_cancel(link, call, waker),
        };
        if !crowd.iter().any(|known| known.will_wake(waker)) {
            crowd.push(waker.clone());
        }
    }
}

/// Gives the driver's place up.
struct Driving<'a>(&'a Shared);

impl Drop for Driving<'_> {
    fn drop(&mut self) {
        self.0.set_driver(None);
        self.0.wake_driver();
    }
}

/// What wakes a channel when one of its sockets is ready. It holds no socket itself.
struct Hub(Weak<Shared>);

impl Wake for Hub {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(shared) = self.0.upgrade() {
            shared.wake_driver();
        }
    }
}

/// True if there is more to do than one turn's worth.
fn poll_links(state: &mut State, hub: &mut Context<'_>) -> Result<bool, ChannelError> {
    let mut more = false;
    let mut place = 0;
    while place < state.links.len() {
        let watch = watch(&mut state.links[place])?;
        let mut budget = TURN;
        let ended = loop {
            let Poll::Ready(ready) = watch.poll_read_ready(hub) else { break false };
            let mut ready = ready.map_err(|error| ChannelError::from_io("epoll", &error))?;
            match state.pump_link(place) {
                Pumped::Ended => break true,
                Pumped::Stalled => break false,
                Pumped::Nothing => ready.clear_ready(),
                Pumped::Progress if budget == 0 => {
                    more = true;
                    break false;
                }
                Pumped::Progress => budget -= 1,
            }
        };
        if ended {
            continue;
        }
        // What no socket tells of is tried at every look.
        if state.pressed_on(place) {
            let _ = state.flush_link(place);
        }
        while state.interest(place).1 {
            let Poll::Ready(ready) = watch.poll_write_ready(hub) else { break };
            let mut ready = ready.map_err(|error| ChannelError::from_io("epoll", &error))?;
            match state.flush_link(place) {
                Ok(true) => {}
                // Its reading side meets the same error, and ends the link.
                Err(_) => break,
                Ok(false) if state.pressed_on(place) => break,
                Ok(false) => ready.clear_ready(),
            }
        }
        place += 1;
    }
    Ok(more)
}

/// The runtime's watch over a link's socket, from its first use on.
fn watch(link: &mut Link) -> Result<Arc<AsyncFd<Arc<OwnedFd>>>, ChannelError> {
    if let Some(watch) = &link.watch {
        return Ok(Arc::clone(watch));
    }
    let watch = sys::socket::watch(link.socket())
        .map_err(|error| ChannelError::from_io("epoll_ctl", &error))?;
    Ok(Arc::clone(link.watch.insert(Arc::new(watch))))
}

fn watched(state: &State) -> Vec<(Arc<OwnedFd>, PollFlags)> {
    let flags = |place| {
        let (input, room) = state.interest(place);
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, input);
        flags.set(PollFlags::OUT, room);
        flags
    };
    // A socket that is looked at for nothing would still report its end, again and again.
    (0..state.links.len())
        .filter(|place| !flags(*place).is_empty())
        .map(|place| (state.links[place].socket(), flags(place)))
        .collect()
}

/// What a sleeping thread is woken by when another has done its work: an event descriptor of
/// its own for as long as it sleeps.
struct Bell<'a> {
    shared: &'a Shared,
    fd: Arc<OwnedFd>,
}

impl<'a> Bell<'a> {
    fn take(shared: &'a Shared) -> Result<Self, ChannelError> {
        let spare = shared.bells.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let fd = match spare {
            Some(fd) => fd,
            None => Arc::new(
                eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                    .map_err(|errno| ChannelError::System { what: "eventfd", errno })?,
            ),
        };
        shared.with(|state| state.sleepers.push(Arc::clone(&fd)));
        Ok(Self { shared, fd })
    }

    fn silence(&self) {
        let _ = rustix::io::read(&self.fd, &mut [0_u8; 8]);
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        self.shared.with(|state| state.sleepers.retain(|bell| !Arc::ptr_eq(bell, &self.fd)));
        self.silence();
        let mut bells = self.shared.bells.lock().unwrap_or_else(PoisonError::into_inner);
        bells.push(Arc::clone(&self.fd));
    }
}
