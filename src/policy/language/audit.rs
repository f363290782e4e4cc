//! `[audit]`.

use std::time::Duration;

use super::kinds::{Age, DAY, MINUTE, Path, PublicKey, Size, Time, Word};
use super::{table, unwritten};
use crate::policy::plan::{AuditPlan, LogFull};

table! { AUDIT, AuditText: "audit", "[audit]", "`[audit]`";
    "The audit log: what every layer did, reported by both ends of each edge to a layer of the \
     framework's own, which alone appends. With this table the daemon must have a log, and doesn't \
     start without one; so it is where a facility says `audit` or `witness`. Sockets handed out, \
     starts and ends of layers, verdicts of the broker and refusals of the kernel are in every log.";

    directory: Path, or "what `--audit DIR` says";
        "Where the log is, as an absolute path that no layer is granted anything in, at or around. \
         `--audit DIR` wins.";
        "Opened by the supervisor; only the auditor gets it.";
    on_full: Word<LogFull> = LogFull::Block;
        "What happens to a report for which there is no room: whoever reports waits, the report is \
         dropped and counted in the log, or the daemon stops.";
        "The reporting endpoint, futex(2); the supervisor for `halt`.";
    payload_key: PublicKey, or "none";
        "X25519 public key of whoever may read payloads, in hex digits. Demanded by any \
         `audit = \"payload\"`; the private key has no place on this machine.";
        "The endpoint seals to it, so the auditor can't read what it keeps.";
    sign_every: Time<100, MINUTE> = Duration::from_secs(1);
        "A record is signed so long after it was written at the latest, whether others follow or not.";
        "The auditor; `cofferdam audit verify` tells of two minutes without.";
    segment: Size<u64, { 1 << 20 }, { 4 << 30 }> = 64 << 20;
        "A segment of the log is ended at this size."; "The auditor.";
    segment_age: Time<MINUTE, { 365 * DAY }> = Duration::from_millis(DAY);
        "Or at this age."; "The auditor.";
    keep: Size<u64, { 1 << 20 }, { 1 << 50 }>, or "everything";
        "The oldest segments are dropped while all of them have more bytes; at least a `segment`.";
        "The auditor.";
    keep_age: Age, or "everything"; "Segments older than this are dropped."; "The auditor.";
    ring: Size<u32, { 64 << 10 }, { 64 << 20 }> = 1 << 20;
        "Memory for what each instance reports, until the auditor has taken it; whole pages.";
        "A sealed memfd_create(2) between the instance and the auditor.";
}

impl From<&AuditText> for AuditPlan {
    /// Without what the checker has to look at.
    fn from(text: &AuditText) -> Self {
        Self {
            demanded: false,
            directory: text.directory.as_ref().map(|directory| directory.value.clone()),
            on_full: text.on_full(),
            payload_key: None,
            sign_every: text.sign_every(),
            segment_bytes: text.segment(),
            segment_age: text.segment_age(),
            keep_bytes: text.keep.as_ref().map(|most| most.value),
            keep_age: text.keep_age.as_ref().map(|most| most.value),
            ring_bytes: text.ring(),
        }
    }
}

impl Default for AuditPlan {
    /// What holds where a policy says nothing: no log is demanded, everything in it is kept.
    fn default() -> Self {
        (&unwritten::<AuditText>()).into()
    }
}
