//! The other facilities.

use std::time::Duration;

use super::kinds::{
    Boolean, ByteRate, HOUR, Integer, Layer, Level, List, Mode, Path, Rate, Reason, Signal, Size,
    Time, Word,
};
use super::section::{is_empty, word};
use super::{AUDIT, At, BECAUSE, Kind, Section, Takes, string, table};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::{Full, MapRight, Word as _};

table! { named SIGNAL, SignalText: "signal", "[signal.NAME]", "a signal grant";
    "Signals that one layer may have sent to another one.";

    from: Layer => "the layer that sends, as in `from = \"a\"`"; "Who sends."; "";
    to: Layer => "the layer that receives, as in `to = \"b\"`"; "Who receives."; "";
    send: List<Signal> => "the signals, as in `send = [\"HUP\"]`";
        "Which signals, without `SIG`. `KILL` and `STOP` need a `because`.";
        "The supervisor's pidfd_send_signal(2): never a wrong process.";
    rate: Rate, or "no limit"; "Signals in a while."; "The supervisor.";
    + audit: Level = AUDIT, because: Reason = BECAUSE;
}

/// What sealing adds to a message of a queue: a header of 24 bytes and a tag of 16.
pub(crate) const SEALING: u64 = 40;

table! { named QUEUE, QueueText: "queue", "[queue.NAME]", "a queue";
    "A message queue. What it accepted survives the death of every layer.";

    send: List<Layer> => "the layers that send, as in `send = [\"a\"]`";
        "Who sends."; "A write-only descriptor.";
    receive: List<Layer> => "the layers that receive, as in `receive = [\"b\"]`";
        "Who receives."; "A read-only descriptor.";
    // What every kernel gives to everybody (`mq_overview(7)`), up to its `HARD_MSGMAX`.
    depth: Integer<u32, 1, { 1 << 16 }> = 10;
        "Messages that it holds.";
        "POSIX queue, unlinked at once (mq_overview(7)). More than 10 needs root or \
         /proc/sys/fs/mqueue/msg_max raised.";
    // Up to its `HARD_MSGSIZEMAX`.
    max: Size<u32, 1, { (16 << 20) - SEALING }> = 4 << 10;
        "The largest message, in bytes.";
        "/proc/sys/fs/mqueue/msgsize_max bounds it for ordinary users.";
    priorities: Integer<u8, 1, 32> = 1; "How many priorities there are."; "mq_send(3).";
    on_full: Word<Full> = Full::Block;
        "What happens to a message for which there is no room. With `drop-oldest` the oldest \
         message of the same priority goes, and `depth` counts for each priority.";
        "A queue of the kernel for each priority, where `drop-oldest` has several.";
    wait: Time<1, HOUR> = Duration::from_secs(1);
        "How long a blocked sender waits at most. Only with `on-full = \"block\"`.";
        "mq_timedsend(2).";
    + audit: Level = AUDIT, because: Reason = BECAUSE;
}

table! { named PIPE, PipeText: "pipe", "[pipe.NAME]", "a pipe";
    "A one-way stream of bytes.";

    from: Layer => "the layer that writes, as in `from = \"a\"`"; "Who writes."; "The writing end.";
    to: Layer => "the layer that reads, as in `to = \"b\"`"; "Who reads."; "The reading end.";
    raw: Boolean = false;
        "Whether bytes travel unsealed, for `exec` layers, which know nothing of sealing."; "";
    // Up to `pipe-max-size` as it is by default (`pipe(7)`).
    capacity: Size<u32, { 4 << 10 }, { 1 << 20 }> = 64 << 10;
        "Bytes that it holds; a power of two.";
        "F_SETPIPE_SZ (pipe(7)).";
    rate: ByteRate, or "no limit"; "Bytes in a while, as in `1MiB/s`."; "The receiver.";
    + audit: Level = AUDIT, because: Reason = BECAUSE;
}

