//! The other facilities.

use super::{AUDIT, BECAUSE, Kind, Table, required, said, value};

pub(super) const SIGNAL: Table = Table {
    name: "signal",
    header: "[signal.NAME]",
    meaning: "Signals that one layer may have sent to another one.",
    keys: &[
        required("from", Kind::Layer, "Who sends.", ""),
        required("to", Kind::Layer, "Who receives.", ""),
        required(
            "send",
            Kind::List(&Kind::Signal, true),
            "Which signals, without `SIG`. `KILL` and `STOP` need a `because`.",
            "The supervisor's pidfd_send_signal(2): never a wrong process.",
        ),
        said("rate", Kind::Rate, "no limit", "Signals in a while.", "The supervisor."),
        AUDIT,
        BECAUSE,
    ],
};

pub(super) const QUEUE: Table = Table {
    name: "queue",
    header: "[queue.NAME]",
    meaning: "A message queue. What it accepted survives the death of every layer.",
    keys: &[
        required("send", Kind::List(&Kind::Layer, true), "Who sends.", "A write-only descriptor."),
        required(
            "receive",
            Kind::List(&Kind::Layer, true),
            "Who receives.",
            "A read-only descriptor.",
        ),
        value(
            "depth",
            Kind::Integer(1, 1 << 16),
            "10",
            "Messages that it holds.",
            "POSIX queue, unlinked at once (mq_overview(7)). More than 10 needs root or \
             /proc/sys/fs/mqueue/msg_max raised.",
        ),
        value(
            "max",
            Kind::Size(1, (16 << 20) - 40),
            "\"4KiB\"",
            "The largest message, in bytes.",
            "/proc/sys/fs/mqueue/msgsize_max bounds it for ordinary users.",
        ),
        value(
            "priorities",
            Kind::Integer(1, 32),
            "1",
            "How many priorities there are.",
            "mq_send(3).",
        ),
        value(
            "on-full",
            Kind::Word(&["block", "reject", "drop-oldest"]),
            "\"block\"",
            "What happens to a message for which there is no room. With `drop-oldest` the oldest \
             message of the same priority goes, and `depth` counts for each priority.",
            "A queue of the kernel for each priority, where `drop-oldest` has several.",
        ),
        value(
            "wait",
            Kind::Duration("1ms to 1h"),
            "\"1s\"",
            "How long a blocked sender waits at most. Only with `on-full = \"block\"`.",
            "mq_timedsend(2).",
        ),
        AUDIT,
        BECAUSE,
    ],
};

pub(super) const PIPE: Table = Table {
    name: "pipe",
    header: "[pipe.NAME]",
    meaning: "A one-way stream of bytes.",
    keys: &[
        required("from", Kind::Layer, "Who writes.", "The writing end."),
        required("to", Kind::Layer, "Who reads.", "The reading end."),
        value(
            "raw",
            Kind::Boolean,
            "false",
            "Whether bytes travel unsealed, for `exec` layers, which know nothing of sealing.",
            "",
        ),
        value(
            "capacity",
            Kind::Size(4 << 10, 1 << 20),
            "\"64KiB\"",
            "Bytes that it holds; a power of two.",
            "F_SETPIPE_SZ (pipe(7)).",
        ),
        said(
            "rate",
            Kind::ByteRate,
            "no limit",
            "Bytes in a while, as in `1MiB/s`.",
            "The receiver.",
        ),
        AUDIT,
        BECAUSE,
    ],
};

pub(super) const FIFO: Table = Table {
    name: "fifo",
    header: "[fifo.NAME]",
    meaning: "A named pipe into which outside programs write lines. What comes is as untrusted as \
              the network.",
    keys: &[
        required("path", Kind::Path, "Absolute path.", "mkfifo(3) by the supervisor."),
        required("to", Kind::Layer, "Who reads it.", "A read-only descriptor."),
        said(
            "owner",
            Kind::Integer(0, 4_294_967_294),
            "the supervisor's user",
            "Its owner outside, by number.",
            "fchown(2).",
        ),
        value(
            "mode",
            Kind::Mode,
            "\"0600\"",
            "Who outside may write, in octal. Only its owner may have the right to read.",
            "fchmod(2).",
        ),
        value(
            "max",
            Kind::Size(1, 1 << 20),
            "\"4KiB\"",
            "The longest line, in bytes.",
            "The reader.",
        ),
        said("rate", Kind::Rate, "no limit", "Lines in a while.", "The reader."),
        AUDIT,
        BECAUSE,
    ],
};

pub(super) const SEMAPHORE: Table = Table {
    name: "semaphore",
    header: "[semaphore.NAME]",
    meaning: "Permits that layers lease from the supervisor. The death of a holder gives its \
              permit back, and the next holder learns of it.",
    keys: &[
        required(
            "permits",
            Kind::Integer(1, 1 << 16),
            "How many permits there are.",
            "The supervisor's ledger.",
        ),
        required("holders", Kind::List(&Kind::Layer, true), "Who may hold one.", ""),
        said(
            "lease",
            Kind::Duration("1ms to 24h"),
            "until it is given back",
            "How long a permit is held at most.",
            "The supervisor's timer.",
        ),
        said(
            "order",
            Kind::Integer(0, 4_294_967_295),
            "never taken while another one is held",
            "Its place where a layer takes several: from low to high.",
            "The checker, and the supervisor at each lease.",
        ),
        AUDIT,
        BECAUSE,
    ],
};

const MAPS: Kind = Kind::Names(&Kind::Word(&["r", "rw"]));

pub(super) const REGION: Table = Table {
    name: "region",
    header: "[region.NAME]",
    meaning: "Memory that several layers map.",
    keys: &[
        required(
            "size",
            Kind::Size(1, 16 << 30),
            "Its size in bytes; whole pages.",
            "memfd_create(2), sealed against shrinking and growing.",
        ),
        required(
            "grant",
            MAPS,
            "Rights by layer, `\"r\"` or `\"rw\"`.",
            "A descriptor for reading only, which nobody opens again for more, or one for both.",
        ),
        AUDIT,
        BECAUSE,
    ],
};

pub(super) const MAPPED_FILE: Table = Table {
    name: "mapped-file",
    header: "[mapped-file.NAME]",
    meaning: "A file of fixed size that layers map. It survives the kill of any process.",
    keys: &[
        required(
            "path",
            Kind::Path,
            "Absolute path.",
            "Opened by the supervisor; a copy if no layer writes it.",
        ),
        required(
            "size",
            Kind::Size(1, 1 << 40),
            "Its size in bytes; whole pages. Content has half of it, less 4 KiB.",
            "fallocate(2); no layer gets the right to truncate it.",
        ),
        value(
            "durable",
            Kind::Boolean,
            "false",
            "Whether what is committed survives a power cut too.",
            "msync(2).",
        ),
        required(
            "grant",
            MAPS,
            "Rights by layer, `\"r\"` or `\"rw\"`.",
            "mmap(2) of the descriptor.",
        ),
        AUDIT,
        BECAUSE,
    ],
};
