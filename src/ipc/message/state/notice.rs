//! What an end says about a call, besides asking and answering.

/// A word about a call, which goes out as soon as there is room. There are never more of them on a
/// link than calls: one of each kind for each.
pub(in crate::ipc::message) enum Notice {
    /// The peer's call has no answer.
    Refuse { method: u16, call: u32, reason: &'static str },
    /// We want no answer to our call.
    Cancel { method: u16, call: u32 },
    /// We have room for more of the stream that answers our call.
    Credit { method: u16, call: u32 },
}
