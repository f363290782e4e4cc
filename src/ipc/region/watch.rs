//! A thread that sleeps on shared memory for those of this process who sleep elsewhere.
//!
//! A task sleeps in its runtime, and a thread that waits for long sleeps on the control socket;
//! neither is woken by a word in memory. So one thread of the process sleeps on all such words at
//! once and rings for whose word has changed. It begins with the first that needs it, and costs
//! nothing while nothing changes. Who writes notices nothing of it.

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

use super::Region;
use crate::sys::futex::{self, MOST, Word};

/// The thread's stack in bytes: it calls nothing that needs more.
const STACK: usize = 64 << 10;

/// What is waited for: that the low half of a word is no longer as it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    /// The word's place in bytes.
    pub(super) at: usize,
    /// What it was.
    pub(super) expected: u32,
    /// Whether it is a sign that we sleep, to be taken back.
    pub(super) is_sign: bool,
}

/// How a waiter is woken.
pub(super) enum Bell {
    Task(Waker),
    Thread(Arc<OwnedFd>),
}

/// A waiter that the thread watches for; until it is dropped, or rung for.
pub(super) struct Watch {
    watcher: &'static Watcher,
    id: u64,
}

struct Watcher {
    /// Counts changes of the table, and wakes the thread to see them.
    changes: AtomicU32,
    table: Mutex<Table>,
    /// The kernel refuses: nobody is watched for.
    refused: AtomicBool,
    /// A fork has the table and not the thread.
    process: u32,
}

#[derive(Default)]
struct Table {
    next: u64,
    waiters: Vec<Waiter>,
}

struct Waiter {
    id: u64,
    region: Region,
    spot: Spot,
    bell: Bell,
}

/// Waits in this task until the word has changed, or was woken for nothing. False: nobody watches.
pub(super) async fn changed(region: &Region, spot: Spot) -> bool {
    let mut watch: Option<Watch> = None;
    poll_fn(|cx| match &watch {
        Some(watch) if watch.renew(cx.waker()) => Poll::Pending,
        Some(_) => Poll::Ready(true),
        None => {
            watch = Watch::begin(region, spot, Bell::Task(cx.waker().clone()));
            if watch.is_some() { Poll::Pending } else { Poll::Ready(false) }
        }
    })
    .await
}

impl Watch {
    /// Has the thread watch; `None` where there can't be one, or it has too much to watch.
    pub(super) fn begin(region: &Region, spot: Spot, bell: Bell) -> Option<Self> {
        let watcher = watcher()?;
        let mut table = watcher.table();
        if table.waiters.len() >= MOST {
            return None;
        }
        let id = table.next;
        table.next += 1;
        table.waiters.push(Waiter { id, region: region.clone(), spot, bell });
        drop(table);
        watcher.tell();
        // Had the thread ended before, it would not have seen this waiter.
        let watch = Self { watcher, id };
        (!watcher.refused.load(Ordering::SeqCst)).then_some(watch)
    }

    /// Whether there is still nothing; then `waker` is the one to wake.
    fn renew(&self, waker: &Waker) -> bool {
        let mut table = self.watcher.table();
        let mine = table.waiters.iter_mut().find(|waiter| waiter.id == self.id);
        if let Some(Waiter { bell: Bell::Task(known), .. }) = mine {
            known.clone_from(waker);
            return true;
        }
        false
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut table = self.watcher.table();
        let before = table.waiters.len();
        table.waiters.retain(|waiter| waiter.id != self.id);
        let is_watched = table.waiters.len() < before;
        drop(table);
        if is_watched {
            // So that it lets go of the region.
            self.watcher.tell();
        }
    }
}

/// The one of this process, which begins now if it hasn't.
fn watcher() -> Option<&'static Watcher> {
    static WATCHER: OnceLock<Option<&'static Watcher>> = OnceLock::new();
    let process = std::process::id();
    let begin = || {
        let watcher: &'static Watcher = Box::leak(Box::new(Watcher {
            changes: AtomicU32::new(0),
            table: Mutex::default(),
            refused: AtomicBool::new(false),
            process,
        }));
        let thread = std::thread::Builder::new().name("regions".into()).stack_size(STACK);
        thread.spawn(|| watcher.run()).ok().map(|_| watcher)
    };
    let watcher = (*WATCHER.get_or_init(begin))?;
    let works = watcher.process == process && !watcher.refused.load(Ordering::SeqCst);
    works.then_some(watcher)
}

impl Watcher {
    fn run(&self) {
        loop {
            let changes = self.changes.load(Ordering::SeqCst);
            let held: Vec<(u64, Region, Spot)> = {
                let table = self.table();
                table.waiters.iter().map(|it| (it.id, it.region.clone(), it.spot)).collect()
            };
            let mut words = Vec::with_capacity(held.len());
            for (_, region, spot) in &held {
                let memory = &region.0.memory;
                words.push(Word { memory, at: spot.at, expected: spot.expected });
            }
            let Ok(place) = futex::wait_any(&self.changes, changes, &words, None) else {
                self.refused.store(true, Ordering::SeqCst);
                return self.ring(|_| true);
            };
            let woken = place.and_then(|place| held.get(place)).map(|(id, ..)| *id);
            self.ring(|waiter| Some(waiter.id) == woken || waiter.has_changed());
        }
    }

    /// Rings for those whom it concerns, and forgets them.
    fn ring(&self, concerns: impl Fn(&Waiter) -> bool) {
        let rung: Vec<Waiter> = {
            let mut table = self.table();
            let all = std::mem::take(&mut table.waiters);
            let (rung, rest) = all.into_iter().partition(concerns);
            table.waiters = rest;
            rung
        };
        for waiter in rung {
            match waiter.bell {
                Bell::Task(waker) => waker.wake(),
                // It refuses only at its maximum, and then it has rung.
                Bell::Thread(event) => {
                    let _ = rustix::io::write(&*event, &1_u64.to_ne_bytes());
                }
            }
        }
    }

    fn tell(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        futex::wake(&self.changes);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    fn has_changed(&self) -> bool {
        #[allow(clippy::cast_possible_truncation, reason = "a futex has 32 bits")]
        let now = self.region.0.memory.load_acquire(self.spot.at) as u32;
        now != self.spot.expected
    }
}
