//! What is counted of a daemon, whoever has counted it.

mod text;

pub(crate) use self::text::text;
use crate::ident::Instance;

/// What is known of a daemon now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    /// The name by which it is found.
    pub(crate) daemon: String,
    /// Whether it runs.
    pub(crate) is_up: bool,
    /// Since when: seconds since 1970.
    pub(crate) started: Option<u64>,
    /// Whether there is an audit log, from which all comes that layers did.
    pub(crate) is_logged: bool,
    /// The last life of each instance, if that is known.
    pub(crate) lives: Vec<Life>,
    /// How often lives ended, by layer and how.
    pub(crate) ends: Vec<((String, String), u64)>,
    /// What went over each edge.
    pub(crate) edges: Vec<Edge>,
    /// Alarms of the auditor.
    pub(crate) alarms: u64,
    /// Reports that the auditor lost.
    pub(crate) lost: u64,
    /// Of each instance that counts what it has in its hands, whether that is as much as it may be.
    pub(crate) busy: Vec<(Instance, bool)>,
    /// What each instance uses.
    pub(crate) usage: Vec<(Instance, Usage)>,
}

/// The last life of an instance.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// Which.
    pub(crate) instance: Instance,
    /// Whether it goes on.
    pub(crate) runs: bool,
    /// When it began or ended: nanoseconds since 1970.
    pub(crate) since: u64,
    /// How many lives there were.
    pub(crate) lives: u64,
    /// Acts that the framework refused.
    pub(crate) refused: u64,
    /// Acts that the kernel refused.
    pub(crate) denied: u64,
}

/// What went over an edge.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    /// `channel.sign`.
    pub(crate) name: String,
    /// Messages or uses.
    pub(crate) allowed: u64,
    /// Those that were allowed and failed.
    pub(crate) failed: u64,
    /// Those that were refused.
    pub(crate) refused: u64,
    /// Bytes.
    pub(crate) bytes: u64,
    /// Reports that were lost.
    pub(crate) lost: u64,
}

/// What an instance uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Memory in bytes, with what the kernel keeps for it.
    pub(crate) memory: Option<u64>,
    /// The most memory that it may use, in bytes.
    pub(crate) memory_limit: Option<u64>,
    /// Processor time in microseconds.
    pub(crate) cpu: Option<u64>,
    /// Processes and threads.
    pub(crate) tasks: Option<u64>,
}
