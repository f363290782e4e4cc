//! Payloads that were kept, and opening them.
//!
//! A payload is the body of a channel's record before it was sealed
//! ([`wire::record`](crate::wire::record)), captured for whoever has the private half of the
//! policy's `payload-key` ([`capture`]).

use super::entry::Entry;
use crate::report::{Facts, context};
use crate::seal::{SealError, capture};

/// Opens the payload beside a record.
///
/// It is bound to the facility, the side, the method and the number that the record says, so one
/// that was put beside another record doesn't open.
pub fn open(private: &[u8; 32], entry: &Entry, payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let facts = Facts {
        method: entry.method,
        sequence: entry.sequence,
        ..Facts::new(entry.facility, entry.edge, entry.side)
    };
    capture::open(private, &context(&facts), payload)
}
