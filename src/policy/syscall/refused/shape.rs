//! What the arguments of calls are, as people read them.
//!
//! How wide each is, and whether it may be a condition, is in [`super::super::prototype`]; this is
//! about meaning: which ones choose what the call does, and which are only where or how much.

use super::names::{self, Names};
use super::table::TABLE;

/// What one argument is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Of no use to a reader: an address to write to, a length that is told elsewhere.
    Hidden,
    /// A descriptor.
    Fd,
    /// The directory that the next argument's path is in.
    At,
    /// The address of a path.
    Path,
    /// The address of some other text.
    Text,
    /// The address of a socket's address, whose length is the next argument.
    Address,
    /// The address of a `struct rlimit`.
    Limits,
    /// An address that says something by being null.
    Null,
    /// How many, or how much.
    Count,
    /// A number with a sign.
    Int,
    /// A process; 0 is the caller itself.
    Process,
    /// Permissions, in octal.
    Mode,
    /// A number that chooses what the call does.
    Exact,
    /// One that has names.
    Named(&'static Names),
}

/// The parts of a call with these arguments; `None` if it isn't described here.
pub(super) fn of(call: &str, arguments: &[u64; 6]) -> Option<Vec<Part>> {
    let index = TABLE.binary_search_by_key(&call, |&(name, _)| name).ok()?;
    let words = TABLE[index].1.split(' ').filter(|word| !word.is_empty()).take(6);
    Some(words.enumerate().flat_map(|(at, word)| parts(word, at, arguments)).collect())
}

/// What a word of the table stands for. Some depend on the arguments before.
fn parts(word: &'static str, at: usize, arguments: &[u64; 6]) -> Vec<Part> {
    let before = |back: usize| at.checked_sub(back).map_or(0, |place| arguments[place]);
    vec![match word {
        "fd" => Part::Fd,
        "at" => Part::At,
        "path" => Part::Path,
        "text" => Part::Text,
        "address" => Part::Address,
        "limits" => Part::Limits,
        "null" => Part::Null,
        "count" => Part::Count,
        "int" => Part::Int,
        "process" => Part::Process,
        "mode" => Part::Mode,
        "exact" => Part::Exact,
        // What a file that is made gets; without that the argument is whatever was there.
        "new-mode" if before(1) & CREATES != 0 => Part::Mode,
        "new-mode" | "-" => Part::Hidden,
        "option" => named(match before(1) {
            6 => "tcp",
            0 => "ip",
            41 => "ipv6",
            17 => "udp",
            _ => "so",
        }),
        "of-fcntl" => of_fcntl(before(1)),
        "of-prctl" => return of_prctl(before(1)),
        kind => named(kind),
    }]
}

fn named(kind: &str) -> Part {
    names::find(kind).map_or(Part::Exact, Part::Named)
}

/// `O_CREAT`, and the bit of `O_TMPFILE` that is its own (open(2), the same everywhere).
const CREATES: u64 = 0o20_000_100;

/// The third argument of fcntl(2).
fn of_fcntl(command: u64) -> Part {
    match command {
        F_SETFL => named("open"),
        F_SETFD => named("fd-flags"),
        F_SETSIG => named("signal"),
        F_DUPFD | F_DUPFD_CLOEXEC | F_SETPIPE_SZ => Part::Count,
        F_SETLEASE | F_NOTIFY => Part::Exact,
        F_SETOWN => Part::Int,
        _ => Part::Hidden,
    }
}

const F_DUPFD: u64 = 0;
const F_SETFD: u64 = 2;
const F_SETFL: u64 = 4;
const F_SETOWN: u64 = 8;
const F_SETSIG: u64 = 10;
const F_SETLEASE: u64 = 1024;
const F_NOTIFY: u64 = 1026;
const F_DUPFD_CLOEXEC: u64 = 1030;
const F_SETPIPE_SZ: u64 = 1031;

/// The arguments of prctl(2) behind the option, of those that take any.
fn of_prctl(option: u64) -> Vec<Part> {
    match option {
        // PR_SET_PDEATHSIG
        1 => vec![named("signal")],
        // PR_SET_DUMPABLE, KEEPCAPS, SECCOMP, CAPBSET_READ and DROP, TSC, SECUREBITS, MCE_KILL,
        // CHILD_SUBREAPER, NO_NEW_PRIVS, THP_DISABLE, MDWE
        4 | 8 | 22 | 23 | 24 | 26 | 28 | 33 | 36 | 38 | 41 | 65 => vec![Part::Exact],
        // PR_SET_NAME
        15 => vec![Part::Text],
        // PR_SET_TIMERSLACK
        29 => vec![Part::Count],
        // PR_CAP_AMBIENT: what to do, and with which capability
        47 => vec![Part::Exact, Part::Exact],
        // PR_SET_VMA: what to set, where, how long, and the name
        0x5356_4d41 => vec![named("vma"), Part::Hidden, Part::Count, Part::Text],
        // PR_SET_PTRACER
        0x5961_6d61 => vec![Part::Int],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{names as calls, prototype};
    use super::*;

    #[test]
    fn the_table_is_sorted_and_its_words_are_known() {
        assert!(TABLE.is_sorted_by(|a, b| a.0 < b.0));
        for (call, words) in TABLE {
            assert!(calls::exists_elsewhere(call), "{call}");
            let parts = words.split(' ').count();
            assert!(parts <= 6, "{call}");
            if let Some(prototype) = prototype::of(call) {
                assert!(parts <= prototype.len(), "{call}");
            }
            for word in words.split(' ').filter(|word| !word.is_empty()) {
                let is_kind = names::find(word).is_some();
                let is_own = word == "exact" || parts_of(word) != [Part::Exact];
                assert!(is_kind || is_own, "{call}: {word}");
            }
        }
    }

    fn parts_of(word: &'static str) -> Vec<Part> {
        parts(word, 1, &[0; 6])
    }

    /// A condition that the language takes is one that advice can make.
    #[test]
    fn every_call_with_conditions_is_described() {
        for (_, call) in calls::all().filter(|(_, call)| prototype::of(call).is_some()) {
            assert!(of(call, &[0; 6]).is_some(), "{call}");
        }
    }
}
