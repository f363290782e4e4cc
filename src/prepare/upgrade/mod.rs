//! A new program in the place of the one that runs, in the same process.
//!
//! Whatever can go wrong goes wrong in a child. The steward looks whose the file is
//! ([`program`]) and executes it in a child of its own, which prepares the policy as for a reload and
//! reads the supervisor's state whole ([`rehearsal`]), the second time under the supervisor's own filter
//! and with its capabilities. Only then the supervisor writes its state down ([`state`]), executes
//! the very file that was rehearsed, and finds there what it had.
//!
//! A program that is executed for one of these parts learns of it by a variable of its environment, and
//! by `argv[0]` where an older one would otherwise take itself for started anew.

pub(crate) mod facts;
pub(crate) mod moment;
pub(crate) mod program;
pub(crate) mod rehearsal;
pub(crate) mod state;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use self::state::State;
use crate::sys::inherit::{all_outlive_exec, carried, outlive_exec};

/// Tells a program which part it has.
const VARIABLE: &str = "COFFERDAM_UPGRADE";

/// What a program was executed for.
pub(crate) enum Part {
    /// To prepare all that the supervisor takes over, and to rehearse that.
    Prepare(Tools),
    /// To show that it comes so far under the supervisor's filter, and reads its state.
    Try(OwnedFd),
    /// To be the steward, of whom the supervisor holds the other end of this socket.
    Steward(OwnedFd, PathBuf),
    /// To be the supervisor.
    Supervise(OwnedFd),
}

/// What a program holds that prepares.
pub(crate) struct Tools {
    /// It says here that it has begun.
    pub begun: OwnedFd,
    /// What it has made it hands over here.
    pub to: OwnedFd,
    /// What holds so far, and the supervisor's state.
    pub before: OwnedFd,
    pub state: OwnedFd,
    /// Itself.
    pub program: OwnedFd,
    /// It stays until the other end of this is closed: as long as it runs nobody writes to its file
    /// (`ETXTBSY`, execve(2)).
    pub stay: OwnedFd,
    /// Whose users the layers are.
    pub key: String,
}

/// The same, as it is told to a program that will be executed.
pub(crate) enum Brief<'a> {
    Prepare([&'a OwnedFd; 6], &'a str),
    Try(&'a OwnedFd),
    Steward(&'a OwnedFd, &'a OsStr),
    Supervise(&'a OwnedFd),
}

impl Brief<'_> {
    /// The variable's value, and the descriptors that it speaks of outlive the exec, or don't any more.
    fn open(&self, outlive: bool) -> io::Result<OsString> {
        let (word, fds, rest): (_, &[&OwnedFd], &[u8]) = match self {
            Self::Prepare(fds, key) => ("prepare", fds, key.as_bytes()),
            Self::Try(state) => ("try", &[state], &[]),
            Self::Steward(socket, path) => ("steward", &[socket], path.as_bytes()),
            Self::Supervise(state) => ("supervise", &[state], &[]),
        };
        let mut value = format!("{word} ").into_bytes();
        for fd in fds {
            outlive_exec(fd, outlive)?;
            value.extend(format!("{} ", fd.as_raw_fd()).bytes());
        }
        value.extend_from_slice(rest);
        Ok(OsString::from_vec(value))
    }
}

/// What this process was executed for, if that is an upgrade. Once, before anything else is opened; an
/// error is for a person.
pub(crate) fn part() -> Option<Result<Part, String>> {
    let value = std::env::var_os(VARIABLE)?;
    Some(read(value.as_bytes()).map_err(|error| format!("{VARIABLE}: {error}")))
}

fn read(value: &[u8]) -> io::Result<Part> {
    let mut fields = value.split(|byte| *byte == b' ');
    let word = fields.next().unwrap_or_default();
    let count = if word == b"prepare" { 6 } else { 1 };
    let number = |field: &[u8]| std::str::from_utf8(field).ok()?.parse::<RawFd>().ok();
    let mut fds = Vec::new();
    for field in fields.by_ref().take(count) {
        fds.push(carried(number(field).ok_or(io::ErrorKind::InvalidInput)?)?);
    }
    let rest = fields.collect::<Vec<_>>().join(&b' ');
    let mut fds = fds.into_iter();
    let mut next = || fds.next().ok_or(io::ErrorKind::InvalidInput);
    Ok(match word {
        b"prepare" => Part::Prepare(Tools {
            begun: next()?,
            to: next()?,
            before: next()?,
            state: next()?,
            program: next()?,
            stay: next()?,
            key: String::from_utf8(rest).map_err(io::Error::other)?,
        }),
        b"try" => Part::Try(next()?),
        b"steward" => Part::Steward(next()?, OsString::from_vec(rest).into()),
        b"supervise" => Part::Supervise(next()?),
        _ => return Err(io::ErrorKind::InvalidInput.into()),
    })
}

/// Executes the program in the supervisor's place, with all that its state names. Comes back with an
/// error, and then nothing is different.
pub(crate) fn take_over(program: &OwnedFd, state: &State) -> io::Error {
    let fds = &state.descriptors;
    let error = match state.write() {
        Err(error) => error,
        Ok(memory) => match all_outlive_exec(fds, true) {
            Err(error) => error,
            Ok(()) => program::execute(program, None, &Brief::Supervise(&memory)),
        },
    };
    let _ = all_outlive_exec(fds, false);
    error
}
