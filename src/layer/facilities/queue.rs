//! `layer.queue("jobs")`.

use std::io;
use std::os::fd::OwnedFd;

use crate::ident::Name;
use crate::ipc::queue::{End, Queue};
use crate::layer::{Layer, LayerError, Shared};
use crate::wire::control::Object;

impl Layer {
    /// The message queue `name`, on which this layer sends or receives.
    pub fn queue(&self, name: &str) -> Result<Queue, LayerError> {
        let line = |layer: &Name| format!("[queue.{name}] send = [\"{layer}\"]");
        let all = &self.0.share.queues;
        let granted = self.granted("queue", all, |plan| &plan.name, name, line)?;
        // There is one for each that is granted.
        let queue = self.0.queues.get(&granted.number).cloned();
        queue.ok_or_else(|| self.not_granted("queue", name, line(&self.0.instance.layer)))
    }
}

impl Shared {
    /// Gives a queue what the supervisor hands over for it; gives back what is for something else.
    pub(in crate::layer) fn take_queue_part(
        &self,
        kind: Object,
        number: u16,
        part: u32,
        fd: OwnedFd,
    ) -> io::Result<Option<OwnedFd>> {
        let queue = || {
            let queue = self.queues.get(&number);
            queue.ok_or_else(|| io::Error::other(format!("queue {number} is not this layer's")))
        };
        match kind {
            Object::QueueSend => queue()?.keep_end(End::Send, fd),
            Object::QueueReceive => queue()?.keep_end(End::Receive, fd),
            Object::QueueKey => queue()?.keep_keys(part, fd)?,
            _ => return Ok(Some(fd)),
        }
        Ok(None)
    }
}
