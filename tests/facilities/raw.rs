//! The control socket in the hands of a layer that doesn't care for the library's rules.

#![allow(unsafe_code)]

use std::os::fd::BorrowedFd;

use cofferdam::wire::control::{FromLayer, MAX_CONTROL, ToLayer};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

/// Where every layer has it.
const CONTROL: i32 = 4;

/// Says anything to the supervisor.
pub(crate) fn speak(words: &FromLayer) -> Result<(), String> {
    loop {
        match send(CONTROL, &words.encode(), MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN) => wait(PollFlags::POLLOUT)?,
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

/// Hears what the supervisor says, past the library.
pub(crate) fn hear() -> Result<ToLayer, String> {
    let mut bytes = [0; MAX_CONTROL];
    loop {
        match recv(CONTROL, &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err("the supervisor is gone".into()),
            Ok(length) => {
                return postcard::from_bytes(&bytes[..length]).map_err(|error| error.to_string());
            }
            Err(Errno::EAGAIN) => wait(PollFlags::POLLIN)?,
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

fn wait(for_what: PollFlags) -> Result<(), String> {
    // SAFETY: the layer's own inbox holds the descriptor open as long as the process runs.
    let socket = unsafe { BorrowedFd::borrow_raw(CONTROL) };
    poll(&mut [PollFd::new(socket, for_what)], PollTimeout::NONE)
        .map(drop)
        .map_err(|errno| errno.to_string())
}

/// A descriptor of this process by its number, if there is one.
pub(crate) fn borrow(number: i32) -> Option<BorrowedFd<'static>> {
    // SAFETY: only for calls that answer EBADF if it isn't open; what is open stays so meanwhile.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD).is_ok().then_some(fd)
}
