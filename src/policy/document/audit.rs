//! Reading `[audit]`, and what each facility says of it.

use super::section::Section;
use super::{At, AuditText, keys};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::{Audit, LogFull};

/// What a channel takes; every other facility takes the first two.
const LEVELS: [(&str, Audit); 3] =
    [("none", Audit::None), ("digest", Audit::Digest), ("payload", Audit::Payload)];

const FULL: [(&str, LogFull); 3] =
    [("block", LogFull::Block), ("count", LogFull::Count), ("halt", LogFull::Halt)];

/// `[audit]`; `None` if there is none.
pub(super) fn read(top: &Section<'_>, out: &mut Diagnostics) -> Option<AuditText> {
    let audit = Section::open(top.get("audit")?, &keys::AUDIT, out)?;
    Some(AuditText {
        directory: audit.string("directory", out),
        on_full: audit.word("on-full", &FULL, out),
        payload_key: audit.string("payload-key", out),
        segment: audit.size("segment", out),
        segment_age: audit.duration("segment-age", out),
        keep: audit.size("keep", out),
        keep_age: audit.duration("keep-age", out),
        ring: audit.size("ring", out),
    })
}

/// `audit = "payload"` of a channel.
pub(super) fn of_channel(channel: &Section<'_>, out: &mut Diagnostics) -> Option<At<Audit>> {
    channel.word("audit", &LEVELS, out)
}

/// `audit = "digest"` of any other facility.
pub(super) fn of(facility: &Section<'_>, out: &mut Diagnostics) -> Option<At<Audit>> {
    facility.word("audit", &LEVELS[..2], out)
}
