//! The standard streams of a program that is learned from.
//!
//! It gets none of the caller's own descriptors but a pipe or socket as its input: what is open on a file
//! or a terminal can be opened once more by `/proc/self/fd`, for writing too. So what it prints comes by
//! pipes and is written here, harmless where people read it; a file is read for it; a terminal stays
//! outside, for a layer has none either.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::event::PollFlags;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::text::neutralise;

/// How much is carried at once.
const CHUNK: usize = 1 << 16;

/// Where what the program prints on standard output goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Prints {
    /// To standard output.
    Through,
    /// To standard error, for the output is not what is asked for.
    Apart,
    /// Nowhere.
    Nowhere,
}

/// This process's ends.
pub(super) struct Streams {
    input: Option<Input>,
    outputs: [Option<Output>; 2],
    /// What the caller gave it to read: nothing, what can be read once, or a file.
    given: Given,
    /// Whether standard output is the caller's file or pipe, and gets what the program prints.
    is_collected: bool,
    printed: bool,
    /// Whether it printed what is no text.
    printed_data: bool,
}

/// What the caller gave a program to read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Given {
    Nothing,
    Once,
    File,
}

/// The program's ends: standard input, output and error.
pub(super) struct Ends {
    /// `None`: nothing to read.
    pub input: Option<OwnedFd>,
    pub output: OwnedFd,
    pub error: OwnedFd,
}

/// A file that is read for the program.
struct Input {
    from: File,
    /// Where to go on: the caller's own place in the file stays.
    at: u64,
    to: OwnedFd,
    rest: Vec<u8>,
}

/// Where something that the program prints goes.
struct Output {
    from: OwnedFd,
    to: Sink,
    /// The beginning of a character whose end hasn't come yet.
    rest: Vec<u8>,
    printed: bool,
    printed_data: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sink {
    /// Standard output, byte by byte.
    Bytes,
    /// Standard output, which people read.
    Words,
    /// Standard error, which people read.
    Error,
    /// Nobody.
    Nobody,
}

impl Streams {
    /// Makes them.
    pub(super) fn new(prints: Prints) -> io::Result<(Self, Ends)> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let ((out, output), (err, error)) = (pipe()?, pipe()?);
        let to = match prints {
            Prints::Nowhere => Sink::Nobody,
            Prints::Apart => Sink::Error,
            Prints::Through if rustix::termios::isatty(io::stdout()) => Sink::Words,
            Prints::Through => Sink::Bytes,
        };
        let stdin = io::stdin();
        let kind = |fd: BorrowedFd<'_>| {
            rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode))
        };
        let (input, theirs) = match kind(stdin.as_fd())? {
            FileType::Fifo | FileType::Socket => (None, Some(stdin.as_fd().try_clone_to_owned()?)),
            FileType::RegularFile => {
                let (theirs, to) = pipe()?;
                rustix::fs::fcntl_setfl(&to, OFlags::NONBLOCK)?;
                let at = rustix::fs::tell(&stdin)?;
                let from = stdin.as_fd().try_clone_to_owned()?.into();
                (Some(Input { from, at, to, rest: Vec::new() }), Some(theirs))
            }
            _ => (None, None),
        };
        let given = match (&input, &theirs) {
            (Some(_), _) => Given::File,
            (None, Some(_)) => Given::Once,
            (None, None) => Given::Nothing,
        };
        let is_collected = to == Sink::Bytes
            && matches!(kind(io::stdout().as_fd())?, FileType::Fifo | FileType::RegularFile);
        let output_of = |from: OwnedFd, to| -> io::Result<Option<Output>> {
            rustix::fs::fcntl_setfl(&from, OFlags::NONBLOCK)?;
            Ok(Some(Output::new(from, to)))
        };
        let outputs = [output_of(out, to)?, output_of(err, Sink::Error)?];
        let (printed, printed_data) = (false, false);
        let own = Self { input, outputs, given, is_collected, printed, printed_data };
        Ok((own, Ends { input: theirs, output, error }))
    }

    /// Whether what the program reads is gone with its first run.
    pub(super) fn are_spent(&self) -> bool {
        self.given == Given::Once
    }

    /// The caller's streams that the program's layer has to inherit, by their key, and why. A program
    /// that `ended` by itself had its output collected; of one that serves it is the log.
    pub(super) fn inherited(&self, ended: bool) -> Vec<(&'static str, &'static str)> {
        let reads = self.given != Given::Nothing;
        let stdin = reads.then_some(("stdin", "it was given something to read"));
        let why = match self {
            _ if reads => Some("what it makes of what it reads"),
            Self { printed_data: true, .. } => Some("what it printed is no text"),
            Self { is_collected: true, printed: true, .. } if ended => Some("it was collected"),
            _ => None,
        };
        stdin.into_iter().chain(why.map(|why| ("stdout", why))).collect()
    }

    /// What to wait for, in the order that [`carry`](Self::carry) takes.
    pub(super) fn wants(&self) -> [Option<(BorrowedFd<'_>, PollFlags)>; 3] {
        let [out, err] = &self.outputs;
        [
            self.input.as_ref().map(|it| (it.to.as_fd(), PollFlags::OUT)),
            out.as_ref().map(|it| (it.from.as_fd(), PollFlags::IN)),
            err.as_ref().map(|it| (it.from.as_fd(), PollFlags::IN)),
        ]
    }

    /// Carries what there is, where something has happened.
    pub(super) fn carry(&mut self, happened: [bool; 3]) {
        let [input, outputs @ ..] = happened;
        if input && !self.input.as_mut().is_some_and(Input::carry) {
            self.input = None;
        }
        for (output, has) in self.outputs.iter_mut().zip(outputs) {
            if has && !output.as_mut().is_some_and(Output::carry) {
                *output = None;
            }
        }
        self.look();
    }

    /// Keeps in mind what has been printed on standard output.
    fn look(&mut self) {
        if let Some(output) = &self.outputs[0] {
            self.printed |= output.printed;
            self.printed_data |= output.printed_data;
        }
    }

    /// All has ended: carries what is still in the pipes.
    pub(super) fn finish(&mut self) {
        for output in self.outputs.iter_mut().filter_map(Option::as_mut) {
            while output.carry() && !output.is_empty() {}
        }
        self.look();
        self.outputs = [None, None];
    }
}

