//! Limits from peaks: twice what was held at most, and not less than what a start of another day may
//! take.

use super::Proposal;
use super::seen::Peaks;
use crate::policy::plan::Limits;

/// How much more than was seen.
pub const HEAD_ROOM: u64 = 2;

/// The least of each limit.
const LEAST: Peaks = Peaks { memory: 32 << 20, files: 64, tasks: 8, file_size: 1 << 20 };

/// The most that a policy can say of each.
const MOST: Peaks = Peaks { memory: 1 << 40, files: 1 << 20, tasks: 1 << 16, file_size: 1 << 50 };

/// The limits that peaks call for, where they are not held by what there is.
pub(super) fn choose(peaks: &Peaks, has: Option<&Limits>) -> Vec<Proposal> {
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
    let all = [
        of("memory", peaks.memory, (LEAST.memory, MOST.memory), true, has.map(|it| it.memory)),
        of("files", peaks.files, (LEAST.files, MOST.files), false, has.map(|it| it.files)),
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
        let values: Vec<u64> = choose(&peaks, None)
            .iter()
            .map(|it| match it {
                Proposal::Limit { value, .. } => *value,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(values, [256 << 20, 64, 16, 1 << 20]);
        assert!(choose(&Peaks::default(), None).is_empty());
    }
}
