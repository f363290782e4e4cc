//! Calls on sockets: who listens where, and connects to whom.

use super::{Notes, low};
use crate::cli::learn::address::{self, Address};
use crate::sockaddr;
use crate::sys::notify::Notification;

impl Notes {
    /// A stream socket listens: only then its address is one that others connect to.
    pub(super) fn listens(&mut self, call: &Notification, by: &str) {
        let Ok(socket) = call.descriptor(low(call.arguments[0])) else { return };
        match (address::transport(&socket), address::local(&socket)) {
            (Some(transport), Some(Address::Internet { text, .. })) => {
                self.seen.bound(&format!("{transport}{text}"), by);
            }
            (_, Some(Address::Path(path))) => self.unix(call, &path, by, true),
            _ => {}
        }
    }

    /// A datagram socket is bound: it receives from then on.
    pub(super) fn binds(&mut self, call: &Notification, by: &str) {
        let Ok(socket) = call.descriptor(low(call.arguments[0])) else { return };
        if let (Some("udp:"), Some(Address::Internet { text, port })) =
            (address::transport(&socket), address(call, call.arguments[1], call.arguments[2]))
            && port != 0
        {
            self.seen.bound(&format!("udp:{text}"), by);
        }
    }

    pub(super) fn connects(&mut self, call: &Notification, at: u64, length: u64, by: &str) {
        let Ok(socket) = call.descriptor(low(call.arguments[0])) else { return };
        match (address::transport(&socket), address(call, at, length)) {
            (Some(transport), Some(Address::Internet { text, port })) if port != 0 => {
                self.seen.connected(&format!("{transport}{text}"), by);
            }
            (_, Some(Address::Path(path))) => self.unix(call, &path, by, false),
            _ => {}
        }
    }

    fn unix(&mut self, call: &Notification, path: &[u8], by: &str, listens: bool) {
        let Some(place) = self.resolver.resolve(call.thread, libc::AT_FDCWD, path, true) else {
            return;
        };
        // Who connects to what isn't there goes on without.
        if place.kind.is_some() || listens {
            let address = format!("unix:{}", place.path);
            if listens {
                self.seen.bound(&address, by);
            } else {
                self.seen.connected(&address, by);
            }
        }
    }
}

fn address(call: &Notification, at: u64, length: u64) -> Option<Address> {
    let mut bytes = [0; sockaddr::LONGEST];
    let length = usize::try_from(length & u64::from(u32::MAX)).ok()?.min(bytes.len());
    let length = call.read(at, &mut bytes[..length]).ok()?;
    address::read(&bytes[..length])
}