impl Input {
    /// `false` at the end, or if nobody reads.
    fn carry(&mut self) -> bool {
        if self.rest.is_empty() {
            self.rest.resize(CHUNK, 0);
            match self.from.read_at(&mut self.rest, self.at) {
                Ok(0) | Err(_) => return false,
                Ok(length) => {
                    self.at += length as u64;
                    self.rest.truncate(length);
                }
            }
        }
        match rustix::io::write(&self.to, &self.rest) {
            Ok(length) => {
                self.rest.drain(..length);
                true
            }
            Err(errno) => errno == Errno::AGAIN || errno == Errno::INTR,
        }
    }
}

impl Output {
    fn new(from: OwnedFd, to: Sink) -> Self {
        Self { from, to, rest: Vec::new(), printed: false, printed_data: false }
    }

    /// Whether nothing is in the pipe at the moment.
    fn is_empty(&self) -> bool {
        rustix::io::ioctl_fionread(&self.from).is_ok_and(|length| length == 0)
    }

    /// `false` at the end, or if nobody takes it any more.
    fn carry(&mut self) -> bool {
        let mut bytes = vec![0; CHUNK];
        let length = match rustix::io::read(&self.from, &mut bytes) {
            Ok(length) => length,
            Err(Errno::AGAIN | Errno::INTR) => return true,
            Err(_) => 0,
        };
        bytes.truncate(length);
        self.printed |= length > 0;
        self.printed_data |= bytes.contains(&0);
        let written = match self.to {
            Sink::Bytes => io::stdout().write_all(&bytes).and_then(|()| io::stdout().flush()),
            Sink::Words => {
                let words = self.words(&bytes);
                io::stdout().write_all(words.as_bytes()).and_then(|()| io::stdout().flush())
            }
            Sink::Error => {
                let words = self.words(&bytes);
                io::stderr().write_all(words.as_bytes())
            }
            Sink::Nobody => Ok(()),
        };
        length > 0 && written.is_ok()
    }

    /// Bytes made harmless, line by line. Nothing more comes if there are none.
    fn words(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let cut = match str::from_utf8(&self.rest) {
            Err(error) if error.error_len().is_none() && !bytes.is_empty() => error.valid_up_to(),
            _ => self.rest.len(),
        };
        // An error within hides whether the end is cut as well: then its bytes are shown as such.
        let rest = self.rest.split_off(cut);
        let lines = self.rest.split(|byte| *byte == b'\n').map(neutralise);
        let words = lines.collect::<Vec<_>>().join("\n");
        self.rest = rest;
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_read_is_harmless_and_whole() {
        let (from, _to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut output = Output::new(from, Sink::Error);
        assert_eq!(output.words(b"a\x1b[31m\nb\xc3"), "a\\x1b[31m\nb");
        assert_eq!(output.words(b"\xa9\n"), "\u{e9}\n");
        assert_eq!(output.words(b"\xff\xc3"), "\\xff\\xc3");
        assert_eq!(output.words(b""), "");
    }
}
