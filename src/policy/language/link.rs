//! `[channel.NAME]` and `[file.NAME]`.

use super::{AUDIT, BECAUSE, Kind, Table, required, said, value};

pub(super) const RIGHTS: &[&str] =
    &["read", "write", "append", "truncate", "create", "remove", "list", "execute"];

const KINDS: &[&str] =
    &["file-read", "file-write", "stream", "datagram", "pipe-read", "pipe-write", "sealed-memory"];

pub(super) const CHANNEL: Table = Table {
    name: "channel",
    header: "[channel.NAME]",
    meaning: "Messages between two layers. Only these two can read or write them: each end has a \
              key that the other one knows and nobody else has.",
    keys: &[
        required("from", Kind::Layer, "The layer that speaks first and calls methods.", ""),
        required("to", Kind::Layer, "The layer that answers.", ""),
        value(
            "max",
            Kind::Size(1, 16 << 20),
            "\"64KiB\"",
            "The largest message, in bytes.",
            "Both endpoints check it before they read.",
        ),
        said(
            "methods",
            Kind::Either(&Kind::List(&Kind::Name, true), &Kind::Names(&Kind::Table(&METHOD))),
            "one without a name, both ways",
            "What may be called: a list of names, or a table of methods with their limits.",
            "Checked by the receiving endpoint. Who breaks the protocol is ended: it is taken as \
             compromised.",
        ),
        said(
            "fds",
            Kind::Table(&DESCRIPTORS),
            "none",
            "Descriptors that messages carry.",
            "SCM_RIGHTS; switched off in the kernel (SO_PASSRIGHTS) where none may be sent.",
        ),
        value(
            "audit",
            Kind::Word(&["none", "digest", "payload"]),
            "\"digest\"",
            "What the audit log keeps of each message: nothing, its hash, or all of it, sealed to \
             `payload-key`. Written, and not `\"none\"`, it demands a log.",
            "Reported by both ends, each through a ring of its own.",
        ),
        value(
            "witness",
            Kind::Boolean,
            "false",
            "Whether the built-in witness relays it and reports each message too, for ends that might \
             both lie. It demands a log, takes a process hop, and a link ends with its witness.",
            "A confined process between the ends, without keys; it sees sealed messages. All channels \
             with one have at most 64 links between copies of layers.",
        ),
        value(
            "transport",
            Kind::Word(&["socket", "ring"]),
            "\"socket\"",
            "How messages travel: through a socket, or through shared memory.",
            "SOCK_SEQPACKET socketpair(2), or a ring in a sealed memfd with futex(2) doorbells.",
        ),
        BECAUSE,
    ],
};

pub(super) const METHOD: Table = Table {
    name: "method",
    header: "methods = { NAME = { ... } }",
    meaning: "One method of a channel. Its limits are enforced by who receives the message.",
    keys: &[
        said(
            "max",
            Kind::Size(1, 16 << 20),
            "the channel's `max`",
            "Its largest message, request and reply alike.",
            "The receiving endpoint.",
        ),
        said("rate", Kind::Rate, "no limit", "Calls in a while, of one instance.", "The receiver."),
        value(
            "once",
            Kind::Boolean,
            "false",
            "Whether an instance calls it once only.",
            "The receiver.",
        ),
        said(
            "after",
            Kind::Name,
            "any time",
            "The method of this channel that must have been called before.",
            "The receiver.",
        ),
        value(
            "direction",
            Kind::Word(&["forth", "back"]),
            "\"forth\"",
            "Who calls: `forth` is the channel's `from`; `back` is a one-way message of its `to`.",
            "The receiver.",
        ),
        value(
            "stream",
            Kind::Boolean,
            "false",
            "Whether one call is answered by any number of messages, up to an end, and not by one.",
            "The receiver; it also counts that no more come than it has asked for.",
        ),
    ],
};

pub(super) const DESCRIPTORS: Table = Table {
    name: "fds",
    header: "fds = { ... }",
    meaning: "Descriptors that messages of a channel carry.",
    keys: &[
        said(
            "max",
            Kind::Integer(0, 16),
            "0",
            "How many at most in one message.",
            "More than these end the channel, and are closed.",
        ),
        said(
            "kinds",
            Kind::List(&Kind::Word(KINDS), false),
            "none",
            "Of which kinds. `file-read` is a regular file open for reading only, `stream` a \
             connected socket, `sealed-memory` a memfd that nobody can change any more.",
            "The receiver compares fstat(2), F_GETFL and F_GET_SEALS with what was declared.",
        ),
    ],
};

pub(super) const FILE: Table = Table {
    name: "file",
    header: "[file.NAME]",
    meaning: "A file or directory, and which layer may do what with it. A directory stands for all \
              that lies beneath it.",
    keys: &[
        required(
            "path",
            Kind::Path,
            "Absolute path, without `.`, `..`, doubled or final slashes.",
            "A single file is opened by the supervisor and passed as a descriptor; a directory is \
             mounted at its own path in the layer's root.",
        ),
        required(
            "grant",
            Kind::Names(&Kind::List(&Kind::Word(RIGHTS), true)),
            "Rights by layer, as in `{ keeper = [\"read\"] }`.",
            "Landlock rules with exactly these rights; the mount is read-only unless one of them \
             changes something. With `deny`, `max-open` or `append` the supervisor opens, by \
             openat2(2), and passes the descriptor.",
        ),
        said(
            "deny",
            Kind::List(&Kind::Text, false),
            "none",
            "Names beneath a directory that nobody opens, with `*` for any text; letters of either \
             case are one.",
            "The supervisor, before openat2(2).",
        ),
        said(
            "max-open",
            Kind::Integer(1, 1 << 16),
            "no limit",
            "Descriptors of it that a layer may hold from the broker at once.",
            "The supervisor counts; a layer that lies about what it has closed is bounded by \
             `limits.files`.",
        ),
        AUDIT,
        BECAUSE,
    ],
};
