//! Verbs that block the thread, for layers that don't use the async runtime.
//!
//! What waits has an async verb, and the same one behind `blocking()`: `receiver.recv().await` is
//! `receiver.blocking().recv(time)`. A time limit of `None` waits for ever.

/// The blocking verbs of a handle: `T` is the handle, or a reference to one that is used again.
#[derive(Debug)]
pub struct Blocking<T>(pub(super) T);

/// What doesn't wait is asked of the handle itself.
impl<T> std::ops::Deref for Blocking<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
