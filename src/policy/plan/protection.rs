//! The protections that the kernel gives.

use serde::{Deserialize, Serialize};

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
