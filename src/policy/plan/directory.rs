//! Directories that belong to a layer.

use serde::{Deserialize, Serialize};

use super::words;

/// A directory that is made for a layer, and belongs to its user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryPlan {
    /// What it is for, which says how long it is kept.
    pub kind: DirectoryKind,
    /// Absolute path, on the host and as the layer sees it. That of [`DirectoryKind::Runtime`] is
    /// in the layer's root alone.
    pub path: String,
    /// The most bytes in it; of [`DirectoryKind::Runtime`] alone.
    pub size: Option<u64>,
}

/// What a layer's directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DirectoryKind {
    /// What the layer must find again in its next life, and in the daemon's.
    State,
    /// What it can make again. Kept, but anybody may clear it away while the daemon is down.
    Cache,
    /// What it writes for people to read. Kept.
    Logs,
    /// What is of one life: in memory, and gone with it.
    Runtime,
}

words!(DirectoryKind { State = "state", Cache = "cache", Logs = "logs", Runtime = "runtime-directory" });

impl DirectoryKind {
    /// Whether it is on the host's disk and outlives the layer.
    pub const fn is_kept(self) -> bool {
        !matches!(self, Self::Runtime)
    }
}
