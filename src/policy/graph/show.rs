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
    match rate.per {
        per if per == Duration::from_secs(1) => format!("{}/s", rate.count),
        per if per == Duration::from_mins(1) => format!("{}/m", rate.count),
        per if per == Duration::from_hours(1) => format!("{}/h", rate.count),
        per => format!("{} in {}", rate.count, duration(per)),
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
    let name = |right: &FileRight| match right {
        FileRight::Read => "read",
        FileRight::Write => "write",
        FileRight::Truncate => "truncate",
        FileRight::Create => "create",
        FileRight::Remove => "remove",
        FileRight::List => "list",
        FileRight::Execute => "execute",
        FileRight::Append => "append",
    };
    rights.iter().map(name).collect::<Vec<_>>().join(" ")
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
    }
}
