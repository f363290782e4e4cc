//! Who reads the control socket of a layer whose code brings its own runtime.
//!
//! An async function has a task of ours for that, and threads that sleep in a blocking verb do it
//! themselves. What is left are tasks of a runtime that is not ours: the first one that waits has
//! that runtime run the same task. So it takes no thread, and nothing on the way of a message.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::Shared;
use super::run::{say, serve};

/// How often a loop that only asks whether to finish looks at the socket, at most: often enough
/// for a stop, and no system call more for each message that such a loop handles.
const EVERY: Duration = Duration::from_millis(1);

/// Who reads the control socket.
#[derive(Debug, Default)]
pub(crate) struct Attendant {
    /// Some task does.
    there: AtomicBool,
    /// Whom it looks after.
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
    /// Has the runtime that this is called in read the socket, unless somebody does already.
    /// Outside of a runtime nothing waits as a task does.
    pub(super) fn ensure_attendant(&self) {
        let own = &self.attendant;
        if own.there.load(Ordering::Acquire) {
            return;
        }
        let layer = own.layer.get().and_then(Weak::upgrade);
        if let (Some(layer), Ok(runtime)) = (layer, Handle::try_current())
            && !own.there.swap(true, Ordering::AcqRel)
        {
            for broker in layer.services.values() {
                let broker = Arc::clone(broker);
                runtime.spawn(async move { broker.drive().await });
            }
            if let Some(gauge) = layer.gauge.clone() {
                runtime.spawn(async move { gauge.drive().await });
            }
            runtime.spawn(attend(layer));
        }
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

/// Handles what the supervisor says, for as long as the runtime lives.
async fn attend(layer: Arc<Shared>) {
    let _there = There(Arc::clone(&layer));
    let error = serve(layer).await;
    // As a layer's function that runs on our own runtime ends with it.
    say(&error.to_string());
    std::process::exit(1);
}

/// The place of the task, which another may take when its runtime has ended.
struct There(Arc<Shared>);

impl Drop for There {
    fn drop(&mut self) {
        self.0.attendant.there.store(false, Ordering::Release);
    }
}
