//! Values as the picture writes them: short, and harmless.

use std::time::Duration;

use crate::policy::plan::{DescriptorPlan, FileRight, MapRight, Rate};
use crate::policy::signal::signal_name;
use crate::policy::value::show_size;
use crate::text::neutralise;

/// The longest path or address that is drawn whole, in characters.
const LONG: usize = 36;

/// A text of at most 36 characters, its middle left out if it is longer.
pub(super) fn shorten(text: &str) -> String {
    let text = neutralise(text.as_bytes());
    let count = text.chars().count();
    if count <= LONG {
        return text;
    }
    // The end of a path tells more than its beginning.
    let (head, tail) = (LONG / 3, LONG - LONG / 3 - 1);
    let first: String = text.chars().take(head).collect();
    let last: String = text.chars().skip(count - tail).collect();
    format!("{first}…{last}")
}

pub(super) fn rate(rate: Rate) -> String {
    so_often(&rate.count.to_string(), rate.per)
}

/// A rate that counts bytes.
pub(super) fn byte_rate(rate: Rate) -> String {
    so_often(&size(rate.count.into()), rate.per)
}

fn so_often(much: &str, per: Duration) -> String {
    match per {
        per if per == Duration::from_secs(1) => format!("{much}/s"),
        per if per == Duration::from_mins(1) => format!("{much}/m"),
        per if per == Duration::from_hours(1) => format!("{much}/h"),
        per => format!("{much} in {}", duration(per)),
    }
}

/// `1 permit`, `4 permits`; `many` is the plural.
pub(super) fn count(number: impl Into<u64>, one: &str, many: &str) -> String {
    match number.into() {
        1 => format!("1 {one}"),
        number => format!("{number} {many}"),
    }
}

pub(super) fn duration(time: Duration) -> String {
    let ms = time.as_millis();
    match ms {
        ms if ms % 1000 != 0 => format!("{ms}ms"),
        ms if ms % 60_000 != 0 || ms == 0 => format!("{}s", ms / 1000),
        ms => format!("{}m", ms / 60_000),
    }
}

pub(super) fn size(bytes: u64) -> String {
    show_size(bytes)
}

pub(super) fn rights(rights: &[FileRight]) -> String {
    rights.iter().map(|right| right.name()).collect::<Vec<_>>().join(" ")
}

pub(super) fn map_right(right: MapRight) -> &'static str {
    match right {
        MapRight::Read => "r",
        MapRight::ReadWrite => "rw",
    }
}

/// `2 × file-read, stream`, empty where none may be sent.
pub(super) fn descriptors(fds: &DescriptorPlan) -> String {
    if fds.max == 0 {
        return String::new();
    }
    let kinds: Vec<_> = fds.kinds.iter().map(|kind| kind.name()).collect();
    format!("{} × {}", fds.max, kinds.join(", "))
}

/// `HUP`, or `signal 40` for one without a name.
pub(super) fn signal(number: u8) -> String {
    signal_name(number).map_or_else(|| format!("signal {number}"), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_lose_their_middle() {
        assert_eq!(shorten("/a/b"), "/a/b");
        let short = shorten(&format!("/{}/key.pem", "é".repeat(60)));
        assert_eq!(short.chars().count(), LONG);
        assert!(short.starts_with("/é") && short.ends_with("/key.pem"));
        assert_eq!(shorten("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn signals_and_rates() {
        assert_eq!([1, 15, 31, 40].map(signal), ["HUP", "TERM", "SYS", "signal 40"]);
        let per = |per| rate(Rate { count: 5, per });
        assert_eq!(per(Duration::from_secs(1)), "5/s");
        assert_eq!(per(Duration::from_millis(1500)), "5 in 1500ms");
        assert_eq!(per(Duration::from_mins(5)), "5 in 5m");
        let much = Rate { count: 32 << 20, per: Duration::from_secs(1) };
        assert_eq!(byte_rate(much), "32MiB/s");
        assert_eq!([1_u8, 2].map(|n| count(n, "permit", "permits")), ["1 permit", "2 permits"]);
    }
}
