//! What every task and thread is at, as far as it is known.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use super::Trace;

/// The most whose doing is known. What others do is concluded from time by who reads the log.
const MOST: usize = 1 << 14;

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Task(tokio::task::Id),
    Thread(ThreadId),
    /// A future or closure that [works under a trace](super::within).
    Scope(u64),
}

/// What one is at.
#[derive(Clone, Copy, Debug, Default)]
struct Doing {
    /// Requests and connections in its hands.
    held: usize,
    trace: Option<Trace>,
}

static ALL: LazyLock<Mutex<HashMap<Key, Doing>>> = LazyLock::new(Mutex::default);
static COUNT: AtomicUsize = AtomicUsize::new(0);

fn all() -> MutexGuard<'static, HashMap<Key, Doing>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether nobody is known to be at anything: asked without a lock.
pub(super) fn is_empty() -> bool {
    COUNT.load(Ordering::Relaxed) == 0
}

/// What one is at.
pub(super) fn look(key: Key) -> Option<Trace> {
    all().get(&key)?.trace
}

/// Is at this from now on, as its code says, or at nothing.
pub(super) fn set(key: Key, trace: Option<Trace>) {
    change(key, |doing| doing.trace = trace);
}

/// Received a message.
pub(super) fn hear(key: Key, trace: Option<Trace>) {
    change(key, |doing| doing.trace = trace.filter(|_| doing.held == 0));
}

/// Took a request or a connection into its hands. With several of them it is at none for certain.
pub(super) fn take(key: Key, trace: Trace) {
    change(key, |doing| {
        doing.held += 1;
        doing.trace = Some(trace).filter(|_| doing.held == 1);
    });
}

/// Has answered a request, or closed a connection.
pub(super) fn leave(key: Key) {
    change(key, |doing| {
        doing.held = doing.held.saturating_sub(1);
        doing.trace = None;
    });
}

/// Has ended.
pub(super) fn forget(key: Key) {
    let mut all = all();
    all.remove(&key);
    COUNT.store(all.len(), Ordering::Relaxed);
}

fn change(key: Key, how: impl FnOnce(&mut Doing)) {
    let mut all = all();
    if all.len() >= MOST && !all.contains_key(&key) {
        // Tasks end without a word.
        all.retain(|_, doing| doing.held > 0);
        if all.len() >= MOST {
            return;
        }
    }
    match all.entry(key) {
        Entry::Occupied(mut known) => {
            how(known.get_mut());
            if known.get().held == 0 && known.get().trace.is_none() {
                known.remove();
            }
        }
        Entry::Vacant(room) => {
            let mut doing = Doing::default();
            how(&mut doing);
            if doing.held > 0 || doing.trace.is_some() {
                room.insert(doing);
            }
        }
    }
    COUNT.store(all.len(), Ordering::Relaxed);
}
