//! The `Range` header (RFC 9110 section 14). Pure.

/// Which part of a file to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// All of it.
    Whole,
    /// These bytes, both ends included; `first <= last < size`.
    Bytes {
        /// Offset of the first byte.
        first: u64,
        /// Offset of the last byte.
        last: u64,
    },
    /// The request lies wholly outside the file.
    Unsatisfiable,
}

/// Reads a `Range` header for a file of `size` bytes.
///
/// A header that can't be read, has another unit than `bytes`, or asks for several ranges counts
/// as absent, as section 14.2 allows: then the whole file is sent.
pub(crate) fn part(header: &str, size: u64) -> Part {
    parse(header, size).unwrap_or(Part::Whole)
}

fn parse(header: &str, size: u64) -> Option<Part> {
    let (unit, set) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = set.trim().split_once('-')?;
    let (first, last) = (first.trim_end(), last.trim_start());
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(match size.checked_sub(1) {
            Some(end) if suffix > 0 => {
                Part::Bytes { first: size.saturating_sub(suffix), last: end }
            }
            _ => Part::Unsatisfiable,
        });
    }
    let first = number(first)?;
    let last = if last.is_empty() { u64::MAX } else { number(last)? };
    if last < first {
        return None;
    }
    Some(if first < size {
        Part::Bytes { first, last: last.min(size - 1) }
    } else {
        Part::Unsatisfiable
    })
}

/// Digits only; more than 64 bits are as good as the largest number.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(first: u64, last: u64) -> Part {
        Part::Bytes { first, last }
    }

    #[test]
    fn satisfiable() {
        assert_eq!(part("bytes=0-0", 10), bytes(0, 0));
        assert_eq!(part("bytes=2-4", 10), bytes(2, 4));
        assert_eq!(part("Bytes = 2 - 4 ", 10), bytes(2, 4));
        assert_eq!(part("bytes=2-", 10), bytes(2, 9));
        assert_eq!(part("bytes=2-99", 10), bytes(2, 9));
        assert_eq!(part("bytes=-3", 10), bytes(7, 9));
        assert_eq!(part("bytes=-99", 10), bytes(0, 9));
        assert_eq!(part("bytes=9-9", 10), bytes(9, 9));
        assert_eq!(part("bytes=0-99999999999999999999999", 10), bytes(0, 9));
    }

    #[test]
    fn unsatisfiable() {
        for header in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(part(header, 10), Part::Unsatisfiable, "{header}");
        }
        assert_eq!(part("bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(part("bytes=-1", 0), Part::Unsatisfiable);
    }

    #[test]
    fn ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=4-2",
            "bytes=a-b",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes=+1-2",
            "bytes=--1",
            "bytes=1-2x",
            "bytes=1",
        ] {
            assert_eq!(part(header, 10), Part::Whole, "{header}");
        }
    }
}
