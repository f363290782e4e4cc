//! The plan: what was checked, in the form that everything downstream uses.
//!
//! Only [`check`](crate::policy::check()) makes a plan, so whoever holds one need not validate
//! anything again. A plan holds no text positions, comments or `because` lines: two policies that
//! grant the same have the same [`PolicyId`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ident::{Name, PolicyId};

/// A whole daemon, checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// The daemon's name.
    pub name: Name,
    /// Its layers, sorted by name.
    pub layers: Vec<LayerPlan>,
    /// Its channels, sorted by name. A channel's number on the wire is its place here.
    pub channels: Vec<ChannelPlan>,
    /// Its files and directories, sorted by name.
    pub files: Vec<FilePlan>,
    /// The other facilities.
    pub facilities: Facilities,
    /// What must never be possible, sorted. It holds, or there would be no plan.
    pub never: Vec<Never>,
}

/// One layer: what runs, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerPlan {
    /// The layer's name.
    pub name: Name,
    /// What runs in it.
    pub program: Program,
    /// How many copies run at once, 1 to [`LayerPlan::MAX_INSTANCES`].
    pub instances: u16,
    /// System calls, sorted by number, at most one entry a number.
    pub syscalls: Vec<SyscallPlan>,
    /// Listening sockets that the supervisor binds for it, sorted by name.
    pub listen: Vec<ListenPlan>,
    /// Addresses that the supervisor connects to for it, sorted by name.
    pub connect: Vec<ConnectPlan>,
    /// The pipe that an `exec` layer reads as its standard input.
    pub stdin: Option<Name>,
    /// The pipe that an `exec` layer writes as its standard output.
    pub stdout: Option<Name>,
    /// Resource limits.
    pub limits: Limits,
    /// What happens when it ends.
    pub restart: Restart,
    /// Protections that may be missing, sorted. Everything else is demanded.
    pub optional: Vec<Protection>,
    /// What of the host's file system it sees besides its file grants.
    pub view: View,
    /// Environment of an `exec` layer; nothing else is ever in it.
    pub env: BTreeMap<String, String>,
    /// Capabilities left to it, by number (`CAP_NET_RAW` is 13), sorted. Nearly always empty.
    pub capabilities: Vec<u8>,
    /// Whether it may make memory executable that was writable (turns off
    /// `PR_SET_MDWE`).
    pub execmem: bool,
    /// User and group, when the policy fixes them; otherwise every instance gets its own.
    pub uid: Option<u32>,
}

impl LayerPlan {
    /// The most copies of one layer.
    pub const MAX_INSTANCES: u16 = 64;
}

/// What runs in a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// A function that the daemon's program registered under this name.
    Run(Name),
    /// Another program, by absolute path, with its arguments (the path is `argv[0]`).
    Exec(Vec<String>),
}

/// What of the file system a layer sees besides its grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum View {
    /// An empty root. The default for `run` layers.
    Empty,
    /// An empty root with the system's programs and libraries in it, read-only: `/usr`, `/lib*`,
    /// `/bin`, `/sbin`, `/etc/ld.so.cache`, and `/dev/{null,zero,full,urandom}`. The default for
    /// `exec` layers.
    System,
}

/// What the filter answers to one system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyscallPlan {
    /// The call's number on the running architecture.
    pub number: u32,
    /// When it is allowed: if any of these rules holds. No rule at all: never.
    /// One rule with no condition: always.
    pub allow: Vec<CallRule>,
    /// The errno where no rule holds; `None` ends the process (`SIGSYS`).
    pub otherwise: Option<u16>,
}

/// Conditions on a call's arguments that must all hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallRule(pub Vec<Condition>);

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How many bits the kernel looks at: `int` arguments have 32, and the filter must not look at
    /// more, or a caller passes the check with a high bit set.
    pub width: Width,
    /// The comparison; the argument is on the left.
    pub compare: Compare,
}

/// How much of an argument counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Width {
    /// The low 32 bits: `int`, `unsigned int`, flags.
    Dword,
    /// All 64 bits: `size_t`, `unsigned long`, pointers (which may only be compared with 0).
    Qword,
}

/// A comparison of an unsigned argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Compare {
    /// Equal.
    Eq(u64),
    /// Not equal.
    Ne(u64),
    /// Below.
    Lt(u64),
    /// Below or equal.
    Le(u64),
    /// Above.
    Gt(u64),
    /// Above or equal.
    Ge(u64),
    /// `argument & mask == value`.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}

