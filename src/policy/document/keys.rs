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
pub(super) const ALL: [&Keys; 19] = [
    &TOP,
    &LAYER,
    &LIMITS,
    &RESTART,
    &LISTEN,
    &CHANNEL,
    &METHOD,
    &DESCRIPTORS,
    &FILE,
    &SIGNAL,
    &QUEUE,
    &PIPE,
    &FIFO,
    &SEMAPHORE,
    &REGION,
    &MAPPED_FILE,
    &AUDIT,
    &NEVER,
    &CEILING,
];

pub(super) const TOP: Keys = Keys {
    what: "a policy",
    known: &[
        "cofferdam",
        "name",
        "include",
        "vars",
        "layer",
        "channel",
        "file",
        "signal",
        "queue",
        "pipe",
        "fifo",
        "semaphore",
        "region",
        "mapped-file",
        "audit",
        "never",
    ],
    later: &[],
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
        "connect",
        "stdin",
        "stdout",
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
    later: &["accept"],
};

pub(super) const LIMITS: Keys = of("`limits`", &["memory", "files", "tasks", "cpu", "file-size"]);

pub(super) const RESTART: Keys = of("`restart`", &["on", "max", "within", "then"]);

pub(super) const LISTEN: Keys = of("a listening socket", &["address", "rate", "per-source"]);

pub(super) const CHANNEL: Keys = of(
    "a channel",
    &["from", "to", "max", "methods", "fds", "audit", "witness", "transport", "because"],
);

pub(super) const METHOD: Keys =
    of("a method", &["max", "rate", "once", "after", "direction", "stream"]);

pub(super) const DESCRIPTORS: Keys = of("`fds`", &["max", "kinds"]);

pub(super) const FILE: Keys =
    of("a file", &["path", "grant", "deny", "max-open", "audit", "because"]);

pub(super) const SIGNAL: Keys =
    of("a signal grant", &["from", "to", "send", "rate", "audit", "because"]);

pub(super) const QUEUE: Keys = of(
    "a queue",
    &["send", "receive", "depth", "max", "priorities", "on-full", "wait", "audit", "because"],
);

pub(super) const PIPE: Keys =
    of("a pipe", &["from", "to", "raw", "capacity", "rate", "audit", "because"]);

pub(super) const FIFO: Keys =
    of("a fifo", &["path", "to", "owner", "mode", "max", "rate", "audit", "because"]);

pub(super) const SEMAPHORE: Keys =
    of("a semaphore", &["permits", "holders", "lease", "order", "audit", "because"]);

pub(super) const REGION: Keys = of("a region", &["size", "grant", "audit", "because"]);

pub(super) const MAPPED_FILE: Keys =
    of("a mapped file", &["path", "size", "durable", "grant", "audit", "because"]);

pub(super) const AUDIT: Keys = of(
    "`[audit]`",
    &["directory", "on-full", "payload-key", "segment", "segment-age", "keep", "keep-age", "ring"],
);

pub(super) const NEVER: Keys = of("`never`", &["layer", "reach", "through-except", "why"]);

/// The whole of a ceiling file.
pub(super) const CEILING_FILE: Keys = of("a ceiling file", &["cofferdam", "ceiling"]);

pub(super) const CEILING: Keys = of(
    "a ceiling",
    &[
        "syscalls",
        "capabilities",
        "execmem",
        "root",
        "exec",
        "paths",
        "listen",
        "connect",
        "signals",
        "optional",
        "instances",
        "limits",
        "audit",
    ],
);

const fn of(what: &'static str, known: &'static [&'static str]) -> Keys {
    Keys { what, known, later: &[] }
}
