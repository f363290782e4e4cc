//! What is counted of a daemon, whoever has counted it.

use crate::ident::Instance;

/// What is known of a daemon now.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers {
    /// The name by which it is found.
    pub(super) daemon: String,
    /// Whether it runs.
    pub(super) is_up: bool,
    /// Since when: seconds since 1970.
    pub(super) started: Option<u64>,
    /// Whether there is an audit log, from which all that follows comes but `usage`.
    pub(super) is_logged: bool,
    /// The last life of each instance.
    pub(super) lives: Vec<Life>,
    /// How often lives ended, by layer and how.
    pub(super) ends: Vec<((String, String), u64)>,
    /// What went over each edge.
    pub(super) edges: Vec<Edge>,
    /// Alarms of the auditor.
    pub(super) alarms: u64,
    /// Reports that the auditor lost.
    pub(super) lost: u64,
    /// Of each instance that counts what it has in its hands, whether that is as much as it may be.
    pub(super) busy: Vec<(Instance, bool)>,
    /// What each instance uses.
    pub(super) usage: Vec<(Instance, Usage)>,
}

/// The last life of an instance.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// Which.
    pub(super) instance: Instance,
    /// Whether it goes on.
    pub(super) runs: bool,
    /// When it began or ended: nanoseconds since 1970.
    pub(super) since: u64,
    /// How many lives there were.
    pub(super) lives: u64,
    /// Acts that the framework refused.
    pub(super) refused: u64,
    /// Acts that the kernel refused.
    pub(super) denied: u64,
}

/// What went over an edge.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    /// `channel.sign`.
    pub(super) name: String,
    /// Messages or uses.
    pub(super) allowed: u64,
    /// Those that were allowed and failed.
    pub(super) failed: u64,
    /// Those that were refused.
    pub(super) refused: u64,
    /// Bytes.
    pub(super) bytes: u64,
    /// Reports that were lost.
    pub(super) lost: u64,
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Memory in bytes, with what the kernel keeps for it.
    pub(super) memory: Option<u64>,
    /// The most memory that it may use, in bytes.
    pub(super) memory_limit: Option<u64>,
    /// Processor time in microseconds.
    pub(super) cpu: Option<u64>,
    /// Processes and threads.
    pub(super) tasks: Option<u64>,
}