/// A socket that the supervisor binds and keeps across restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenPlan {
    /// Its name, by which the layer asks for it.
    pub name: Name,
    /// Where it listens.
    pub address: ListenAddress,
    /// How many connections it accepts in a while; `None` is no limit.
    pub rate: Option<Rate>,
    /// How many connections one source address may have open at once; `None` is no limit.
    pub per_source: Option<u32>,
}

/// An address that the supervisor connects to; the layer gets the connected socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectPlan {
    /// Its name, by which the layer asks for it.
    pub name: Name,
    /// Where to.
    pub address: ConnectAddress,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConnectAddress {
    /// `tcp:192.0.2.1:443`, `tcp:example.org:443`: a name is resolved outside of the layer.
    Tcp {
        /// Address (IPv6 without brackets) or host name.
        host: String,
        /// Port, 1 to 65535.
        port: u16,
    },
    /// `udp:192.0.2.1:53`.
    Udp {
        /// Address (IPv6 without brackets) or host name.
        host: String,
        /// Port, 1 to 65535.
        port: u16,
    },
    /// `unix:/run/other.sock`.
    Unix(String),
}

impl std::fmt::Display for ConnectAddress {
    /// As the policy writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Udp { host, port } if host.contains(':') => write!(f, "udp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
            Self::Udp { host, port } => write!(f, "udp:{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// At most `count` in `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In which time; at least a millisecond.
    pub per: Duration,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ListenAddress {
    /// `tcp:127.0.0.1:8443`, `tcp:[::1]:8443`.
    Tcp(std::net::SocketAddr),
    /// `udp:127.0.0.1:5353`.
    Udp(std::net::SocketAddr),
    /// `unix:/run/signer.sock`.
    Unix(String),
}

impl std::fmt::Display for ListenAddress {
    /// As the policy writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Udp(address) => write!(f, "udp:{address}"),
            Self::Unix(path) => write!(f, "unix:{path}"),
        }
    }
}

/// Resource limits of one instance. `None` is the default that [`Limits::default`] documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes: by cgroup where there is one, else by `RLIMIT_DATA`.
    pub memory: u64,
    /// Open descriptors (`RLIMIT_NOFILE`).
    pub files: u64,
    /// Tasks, that is processes and threads: by cgroup where there is one, else `RLIMIT_NPROC`.
    pub tasks: u64,
    /// Share of one processor in percent (200 is two processors); needs a cgroup.
    pub cpu: Option<u32>,
    /// Largest file it may write, in bytes (`RLIMIT_FSIZE`).
    pub file_size: u64,
}

impl Default for Limits {
    /// 256 MiB of memory, 256 descriptors, 16 tasks, no processor limit, files to 1 GiB.
    fn default() -> Self {
        Self { memory: 256 << 20, files: 256, tasks: 16, cpu: None, file_size: 1 << 30 }
    }
}

/// What happens when an instance ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Which endings are followed by a new start.
    pub on: RestartOn,
    /// How many restarts within [`Restart::within`] are tolerated; one more and the supervisor
    /// gives up as [`Restart::then`] says.
    pub max: u32,
    /// The window of [`Restart::max`].
    pub within: Duration,
    /// What giving up means.
    pub then: GiveUp,
}

impl Default for Restart {
    /// On failure, at most 5 times within 10 s, then the whole daemon stops.
    fn default() -> Self {
        Self {
            on: RestartOn::Failure,
            max: 5,
            within: Duration::from_secs(10),
            then: GiveUp::StopDaemon,
        }
    }
}

/// Which endings are followed by a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartOn {
    /// None.
    Never,
    /// A nonzero exit code, or death by a signal.
    Failure,
    /// Every ending that was not asked for.
    Always,
}

/// What happens when a layer has used up its restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum GiveUp {
    /// The daemon stops, with exit code 1.
    StopDaemon,
    /// The layer stays down, the others go on.
    LeaveDown,
}

/// A channel between two layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ChannelPlan {
    /// The channel's name.
    pub name: Name,
    /// The layer that speaks first (the initiator of the handshake, the caller of methods).
    pub from: Name,
    /// The layer that answers.
    pub to: Name,
    /// The largest message, in bytes; 1 to [`ChannelPlan::MAX_MESSAGE`].
    pub max: u32,
    /// The methods, sorted by name. A method's number on the wire is its place here.
    /// Empty: one unnamed method 0 in both directions.
    pub methods: Vec<MethodPlan>,
    /// The descriptors that a message may carry.
    pub fds: DescriptorPlan,
    /// What the audit log keeps of its messages.
    pub audit: Audit,
    /// Whether the built-in witness relays it.
    pub witness: bool,
    /// How its records travel.
    pub transport: Transport,
}

