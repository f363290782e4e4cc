//! `[audit]`.

use super::{Kind, Table, said, value};

pub(super) const AUDIT: Table = Table {
    name: "audit",
    header: "[audit]",
    meaning: "The audit log: what every layer did, reported by both ends of each edge to a layer \
              of the framework's own, which alone appends. With this table the daemon must have a \
              log, and doesn't start without one; so it is where a facility says `audit` or \
              `witness`. Sockets handed out, starts and ends of layers, verdicts of the broker and \
              refusals of the kernel are in every log.",
    keys: &[
        said(
            "directory",
            Kind::Path,
            "what `--audit DIR` says",
            "Where the log is, as an absolute path that no layer is granted anything in, at or \
             around. `--audit DIR` wins.",
            "Opened by the supervisor; only the auditor gets it.",
        ),
        value(
            "on-full",
            Kind::Word(&["block", "count", "halt"]),
            "\"block\"",
            "What happens to a report for which there is no room: whoever reports waits, the \
             report is dropped and counted in the log, or the daemon stops.",
            "The reporting endpoint, futex(2); the supervisor for `halt`.",
        ),
        said(
            "payload-key",
            Kind::PublicKey,
            "none",
            "X25519 public key of whoever may read payloads, in hex digits. Demanded by any \
             `audit = \"payload\"`; the private key has no place on this machine.",
            "The endpoint seals to it, so the auditor can't read what it keeps.",
        ),
        value(
            "segment",
            Kind::Size(1 << 20, 4 << 30),
            "\"64MiB\"",
            "A segment of the log is ended at this size.",
            "The auditor.",
        ),
        value(
            "segment-age",
            Kind::Duration("1m to 365d"),
            "\"1d\"",
            "Or at this age.",
            "The auditor.",
        ),
        said(
            "keep",
            Kind::Size(1 << 20, 1 << 50),
            "everything",
            "The oldest segments are dropped while all of them have more bytes; at least a \
             `segment`.",
            "The auditor.",
        ),
        said(
            "keep-age",
            Kind::Duration("from a `segment-age`"),
            "everything",
            "Segments older than this are dropped.",
            "The auditor.",
        ),
        value(
            "ring",
            Kind::Size(64 << 10, 64 << 20),
            "\"1MiB\"",
            "Memory for what each instance reports, until the auditor has taken it; whole pages.",
            "A sealed memfd_create(2) between the instance and the auditor.",
        ),
    ],
};
