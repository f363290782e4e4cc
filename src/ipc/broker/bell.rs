//! What a thread is woken by that sleeps for an answer which another thread has taken in.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::ThreadId;

use rustix::event::{EventfdFlags, eventfd};

/// One thread's bell.
#[derive(Clone, Debug)]
pub(super) struct Bell {
    owner: ThreadId,
    event: Arc<OwnedFd>,
}

thread_local! {
    /// Each thread waits for one answer at a time, so it needs one.
    static BELL: RefCell<Option<Bell>> = const { RefCell::new(None) };
}

impl Bell {
    /// The one of the running thread.
    pub(super) fn own() -> io::Result<Self> {
        BELL.with_borrow_mut(|own| {
            if let Some(bell) = own {
                return Ok(bell.clone());
            }
            let event = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
            let owner = std::thread::current().id();
            Ok(own.insert(Self { owner, event }).clone())
        })
    }

    /// Wakes its thread, unless that is the one that runs.
    pub(super) fn ring(&self) {
        if self.owner != std::thread::current().id() {
            // It refuses only at its maximum, and then it has rung.
            let _ = rustix::io::write(&*self.event, &1_u64.to_ne_bytes());
        }
    }

    pub(super) fn silence(&self) {
        let _ = rustix::io::read(&*self.event, &mut [0; 8]);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
