//! The helpers that connect: one to addresses of the network, by number and by name, and one to
//! Unix paths. They are two, for the first takes in what strangers send and needs no right to any
//! file, and the second may reach sockets of others and takes in nothing.

mod local;
mod names;
mod network;
mod orders;
mod paths;
mod trying;

pub(crate) use self::names::NAME as NAME_BYTES;
pub(crate) use self::orders::{
    Orders, names, ports, resolver_view, serves_network, serves_paths, view,
};
pub(crate) use self::{network::NAME as NETWORK, paths::NAME as PATHS};
pub(crate) use self::{network::run as run_network, paths::run as run_paths};

use rustix::io::Errno;

use crate::wire::broker::Refusal;

/// Requests of one client that are under way.
pub(crate) const MAX_UNDER_WAY: usize = 16;

fn system(errno: Errno) -> Refusal {
    match errno {
        Errno::TIMEDOUT => Refusal::Timeout,
        errno => Refusal::System(errno.raw_os_error()),
    }
}
