//! What waits for `recv`.

use std::collections::VecDeque;
use std::ops::{AddAssign, SubAssign};
use std::time::Instant;

use super::super::{Message, Method};
use crate::channel::LinkError;
use crate::ident::Instance;
use crate::trace::Trace;
use crate::wire::limits::{INBOX, INBOX_BYTES, INBOX_DESCRIPTORS, TIDINGS};

/// What waits for `recv`.
pub(in crate::ipc::message) enum Item {
    Request {
        link: u64,
        from: Instance,
        method: Method,
        number: u16,
        call: u32,
        deadline: Option<Instant>,
        trace: Option<Trace>,
        message: Message,
    },
    Message {
        link: u64,
        from: Instance,
        method: Method,
        trace: Option<Trace>,
        message: Message,
    },
    Restarted {
        old: Instance,
        new: Instance,
    },
    Gone(Instance),
    Broke {
        peer: Instance,
        why: LinkError,
    },
    Down,
}

/// Messages and tidings, in the order in which they came.
#[derive(Default)]
pub(super) struct Inbox {
    items: VecDeque<Item>,
    load: Load,
}

/// What messages come to.
#[derive(Clone, Copy, Default)]
pub(super) struct Load {
    messages: usize,
    bytes: usize,
    fds: usize,
}

impl Item {
    /// The link that it came by and what it weighs, if it is a message.
    fn load(&self) -> Option<(u64, Load)> {
        match self {
            Self::Request { link, message, .. } | Self::Message { link, message, .. } => {
                Some((*link, Load::of(message)))
            }
            _ => None,
        }
    }
}

impl Inbox {
    /// Takes the next item out, with the link that it relieves.
    pub(super) fn pop(&mut self) -> Option<(Item, Option<(u64, Load)>)> {
        let item = self.items.pop_front()?;
        let load = item.load();
        if let Some((_, load)) = load {
            self.load -= load;
        }
        Some((item, load))
    }

    /// Puts a message in; what it weighs.
    pub(super) fn push(&mut self, item: Item) -> Load {
        let load = item.load().map(|(_, load)| load).unwrap_or_default();
        self.load += load;
        self.items.push_back(item);
        load
    }

    /// Takes a request out before its turn; what it weighed. `None`: it isn't here any more.
    pub(super) fn withdraw(&mut self, from: u64, number: u32) -> Option<Load> {
        let place = self.items.iter().position(|item| {
            matches!(item, Item::Request { link, call, .. } if (*link, *call) == (from, number))
        })?;
        let (_, load) = self.items.remove(place)?.load()?;
        self.load -= load;
        Some(load)
    }

    /// Puts a tiding in. The oldest goes if nobody has asked for them for long.
    pub(super) fn tell(&mut self, item: Item) {
        if self.items.len() - self.load.messages >= TIDINGS
            && let Some(oldest) = self.items.iter().position(|item| item.load().is_none())
        {
            self.items.remove(oldest);
        }
        self.items.push_back(item);
    }

    /// Takes tidings out that are out of date.
    pub(super) fn retain_tidings(&mut self, mut keep: impl FnMut(&Item) -> bool) {
        self.items.retain(|item| item.load().is_some() || keep(item));
    }

    /// Whether it holds as much as it may.
    pub(super) fn is_full(&self) -> bool {
        self.load.fills(1)
    }
}

impl Load {
    fn of(message: &Message) -> Self {
        Self { messages: 1, bytes: message.body.len(), fds: message.fds.len() }
    }

    /// Whether it comes to so many times what an inbox holds. Descriptors are never multiplied.
    pub(super) fn fills(self, times: usize) -> bool {
        self.messages >= INBOX * times
            || self.bytes >= INBOX_BYTES * times
            || self.fds >= INBOX_DESCRIPTORS
    }
}

impl AddAssign for Load {
    fn add_assign(&mut self, more: Self) {
        self.messages += more.messages;
        self.bytes += more.bytes;
        self.fds += more.fds;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, less: Self) {
        self.messages -= less.messages;
        self.bytes -= less.bytes;
        self.fds -= less.fds;
    }
}
