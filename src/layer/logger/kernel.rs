//! What the kernel refused a layer, as the kernel's log tells it.
//!
//! The kernel ends a process without telling its parent why, but its log does: an audit line
//! `type=1326` with the process and the number (`audit_seccomp` in kernel/auditsc.c). Reading it
//! takes the right to open `/dev/kmsg`; without it the number stays unknown.
//!
//! What Landlock refuses is there too where the machine's auditing is switched on and no other
//! program takes its records: `type=1423` with the domain and what it lacks, and the first time,
//! behind it, `type=1424` with the process that the domain was made by
//! (Documentation/admin-guide/LSM/landlock.rst).

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::confine::filter::Arch;
use crate::wire::life::Culprit;

/// One record of `/dev/kmsg` is at most this long, in bytes (`CONSOLE_EXT_LOG_MAX`).
const RECORD: usize = 8192;

/// The most records that one look reads.
const MOST: usize = 4096;

/// Denials that wait for somebody to ask; other processes of the machine have some too.
const KEPT: usize = 64;

/// Domains that are remembered: the kernel says only once whose a domain is.
const DOMAINS: usize = 1024;

/// Opens the kernel's log at its end, if this process may. The position is kept with the descriptor,
/// for all who are handed it.
pub(crate) fn open() -> Option<OwnedFd> {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    file.seek(SeekFrom::End(0)).ok()?;
    Some(file.into())
}

/// The kernel's log, from the daemon's start on.
#[derive(Debug)]
pub(super) struct KernelLog {
    file: Option<File>,
    unclaimed: VecDeque<Denial>,
    /// What Landlock refused, of domains that nobody asked about yet.
    refused: VecDeque<Refused>,
    /// Whose domain is whose, by process and user.
    domains: BTreeMap<u64, (i32, u32)>,
}

/// What Landlock refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    domain: u64,
    /// The rights that were missing, and of what, in the kernel's words.
    pub what: String,
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
pub(super) enum Call {
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

impl KernelLog {
    /// Reads on in what [`open`] has opened, or gets along without.
    pub(super) fn new(file: Option<OwnedFd>) -> Self {
        let (unclaimed, refused) = (VecDeque::new(), VecDeque::new());
        Self { file: file.map(File::from), unclaimed, refused, domains: BTreeMap::new() }
    }

    /// Whether the log can be read at all.
    pub(super) fn is_available(&self) -> bool {
        self.file.is_some()
    }

    /// Reads what the log has by now.
    pub(super) fn read(&mut self) {
        let mut record = [0; RECORD];
        for _ in 0..MOST {
            let Some(file) = self.file.as_mut() else { return };
            match file.read(&mut record) {
                Ok(length) => self.take(&record[..length]),
                // The reader was overtaken: the next read goes on with the oldest record.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(_) => break,
            }
            if self.unclaimed.len() > KEPT {
                self.unclaimed.pop_front();
            }
            if self.refused.len() > KEPT {
                self.refused.pop_front();
            }
            if self.domains.len() > DOMAINS {
                self.domains.pop_first();
            }
        }
    }

    fn take(&mut self, record: &[u8]) {
        self.unclaimed.extend(parse(record));
        self.refused.extend(parse_refused(record));
        self.domains.extend(parse_domain(record));
    }

    /// The log, to be watched for more.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// What Landlock refused so far to domains of which `known` says whose they are.
    pub(super) fn refused<T>(
        &mut self,
        known: impl Fn(i32, u32) -> Option<T>,
    ) -> Vec<(T, Refused)> {
        let mut found = Vec::new();
        let domains = &self.domains;
        self.refused.retain(|refused| {
            let owner = domains.get(&refused.domain).and_then(|&(pid, uid)| known(pid, uid));
            let is_known = owner.is_some();
            found.extend(owner.map(|owner| (owner, refused.clone())));
            !is_known
        });
        found
    }

    /// The system call that `culprit` was killed for, once.
    pub(super) fn call_of(&mut self, culprit: Culprit) -> Option<Call> {
        let is_it = |denial: &Denial| culprit.is(denial.pid, denial.uid);
        let place = self.unclaimed.iter().position(is_it)?;
        self.unclaimed.remove(place).map(|denial| denial.call)
    }
}

/// The fields behind an audit record's type in a line of the kernel's log.
fn fields<'a>(record: &'a [u8], kind: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(record).ok()?;
    let (_, rest) = text.split_once("audit: type=")?;
    rest.strip_prefix(kind)?.strip_prefix(' ')
}

