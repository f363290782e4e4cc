//! What the supervisor hands over to an `exec` layer before its program starts.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use crate::ident::Name;
use crate::layer::inbox::{Heard, Inbox};
use crate::wire::control::{Service, ToLayer};

/// Descriptors that the layer holds from the start.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// Listening sockets, by name.
    pub listeners: BTreeMap<Name, OwnedFd>,
    /// Sockets to helpers that run already.
    pub services: BTreeMap<Service, OwnedFd>,
}

impl Handed {
    /// Takes what comes, until the supervisor says start.
    pub fn receive(inbox: &Inbox) -> Result<Self, String> {
        let mut handed = Self::default();
        loop {
            match inbox.wait().map_err(|error| error.to_string())? {
                Heard::Message(ToLayer::Start, None) => return Ok(handed),
                Heard::Message(ToLayer::Listener(name), Some(socket)) => {
                    handed.listeners.insert(name, socket);
                }
                Heard::Message(ToLayer::Service(service), Some(line)) => {
                    handed.services.insert(service, line);
                }
                Heard::Message(message, _) => {
                    return Err(format!("{message:?} is nothing for an exec layer"));
                }
                Heard::HungUp | Heard::Nothing => return Err("the supervisor is gone".to_owned()),
            }
        }
    }
}

/// Takes a socket out of those that came.
pub(super) fn take(sockets: &mut BTreeMap<Name, OwnedFd>, name: &Name) -> Result<OwnedFd, String> {
    sockets.remove(name).ok_or_else(|| format!("listen.{name}: it didn't come"))
}
