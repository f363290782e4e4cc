//! The most that the program held at once, looked at now and then.
//!
//! Processes are counted whenever one is made. Their memory and descriptors are read at most a hundred
//! times a second, and of each process once more when it ends by itself.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, Dir, FileType};
use rustix::process::Pid;

use crate::review::learn::{HEAD_ROOM, Peaks};

/// How often all processes are looked at.
const PAUSE: Duration = Duration::from_millis(10);

/// The most processes that are looked at in one round; beyond, they are only counted.
const MOST_LOOKED_AT: usize = 64;

/// The most files whose size is looked at in the end.
const MOST_FILES: usize = 4096;

/// What init and the program's first moment count besides the program itself.
const OWN_TASKS: u64 = 1;

/// What is about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    Process,
    Thread,
}

/// The peaks so far.
pub(super) struct Watch {
    /// The `/proc` of the program's pid namespace.
    proc: OwnedFd,
    /// The root of what it sees.
    root: OwnedFd,
    peaks: Peaks,
    /// Threads besides the first ones, when all were looked at last, and what was made since then.
    extra: u64,
    last: Option<Instant>,
    written: BTreeSet<String>,
}

impl Watch {
    pub(super) fn new(proc: OwnedFd, root: OwnedFd) -> Self {
        let peaks = Peaks { tasks: OWN_TASKS, ..Peaks::default() };
        Self { proc, root, peaks, extra: 0, last: None, written: BTreeSet::new() }
    }

    /// Something is about to make a process or a thread, or time has passed.
    pub(super) fn look(&mut self, grows: Option<Growth>) {
        if self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            if let Some(grows) = grows {
                let count = self.processes().count() as u64;
                // Of many threads that are made at once none may be missed.
                self.extra += u64::from(grows == Growth::Thread);
                self.tasks(count + u64::from(grows == Growth::Process) + self.extra);
            }
            return;
        }
        let (mut memory, mut threads, mut count) = (0_u64, 0, 0);
        let all: Vec<PathBuf> = self.processes().collect();
        for process in &all {
            count += 1;
            if count > MOST_LOOKED_AT {
                continue;
            }
            let Some(status) = status(&process.join("status")) else { continue };
            memory += status.resident;
            threads += status.threads.saturating_sub(1);
            self.process(&status, &process.join("fd"));
        }
        self.extra = threads;
        self.peaks.memory = self.peaks.memory.max(memory);
        self.tasks(all.len() as u64 + threads + u64::from(grows.is_some()));
        self.last = Some(Instant::now());
    }

    /// A process is about to end.
    pub(super) fn ends(&mut self, thread: Pid) {
        let process = PathBuf::from(format!("/proc/{}", thread.as_raw_nonzero()));
        if let Some(status) = status(&process.join("status")) {
            self.peaks.memory = self.peaks.memory.max(status.most_resident);
            self.process(&status, &process.join("fd"));
        }
    }

    /// So many descriptors were asked for; the limit is a multiple of the peak.
    pub(super) fn wants_files(&mut self, count: u64) {
        self.peaks.files = self.peaks.files.max(count.div_ceil(HEAD_ROOM));
    }

    /// A file is written, or about to be removed: its size counts.
    pub(super) fn writes(&mut self, path: &str) {
        if self.written.contains(path) {
            self.size(path);
        } else if self.written.len() < MOST_FILES {
            self.written.insert(path.to_owned());
        }
    }

    /// All has ended, and its files are still there.
    pub(super) fn measure(&mut self) {
        for path in std::mem::take(&mut self.written) {
            self.size(&path);
        }
    }

    /// What was held at most.
    pub(super) fn finish(self) -> Peaks {
        self.peaks
    }

    fn size(&mut self, path: &str) {
        let within = path.trim_start_matches('/');
        let Ok(found) = rustix::fs::statat(&self.root, within, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile {
            let size = u64::try_from(found.st_size).unwrap_or_default();
            self.peaks.file_size = self.peaks.file_size.max(size);
        }
    }

    fn process(&mut self, status: &Status, descriptors: &std::path::Path) {
        // Without a memory cgroup, this is what is limited of each process.
        self.peaks.memory = self.peaks.memory.max(status.data);
        let open = fs::read_dir(descriptors).map_or(0, |all| all.count() as u64);
        self.peaks.files = self.peaks.files.max(open);
    }

    fn tasks(&mut self, count: u64) {
        self.peaks.tasks = self.peaks.tasks.max(count);
    }

    /// The directories of the program's processes, init among them.
    fn processes(&self) -> impl Iterator<Item = PathBuf> + use<> {
        let above = PathBuf::from(format!("/proc/self/fd/{}", self.proc.as_raw_fd()));
        let entries = Dir::read_from(&self.proc).into_iter().flatten().flatten();
        entries.filter_map(move |entry| {
            let name = entry.file_name().to_str().ok()?.to_owned();
            name.bytes().all(|byte| byte.is_ascii_digit()).then(|| above.join(name))
        })
    }
}

/// What `/proc/PID/status` says, in bytes and numbers.
#[derive(Default)]
struct Status {
    resident: u64,
    most_resident: u64,
    data: u64,
    threads: u64,
}

fn status(path: &std::path::Path) -> Option<Status> {
    // The name of a process is in it, so it may be no text.
    let mut bytes = Vec::with_capacity(2048);
    fs::File::open(path).ok()?.take(8192).read_to_end(&mut bytes).ok()?;
    let mut status = Status::default();
    for line in String::from_utf8_lossy(&bytes).lines() {
        let Some((key, value)) = line.split_once(':') else { continue };
        let number = || value.split_whitespace().next()?.parse::<u64>().ok();
        let bytes = || number().unwrap_or_default().saturating_mul(1024);
        match key {
            "VmRSS" => status.resident = bytes(),
            "VmHWM" => status.most_resident = bytes(),
            "VmData" => status.data = bytes(),
            "Threads" => status.threads = number().unwrap_or_default(),
            _ => {}
        }
    }
    Some(status)
}
