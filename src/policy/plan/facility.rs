//! Files, and the other facilities by which layers communicate.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Audit, Rate, Word, words};
use crate::ident::Name;

/// A file or directory, and who may do what with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FilePlan {
    /// The grant's name.
    pub name: Name,
    /// Absolute path, without `.`, `..` or doubled slashes. A directory grants what lies beneath
    /// it, on its file system and below.
    pub path: String,
    /// Where layers see it, if elsewhere.
    pub at: Option<String>,
    /// Rights by layer, sorted by layer.
    pub grant: BTreeMap<Name, Vec<FileRight>>,
    /// Names beneath a directory that nobody opens through the broker, as patterns with `*`.
    pub deny: Vec<String>,
    /// How many descriptors of it a layer may hold from the broker at once; `None` is no limit.
    pub max_open: Option<u32>,
    /// Whether it may be missing.
    pub optional: bool,
    /// Whether it is a single file that a layer gets as it is whenever it asks.
    pub follow: bool,
    /// What the audit log keeps of it: nothing, or digests.
    pub audit: Audit,
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
    /// Remove what is no directory from a directory.
    Remove,
    /// List a directory.
    List,
    /// Execute.
    Execute,
    /// Write at the end, and nowhere else.
    Append,
    /// Make directories in a directory.
    Mkdir,
    /// Remove empty directories from a directory.
    Rmdir,
    /// Rename and link from one directory to another, beneath one grant. What is made and removed
    /// there takes its own rights.
    Move,
    /// Make symbolic links in a directory.
    Symlink,
    /// Make Unix sockets in a directory.
    Socket,
    /// Make FIFOs in a directory.
    Fifo,
}

words!(FileRight {
    Read = "read",
    Write = "write",
    Truncate = "truncate",
    Create = "create",
    Remove = "remove",
    List = "list",
    Execute = "execute",
    Append = "append",
    Mkdir = "mkdir",
    Rmdir = "rmdir",
    Move = "move",
    Symlink = "symlink",
    Socket = "socket",
    Fifo = "fifo",
});

impl FileRight {
    /// What an owner may do with its directory but for executing. To write anywhere is to append.
    pub const OWNER: [Self; 12] = [
        Self::Read,
        Self::Write,
        Self::Truncate,
        Self::Create,
        Self::Remove,
        Self::List,
        Self::Mkdir,
        Self::Rmdir,
        Self::Move,
        Self::Symlink,
        Self::Socket,
        Self::Fifo,
    ];

    /// Whether it changes something.
    pub const fn changes(self) -> bool {
        !matches!(self, Self::Read | Self::List | Self::Execute)
    }

    /// Whether it is about a directory: no single file can be used by it.
    pub const fn is_of_directory(self) -> bool {
        match self {
            Self::Read | Self::Write | Self::Truncate | Self::Execute | Self::Append => false,
            Self::Create
            | Self::Remove
            | Self::List
            | Self::Mkdir
            | Self::Rmdir
            | Self::Move
            | Self::Symlink
            | Self::Socket
            | Self::Fifo => true,
        }
    }

    /// Whether the helper for files, of whom a layer asks what is brokered, knows no such act.
    pub const fn is_direct_only(self) -> bool {
        matches!(self, Self::Symlink | Self::Socket | Self::Fifo)
    }
}

/// What a policy calls a right on a file, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grantable {
    /// One right.
    One(FileRight),
    /// [`FileRight::OWNER`].
    Owner,
}

impl Grantable {
    /// The rights that it stands for.
    pub fn rights(self) -> Vec<FileRight> {
        match self {
            Self::One(right) => vec![right],
            Self::Owner => FileRight::OWNER.to_vec(),
        }
    }
}

impl Word for Grantable {
    const WORDS: &'static [(&'static str, Self)] = &{
        const RIGHTS: usize = FileRight::ALL.len();
        let mut words = [("owner", Self::Owner); RIGHTS + 1];
        let mut at = 0;
        while at < RIGHTS {
            words[at] = (FileRight::ALL[at].name(), Self::One(FileRight::ALL[at]));
            at += 1;
        }
        words
    };

    fn word(self) -> &'static str {
        match self {
            Self::One(right) => right.name(),
            Self::Owner => "owner",
        }
    }
}

impl FilePlan {
    /// Where layers see it by a path.
    pub fn seen_at(&self) -> &str {
        self.at.as_deref().unwrap_or(&self.path)
    }

    /// Whether `layer` opens what lies beneath through a helper, and sees nothing of it itself:
    /// the kernel has no other guard of names that are denied, of a number of descriptors, or of a
    /// right to append, and knows no file by its name.
    pub fn is_brokered(&self, layer: &Name) -> bool {
        let appends = self.grant.get(layer).is_some_and(|it| it.contains(&FileRight::Append));
        appends || self.follow || self.max_open.is_some() || !self.deny.is_empty()
    }

    /// Whether a single file is opened for a `run` layer whenever it asks, and not at its start.
    pub const fn is_opened_on_demand(&self) -> bool {
        self.follow || self.optional
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
    /// What the audit log keeps of it: nothing, or digests.
    pub audit: Audit,
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
    /// What the audit log keeps of it: nothing, or digests.
    pub audit: Audit,
}

impl QueuePlan {
    /// How many queues of the kernel it is made of: one, for that orders by priority already; but
    /// of one from which the oldest message goes, one for each priority, since the kernel gives
    /// away only the oldest message of the highest.
    pub fn lanes(&self) -> u8 {
        if self.on_full == OnFull::DropOldest { self.priorities } else { 1 }
    }
}

/// What happens when a queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnFull {
    /// The sender waits, at most for this long.
    Block(Duration),
    /// The sender gets an error.
    Reject,
    /// The oldest message of the same priority goes; `depth` counts for each priority.
    DropOldest,
}

/// What a policy calls each [`OnFull`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// [`OnFull::Block`]; for how long is another key.
    Block,
    /// [`OnFull::Reject`].
    Reject,
    /// [`OnFull::DropOldest`].
    DropOldest,
}

words!(Full { Block = "block", Reject = "reject", DropOldest = "drop-oldest" });

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
    /// What the audit log keeps of it: nothing, or digests.
    pub audit: Audit,
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
    /// What the audit log keeps of it: nothing, or digests.
    pub audit: Audit,
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
    /// What the audit log keeps of it: nothing, or digests.
    pub audit: Audit,
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
    /// What the audit log keeps of it: nothing, or digests.
    pub audit: Audit,
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
    /// What the audit log keeps of it: nothing, or digests.
    pub audit: Audit,
}

impl MappedFilePlan {
    /// Whether any layer writes it. If none does, they get a copy.
    pub fn is_written(&self) -> bool {
        self.grant.values().any(|right| *right == MapRight::ReadWrite)
    }
}

/// A right on mapped memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MapRight {
    /// `r`.
    Read,
    /// `rw`.
    ReadWrite,
}

words!(MapRight { Read = "r", ReadWrite = "rw" });
