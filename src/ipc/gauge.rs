//! How much a layer has in its hands, where its policy has as many copies as there is to do.
//!
//! Counted are connections of acceptors, calls that are to be answered, and of each queue the message
//! that was taken last. That there is more to do is told at once, for a thread that computes tells
//! nothing later; that there is less only a while after the last word, so that a layer that does one
//! short thing after the other says nothing in between.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::Notify;

use super::control::say;
use crate::wire::control::FromLayer;
use crate::wire::life::Load;

/// How long after the last word it is told that there is less to do.
const REST: Duration = Duration::from_millis(5);

/// Counts, and tells the supervisor.
#[derive(Debug)]
pub struct Gauge {
    /// So much is busy.
    busy: u32,
    in_hand: AtomicU32,
    told: Mutex<(Load, Option<Instant>)>,
    control: Arc<OwnedFd>,
    /// Wakes the task that tells later.
    notify: Notify,
    /// Wakes a thread that sleeps, once one has.
    bell: OnceLock<OwnedFd>,
}

/// Something that a layer has in its hands, until this is dropped.
#[derive(Debug)]
pub struct InHand(Arc<Gauge>);

impl Gauge {
    /// One that tells over this control socket.
    pub(crate) fn new(busy: u32, control: Arc<OwnedFd>) -> Arc<Self> {
        let (in_hand, told, notify) = (AtomicU32::new(0), Mutex::default(), Notify::new());
        Arc::new(Self { busy, in_hand, told, control, notify, bell: OnceLock::new() })
    }

    /// The layer has taken something.
    pub(crate) fn take(self: &Arc<Self>) -> InHand {
        self.in_hand.fetch_add(1, Ordering::SeqCst);
        let mut told = self.told();
        if self.load() > told.0 {
            self.tell(&mut told);
        }
        drop(told);
        InHand(Arc::clone(self))
    }

    /// How long until what there is to tell is told; `None`: there is nothing.
    pub(crate) fn due(&self) -> Option<Duration> {
        let (load, at) = *self.told();
        let since = at.map_or(REST, |at| at.elapsed());
        (load != self.load()).then(|| REST.saturating_sub(since))
    }

    /// Tells what is due; gives how long until the rest is.
    pub(crate) fn settle(&self) -> Option<Duration> {
        if self.due()?.is_zero() {
            self.tell(&mut self.told());
        }
        self.due()
    }

    /// Tells for ever what becomes due, in a task.
    pub(crate) async fn drive(&self) {
        loop {
            self.notify.notified().await;
            while let Some(rest) = self.settle() {
                tokio::time::sleep(rest.max(Duration::from_millis(1))).await;
            }
        }
    }

    /// Can be read once a thread that sleeps may have something to tell.
    pub(crate) fn bell(&self) -> io::Result<&OwnedFd> {
        if let Some(bell) = self.bell.get() {
            return Ok(bell);
        }
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(self.bell.get_or_init(|| bell))
    }

    /// Who was woken by the bell has heard it.
    pub(crate) fn silence(&self) {
        if let Some(bell) = self.bell.get() {
            let _ = rustix::io::read(bell, &mut [0_u8; 8]);
        }
    }

    fn load(&self) -> Load {
        match self.in_hand.load(Ordering::SeqCst) {
            0 => Load::Idle,
            some if some < self.busy => Load::Serving,
            _ => Load::Busy,
        }
    }

    /// Where the socket has no room it is told later, as everything that is due.
    fn tell(&self, told: &mut (Load, Option<Instant>)) {
        let load = self.load();
        if load != told.0 && say(&self.control, &FromLayer::Load(load)).is_ok() {
            told.0 = load;
        }
        told.1 = Some(Instant::now());
    }

    fn told(&self) -> MutexGuard<'_, (Load, Option<Instant>)> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let gauge = &self.0;
        gauge.in_hand.fetch_sub(1, Ordering::SeqCst);
        if gauge.settle().is_some() {
            gauge.notify.notify_one();
            if let Some(bell) = gauge.bell.get() {
                // It refuses only at its maximum, and then it has rung.
                let _ = rustix::io::write(bell, &1_u64.to_ne_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socketpair};

    use super::*;

    fn gauge(busy: u32) -> (Arc<Gauge>, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (near, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Gauge::new(busy, Arc::new(near)), far)
    }

    fn said(far: &OwnedFd) -> Vec<Load> {
        let mut bytes = [0; 16];
        let next = || {
            let (_, length) = recv(far, &mut bytes[..], RecvFlags::DONTWAIT).ok()?;
            FromLayer::decode(&bytes[..length])
        };
        let load = |message| match message {
            FromLayer::Load(load) => load,
            other => panic!("{other:?}"),
        };
        std::iter::from_fn(next).map(load).collect()
    }

    #[test]
    fn more_is_told_at_once_and_less_after_a_rest() {
        let (gauge, far) = gauge(2);
        let first = gauge.take();
        assert_eq!(said(&far), [Load::Serving]);
        let second = gauge.take();
        let third = gauge.take();
        assert_eq!(said(&far), [Load::Busy]);
        drop((third, second));
        while let Some(rest) = gauge.settle() {
            std::thread::sleep(rest);
        }
        assert_eq!(said(&far), [Load::Serving]);
        std::thread::sleep(REST);
        drop(first);
        assert_eq!((said(&far), gauge.due()), (vec![Load::Idle], None));
    }

    #[test]
    fn one_short_thing_after_the_other_is_no_change() {
        let (gauge, far) = gauge(1);
        let begin = Instant::now();
        for _ in 0..10 {
            drop(gauge.take());
        }
        let said = said(&far);
        // Unless this thread was held up in between.
        assert!(said == [Load::Busy] || begin.elapsed() >= REST, "{said:?}");
    }
}
