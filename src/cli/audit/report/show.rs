//! Numbers as people read them.

use crate::cli::audit::time::rfc3339;

/// `12,345`.
pub(in crate::cli) fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// In four places: `999`, `1.2k`, `34M`.
pub(in crate::cli) fn short(value: u64) -> String {
    scaled(value, 1_000, &["", "k", "M", "G", "T", "P", "E"])
}

/// `1.5 MiB`.
pub(in crate::cli) fn bytes(value: u64) -> String {
    scaled(value, 1_024, &[" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"])
}

fn scaled(value: u64, step: u64, units: &[&str]) -> String {
    let mut size = 1;
    let mut unit = 0;
    while value / size >= step && unit + 1 < units.len() {
        size *= step;
        unit += 1;
    }
    let whole = value / size;
    let tenth = u128::from(value % size) * 10 / u128::from(size);
    if unit > 0 && whole < 10 {
        format!("{whole}.{tenth}{}", units[unit])
    } else {
        format!("{whole}{}", units[unit])
    }
}

/// How often in a second, `count` in so many nanoseconds.
pub(in crate::cli) fn rate(count: u64, nanoseconds: u64) -> String {
    if nanoseconds == 0 || count == 0 {
        return "0".to_owned();
    }
    let thousandths = u128::from(count) * 1_000_000_000_000 / u128::from(nanoseconds);
    match thousandths {
        0 => "<0.001".to_owned(),
        1..10_000 => format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000)
            .trim_end_matches('0')
            .trim_end_matches('.')
            .to_owned(),
        more => short(u64::try_from(more / 1_000).unwrap_or(u64::MAX)),
    }
}

/// A duration in nanoseconds: `12 µs`, `1.5 ms`, `3 min 4 s`.
pub(in crate::cli) fn duration(nanoseconds: u64) -> String {
    let scaled = |size: u64, unit: &str| {
        let (whole, tenth) = (nanoseconds / size, nanoseconds % size * 10 / size);
        if whole < 10 { format!("{whole}.{tenth} {unit}") } else { format!("{whole} {unit}") }
    };
    let seconds = nanoseconds / 1_000_000_000;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..1_000_000 => scaled(1_000, "µs"),
        1_000_000..1_000_000_000 => scaled(1_000_000, "ms"),
        _ if seconds < 60 => scaled(1_000_000_000, "s"),
        _ if seconds < 3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ if seconds < 86_400 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// A moment: `2026-01-01 12:00:00.123`, in UTC.
pub(in crate::cli) fn moment(real: u64) -> String {
    let text = rfc3339(real);
    text.get(..23).unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([999, 1_250, 34_000_000].map(short), ["999", "1.2k", "34M"]);
        assert_eq!([512, 1_536, 20 << 20].map(bytes), ["512 B", "1.5 KiB", "20 MiB"]);
        assert_eq!(bytes(u64::MAX), "15 EiB");
        assert_eq!(rate(3, 2_000_000_000), "1.5");
        assert_eq!(
            [rate(1, 1 << 62), rate(0, 1), rate(5_000, 1_000_000_000)],
            ["<0.001", "0", "5.0k"]
        );
        let all = [999, 1_500, 25_000_000, 59_000_000_000, 184_000_000_000].map(duration);
        assert_eq!(all, ["999 ns", "1.5 µs", "25 ms", "59 s", "3 min 4 s"]);
        assert_eq!(moment(1_767_225_600_123_456_789), "2026-01-01 00:00:00.123");
    }
}
