//! How many connections come in, in all and of each source: pure, with the time from outside.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::policy::plan::Rate;
use crate::wire::broker::SOURCE;

/// Who connects, as far as limits tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// An IPv4 address.
    V4([u8; 4]),
    /// An IPv6 network of 64 bits: within one, a host gives itself any address.
    V6([u8; 8]),
    /// A user of this machine, by a Unix socket.
    User(u32),
}

impl Source {
    /// Its fixed form: a family's number, and what tells it apart from others.
    pub(crate) fn to_bytes(self) -> [u8; SOURCE] {
        let mut bytes = [0; SOURCE];
        let (family, rest): (u8, &[u8]) = match &self {
            Self::V4(address) => (4, address),
            Self::V6(network) => (6, network),
            Self::User(user) => (1, &user.to_le_bytes()),
        };
        bytes[0] = family;
        bytes[1..=rest.len()].copy_from_slice(rest);
        bytes
    }
}

impl From<IpAddr> for Source {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let network = u64::try_from(address.to_bits() >> 64).unwrap_or(0);
                Self::V6(network.to_be_bytes())
            }
        }
    }
}

/// The connections that are open, by source.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources(Arc<Mutex<HashMap<Source, u32>>>);

/// A connection's place among those of its source; dropping it frees it.
#[derive(Debug)]
pub(super) struct Slot {
    sources: Sources,
    source: Source,
}

impl Sources {
    /// A place for one more of `source`, if it has fewer than `most`.
    pub(super) fn enter(&self, source: Source, most: Option<u32>) -> Option<Slot> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = table.entry(source).or_insert(0);
        if most.is_some_and(|most| *count >= most) {
            return None;
        }
        *count = count.saturating_add(1);
        drop(table);
        Some(Slot { sources: self.clone(), source })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut table = self.sources.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = table.get_mut(&self.source) {
            *count -= 1;
            // Nothing is kept of a source that is gone, or strangers could fill the memory.
            if *count == 0 {
                table.remove(&self.source);
            }
        }
    }
}

/// At most so many in a while, by the "generic cell rate algorithm": one number, no window.
#[derive(Debug)]
pub(super) struct Pace {
    /// The time of one.
    interval: Duration,
    /// How far ahead a burst may get.
    burst: Duration,
    due: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(rate: Rate) -> Self {
        let interval = rate.per / rate.count.max(1);
        Self { interval, burst: rate.per.saturating_sub(interval), due: Mutex::new(None) }
    }

    /// How long until one more may come; zero is now.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        let due = *self.due.lock().unwrap_or_else(PoisonError::into_inner);
        due.map_or(Duration::ZERO, |due| {
            due.saturating_duration_since(now).saturating_sub(self.burst)
        })
    }

    /// One has come.
    pub(super) fn count(&self, now: Instant) {
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        *due = Some(due.map_or(now, |due| due.max(now)) + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_places_and_gets_them_back() {
        let sources = Sources::default();
        let one: Source = "192.0.2.1".parse::<IpAddr>().unwrap().into();
        let same: Source = "::ffff:192.0.2.1".parse::<IpAddr>().unwrap().into();
        let other: Source = "2001:db8::1".parse::<IpAddr>().unwrap().into();
        let near: Source = "2001:db8::ffff:1".parse::<IpAddr>().unwrap().into();
        assert_eq!((one, other), (same, near));
        let first = sources.enter(one, Some(2)).unwrap();
        let second = sources.enter(one, Some(2)).unwrap();
        assert!(sources.enter(one, Some(2)).is_none());
        assert!(sources.enter(other, Some(2)).is_some());
        drop(first);
        assert!(sources.enter(one, Some(2)).is_some());
        drop(second);
        assert!(sources.0.lock().unwrap().is_empty());
    }

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let pace = Pace::new(Rate { count: 10, per: Duration::from_secs(1) });
        let start = Instant::now();
        for _ in 0..10 {
            assert_eq!(pace.wait(start), Duration::ZERO);
            pace.count(start);
        }
        assert_eq!(pace.wait(start), Duration::from_millis(100));
        let later = start + Duration::from_millis(100);
        assert_eq!(pace.wait(later), Duration::ZERO);
        pace.count(later);
        assert_eq!(pace.wait(later), Duration::from_millis(100));
        let much_later = start + Duration::from_mins(1);
        let passed = (0..20).take_while(|_| {
            let free = pace.wait(much_later).is_zero();
            pace.count(much_later);
            free
        });
        assert_eq!(passed.count(), 10);
    }
}
