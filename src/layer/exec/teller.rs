//! Telling what was refused: one frame a kind of call, to the writer of the log.
//!
//! What a call's pointers lead to is read for people: nothing is decided by it.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::Pid;

use super::kind::Kind;
use super::site::{self, Site};
use crate::policy::syscall::refused::{Made, Maker, Transport, describe};
use crate::sys::notify::Notification;
use crate::wire::refusal::{Answer, Lacks, Refusal};

/// Kinds of refusals of one system call that are told; more are counted with the last of them.
const MOST_OF_A_CALL: usize = 16;

/// Kinds of refusals that are told; more are counted.
const MOST: usize = 256;

/// Tells what was refused.
#[derive(Debug)]
pub(super) struct Teller {
    /// `None` once nobody reads it any more.
    pipe: Option<OwnedFd>,
    /// The layer's program, and what its policy calls it.
    program: (Pid, String),
    told: BTreeMap<Key, u64>,
    /// Refusals that found no room in the pipe, or were of too many kinds, since that was told last.
    lost: u64,
}

/// What is told once.
type Key = (u32, Answer, Lacks, String);

impl Teller {
    /// Nothing yet. `pipe` doesn't wait.
    pub fn new(pipe: Option<OwnedFd>, program: Pid, argv0: &str) -> Self {
        let name = argv0.rsplit('/').next().unwrap_or(argv0).to_owned();
        Self { pipe, program: (program, name), told: BTreeMap::new(), lost: 0 }
    }

    /// What is told next is about this program.
    pub fn is_of(&mut self, program: Pid) {
        self.program.0 = program;
    }

    /// Tells of a call, unless its like was told: that is counted, and told at each power of ten.
    pub fn tell(&mut self, call: &Notification, answer: Answer, lacks: Lacks) {
        let made = Made { number: call.number, arguments: call.arguments };
        let is_native = call.arch == crate::confine::filter::Arch::NATIVE.audit();
        let text = if is_native { describe(&made, &Caller(call)) } else { String::new() };
        let key = (call.number, answer, lacks, text);
        if let Some(times) = self.told.get_mut(&key) {
            *times += 1;
            let times = *times;
            if times >= 10 && times == 10_u64.pow(times.ilog10()) {
                self.send(call, key, times, Site::default());
            }
            return;
        }
        let same_call = self.told.keys().filter(|(number, ..)| *number == call.number).count();
        let is_varied = same_call >= MOST_OF_A_CALL && !matches!(key.2, Lacks::Path { .. });
        if self.told.len() >= MOST || is_varied {
            self.lost += 1;
            return;
        }
        self.told.insert(key.clone(), 1);
        let site = if is_native { site::find(call) } else { Site::default() };
        self.send(call, key, 1, site);
    }

    /// Tells, at the end, what was counted and not told.
    pub fn finish(&mut self) {
        let Some(pipe) = self.pipe.as_ref().filter(|_| self.lost > 0) else { return };
        let frame = Refusal { lost: self.lost, ..Refusal::default() };
        // There is nobody to tell of what fails now.
        let _ = rustix::io::write(pipe, &frame.encode());
    }

    fn send(&mut self, call: &Notification, key: Key, times: u64, site: Site) {
        let (number, answer, lacks, text) = key;
        let program =
            if call.thread == self.program.0 { self.program.1.clone() } else { site.program };
        let frame = Refusal {
            arch: call.arch,
            number,
            arguments: call.arguments,
            thread: call.thread.as_raw_nonzero().get(),
            answer,
            lacks,
            times,
            lost: self.lost,
            call: text,
            program,
            site: site.place,
        };
        let Some(pipe) = &self.pipe else { return };
        match rustix::io::write(pipe, &frame.encode()) {
            Ok(_) => self.lost = 0,
            Err(Errno::AGAIN | Errno::INTR) => self.lost += 1,
            Err(_) => self.pipe = None,
        }
    }
}

/// That a call fails.
pub(super) fn failed(errno: Errno) -> Answer {
    Answer::Failed(u16::try_from(errno.raw_os_error()).unwrap_or(0))
}

/// The process that makes a call.
struct Caller<'a>(&'a Notification);

impl Maker for Caller<'_> {
    fn read(&self, address: u64, into: &mut [u8]) -> usize {
        read(self.0, address, into)
    }

    fn transport(&self, fd: i32) -> Option<Transport> {
        match Kind::of(self.0.descriptor(fd).ok()?).ok()? {
            Kind::Tcp { .. } => Some(Transport::Tcp),
            Kind::Udp { .. } => Some(Transport::Udp),
            Kind::Path => Some(Transport::Unix),
            Kind::Other => None,
        }
    }
}

/// Reads what there is, also where a page behind it is missing.
pub(super) fn read(call: &Notification, address: u64, into: &mut [u8]) -> usize {
    const PAGE: u64 = 4096;
    let first = usize::try_from(PAGE - address % PAGE).unwrap_or(0).min(into.len());
    let (page, rest) = into.split_at_mut(first);
    match call.read(address, page) {
        Ok(read) if read == first && !rest.is_empty() => {
            read + call.read(address + read as u64, rest).unwrap_or(0)
        }
        read => read.unwrap_or(0),
    }
}
