//! The messages that a record of a channel is about.

use super::entry::{Entry, Form};
use crate::wire::report::runs::decode;
pub use crate::wire::report::runs::{MOST, Run, encode};

/// The messages that a [use](super::entry::Kind::Use) on a channel reports: of a batch as its
/// detail lists them, otherwise one. What is malformed in the detail, which a layer wrote, is left
/// out.
pub fn of(entry: &Entry) -> Vec<Run> {
    if entry.form == Form::Batch {
        return decode(&entry.detail).collect();
    }
    let method = u16::try_from(entry.method).unwrap_or(u16::MAX);
    let messages = u32::from(entry.form != Form::Piece);
    vec![Run { form: entry.form, method, call: entry.value, messages, trace: entry.trace }]
}
