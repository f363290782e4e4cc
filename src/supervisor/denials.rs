//! Which system call killed a layer.
//!
//! The kernel ends a process without telling its parent why, but its log does: an audit line
//! `type=1326` with the process and the number (`audit_seccomp` in kernel/auditsc.c). Reading it
//! takes the right to open `/dev/kmsg`; without it the number stays unknown.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use super::Supervisor;
use super::child::Child;
use crate::confine::filter::Arch;
use crate::ident::Instance;
use crate::policy::syscall;

/// How long the kernel's log may take to tell of a killed layer. It is written by a thread of the
/// kernel, which drops what comes in bursts.
const EXPLAINED_WITHIN: Duration = Duration::from_secs(1);

/// One record of `/dev/kmsg` is at most this long, in bytes (`CONSOLE_EXT_LOG_MAX`).
const RECORD: usize = 8192;

/// The most records that one look reads.
const MOST: usize = 4096;

/// Denials that wait for somebody to ask; other processes of the machine have some too.
const KEPT: usize = 64;

/// Whose death is looked up.
#[derive(Clone, Copy, Debug)]
pub enum Culprit {
    /// The process of this number.
    Process(i32),
    /// Any process of this user, which is one instance's alone.
    User(u32),
}

/// The kernel's log, from the daemon's start on.
#[derive(Debug)]
pub struct Denials {
    file: Option<File>,
    unclaimed: VecDeque<Denial>,
}

/// One record: who made which call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Denial {
    pid: i32,
    uid: u32,
    call: Call,
}

/// What was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// The call of this number.
    Native(u32),
    /// One of another architecture (`AUDIT_ARCH_*`), where the number means something else.
    Foreign {
        /// The architecture.
        arch: u32,
        /// The number.
        number: u32,
    },
}

impl Denials {
    /// Opens the log at its end, or gets along without.
    pub fn open() -> Self {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok();
        let file = file.and_then(|mut file| file.seek(SeekFrom::End(0)).is_ok().then_some(file));
        Self { file, unclaimed: VecDeque::new() }
    }

    /// Whether the log can be read at all.
    pub fn is_available(&self) -> bool {
        self.file.is_some()
    }

    /// Reads what the log has by now.
    pub fn read(&mut self) {
        let Some(file) = self.file.as_mut() else { return };
        let mut record = [0; RECORD];
        for _ in 0..MOST {
            match file.read(&mut record) {
                Ok(length) => self.unclaimed.extend(parse(&record[..length])),
                // The reader was overtaken: the next read goes on with the oldest record.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
            if self.unclaimed.len() > KEPT {
                self.unclaimed.pop_front();
            }
        }
    }

    /// The system call that `culprit` was killed for, once.
    pub fn call_of(&mut self, culprit: Culprit) -> Option<Call> {
        let is_it = |denial: &Denial| match culprit {
            Culprit::Process(pid) => denial.pid == pid,
            Culprit::User(uid) => denial.uid == uid,
        };
        let place = self.unclaimed.iter().position(is_it)?;
        self.unclaimed.remove(place).map(|denial| denial.call)
    }
}

/// Reads a seccomp record. What the process chose itself (`comm=`, `exe=`) comes quoted or in
/// hexadecimal, so it can hold no field of its own.
fn parse(record: &[u8]) -> Option<Denial> {
    let text = std::str::from_utf8(record).ok()?;
    let (_, fields) = text.split_once("audit: type=1326 ")?;
    let field =
        |name: &str| fields.split(' ').find_map(|f| f.strip_prefix(name)?.strip_prefix('='));
    let arch = u32::from_str_radix(field("arch")?, 16).ok()?;
    let number = field("syscall")?.parse().ok()?;
    let is_native = arch == Arch::NATIVE.audit();
    Some(Denial {
        pid: field("pid")?.parse().ok()?,
        uid: field("uid")?.parse().ok()?,
        call: if is_native { Call::Native(number) } else { Call::Foreign { arch, number } },
    })
}

/// A layer that was killed for a system call, of which the kernel's log hasn't said yet.
pub struct Unexplained {
    instance: Instance,
    culprit: Culprit,
    until: Instant,
}

impl Supervisor<'_> {
    /// Says that a layer was killed for a system call. Which one, the kernel's log tells in a
    /// moment, if it can be read.
    pub(super) fn denied(&mut self, child: &Child) -> String {
        let hint = if self.denials.is_available() {
            let until = Instant::now() + EXPLAINED_WITHIN;
            let (instance, culprit) = (child.instance.clone(), child.culprit);
            self.unexplained.push(Unexplained { instance, culprit, until });
            ""
        } else {
            " (which one is in the kernel's log, and this user can't read it)"
        };
        format!(
            "{} was killed by SIGSYS: it made a system call that `syscalls` in [layer.{}] does \
             not grant{hint}",
            child.instance, child.instance.layer
        )
    }

