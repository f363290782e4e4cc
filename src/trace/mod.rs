//! Which request is this done for? Traces through the layers, in the form of W3C Trace Context.
//!
//! A message on a channel says, inside its seal, which trace it belongs to and from which step it
//! follows, and both ends report that to the audit log. So the log tells the way of one request through
//! all layers for certain: `cofferdam audit query DIR --trace ID`, `cofferdam audit report`, and the
//! exports. Code has to do nothing for it, as long as it handles a request in the task or thread that
//! received it: what that sends and does until it has answered, or receives again, belongs to the
//! request; in [`Channel::serve`](crate::ipc::message::Channel::serve), what the handler does. A client's
//! connection that an [`Acceptor`](crate::ipc::socket::Acceptor) accepted begins a trace, and whoever
//! reads from it or writes to it is at it.
//!
//! Where code hands a request on to another task, only it knows so: [`spawn`] takes the trace along, and
//! [`within`] and [`run`] work under any. A task that is at several requests or connections at once is
//! taken to be at none of them. What isn't known isn't made up: a call begins a trace of its own then, and
//! readers of the log conclude from time where it belongs, and say so.
//!
//! A trace that came from outside, as the `traceparent` header of an HTTP request, is taken up by
//! [`Layer::trace`](crate::Layer::trace), and [`current`] is passed on in the same form:
//!
//! ```no_run
//! # fn example(layer: &cofferdam::Layer, header: Option<&str>) {
//! let trace = layer.trace(header); // from now on this task is at that request
//! let outgoing = format!("traceparent: {trace}");
//! # }
//! ```
//!
//! A trace is what a layer says, as a record's method is: one that was taken over can claim any for what
//! it does itself. It claims it in the log's hash chain, and both ends must report the same.

mod doing;

use std::cell::Cell;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};

use tokio::task::JoinHandle;

use self::doing::Key;
pub use crate::wire::trace::Trace;

thread_local! {
    static SCOPE: Cell<Option<Scope>> = const { Cell::new(None) };
}

/// What a future or closure works under.
#[derive(Clone, Copy)]
struct Scope {
    number: u64,
    trace: Option<Trace>,
    /// It received something since, so that what it is at stands among what tasks do.
    listens: bool,
}

/// Where numbers of this process begin, so that no other process has the same.
static FIRST: LazyLock<[u64; 3]> = LazyLock::new(|| {
    let mut random = [[0; 8]; 3];
    for bytes in &mut random {
        // Without randomness traces of two processes may have one number: the log is none the worse.
        let _ = getrandom::fill(bytes);
    }
    random.map(u64::from_le_bytes)
});
static COUNT: AtomicU64 = AtomicU64::new(1);

fn number() -> u64 {
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// The request that this task or thread is at, if that is known.
pub fn current() -> Option<Trace> {
    match SCOPE.get() {
        Some(Scope { trace, listens: false, .. }) => trace,
        _ if doing::is_empty() => None,
        _ => doing::look(here()),
    }
}

/// Works under a trace: as [`Replier::trace`](crate::ipc::message::Replier::trace) or [`current`] gave it.
pub async fn within<F: Future>(trace: Option<Trace>, future: F) -> F::Output {
    let mut future = pin!(future);
    let mut scope = Entered(Scope { number: number(), trace, listens: false });
    std::future::poll_fn(|cx| scope.enter(|| future.as_mut().poll(cx))).await
}

/// The same for code that waits for nobody, or blocks its thread.
pub fn run<R>(trace: Option<Trace>, work: impl FnOnce() -> R) -> R {
    Entered(Scope { number: number(), trace, listens: false }).enter(work)
}

/// [`tokio::spawn`] of what goes on with this task's request. Needs the tokio runtime.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    tokio::spawn(within(current(), future))
}

struct Entered(Scope);

