//! Which arguments of a call are noted: those by which policies tell it from others.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::policy::plan::{Compare, Width};
use crate::policy::syscall::{by_name, groups};

/// The arguments that choose what a call does, by place, where the groups don't say. All of them are
/// `int` for the kernel.
pub(super) const CHOOSING: [(&str, &[usize]); 12] = [
    ("arch_prctl", &[0]),
    ("fcntl", &[1]),
    ("flock", &[1]),
    ("ioctl", &[1]),
    ("madvise", &[2]),
    ("personality", &[0]),
    ("prctl", &[0]),
    ("setsockopt", &[1, 2]),
    ("shutdown", &[1]),
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("timerfd_create", &[0, 1]),
];

/// Of a call's arguments those by which policies tell it from others, and 0 for the rest: so calls
/// that differ only in where or how much are one.
pub fn choosing(number: u32, arguments: &[u64; 6]) -> [u64; 6] {
    static PLACES: LazyLock<BTreeMap<u32, [Counts; 6]>> = LazyLock::new(places);
    let counts = PLACES.get(&number).copied().unwrap_or_default();
    std::array::from_fn(|place| match counts[place] {
        Counts::Nothing => 0,
        Counts::Null => arguments[place].min(1),
        Counts::Low => arguments[place] & u64::from(u32::MAX),
        Counts::All => arguments[place],
    })
}

/// What of an argument counts.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Counts {
    #[default]
    Nothing,
    /// Whether it is 0.
    Null,
    /// The low half.
    Low,
    All,
}

/// What counts of the arguments of each call: what conditions of groups look at, and [`CHOOSING`].
fn places() -> BTreeMap<u32, [Counts; 6]> {
    let mut places: BTreeMap<u32, [Counts; 6]> = BTreeMap::new();
    for call in groups().iter().flat_map(|group| &group.members).map(|member| &member.call) {
        for condition in call.rules.iter().flat_map(|rule| &rule.0) {
            let counts = match (condition.width, condition.compare) {
                (Width::Dword, _) => Counts::Low,
                (Width::Qword, Compare::Eq(0)) => Counts::Null,
                (Width::Qword, _) => Counts::All,
            };
            let place =
                &mut places.entry(call.number).or_default()[usize::from(condition.argument)];
            *place = counts.max(*place);
        }
    }
    for (name, chosen) in CHOOSING {
        let Some(number) = by_name(name) else { continue };
        for place in chosen {
            let place = &mut places.entry(number).or_default()[*place];
            *place = Counts::Low.max(*place);
        }
    }
    places
}
