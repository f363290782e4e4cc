//! The keys of the policy language, table by table.

/// The keys that one kind of table has.
#[derive(Debug)]
pub(super) struct Keys {
    /// What the table is, with its article: "a layer".
    pub(super) what: &'static str,
    /// What it takes today.
    pub(super) known: &'static [&'static str],
    /// What belongs to the language and is not built yet. A policy that uses one is refused, for
    /// nothing would enforce it.
    pub(super) later: &'static [&'static str],
}

/// Every kind of table, to tell where a misplaced key belongs.
pub(super) const ALL: [&Keys; 8] =
    [&TOP, &LAYER, &LIMITS, &RESTART, &CHANNEL, &METHOD, &DESCRIPTORS, &FILE];

pub(super) const TOP: Keys = Keys {
    what: "a policy",
    known: &["cofferdam", "name", "include", "vars", "layer", "channel", "file"],
    later: &[
        "region",
        "signal",
        "queue",
        "pipe",
        "fifo",
        "semaphore",
        "mapped-file",
        "never",
    ],
};

pub(super) const LAYER: Keys = Keys {
    what: "a layer",
    known: &[
        "run",
        "exec",
        "instances",
        "syscalls",
        "refuse",
        "listen",
        "limits",
        "restart",
        "optional",
        "because",
        "view",
        "env",
        "capabilities",
        "execmem",
        "uid",
    ],
    later: &["connect", "accept"],
};

pub(super) const LIMITS: Keys =
    Keys { what: "`limits`", known: &["memory", "files", "tasks", "cpu", "file-size"], later: &[] };

pub(super) const RESTART: Keys =
    Keys { what: "`restart`", known: &["on", "max", "within", "then"], later: &[] };

pub(super) const CHANNEL: Keys = Keys {
    what: "a channel",
    known: &["from", "to", "max", "methods", "fds", "audit", "because"],
    later: &["witness", "transport"],
};

pub(super) const METHOD: Keys =
    Keys { what: "a method", known: &["max"], later: &["rate", "once", "after", "direction"] };

pub(super) const DESCRIPTORS: Keys = Keys { what: "`fds`", known: &["max", "kinds"], later: &[] };

pub(super) const FILE: Keys =
    Keys { what: "a file", known: &["path", "grant", "because"], later: &["deny"] };