table! { named FIFO, FifoText: "fifo", "[fifo.NAME]", "a fifo";
    "A named pipe into which outside programs write lines. What comes is as untrusted as the \
     network.";

    path: Path => "`path = \"/an/absolute/path\"`"; "Absolute path."; "mkfifo(3) by the supervisor.";
    to: Layer => "the layer that reads, as in `to = \"b\"`";
        "Who reads it."; "A read-only descriptor.";
    owner: Integer<u32, 0, 4_294_967_294>, or "the supervisor's user";
        "Its owner outside, by number."; "fchown(2).";
    mode: Mode, or "`\"0600\"`";
        "Who outside may write, in octal. Only its owner may have the right to read.";
        "fchmod(2).";
    max: Size<u32, 1, { 1 << 20 }> = 4 << 10; "The longest line, in bytes."; "The reader.";
    rate: Rate, or "no limit"; "Lines in a while."; "The reader.";
    + audit: Level = AUDIT, because: Reason = BECAUSE;
}

table! { named SEMAPHORE, SemaphoreText: "semaphore", "[semaphore.NAME]", "a semaphore";
    "Permits that layers lease from the supervisor. The death of a holder gives its permit back, \
     and the next holder learns of it.";

    permits: Integer<u32, 1, { 1 << 16 }> => "how many there are, as in `permits = 1`";
        "How many permits there are."; "The supervisor's ledger.";
    holders: List<Layer> => "the layers that lease, as in `holders = [\"a\"]`";
        "Who may hold one."; "";
    // A lease this short runs out before it is used, one this long is none.
    lease: Time<1, { 24 * HOUR }>, or "until it is given back";
        "How long a permit is held at most."; "The supervisor's timer.";
    order: Integer<u32, 0, 4_294_967_295>, or "never taken while another one is held";
        "Its place where a layer takes several: from low to high.";
        "The checker, and the supervisor at each lease.";
    + audit: Level = AUDIT, because: Reason = BECAUSE;
}

table! { named REGION, RegionText: "region", "[region.NAME]", "a region";
    "Memory that several layers map.";

    // It takes memory from the whole machine.
    size: Size<u64, 1, { 16 << 30 }> => "its size, as in `size = \"1MiB\"`";
        "Its size in bytes; whole pages.";
        "memfd_create(2), sealed against shrinking and growing.";
    grant: Maps => "who maps it, as in `grant = { a = \"rw\", b = \"r\" }`";
        "Rights by layer, `\"r\"` or `\"rw\"`.";
        "A descriptor for reading only, which nobody opens again for more, or one for both.";
    + audit: Level = AUDIT, because: Reason = BECAUSE;
}

table! { named MAPPED_FILE, MappedFileText: "mapped-file", "[mapped-file.NAME]", "a mapped file";
    "A file of fixed size that layers map. It survives the kill of any process.";

    path: Path => "`path = \"/an/absolute/path\"`";
        "Absolute path."; "Opened by the supervisor; a copy if no layer writes it.";
    // It takes addresses only.
    size: Size<u64, 1, { 1 << 40 }> => "its size, as in `size = \"1MiB\"`";
        "Its size in bytes; whole pages. Content has half of it, less 4 KiB.";
        "fallocate(2); no layer gets the right to truncate it.";
    durable: Boolean = false;
        "Whether what is committed survives a power cut too."; "msync(2).";
    grant: Maps => "who maps it, as in `grant = { a = \"rw\", b = \"r\" }`";
        "Rights by layer, `\"r\"` or `\"rw\"`."; "mmap(2) of the descriptor.";
    + audit: Level = AUDIT, because: Reason = BECAUSE;
}

/// One entry of `grant = { layer = "rw" }`.
pub(crate) type MapGrant = (At<String>, At<MapRight>);

/// Rights on memory by layer. A grant of which nothing could be read is none.
pub(crate) struct Maps;

impl Takes for Maps {
    type Text = Option<At<Vec<MapGrant>>>;
    const KIND: Kind = Kind::Names(&Word::<MapRight>::KIND);

    fn read(section: &Section<'_>, key: &'static str, out: &mut Diagnostics) -> Self::Text {
        let node = section.get(key)?;
        let mut grant = Vec::new();
        for (layer, node) in section.entries(key, out) {
            let right = string(node, &layer.value, out);
            let right = right.and_then(|right| word(&right, "`grant`", MapRight::WORDS, out));
            grant.extend(right.map(|right| (layer, right)));
        }
        let any = !grant.is_empty() || is_empty(node);
        any.then(|| At { value: grant, span: node.span.clone() })
    }
}
