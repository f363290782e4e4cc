//! The control socket in the hands of a layer that doesn't care for the library's rules.

#![allow(unsafe_code)]

use std::os::fd::{BorrowedFd, RawFd};

use cofferdam::wire::control::{FromLayer, MAX_CONTROL, ToLayer};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

/// Where every layer has it.
const CONTROL: RawFd = 4;

/// Says anything to the supervisor.
pub(crate) fn speak(words: &FromLayer) -> Result<(), String> {
    speak_on(CONTROL, words)
}

/// Hears what the supervisor says, past the library.
pub(crate) fn hear() -> Result<ToLayer, String> {
    hear_on(CONTROL)
}

/// Says anything on a socket that the layer's own library holds.
pub(crate) fn speak_on(socket: RawFd, words: &FromLayer) -> Result<(), String> {
    loop {
        match send(socket, &words.encode(), MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT) {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN) => wait(socket, PollFlags::POLLOUT)?,
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

/// Hears what is said on a socket, past the library.
pub(crate) fn hear_on(socket: RawFd) -> Result<ToLayer, String> {
    let mut bytes = [0; MAX_CONTROL];
    loop {
        match recv(socket, &mut bytes, MsgFlags::MSG_DONTWAIT) {
            Ok(0) => return Err("nobody is there".into()),
            Ok(length) => {
                return postcard::from_bytes(&bytes[..length]).map_err(|error| error.to_string());
            }
            Err(Errno::EAGAIN) => wait(socket, PollFlags::POLLIN)?,
            Err(errno) => return Err(errno.to_string()),
        }
    }
}

fn wait(socket: RawFd, for_what: PollFlags) -> Result<(), String> {
    let socket = borrow(socket).ok_or("it is closed")?;
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
