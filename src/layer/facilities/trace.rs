//! Which request a layer's code is at.

use super::super::Layer;
use crate::trace::{self, Trace};

impl Layer {
    /// This task or thread is at another request from now on: one of the connection that it was at, or
    /// one that came otherwise. `traceparent` is the header of that name, where the request has one (W3C
    /// Trace Context); without it, or where that is malformed, the request begins a trace of its own.
    ///
    /// What it is given says what others call the request, and means nothing else: whoever connects can
    /// make one up. The audit log says which connection it came by. See [`crate::trace`].
    pub fn trace(&self, traceparent: Option<&str>) -> Trace {
        let before = trace::current();
        let taken = trace::take_up(traceparent.and_then(Trace::parse));
        self.0.desk.took_up(taken, before);
        taken
    }
}