/// What the audit log keeps of a facility's messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Audit {
    /// Nothing.
    #[default]
    None,
    /// That there was one: number, method, length, hash.
    Digest,
    /// The message itself too, sealed to the auditor.
    Payload,
}

/// How a channel's records travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// A `SOCK_SEQPACKET` socketpair.
    #[default]
    Socket,
    /// A ring in sealed shared memory.
    Ring,
}

impl ChannelPlan {
    /// The largest `max`: 16 MiB.
    pub const MAX_MESSAGE: u32 = 16 << 20;
    /// The default `max`: 64 KiB.
    pub const DEFAULT_MESSAGE: u32 = 64 << 10;
}

/// One method of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodPlan {
    /// The method's name.
    pub name: Name,
    /// The largest message of this method, in bytes, both request and reply.
    pub max: u32,
    /// Who may call it.
    pub direction: Direction,
    /// How often one instance may call it; `None` is no limit.
    pub rate: Option<Rate>,
    /// Whether an instance may call it once in its life only.
    pub once: bool,
    /// The method that must have been called before, by its place in the channel.
    pub after: Option<u16>,
}

/// Who may call a method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Direction {
    /// The channel's `from` calls, its `to` answers.
    #[default]
    Forth,
    /// The channel's `to` sends one-way messages to its `from`.
    Back,
}

/// Which descriptors a message may carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescriptorPlan {
    /// How many at most in one message, 0 to [`DescriptorPlan::MAX`]. 0 switches passing off in
    /// the kernel too.
    pub max: u8,
    /// Which kinds, sorted; not empty when `max` is above 0.
    pub kinds: Vec<DescriptorKind>,
}

impl DescriptorPlan {
    /// The most descriptors in one message.
    pub const MAX: u8 = 16;
}

/// A kind of descriptor, with the rights that it may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DescriptorKind {
    /// A regular file open for reading only.
    FileRead,
    /// A regular file open for writing too.
    FileWrite,
    /// A connected stream socket (TCP or Unix).
    Stream,
    /// A datagram socket.
    Datagram,
    /// The reading end of a pipe.
    PipeRead,
    /// The writing end of a pipe.
    PipeWrite,
    /// A memfd sealed against shrinking, growing and writing.
    SealedMemory,
}

/// A file or directory, and who may do what with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FilePlan {
    /// The grant's name.
    pub name: Name,
    /// Absolute path, without `.`, `..` or doubled slashes. A directory grants what lies beneath
    /// it, on its file system and below.
    pub path: String,
    /// Rights by layer, sorted by layer.
    pub grant: BTreeMap<Name, Vec<FileRight>>,
    /// Names beneath a directory that nobody opens through the broker, as patterns with `*`.
    pub deny: Vec<String>,
    /// How many descriptors of it a layer may hold from the broker at once; `None` is no limit.
    pub max_open: Option<u32>,
}

/// A right on a file, or on all that lies beneath a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FileRight {
    /// Open for reading.
    Read,
    /// Open for writing, without truncating.
    Write,
    /// Truncate, also on open.
    Truncate,
    /// Make regular files in a directory.
    Create,
    /// Remove files and empty directories in a directory.
    Remove,
    /// List a directory.
    List,
    /// Execute.
    Execute,
}

/// A protection that the kernel may be unable to give. Its name in `optional` is in
/// [`Protection::name`]; a name's first part (`namespace`) stands for all that begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Protection {
    /// Parent-death signal: the layer dies with the supervisor.
    ParentDeath,
    /// All descriptors but the declared ones are closed.
    CloseDescriptors,
    /// Its own session, and no controlling terminal.
    Session,
    /// Resource limits by `setrlimit`.
    Rlimits,
    /// cgroup limit on memory.
    CgroupMemory,
    /// cgroup limit on tasks.
    CgroupTasks,
    /// cgroup limit on processor time.
    CgroupCpu,
    /// User namespace (for ordinary users: what gives them the others).
    NamespaceUser,
    /// Pid namespace.
    NamespacePid,
    /// Mount namespace.
    NamespaceMount,
    /// Network namespace.
    NamespaceNet,
    /// IPC namespace.
    NamespaceIpc,
    /// UTS namespace.
    NamespaceUts,
    /// cgroup namespace.
    NamespaceCgroup,
    /// Empty root directory, read-only.
    Root,
    /// User and group of its own, no supplementary groups.
    Identity,
    /// A session keyring of its own.
    Keyring,
    /// Not dumpable: no core, no ptrace, no `/proc/PID/mem` by equals.
    NotDumpable,
    /// Key in memory that not even root reads by ordinary means (`memfd_secret`).
    SecretMemory,
    /// All five capability sets empty but for what is granted.
    Capabilities,
    /// Securebits set and locked.
    Securebits,
    /// `no_new_privs`.
    NoNewPrivs,
    /// Writable memory never becomes executable (`PR_SET_MDWE`).
    Mdwe,
    /// Landlock on files.
    LandlockFile,
    /// Landlock on TCP ports (ABI 4).
    LandlockNet,
    /// Landlock on devices' ioctls (ABI 5).
    LandlockIoctl,
    /// Landlock scopes: signals and abstract Unix sockets (ABI 6).
    LandlockScope,
    /// The system-call filter.
    Seccomp,
}

