//! Points in time that outlive an exec: by `CLOCK_MONOTONIC`, in nanoseconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustix::time::ClockId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::sys::clock::nanoseconds;

/// One, as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moment(u64);

impl From<Instant> for Moment {
    fn from(at: Instant) -> Self {
        let (now, clock) = (Instant::now(), nanoseconds(ClockId::Monotonic));
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let ahead = nanos(at.saturating_duration_since(now));
        let behind = nanos(now.saturating_duration_since(at));
        Self(clock.saturating_add(ahead).saturating_sub(behind))
    }
}

impl From<Moment> for Instant {
    fn from(Moment(at): Moment) -> Self {
        let (now, clock) = (Self::now(), nanoseconds(ClockId::Monotonic));
        let ahead = now + Duration::from_nanos(at.saturating_sub(clock));
        ahead.checked_sub(Duration::from_nanos(clock.saturating_sub(at))).unwrap_or(now)
    }
}

/// What consists of points in time.
pub(crate) trait Timed: Sized {
    /// As it is written.
    type Written: Serialize + for<'de> Deserialize<'de>;

    fn written(&self) -> Self::Written;

    fn read(written: Self::Written) -> Self;
}

impl Timed for Instant {
    type Written = Moment;

    fn written(&self) -> Moment {
        (*self).into()
    }

    fn read(written: Moment) -> Self {
        written.into()
    }
}

impl Timed for Option<Instant> {
    type Written = Option<Moment>;

    fn written(&self) -> Option<Moment> {
        self.map(Into::into)
    }

    fn read(written: Option<Moment>) -> Self {
        written.map(Into::into)
    }
}

impl Timed for VecDeque<Instant> {
    type Written = Vec<Moment>;

    fn written(&self) -> Vec<Moment> {
        self.iter().copied().map(Into::into).collect()
    }

    fn read(written: Vec<Moment>) -> Self {
        written.into_iter().map(Into::into).collect()
    }
}

/// For `#[serde(with)]`.
pub(crate) fn serialize<T: Timed, S: Serializer>(time: &T, to: S) -> Result<S::Ok, S::Error> {
    time.written().serialize(to)
}

/// The same.
pub(crate) fn deserialize<'de, T: Timed, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    T::Written::deserialize(from).map(T::read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_stays_where_it_was() {
        let now = Instant::now();
        let ago = now.checked_sub(Duration::from_secs(3)).unwrap();
        for at in [now, now + Duration::from_secs(7), ago] {
            let back = Instant::from(Moment::from(at));
            let off = back.max(at) - back.min(at);
            assert!(off < Duration::from_secs(1), "{off:?}");
        }
    }
}