fn field<'a>(fields: &'a str, name: &str) -> Option<&'a str> {
    fields.split([' ', '\n']).find_map(|field| field.strip_prefix(name)?.strip_prefix('='))
}

/// Reads what Landlock refused.
fn parse_refused(record: &[u8]) -> Option<Refused> {
    let fields = fields(record, "1423")?;
    let domain = u64::from_str_radix(field(fields, "domain")?, 16).ok()?;
    let what = &fields[fields.find("blockers=")?..];
    Some(Refused { domain, what: what.trim_end().to_owned() })
}

/// Reads whose domain one is: its process and user.
fn parse_domain(record: &[u8]) -> Option<(u64, (i32, u32))> {
    let fields = fields(record, "1424")?;
    let domain = u64::from_str_radix(field(fields, "domain")?, 16).ok()?;
    Some((domain, (field(fields, "pid")?.parse().ok()?, field(fields, "uid")?.parse().ok()?)))
}

/// Reads a seccomp record. What the process chose itself (`comm=`, `exe=`) comes quoted or in
/// hexadecimal, so it can hold no field of its own.
fn parse(record: &[u8]) -> Option<Denial> {
    let fields = fields(record, "1326")?;
    let field = |name: &str| field(fields, name);
    let arch = u32::from_str_radix(field("arch")?, 16).ok()?;
    let number = field("syscall")?.parse().ok()?;
    let is_native = arch == Arch::NATIVE.audit();
    Some(Denial {
        pid: field("pid")?.parse().ok()?,
        uid: field("uid")?.parse().ok()?,
        call: if is_native { Call::Native(number) } else { Call::Foreign { arch, number } },
    })
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

        let mut log = KernelLog::new(None);
        log.take(RECORD);
        assert_eq!(log.call_of(Culprit::Process { pid: 7678, uid: 0 }), None);
        assert_eq!(log.call_of(Culprit::Process { pid: 7677, uid: 1 }), None);
        assert_eq!(log.call_of(Culprit::User(1)), None);
        assert_eq!(log.call_of(Culprit::User(0)), Some(call));
        assert_eq!(log.call_of(Culprit::User(0)), None);
    }

    /// Copies of a layer with `uid` are one user: what one is killed for isn't another's call.
    #[test]
    fn two_of_one_user_are_told_apart() {
        let of = |pid: &str, call: &str| {
            let text = std::str::from_utf8(RECORD).unwrap();
            text.replace("uid=0", "uid=970").replace("pid=7677", pid).replace("syscall=102", call)
        };
        let mut log = KernelLog::new(None);
        log.take(of("pid=11", "syscall=5").as_bytes());
        log.take(of("pid=12", "syscall=6").as_bytes());
        let call = |pid| Culprit::Process { pid, uid: 970 };
        let number = |call| match call {
            Some(Call::Native(number) | Call::Foreign { number, .. }) => number,
            None => 0,
        };
        assert_eq!(number(log.call_of(call(12))), 6);
        assert_eq!(log.call_of(call(12)), None);
        assert_eq!(number(log.call_of(call(11))), 5);
    }

    #[test]
    fn tells_what_landlock_refused_and_to_whom() {
        const REFUSED: &[u8] = b"5,1,1,-;audit: type=1423 audit(1.2:30): domain=195ba459b \
            blockers=fs.read_file path=\"/etc/x\" dev=\"vda\" ino=7\n";
        const DOMAIN: &[u8] = b"5,2,1,-;audit: type=1424 audit(1.2:30): domain=195ba459b \
            status=allocated mode=enforcing pid=286 uid=1000 exe=\"/a\" comm=\"a\"\n";
        let mut log = KernelLog::new(None);
        let known = |pid, uid| (pid == 286 && uid == 1000).then_some("a");
        log.take(REFUSED);
        assert_eq!(log.refused(known), [], "nobody knows whose domain it is");
        log.take(DOMAIN);
        assert_eq!(log.refused(|_, _| None::<&str>), [], "another's");
        let told = log.refused(known);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, "a");
        assert_eq!(told[0].1.what, "blockers=fs.read_file path=\"/etc/x\" dev=\"vda\" ino=7");
        log.take(REFUSED);
        assert_eq!(log.refused(known).len(), 1, "the domain is known from then on");
        assert_eq!(log.refused(known), []);
    }

    #[test]
    fn another_architectures_number_is_not_taken_for_ours() {
        let record = String::from_utf8(RECORD.to_vec()).unwrap().replace("c000003e", "40000003");
        let denial = parse(record.as_bytes()).unwrap();
        assert_eq!(denial.call, Call::Foreign { arch: 0x4000_0003, number: 102 });
    }
}
