//! The child that reads the policy and makes the plan.
//!
//! The text of a policy is anything but simple, and so are the parser, the checker and the compiler
//! of filters. They run here: in a process that may read files and write to what it holds, and
//! that ends before there is a layer.

use std::io;
use std::os::fd::AsFd;

use rustix::thread::CapabilitySet;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::child::{self, PrepareError, keep_capabilities};
use crate::confine::filter::{Action, Arch, compile_with};
use crate::policy::syscall::{Implied, assemble, parse_item};
use crate::sys::memory;

/// What it does, for messages.
const WHAT: &str = "reads the policy";

/// The largest answer, in bytes: a plan of 1,024 layers with all their filters is some 40 MiB.
const MOST: u64 = 64 << 20;

/// What the child calls once it is confined; all else answers `EPERM`.
const CALLS: &[&str] = &[
    "@core",
    "openat(_, _, subset of O_CLOEXEC|O_DIRECTORY|O_LARGEFILE|O_NOFOLLOW|O_NONBLOCK|O_NOCTTY|O_PATH)",
    "open(_, subset of O_CLOEXEC|O_DIRECTORY|O_LARGEFILE|O_NOFOLLOW|O_NONBLOCK)",
    "stat",
    "lstat",
    "fstat",
    "newfstatat",
    "statx",
    "readlink",
    "readlinkat",
    "getcwd",
    "geteuid",
    "getuid",
    "lseek",
    "pread64",
    "memfd_create",
    "ftruncate",
    "fcntl",
    "sendmsg",
    "getpid",
];

const EPERM: u16 = 1;

/// Runs `open` in a child, and then, once the child is confined, `plan` on what it gave; what that
/// returns comes back as a value. `open` may be anybody's code and do what the daemon's user may.
///
/// # Errors
/// [`PrepareError::Garbled`] for an answer that is larger than 64 MiB or isn't a value of that
/// type, to the last byte.
pub(crate) fn plan<O, T: Serialize + DeserializeOwned>(
    open: impl FnOnce() -> O,
    plan: impl FnOnce(O) -> T,
) -> Result<T, PrepareError> {
    let answers = child::run(WHAT, 1, |handover| {
        let opened = open();
        confine().map_err(|error| format!("no policy can be read: confining: {error}"))?;
        let answer = postcard::to_stdvec(&plan(opened)).map_err(|error| error.to_string())?;
        memory::sealed("cofferdam-plan", &answer)
            .and_then(|memory| handover.give(memory.as_fd()))
            .map_err(|error| error.to_string())
    })?;
    let garbled = |error| PrepareError::Garbled(WHAT, error);
    let [answer] = &answers[..] else { return Err(garbled(io::ErrorKind::InvalidData.into())) };
    let bytes = memory::read_sealed(answer, MOST).map_err(garbled)?;
    match postcard::take_from_bytes(&bytes) {
        Ok((answer, [])) => Ok(answer),
        _ => Err(garbled(io::ErrorKind::InvalidData.into())),
    }
}

/// Leaves the child files to read, at most with root's eyes, and descriptors to write to.
fn confine() -> io::Result<()> {
    keep_capabilities(&[CapabilitySet::DAC_READ_SEARCH])?;
    let items: Vec<_> = CALLS.iter().filter_map(|text| parse_item(text).ok()).collect();
    let plans = assemble(&items, &[], Implied::Run);
    let filter = compile_with(&plans, Arch::NATIVE, Action::Errno(EPERM));
    filter.map_err(io::Error::other)?.load().map_err(io::Error::other)
}
