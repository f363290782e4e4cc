//! Moments as dates. Pure.

/// A second in nanoseconds.
pub const SECOND: u64 = 1_000_000_000;
/// A day in seconds.
const DAY: i64 = 86_400;

/// Nanoseconds since 1970 as RFC 3339 in UTC: `2026-11-25T23:32:45.123456789Z`.
pub fn rfc3339(nanoseconds: u64) -> String {
    let seconds = (nanoseconds / SECOND).cast_signed();
    let (year, month, day) = civil(seconds.div_euclid(DAY));
    let rest = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let fraction = nanoseconds % SECOND;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

/// Year, month and day of a number of days since 1970.
pub fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (century, rest) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_century = (rest - rest / 1_460 + rest / 36_524 - rest / 146_096) / 365;
    let of_year = rest - (365 * of_century + of_century / 4 - of_century / 100);
    let march = (5 * of_year + 2) / 153;
    let month = (march + 2) % 12 + 1;
    let year = century * 400 + of_century + i64::from(month <= 2);
    (year, month, of_year - (153 * march + 2) / 5 + 1)
}
