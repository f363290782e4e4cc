//! Every size on a channel, with its reason. All in bytes unless said otherwise.

use crate::policy::plan::{ChannelPlan, DescriptorPlan};
use crate::seal::aead::TAG;
use crate::wire::trace::TRACE;

/// A record's header.
pub const HEADER: usize = 16;

/// What a request has before its payload and other kinds have not: how long its caller waits.
pub const WITHIN: usize = 4;

/// A descriptor's description.
pub const DESCRIPTOR: usize = 24;

/// Payload of one record: 64 KiB.
///
/// Larger records gain little (the cipher is the limit from 16 KiB up) and would not fit a
/// socket's default send buffer (208 KiB) three times, which both ends working at once needs.
pub const PAYLOAD: usize = 64 << 10;

/// The largest body of a record before sealing: call, total, within, trace, descriptions, payload.
pub const BODY: usize =
    4 + 4 + WITHIN + TRACE + DescriptorPlan::MAX as usize * DESCRIPTOR + PAYLOAD;

/// The largest record: header, sealed body, tag. A datagram longer than this is refused unread.
pub const RECORD: usize = HEADER + BODY + TAG;

/// The largest payload that shares a record with others. Above it, the copy and the cipher cost
/// more than the system call that sharing saves.
pub const SHARED_PAYLOAD: usize = 8 << 10;

/// The largest message: the plan's upper bound for `max`.
pub const MESSAGE: usize = ChannelPlan::MAX_MESSAGE as usize;

/// The longest reason in a refusal.
pub const REASON: usize = 1 << 10;

/// How many calls may wait for their answers on one link, at either end. A caller that has more
/// waits; an answerer that owes more stops reading. Bounds both tables.
pub const CALLS: usize = 1 << 10;

/// Received messages that wait for `recv`, in number: then the link is not read until some are
/// taken. The record that reaches the limit is still taken whole.
pub const INBOX: usize = 64;

/// The same in bytes: 1 MiB. One message more than this may wait, of any size that the policy
/// allows.
pub const INBOX_BYTES: usize = 1 << 20;

/// How much more of one link may wait for `recv` while a stream that this end sends there has no
/// credit: so many times [`INBOX`] and [`INBOX_BYTES`]. The credit lies behind what waits, so
/// without this a handler that looks at nothing else would wait for itself.
pub const SPILL: usize = 4;

/// The most items of a stream that its caller has room for at once.
pub const WINDOW: u32 = 256;

/// The same in bytes, for the method's largest message: 256 KiB, but one message in any case.
pub const WINDOW_BYTES: usize = 256 << 10;

/// How many tidings of peers (restarted, gone, broke) wait for `recv`; the oldest go first when
/// nobody asks for them.
pub const TIDINGS: usize = 256;

/// How many records are read from one link before the others have their turn.
pub const TURN: usize = 64;

/// The same in descriptors: as many as one message may carry, so that a queue never eats up what
/// the layer may open (`limits.files`).
pub const INBOX_DESCRIPTORS: usize = DescriptorPlan::MAX as usize;