    /// Says which system calls layers were killed for, and what would allow them.
    pub(super) fn explain_denials(&mut self) {
        if self.unexplained.is_empty() {
            return;
        }
        self.denials.read();
        let now = Instant::now();
        let (denials, log) = (&mut self.denials, &mut self.log);
        let mut explained = Vec::new();
        self.unexplained.retain(|Unexplained { instance, culprit, until }| {
            let number = match denials.call_of(*culprit) {
                None => return *until > now,
                Some(Call::Native(number)) => number,
                Some(Call::Foreign { arch, number }) => {
                    explained.push((instance.clone(), number, "of another architecture"));
                    log.say(&format!(
                        "{instance} made system call {number} of another architecture \
                         ({arch:#x}), which no policy grants"
                    ));
                    return false;
                }
            };
            let layer = &instance.layer;
            explained.push((instance.clone(), number, syscall::name_of(number).unwrap_or("")));
            let Some(call) = syscall::name_of(number) else {
                log.say(&format!("{instance} made a system call of the unknown number {number}"));
                return false;
            };
            let groups = syscall::offering(number);
            let groups: String = groups
                .iter()
                .filter(|group| group.dangerous.is_none())
                .flat_map(|group| [" or \"@", group.name.as_str(), "\""])
                .collect();
            log.say(&format!(
                "{instance} made the system call {call} in a way that isn't granted: \"{call}\" in \
                 `syscalls` of [layer.{layer}]{groups} would allow it, `refuse = {{ {call} = \
                 \"EPERM\" }}` would refuse it without killing"
            ));
            false
        });
        for (instance, number, what) in explained {
            self.note_denial(&instance, number, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[u8] = b"5,812,1597507690,-;audit: type=1326 audit(1795414588.979:2): \
        auid=4294967295 uid=0 gid=0 ses=4294967295 pid=7677 comm=\"x\" exe=\"/bin/x\" sig=31 \
        arch=c000003e syscall=102 compat=0 ip=0x7f262e4f3507 code=0x80000000\n";

    #[test]
    fn finds_the_call_of_its_process_only() {
        // The call that the record names, where this program runs.
        let call = match Arch::NATIVE {
            Arch::X86_64 => Call::Native(102),
            Arch::Aarch64 => Call::Foreign { arch: 0xc000_003e, number: 102 },
        };
        assert_eq!(parse(RECORD), Some(Denial { pid: 7677, uid: 0, call }));
        assert_eq!(parse(b"6,1,1,-;something else pid=7677 uid=0 arch=c000003e syscall=1"), None);
        assert_eq!(parse(b"\xff"), None);

        let mut denials = Denials { file: None, unclaimed: VecDeque::new() };
        denials.unclaimed.extend(parse(RECORD));
        assert_eq!(denials.call_of(Culprit::Process(7678)), None);
        assert_eq!(denials.call_of(Culprit::User(0)), Some(call));
        assert_eq!(denials.call_of(Culprit::User(0)), None);
    }

    #[test]
    fn another_architectures_number_is_not_taken_for_ours() {
        let record = String::from_utf8(RECORD.to_vec()).unwrap().replace("c000003e", "40000003");
        let denial = parse(record.as_bytes()).unwrap();
        assert_eq!(denial.call, Call::Foreign { arch: 0x4000_0003, number: 102 });
    }
}
