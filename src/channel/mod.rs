//! One channel between two processes: introduction, records on a socket, descriptors.
//!
//! Read [`introduce`] first (how two ends meet), then [`endpoint`] (what they do from then on)
//! and [`descriptor`] (what may come along). Nothing here waits: every operation does what can
//! be done at once and says so. Waiting is the business of `ipc::message`.

pub mod datagram;
pub mod descriptor;
pub mod endpoint;
pub mod fault;
pub mod introduce;
pub mod protocol;
pub mod relay;
pub mod rules;

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

pub use endpoint::Endpoint;
pub use fault::{LinkError, PeerFault};
pub use introduce::Introducing;
pub use rules::{Rules, Side};

use crate::policy::plan::ChannelPlan;
use crate::sys;

/// What a socket's send buffer is asked to be, so that a sender and a receiver of large records
/// both find work. The kernel grants up to `net.core.wmem_max`; less is no error.
const SEND_BUFFER: usize = 512 << 10;

/// Makes the two ends of a link, with every socket option set that the layers then need not set
/// themselves. For the supervisor; see `unix(7)`.
///
/// Where the plan allows no descriptors, the kernel refuses them at the sender already (Linux
/// 6.16; the endpoint refuses them in any case).
pub fn socketpair(plan: &ChannelPlan) -> io::Result<(OwnedFd, OwnedFd)> {
    let (one, other) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    for end in [&one, &other] {
        sockopt::set_socket_send_buffer_size(end, SEND_BUFFER)?;
        if plan.most_fds() == 0 {
            sys::socket::refuse_descriptors(end)?;
        }
    }
    Ok((one, other))
}
