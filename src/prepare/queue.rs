//! The kernel's queues behind a message queue.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use rustix::fs::Mode;

use crate::ident::hex;
use crate::mark::reached;
use crate::policy::plan::QueuePlan;
use crate::sys::mqueue;
use crate::wire::queue::SEALING;

/// Makes the queue of each lane, without a name that others could use: the sending end, then the
/// receiving one.
pub(super) fn make(plan: &QueuePlan) -> io::Result<Vec<[OwnedFd; 2]>> {
    let size = u64::from(plan.max) + SEALING as u64;
    let lane = |_| lane(plan.depth.into(), size).map_err(|error| way_out(&error, plan));
    (0..plan.lanes()).map(lane).collect()
}

/// One of the kernel's queues, open in either direction.
fn lane(depth: u64, size: u64) -> io::Result<[OwnedFd; 2]> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let name = CString::new(format!("/cofferdam-{}", hex(&random)))?;
    let receiving = mqueue::create(&name, depth, size)?;
    reached("queue.make.named");
    let sending = mqueue::open_to_send(&name);
    mqueue::unlink(&name)?;
    reached("queue.make.unlinked");
    // So that nobody who holds one of them opens it again in the other direction.
    rustix::fs::fchmod(&receiving, Mode::empty())?;
    Ok([sending?, receiving])
}

/// The limit on the bytes of a user's queues, as it was before it was lifted.
pub(super) struct Lifted(Option<(u64, u64)>);

/// Gives root what large queues take: an IPC namespace of its own, in which no name can be met or
/// left behind, with settings as high as these queues need; and, with
/// `CAP_SYS_RESOURCE`, no limit on their bytes until what is returned is dropped.
///
/// What fails here shows when a queue is made.
pub(super) fn lift_limits(plans: &[QueuePlan]) -> Lifted {
    if plans.is_empty() || !rustix::process::geteuid().is_root() {
        return Lifted(None);
    }
    if unshare(CloneFlags::CLONE_NEWIPC).is_ok() {
        let depth = plans.iter().map(|plan| plan.depth).max().unwrap_or(0);
        let size = plans.iter().map(|plan| u64::from(plan.max)).max().unwrap_or(0);
        let size = size + SEALING as u64;
        raise("msg_max", depth.into());
        raise("msgsize_max", size);
    }
    let before = getrlimit(Resource::RLIMIT_MSGQUEUE).ok();
    Lifted(
        before
            .filter(|_| setrlimit(Resource::RLIMIT_MSGQUEUE, RLIM_INFINITY, RLIM_INFINITY).is_ok()),
    )
}

impl Drop for Lifted {
    fn drop(&mut self) {
        if let Some((soft, hard)) = self.0 {
            let _ = setrlimit(Resource::RLIMIT_MSGQUEUE, soft, hard);
        }
    }
}

/// Raises a setting of this process's own IPC namespace.
fn raise(name: &str, least: u64) {
    let path = format!("/proc/sys/fs/mqueue/{name}");
    let now = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
    if now.is_some_and(|now: u64| now < least) {
        let _ = std::fs::write(path, least.to_string());
    }
}

/// What the kernel's refusal means, and what to do.
fn way_out(error: &io::Error, plan: &QueuePlan) -> io::Error {
    let size = u64::from(plan.max) + SEALING as u64;
    let why = match error.raw_os_error() {
        Some(libc::EINVAL) => format!(
            "the kernel gives this user no queue of {} messages of {size} bytes: make \
             `depth` or `max` smaller, start the daemon as root, or raise \
             /proc/sys/fs/mqueue/msg_max and /proc/sys/fs/mqueue/msgsize_max",
            plan.depth
        ),
        Some(libc::EMFILE) => "its bytes are more than RLIMIT_MSGQUEUE leaves to this user: make \
             `depth` or `max` smaller, start the daemon as root, or raise the limit (`ulimit -q`)"
            .to_owned(),
        Some(libc::ENOSPC) => "there are as many message queues as /proc/sys/fs/mqueue/queues_max \
             allows: raise it, or start the daemon as root"
            .to_owned(),
        Some(libc::ENOSYS) => {
            "this kernel has no POSIX message queues (CONFIG_POSIX_MQUEUE)".to_owned()
        }
        _ => return io::Error::new(error.kind(), format!("mq_open: {error}")),
    };
    io::Error::new(error.kind(), why)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_queue_has_no_name_any_more_and_no_rights_to_open_it_with() {
        for fd in lane(2, 8).unwrap() {
            let path = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap();
            assert!(path.to_string_lossy().ends_with(" (deleted)"), "{path:?}");
            assert_eq!(rustix::fs::fstat(fd).unwrap().st_mode & 0o777, 0);
        }
    }
}