impl Protection {
    /// Every protection, in the order in which the recipe applies them.
    pub const ALL: [Protection; 28] = [
        Self::ParentDeath,
        Self::CloseDescriptors,
        Self::Session,
        Self::Rlimits,
        Self::CgroupMemory,
        Self::CgroupTasks,
        Self::CgroupCpu,
        Self::NamespaceUser,
        Self::NamespacePid,
        Self::NamespaceMount,
        Self::NamespaceNet,
        Self::NamespaceIpc,
        Self::NamespaceUts,
        Self::NamespaceCgroup,
        Self::Root,
        Self::Identity,
        Self::Keyring,
        Self::NotDumpable,
        Self::SecretMemory,
        Self::Capabilities,
        Self::Securebits,
        Self::NoNewPrivs,
        Self::Mdwe,
        Self::LandlockFile,
        Self::LandlockNet,
        Self::LandlockIoctl,
        Self::LandlockScope,
        Self::Seccomp,
    ];

    /// The name that policies and receipts use.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ParentDeath => "parent-death",
            Self::CloseDescriptors => "close-descriptors",
            Self::Session => "session",
            Self::Rlimits => "rlimits",
            Self::CgroupMemory => "cgroup.memory",
            Self::CgroupTasks => "cgroup.tasks",
            Self::CgroupCpu => "cgroup.cpu",
            Self::NamespaceUser => "namespace.user",
            Self::NamespacePid => "namespace.pid",
            Self::NamespaceMount => "namespace.mount",
            Self::NamespaceNet => "namespace.net",
            Self::NamespaceIpc => "namespace.ipc",
            Self::NamespaceUts => "namespace.uts",
            Self::NamespaceCgroup => "namespace.cgroup",
            Self::Root => "root",
            Self::Identity => "identity",
            Self::Keyring => "keyring",
            Self::NotDumpable => "not-dumpable",
            Self::SecretMemory => "secret-memory",
            Self::Capabilities => "capabilities",
            Self::Securebits => "securebits",
            Self::NoNewPrivs => "no-new-privs",
            Self::Mdwe => "mdwe",
            Self::LandlockFile => "landlock.file",
            Self::LandlockNet => "landlock.net",
            Self::LandlockIoctl => "landlock.ioctl",
            Self::LandlockScope => "landlock.scope",
            Self::Seccomp => "seccomp",
        }
    }
}

/// The facilities beside channels and files, each sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Facilities {
    /// `[signal.*]`.
    pub signals: Vec<SignalPlan>,
    /// `[queue.*]`.
    pub queues: Vec<QueuePlan>,
    /// `[pipe.*]`.
    pub pipes: Vec<PipePlan>,
    /// `[fifo.*]`.
    pub fifos: Vec<FifoPlan>,
    /// `[semaphore.*]`.
    pub semaphores: Vec<SemaphorePlan>,
    /// `[region.*]`.
    pub regions: Vec<RegionPlan>,
    /// `[mapped-file.*]`.
    pub mapped_files: Vec<MappedFilePlan>,
}

/// Signals that one layer may send to another, through the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalPlan {
    /// The grant's name.
    pub name: Name,
    /// Who sends.
    pub from: Name,
    /// Who receives.
    pub to: Name,
    /// Which signals, by number, sorted.
    pub send: Vec<u8>,
    /// How often; `None` is no limit.
    pub rate: Option<Rate>,
}

