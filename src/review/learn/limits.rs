//! Limits from peaks: twice what was held at most, and not less than what a start of another day may
//! take.

use super::Proposal;
use super::seen::Peaks;
use crate::policy::plan::Limits;

/// How much more than was seen.
pub const HEAD_ROOM: u64 = 2;

/// The least of each limit.
const LEAST: Peaks = Peaks { memory: 32 << 20, files: 64, tasks: 8, file_size: 1 << 20 };

/// The least descriptors of a program that clients come to: what nearly every system gives to a
/// process (getrlimit(2)), for a day has more clients than the hour in which it was watched.
const LEAST_FOR_CLIENTS: u64 = 1024;

/// The most that a policy can say of each.
const MOST: Peaks = Peaks { memory: 1 << 40, files: 1 << 20, tasks: 1 << 16, file_size: 1 << 50 };

/// The limits that peaks call for, where they are not held by what there is; `serves`: of a program
/// that clients come to.
pub(super) fn choose(peaks: &Peaks, serves: bool, has: Option<&Limits>) -> Vec<Proposal> {
    // What nobody looked at has no limit of its own.
    if *peaks == Peaks::default() {
        return Vec::new();
    }
    let of = |key, peak: u64, (least, most): (u64, u64), bytes, has: Option<u64>| {
        let wanted = peak.saturating_mul(HEAD_ROOM).max(least).checked_next_power_of_two();
        let wanted = wanted.unwrap_or(most).min(most);
        let is_held = has.is_some_and(|has| has >= peak.saturating_mul(HEAD_ROOM).min(most));
        (!is_held).then_some(Proposal::Limit { key, value: wanted, peak, bytes })
    };
    let least_files = if serves { LEAST_FOR_CLIENTS } else { LEAST.files };
    let all = [
        of("memory", peaks.memory, (LEAST.memory, MOST.memory), true, has.map(|it| it.memory)),
        of("files", peaks.files, (least_files, MOST.files), false, has.map(|it| it.files)),
        of("tasks", peaks.tasks, (LEAST.tasks, MOST.tasks), false, has.map(|it| it.tasks)),
        of(
            "file-size",
            peaks.file_size,
            (LEAST.file_size, MOST.file_size),
            true,
            has.map(|it| it.file_size),
        ),
    ];
    all.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_head_room_and_a_floor() {
        let peaks = Peaks { memory: 100 << 20, files: 5, tasks: 5, file_size: 0 };
        let values = |serves| -> Vec<u64> {
            let all = choose(&peaks, serves, None);
            let values = all.iter().map(|it| match it {
                Proposal::Limit { value, .. } => *value,
                other => panic!("{other:?}"),
            });
            values.collect()
        };
        assert_eq!(values(false), [256 << 20, 64, 16, 1 << 20]);
        assert_eq!(values(true), [256 << 20, 1024, 16, 1 << 20]);
        assert!(choose(&Peaks::default(), true, None).is_empty());
    }
}
