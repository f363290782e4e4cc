//! POSIX message queues (`mq_overview(7)`): made, opened, unlinked by name, and used by
//! descriptor, which on Linux a queue's descriptor is.
//!
//! Sending and receiving never wait: whether a call would is asked with a time that has passed
//! already, not with `O_NONBLOCK`, which another holder of the same open queue could take away.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A time that has passed. The kernel looks once and answers `ETIMEDOUT`.
static PASSED: libc::timespec = libc::timespec { tv_sec: 0, tv_nsec: 0 };

/// What a queue holds at most, and how much it holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Messages that it holds at most.
    pub depth: u64,
    /// Bytes of a message at most.
    pub size: u64,
    /// Messages in it now.
    pub held: u64,
}

/// Makes a queue that nobody but its owner opens, and opens it for reading (`mq_open(3)`).
///
/// `name` is a slash and up to 254 other bytes without one.
pub fn create(name: &CStr, depth: u64, size: u64) -> io::Result<OwnedFd> {
    // SAFETY: an all-zero `mq_attr`, which is integers only, is a valid one.
    let mut attributes: libc::mq_attr = unsafe { MaybeUninit::zeroed().assume_init() };
    attributes.mq_maxmsg = depth.try_into().map_err(io::Error::other)?;
    attributes.mq_msgsize = size.try_into().map_err(io::Error::other)?;
    let flags = libc::O_RDONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC;
    let mode: libc::mode_t = 0o600;
    // SAFETY: the name ends in a zero byte and outlives the call, as do the attributes; with
    // O_CREAT a mode and a pointer to attributes follow.
    owned(unsafe { libc::mq_open(name.as_ptr(), flags, mode, &raw const attributes) })
}

/// Opens a queue for writing (`mq_open(3)`).
pub fn open_to_send(name: &CStr) -> io::Result<OwnedFd> {
    // SAFETY: the name ends in a zero byte and outlives the call; without O_CREAT nothing follows.
    owned(unsafe { libc::mq_open(name.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })
}

/// Takes a queue's name away; the queue lives as long as a descriptor of it (`mq_unlink(3)`).
pub fn unlink(name: &CStr) -> io::Result<()> {
    // SAFETY: the name ends in a zero byte and outlives the call.
    check(unsafe { libc::mq_unlink(name.as_ptr()) }.into()).map(drop)
}

/// Sends a message if there is room (`mq_timedsend(3)`); `Ok(false)` if there is none.
///
/// `priority` is 0 to 32767, the highest is received first.
pub fn send(queue: impl AsFd, message: &[u8], priority: u32) -> io::Result<bool> {
    let queue = queue.as_fd().as_raw_fd();
    let answer = again(|| {
        let bytes = message.as_ptr().cast();
        // SAFETY: the pointer and length name `message`, and the time outlives the call.
        unsafe { libc::mq_timedsend(queue, bytes, message.len(), priority, &raw const PASSED) }
            .into()
    });
    answer.map(|sent| sent.is_some())
}

/// Receives the oldest message of the highest priority (`mq_timedreceive(3)`): its length and its
/// priority; `None` if there is no message.
///
/// `buffer` must hold a message of the queue's largest size, else `EMSGSIZE`.
pub fn receive(queue: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<(usize, u32)>> {
    let queue = queue.as_fd().as_raw_fd();
    let mut priority = 0;
    let answer = again(|| {
        let (bytes, length) = (buffer.as_mut_ptr().cast(), buffer.len());
        // SAFETY: the pointer and length name `buffer`, which nobody else looks at meanwhile; the
        // priority and the time outlive the call.
        unsafe {
            libc::mq_timedreceive(queue, bytes, length, &raw mut priority, &raw const PASSED) as i64
        }
    })?;
    let Some(length) = answer else { return Ok(None) };
    Ok(Some((usize::try_from(length).map_err(io::Error::other)?, priority)))
}

/// What a queue holds (`mq_getattr(3)`).
pub fn attributes(queue: impl AsFd) -> io::Result<Attributes> {
    let mut found = MaybeUninit::<libc::mq_attr>::zeroed();
    // SAFETY: the kernel writes one `mq_attr`, for which there is room.
    check(unsafe { libc::mq_getattr(queue.as_fd().as_raw_fd(), found.as_mut_ptr()) }.into())?;
    // SAFETY: zeroed, it is a valid value of integers only, and the kernel has filled it in.
    let found = unsafe { found.assume_init() };
    let number = |it: libc::c_long| u64::try_from(it).unwrap_or(0);
    Ok(Attributes {
        depth: number(found.mq_maxmsg),
        size: number(found.mq_msgsize),
        held: number(found.mq_curmsgs),
    })
}

/// Calls until no signal interrupts; `None` if the call would have to wait.
fn again(mut call: impl FnMut() -> i64) -> io::Result<Option<i64>> {
    loop {
        match check(call()) {
            Ok(answer) => return Ok(Some(answer)),
            Err(error) => match error.raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::ETIMEDOUT | libc::EAGAIN) => return Ok(None),
                _ => return Err(error),
            },
        }
    }
}

fn check(answer: i64) -> io::Result<i64> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn owned(descriptor: libc::mqd_t) -> io::Result<OwnedFd> {
    check(descriptor.into())?;
    // SAFETY: the kernel just gave us this descriptor, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_without_a_name_orders_by_priority_and_is_one_way() {
        let name = std::ffi::CString::new(format!("/cofferdam-test-{}", std::process::id()));
        let name = name.unwrap();
        let reading = create(&name, 2, 8).unwrap();
        assert!(create(&name, 2, 8).is_err());
        let writing = open_to_send(&name).unwrap();
        unlink(&name).unwrap();
        assert!(open_to_send(&name).is_err());

        let mut buffer = [0; 8];
        assert_eq!(receive(&reading, &mut buffer).unwrap(), None);
        assert!(send(&writing, b"low", 0).unwrap());
        assert!(send(&writing, b"high", 1).unwrap());
        assert!(!send(&writing, b"full", 1).unwrap());
        assert_eq!(attributes(&reading).unwrap(), Attributes { depth: 2, size: 8, held: 2 });
        assert_eq!(receive(&reading, &mut buffer).unwrap(), Some((4, 1)));
        assert_eq!(&buffer[..4], b"high");
        assert_eq!(receive(&reading, &mut buffer).unwrap(), Some((3, 0)));

        let bad = Some(libc::EBADF);
        assert_eq!(send(&reading, b"no", 0).unwrap_err().raw_os_error(), bad);
        assert_eq!(receive(&writing, &mut buffer).unwrap_err().raw_os_error(), bad);
        let long = send(&writing, &[0; 9], 0).unwrap_err();
        assert_eq!(long.raw_os_error(), Some(libc::EMSGSIZE));
    }
}
