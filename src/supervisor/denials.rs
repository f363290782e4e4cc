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
use std::os::fd::{AsFd, BorrowedFd};
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

/// Domains that are remembered: the kernel says only once whose a domain is.
const DOMAINS: usize = 1024;

/// Whose doings are looked up.
#[derive(Clone, Copy, Debug)]
pub enum Culprit {
    /// The process of this number and user. Other instances, and other programs, may be the same
    /// user: an ordinary user's layers all are, and the copies of a layer with `uid`. What a
    /// program does that such a layer has executed can't be told from what theirs does.
    Process {
        /// The process, by its number outside.
        pid: i32,
        /// The user, by its number outside.
        uid: u32,
    },
    /// Any process of this user, which is one instance's alone.
    User(u32),
}

impl Culprit {
    /// Whether what the process `pid` of the user `uid` did was done by this one.
    fn is(self, pid: i32, uid: u32) -> bool {
        match self {
            Self::Process { pid: own, uid: user } => (own, user) == (pid, uid),
            Self::User(user) => user == uid,
        }
    }
}

/// The kernel's log, from the daemon's start on.
#[derive(Debug)]
pub struct Denials {
    file: Option<File>,
    unclaimed: VecDeque<Denial>,
    /// What Landlock refused, of domains that nobody asked about yet.
    refused: VecDeque<Refused>,
    /// Whose domain is whose, by process and user.
    domains: BTreeMap<u64, (i32, u32)>,
}

/// What Landlock refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
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
        Self {
            file,
            unclaimed: VecDeque::new(),
            refused: VecDeque::new(),
            domains: BTreeMap::new(),
        }
    }

    /// Whether the log can be read at all.
    pub fn is_available(&self) -> bool {
        self.file.is_some()
    }

    /// Reads what the log has by now.
    pub fn read(&mut self) {
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
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// What Landlock refused so far to domains of which `known` says whose they are.
    pub fn refused<T>(&mut self, known: impl Fn(i32, u32) -> Option<T>) -> Vec<(T, Refused)> {
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
    pub fn call_of(&mut self, culprit: Culprit) -> Option<Call> {
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

/// A layer that was killed for a system call, of which the kernel's log hasn't said yet.
pub struct Unexplained {
    instance: Instance,
    culprit: Culprit,
    until: Instant,
}

impl Supervisor<'_> {
    /// Notes what Landlock refused layers, as far as the kernel's log tells.
    pub(super) fn note_refused(&mut self) {
        self.denials.read();
        let whose = |pid, uid| {
            let of = |child: &&Child| child.culprit.is(pid, uid);
            self.places.iter().find_map(|place| match &place.life {
                super::Life::Running(child) => Some(&**child).filter(of),
                _ => None,
            })
        };
        let whose = |pid, uid| whose(pid, uid).map(|child| child.instance.clone());
        for (instance, refused) in self.denials.refused(whose) {
            self.note_landlock(&instance, &refused.what);
        }
    }

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

        let mut denials = nothing();
        denials.take(RECORD);
        assert_eq!(denials.call_of(Culprit::Process { pid: 7678, uid: 0 }), None);
        assert_eq!(denials.call_of(Culprit::Process { pid: 7677, uid: 1 }), None);
        assert_eq!(denials.call_of(Culprit::User(1)), None);
        assert_eq!(denials.call_of(Culprit::User(0)), Some(call));
        assert_eq!(denials.call_of(Culprit::User(0)), None);
    }

    /// Copies of a layer with `uid` are one user: what one is killed for isn't another's call.
    #[test]
    fn two_of_one_user_are_told_apart() {
        let of = |pid: &str, call: &str| {
            let text = std::str::from_utf8(RECORD).unwrap();
            text.replace("uid=0", "uid=970").replace("pid=7677", pid).replace("syscall=102", call)
        };
        let mut denials = nothing();
        denials.take(of("pid=11", "syscall=5").as_bytes());
        denials.take(of("pid=12", "syscall=6").as_bytes());
        let call = |pid| Culprit::Process { pid, uid: 970 };
        let number = |call| match call {
            Some(Call::Native(number) | Call::Foreign { number, .. }) => number,
            None => 0,
        };
        assert_eq!(number(denials.call_of(call(12))), 6);
        assert_eq!(denials.call_of(call(12)), None);
        assert_eq!(number(denials.call_of(call(11))), 5);
    }

    fn nothing() -> Denials {
        let (refused, domains) = (VecDeque::new(), BTreeMap::new());
        Denials { file: None, unclaimed: VecDeque::new(), refused, domains }
    }

    #[test]
    fn tells_what_landlock_refused_and_to_whom() {
        const REFUSED: &[u8] = b"5,1,1,-;audit: type=1423 audit(1.2:30): domain=195ba459b \
            blockers=fs.read_file path=\"/etc/x\" dev=\"vda\" ino=7\n";
        const DOMAIN: &[u8] = b"5,2,1,-;audit: type=1424 audit(1.2:30): domain=195ba459b \
            status=allocated mode=enforcing pid=286 uid=1000 exe=\"/a\" comm=\"a\"\n";
        let mut denials = nothing();
        let known = |pid, uid| (pid == 286 && uid == 1000).then_some("a");
        denials.take(REFUSED);
        assert_eq!(denials.refused(known), [], "nobody knows whose domain it is");
        denials.take(DOMAIN);
        assert_eq!(denials.refused(|_, _| None::<&str>), [], "another's");
        let told = denials.refused(known);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].0, "a");
        assert_eq!(told[0].1.what, "blockers=fs.read_file path=\"/etc/x\" dev=\"vda\" ino=7");
        denials.take(REFUSED);
        assert_eq!(denials.refused(known).len(), 1, "the domain is known from then on");
        assert_eq!(denials.refused(known), []);
    }

    #[test]
    fn another_architectures_number_is_not_taken_for_ours() {
        let record = String::from_utf8(RECORD.to_vec()).unwrap().replace("c000003e", "40000003");
        let denial = parse(record.as_bytes()).unwrap();
        assert_eq!(denial.call, Call::Foreign { arch: 0x4000_0003, number: 102 });
    }
}