/// A message queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuePlan {
    /// The queue's name.
    pub name: Name,
    /// Who sends, sorted.
    pub send: Vec<Name>,
    /// Who receives, sorted.
    pub receive: Vec<Name>,
    /// How many messages it holds.
    pub depth: u32,
    /// The largest message, in bytes.
    pub max: u32,
    /// How many priorities there are, 1 to 32.
    pub priorities: u8,
    /// What happens to a message for which there is no room.
    pub on_full: OnFull,
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFull {
    /// The sender waits, at most for this long.
    Block(Duration),
    /// The sender gets an error.
    Reject,
    /// The oldest message goes.
    DropOldest,
}

/// A one-way stream of bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipePlan {
    /// The pipe's name.
    pub name: Name,
    /// Who writes.
    pub from: Name,
    /// Who reads.
    pub to: Name,
    /// Whether its bytes travel as they are, for programs that know nothing of sealing.
    pub raw: bool,
    /// Bytes that it holds, a power of two from 4 KiB.
    pub capacity: u32,
    /// Bytes in a while; `None` is no limit.
    pub rate: Option<Rate>,
}

/// A FIFO into which programs outside of the daemon write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FifoPlan {
    /// The FIFO's name.
    pub name: Name,
    /// Absolute path.
    pub path: String,
    /// Who reads it.
    pub to: Name,
    /// Its owner outside, by number; `None` is the supervisor's user.
    pub owner: Option<u32>,
    /// Its mode: write bits only matter.
    pub mode: u16,
    /// The longest line, in bytes.
    pub max: u32,
    /// Lines in a while; `None` is no limit.
    pub rate: Option<Rate>,
}

/// Permits that layers lease from the supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemaphorePlan {
    /// The semaphore's name.
    pub name: Name,
    /// How many permits there are.
    pub permits: u32,
    /// Who may hold one, sorted.
    pub holders: Vec<Name>,
    /// How long a permit is held at most; `None` is until it is given back.
    pub lease: Option<Duration>,
    /// Its place in the order in which several are taken: who holds one takes only those of a
    /// higher place. `None`: it is never taken while another is held.
    pub order: Option<u32>,
}

/// Memory that several layers map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionPlan {
    /// The region's name.
    pub name: Name,
    /// Its size in bytes.
    pub size: u64,
    /// Who maps it, sorted.
    pub grant: BTreeMap<Name, MapRight>,
}

/// A file that several layers map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappedFilePlan {
    /// The grant's name.
    pub name: Name,
    /// Absolute path.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether what is committed survives a power cut (`msync`).
    pub durable: bool,
    /// Who maps it, sorted.
    pub grant: BTreeMap<Name, MapRight>,
}

/// A right on mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MapRight {
    /// `r`.
    Read,
    /// `rw`.
    ReadWrite,
}

/// Something that must never be possible, in any number of steps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Never {
    /// Who must not.
    pub layer: Name,
    /// What it must not reach: `file.key`, `layer.keeper`, `connect.upstream`.
    pub reach: String,
    /// Ways through these layers are tolerated, sorted.
    pub through_except: Vec<Name>,
}

impl Plan {
    /// The digest of this plan; see [`PolicyId`].
    ///
    /// Postcard of sorted vectors and maps is canonical. It can only fail on a sequence of
    /// unknown length, of which a plan has none; were that ever to change, two plans must not
    /// silently share the digest of nothing, so the failure is told.
    pub fn id(&self) -> Result<PolicyId, postcard::Error> {
        use blake2::Digest;
        let bytes = postcard::to_stdvec(self)?;
        let mut hash = blake2::Blake2s256::new();
        hash.update(b"cofferdam plan 1\0");
        hash.update(&bytes);
        Ok(PolicyId(hash.finalize().into()))
    }

    /// The layer of that name.
    pub fn layer(&self, name: &str) -> Option<&LayerPlan> {
        self.layers.iter().find(|layer| layer.name == name)
    }

    /// The channel of that name, with its number on the wire.
    pub fn channel(&self, name: &str) -> Option<(u16, &ChannelPlan)> {
        let index = self.channels.iter().position(|channel| channel.name == name)?;
        Some((u16::try_from(index).ok()?, &self.channels[index]))
    }

    /// The files that `layer` holds rights on.
    pub fn files_of<'a>(
        &'a self,
        layer: &'a Name,
    ) -> impl Iterator<Item = (&'a FilePlan, &'a [FileRight])> {
        self.files
            .iter()
            .filter_map(move |file| file.grant.get(layer).map(|rights| (file, rights.as_slice())))
    }
}
