//! The protections that the kernel gives.

use serde::{Deserialize, Serialize};

use super::words;

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

// In the order in which the recipe applies them.
words!(Protection {
    ParentDeath = "parent-death",
    CloseDescriptors = "close-descriptors",
    Session = "session",
    Rlimits = "rlimits",
    CgroupMemory = "cgroup.memory",
    CgroupTasks = "cgroup.tasks",
    CgroupCpu = "cgroup.cpu",
    NamespaceUser = "namespace.user",
    NamespacePid = "namespace.pid",
    NamespaceMount = "namespace.mount",
    NamespaceNet = "namespace.net",
    NamespaceIpc = "namespace.ipc",
    NamespaceUts = "namespace.uts",
    NamespaceCgroup = "namespace.cgroup",
    Root = "root",
    Identity = "identity",
    Keyring = "keyring",
    NotDumpable = "not-dumpable",
    SecretMemory = "secret-memory",
    Capabilities = "capabilities",
    Securebits = "securebits",
    NoNewPrivs = "no-new-privs",
    Mdwe = "mdwe",
    LandlockFile = "landlock.file",
    LandlockNet = "landlock.net",
    LandlockIoctl = "landlock.ioctl",
    LandlockScope = "landlock.scope",
    Seccomp = "seccomp",
});
