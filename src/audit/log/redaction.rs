//! How a redaction gets into the log before it is done.
//!
//! Whoever redacts writes down which payloads, who asked and why. Where nobody writes the log, this
//! process does for a moment; otherwise it leaves an [`Order`] in the directory, which the writer
//! takes into the log. Only then are the payloads overwritten: so a payload that is gone and that no
//! record names was removed by somebody else.

use serde::{Deserialize, Serialize};

use super::{Log, LogError};
use crate::audit::entry::{Entry, Kind, Moment};
use crate::audit::keys::KEY;
use crate::audit::store::{Store, StoreError};

/// The name of the file that an order is left in.
pub const ORDER: &str = "redaction";

/// The longest reason, in bytes.
pub const MAX_REASON: usize = 4096;

/// The longest order that is read, in bytes.
const MAX_ORDER: u64 = 1 << 20;

/// Which payloads are to be removed, and for whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The records, and how many bytes of payload each has.
    pub payloads: Vec<(u64, u32)>,
    /// The user who asks.
    pub user: u32,
    /// Why, in that one's words; empty if no reason was given.
    pub because: String,
}

impl Order {
    /// The records that say it, one for each payload.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.payloads.iter().map(|&(sequence, bytes)| Entry {
            sequence,
            length: bytes.into(),
            value: self.user,
            detail: self.because.clone().into_bytes(),
            ..Entry::new(Kind::Redacted)
        })
    }

    /// Leaves the order for the log's writer, whose user is the owner of the log's key. False: another
    /// order is there that the writer hasn't taken yet.
    pub fn leave(&self, store: &Store) -> Result<bool, StoreError> {
        // Numbers and text always have a JSON form.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        store.offer(ORDER, &bytes, KEY)
    }

    /// Takes the order back. False: the writer has it.
    pub fn take_back(store: &Store) -> Result<bool, StoreError> {
        let there = Self::is_left(store)?;
        store.remove(ORDER)?;
        Ok(there)
    }

    /// Whether an order waits for the log's writer.
    pub fn is_left(store: &Store) -> Result<bool, StoreError> {
        Ok(store.read(ORDER, 1)?.is_some())
    }
}

impl Log {
    /// Writes the order down and makes that durable: now its payloads may be removed.
    pub fn redacted(&mut self, order: &Order, now: Moment) -> Result<(), LogError> {
        for entry in order.entries() {
            self.append(&entry, &[], now)?;
        }
        self.commit(now).map(drop)
    }

    /// Takes an order that was [left](Order::leave) into the log; `false` if what is there is none,
    /// and is removed.
    pub fn take_order(&mut self, now: Moment) -> Result<bool, LogError> {
        let Some(bytes) = self.store.read(ORDER, MAX_ORDER)? else { return Ok(true) };
        let order: Option<Order> = serde_json::from_slice(&bytes).ok();
        let order = order.filter(|order| order.because.len() <= MAX_REASON);
        if let Some(order) = &order {
            self.redacted(order, now)?;
        }
        self.store.remove(ORDER)?;
        Ok(order.is_some())
    }
}