impl Entered {
    fn enter<R>(&mut self, work: impl FnOnce() -> R) -> R {
        /// Puts back what there was, also when the work panics.
        struct Before<'a>(Option<Scope>, &'a mut Scope);
        impl Drop for Before<'_> {
            fn drop(&mut self) {
                if let Some(now) = SCOPE.replace(self.0) {
                    *self.1 = now;
                }
            }
        }
        let before = SCOPE.replace(Some(self.0));
        let _before = Before(before, &mut self.0);
        work()
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if self.0.listens {
            doing::forget(Key::Scope(self.0.number));
        }
    }
}

/// Whose doing is kept apart: this task's, or this thread's.
fn here() -> Key {
    match SCOPE.get() {
        Some(scope) => Key::Scope(scope.number),
        None => tokio::task::try_id()
            .map_or_else(|| Key::Thread(std::thread::current().id()), Key::Task),
    }
}

/// The same for who receives something from now on.
fn listening() -> Key {
    if let Some(scope) = SCOPE.get().filter(|scope| !scope.listens) {
        SCOPE.set(Some(Scope { listens: true, ..scope }));
        if let Some(trace) = scope.trace {
            doing::set(Key::Scope(scope.number), Some(trace));
        }
    }
    here()
}

/// The next step of what this task or thread is at.
pub(crate) fn next() -> Option<Trace> {
    let from = current()?;
    Trace::new(from.id(), span(), from.span())
}

/// A trace of its own.
pub(crate) fn begin() -> Trace {
    let [high, low, _] = *FIRST;
    let low = low.wrapping_add(number());
    let id = (u128::from(high) << 64 | u128::from(low)).max(1);
    Trace::new(id.to_be_bytes(), span(), 0).unwrap_or_else(|| unreachable!("neither is 0"))
}

/// A step of its own in a trace from outside, which it follows from, or in a new one.
pub(crate) fn take_up(outside: Option<Trace>) -> Trace {
    let taken = outside.and_then(|from| Trace::new(from.id(), span(), from.span()));
    let trace = taken.unwrap_or_else(begin);
    match SCOPE.get() {
        Some(scope) if !scope.listens => SCOPE.set(Some(Scope { trace: Some(trace), ..scope })),
        _ => doing::set(here(), Some(trace)),
    }
    trace
}

fn span() -> u64 {
    FIRST[2].wrapping_add(number()).max(1)
}

/// This task or thread is about to receive: it is at nothing, or goes on with several things.
pub(crate) fn done() {
    let scoped = SCOPE.get().is_some_and(|scope| scope.trace.is_some() && !scope.listens);
    if scoped || !doing::is_empty() {
        doing::set(listening(), None);
    }
}

/// This task or thread has received a message, which nobody answers.
pub(crate) fn heard(trace: Option<Trace>) {
    if trace.is_some() || !doing::is_empty() {
        doing::hear(listening(), trace);
    }
}

/// What somebody is at, from here until it is dropped: a request to answer, or a connection.
#[derive(Debug)]
pub(crate) struct Held {
    trace: Option<Trace>,
    home: Mutex<Option<Key>>,
}

impl Held {
    /// A request that this task or thread has received.
    pub(crate) fn taken(trace: Option<Trace>) -> Self {
        let home = trace.map(|trace| {
            let here = listening();
            doing::take(here, trace);
            here
        });
        Self { trace, home: Mutex::new(home) }
    }

    /// A connection that has come, and that nobody uses yet.
    pub(crate) const fn carried(trace: Option<Trace>) -> Self {
        Self { trace, home: Mutex::new(None) }
    }

    /// Whose trace it is.
    pub(crate) const fn trace(&self) -> Option<Trace> {
        self.trace
    }

    /// This task or thread uses it.
    pub(crate) fn used(&self) {
        let Some(trace) = self.trace else { return };
        // Who works under a trace by its own choice stays there.
        if SCOPE.get().is_some_and(|scope| !scope.listens) {
            return;
        }
        let here = here();
        let mut home = self.home.lock().unwrap_or_else(PoisonError::into_inner);
        if *home != Some(here) {
            if let Some(before) = home.replace(here) {
                doing::leave(before);
            }
            doing::take(here, trace);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let home = self.home.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(home) = home {
            doing::leave(home);
        }
    }
}

#[cfg(test)]
mod tests;
