//! Which request something is done for: a trace's id, and a span in it (W3C Trace Context, level 1).
//!
//! ```text
//! in a message, in a report and in the log: id 16, span 8, the span that it follows from 8, or zeros
//! ```
//! All are as the `traceparent` header has them: an id and a span are never all zeros, and a span is
//! a number with its highest byte first.

use std::fmt;

/// Bytes of a trace.
pub const TRACE: usize = 32;

/// A place in a trace: what somebody does for a request, which may have come from outside.
///
/// Its text is the value of a `traceparent` header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Trace {
    id: [u8; 16],
    span: u64,
    parent: u64,
}

impl Trace {
    /// A place in a trace, and the one that it follows from; 0 if that isn't known. `None`: no trace
    /// and no place is all zeros.
    pub const fn new(id: [u8; 16], span: u64, parent: u64) -> Option<Self> {
        if u128::from_be_bytes(id) == 0 || span == 0 {
            return None;
        }
        Some(Self { id, span, parent })
    }

    /// The trace's id: the same for all that is done for one request.
    pub const fn id(&self) -> [u8; 16] {
        self.id
    }

    /// This place in it.
    pub const fn span(&self) -> u64 {
        self.span
    }

    /// The place that it follows from; 0 if that isn't known.
    pub const fn parent(&self) -> u64 {
        self.parent
    }

    /// Reads the value of a `traceparent` header: version 00, or what a later version has in common
    /// with it. `None` for anything else; by the standard a new trace begins then.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '-');
        let (version, id, span) = (parts.next()?, parts.next()?, parts.next()?);
        let flags = parts.next()?;
        let known = match version {
            "00" => flags.len() == 2,
            "ff" => false,
            // More may come behind the flags, after a dash.
            _ => version.len() == 2 && (flags.len() == 2 || flags.as_bytes().get(2) == Some(&b'-')),
        };
        let digits = |text: &str| text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        let sound = digits(version) && digits(flags.get(..2)?) && digits(id) && digits(span);
        if !known || !sound || id.len() != 32 || span.len() != 16 {
            return None;
        }
        let id = u128::from_str_radix(id, 16).ok()?.to_be_bytes();
        Self::new(id, u64::from_str_radix(span, 16).ok()?, 0)
    }

    /// Its bytes.
    pub fn to_bytes(&self) -> [u8; TRACE] {
        let mut bytes = [0; TRACE];
        bytes[..16].copy_from_slice(&self.id);
        bytes[16..24].copy_from_slice(&self.span.to_be_bytes());
        bytes[24..].copy_from_slice(&self.parent.to_be_bytes());
        bytes
    }

    /// Reads them; `None` for what is no trace.
    pub fn from_bytes(bytes: &[u8; TRACE]) -> Option<Self> {
        let (id, rest) = bytes.split_first_chunk()?;
        let (span, parent) = rest.split_first_chunk()?;
        let parent = u64::from_be_bytes(*parent.first_chunk()?);
        Self::new(*id, u64::from_be_bytes(*span), parent)
    }

    /// The id in hexadecimal digits.
    pub fn hexadecimal(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.id))
    }
}

/// The value of a `traceparent` header. All that happens is in the log, so it says *sampled*.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-01", u128::from_be_bytes(self.id), self.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_header_is_read_and_written_alike() {
        let trace = Trace::parse(HEADER).unwrap();
        assert_eq!(trace.to_string(), HEADER);
        assert_eq!((trace.span(), trace.parent()), (0x00f0_67aa_0ba9_02b7, 0));
        assert_eq!(trace.hexadecimal(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = HEADER.replacen("00", "cc", 1) + "-what-the-future-will-be-like";
        assert_eq!(Trace::parse(&later), Some(trace));
    }

    #[test]
    fn what_is_no_header_begins_no_trace() {
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-zz",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        ] {
            assert_eq!(Trace::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bytes_are_read_back() {
        let trace = Trace::new([7; 16], 8, 9).unwrap();
        assert_eq!(Trace::from_bytes(&trace.to_bytes()), Some(trace));
        assert_eq!(Trace::from_bytes(&[0; TRACE]), None);
        assert_eq!((Trace::new([0; 16], 1, 1), Trace::new([1; 16], 0, 1)), (None, None));
    }
}
