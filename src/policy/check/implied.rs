//! The system calls that a facility can't be used without, and that it therefore brings along.

use crate::policy::document::{At, Document, LayerText};
use crate::policy::syscall::{self, Item};

/// What the facilities of `layer` grant it besides its own `syscalls`.
pub(super) fn items(layer: &LayerText, document: &Document) -> Vec<Item> {
    let me = layer.name.value.as_str();
    let is = |end: &Option<At<String>>| end.as_ref().is_some_and(|end| end.value == me);
    let among = |list: &Option<At<Vec<At<String>>>>| {
        list.iter().flat_map(|list| &list.value).any(|one| one.value == me)
    };
    let groups = [
        ("@queue-send", document.queues.iter().any(|queue| among(&queue.send))),
        ("@queue-receive", document.queues.iter().any(|queue| among(&queue.receive))),
        ("@fifo-read", document.fifos.iter().any(|fifo| is(&fifo.to))),
        ("@signal-receive", document.signals.iter().any(|signal| is(&signal.to))),
    ];
    // The groups are part of this program, so each is there.
    groups
        .iter()
        .filter(|(_, held)| *held)
        .flat_map(|(name, _)| syscall::parse_item(name))
        .collect()
}
