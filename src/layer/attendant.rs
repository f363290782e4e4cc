//! The thread that reads the control socket of a layer whose code brings its own runtime.
//!
//! An async function has a task of ours for that, and threads that sleep in a blocking verb do it
//! themselves. What is left is code that waits elsewhere: tasks of a runtime of its own, or a task
//! that waits for [`Layer::stopping`](super::Layer::stopping). The first such wait starts this
//! thread, so that nobody pays for it who doesn't need it; it counts in `limits.tasks`.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::Shared;
use super::run::say;

/// Enough for the handshakes and reports that a message may bring about; the usual two megabytes
/// would count against a layer's memory where that is limited by `RLIMIT_DATA`.
const STACK: usize = 256 << 10;

/// How often a loop that only asks whether to finish looks at the socket, at most: often enough
/// for a stop, and no system call more for each message that such a loop handles.
const EVERY: Duration = Duration::from_millis(1);

/// Who reads the control socket.
#[derive(Debug, Default)]
pub(crate) struct Attendant {
    /// A task or a thread of ours does.
    there: AtomicBool,
    starting: Mutex<()>,
    /// What the thread looks after.
    layer: OnceLock<Weak<Shared>>,
    looked: Mutex<Option<Instant>>,
}

impl Attendant {
    /// Names the layer, once.
    pub(super) fn belongs_to(&self, layer: Weak<Shared>) {
        let _ = self.layer.set(layer);
    }

    /// A task of the layer's own runtime reads the socket from now on.
    pub(super) fn is_a_task(&self) {
        self.there.store(true, Ordering::Release);
    }
}

impl Shared {
    /// Starts the thread, unless somebody reads the socket already.
    pub(super) fn ensure_attendant(&self) -> io::Result<()> {
        let own = &self.attendant;
        if own.there.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = own.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if own.there.load(Ordering::Acquire) {
            return Ok(());
        }
        let layer = own.layer.get().cloned().unwrap_or_default();
        let socket = self.inbox.socket();
        let thread = std::thread::Builder::new().name("attendant".to_owned()).stack_size(STACK);
        thread.spawn(move || attend(&layer, &socket)).map_err(|error| {
            let layer = &self.instance.layer;
            io::Error::new(
                error.kind(),
                format!(
                    "the thread that attends to the supervisor can't start: {error}; it is one of \
                     `[layer.{layer}] limits.tasks`"
                ),
            )
        })?;
        own.there.store(true, Ordering::Release);
        Ok(())
    }

    /// Looks at the socket now and then, where nobody else does.
    pub(super) fn look_now_and_then(&self) {
        let own = &self.attendant;
        if own.there.load(Ordering::Acquire) {
            return;
        }
        let now = Instant::now();
        {
            let mut looked = own.looked.lock().unwrap_or_else(PoisonError::into_inner);
            if looked.is_some_and(|at| now.duration_since(at) < EVERY) {
                return;
            }
            *looked = Some(now);
        }
        // Whoever waits next learns that the supervisor is gone.
        let _ = self.pump();
    }
}

/// Handles what the supervisor says, for as long as there is the layer.
fn attend(layer: &Weak<Shared>, socket: &OwnedFd) {
    loop {
        match poll(&mut [PollFd::new(socket, PollFlags::IN)], None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return say(&format!("poll: {errno}")),
        }
        let Some(layer) = layer.upgrade() else { return };
        if let Err(error) = layer.pump() {
            // As a layer's function that runs on our own runtime ends with it.
            say(&error.to_string());
            std::process::exit(1);
        }
    }
}
