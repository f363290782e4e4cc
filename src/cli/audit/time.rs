//! Moments of the real clock as text: RFC 3339, in UTC, and how long ago.

use std::time::{SystemTime, UNIX_EPOCH};

pub(in crate::cli) use crate::calendar::rfc3339;
use crate::calendar::{SECOND, civil};

const DAY: i64 = 86_400;

/// Nanoseconds since 1970 now.
pub(in crate::cli) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// Reads a moment: RFC 3339 with any offset, or how long ago, as in `-5m` (`s`, `m`, `h`, `d`), or
/// `now`. Nanoseconds since 1970.
pub(in crate::cli) fn parse(text: &str) -> Result<u64, String> {
    const WAYS: &str = "write RFC 3339 as in 2026-11-25T23:32:45Z, or how long ago as in -5m, \
                        with s, m, h or d";
    if text == "now" {
        return Ok(now());
    }
    if let Some(ago) = text.strip_prefix('-') {
        let unit = ago.chars().last().ok_or(WAYS)?;
        let number: u64 = ago.strip_suffix(unit).and_then(|n| n.parse().ok()).ok_or(WAYS)?;
        let unit = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(WAYS.to_owned()),
        };
        let ago = number.checked_mul(unit * SECOND).ok_or("that is longer ago than there is")?;
        return Ok(now().saturating_sub(ago));
    }
    absolute(text).ok_or_else(|| WAYS.to_owned())
}

fn absolute(text: &str) -> Option<u64> {
    let digits = |range: std::ops::Range<usize>| {
        let part = text.get(range)?;
        let plain = part.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| part.parse::<i64>().ok())?
    };
    let bytes = text.as_bytes();
    let marks = [(4, b"-"), (7, b"-"), (13, b":"), (16, b":")];
    if marks.iter().any(|(at, mark)| bytes.get(*at) != mark.first())
        || !matches!(bytes.get(10), Some(b'T' | b't' | b' '))
    {
        return None;
    }
    let (year, month, day) = (digits(0..4)?, digits(5..7)?, digits(8..10)?);
    let (hour, minute, second) = (digits(11..13)?, digits(14..16)?, digits(17..19)?);
    let days = days(year, month, day);
    // A day that isn't in the calendar comes back as another one.
    if civil(days) != (year, month, day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let fraction = match rest.get(..zone)? {
        "" => 0,
        part => {
            let part = part.strip_prefix('.')?;
            let plain = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            let nine = format!("{:0<9}", part.get(..part.len().min(9))?);
            plain.then(|| nine.parse::<u64>().ok())??
        }
    };
    let offset = match rest.get(zone..)? {
        "Z" | "z" => 0,
        part => {
            let at = 19 + zone;
            let whole = part.len() == 6 && part.as_bytes()[3] == b':';
            let minutes = digits(at + 1..at + 3)? * 60 + digits(at + 4..at + 6)?;
            let sign = if part.starts_with('-') { -1 } else { 1 };
            whole.then_some(sign * minutes * 60)?
        }
    };
    let seconds = days * DAY + hour * 3_600 + minute * 60 + second - offset;
    u64::try_from(seconds).ok()?.checked_mul(SECOND)?.checked_add(fraction)
}

/// Days since 1970 of a date, by the Gregorian calendar; years begin in March here, so that a
/// leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (century, of_century) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    century * 146_097 + of_century * 365 + of_century / 4 - of_century / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_comes_back() {
        for day in -1_000..200_000 {
            let (year, month, date) = civil(day);
            assert_eq!(days(year, month, date), day);
        }
    }

    #[test]
    fn moments_are_read_as_they_are_written() {
        // From RFC 3339, section 5.8, and date(1).
        for (text, seconds, rest) in [
            ("1985-04-12T23:20:50.52Z", 482_196_050, 520_000_000),
            ("1996-12-19T16:39:57-08:00", 851_042_397, 0),
            ("1990-12-31T15:59:60-08:00", 662_688_000, 0),
            ("1937-01-01T12:00:27.87+00:20", 0, 0),
            ("2000-02-29T00:00:00Z", 951_782_400, 0),
            ("2023-11-14 22:13:20Z", 1_700_000_000, 0),
        ] {
            let expected = (seconds > 0).then_some(seconds * SECOND + rest);
            assert_eq!(absolute(text), expected, "{text}");
        }
        for moment in [0, 1_700_000_000_123_456_789, 4_102_444_800_000_000_000] {
            assert_eq!(parse(&rfc3339(moment)), Ok(moment));
        }
    }

    #[test]
    fn nothing_else_is_a_moment() {
        for text in [
            "",
            "-",
            "-5",
            "-5w",
            "-m",
            "--5m",
            "-é",
            "2023-02-29T00:00:00Z",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:20+1:00",
            "2023-1\u{e9}-14T22:13:20Z",
            "-99999999999999999d",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("-5m").unwrap() < now());
    }
}
