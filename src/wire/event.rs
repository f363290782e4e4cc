//! Events of a layer on their way to the writer of the log: through the layer's own standard error,
//! each in a frame that nobody who doesn't know the layer's [`Mark`] can write.
//!
//! A frame is a zero byte, the mark, the length of what follows (16 bits, little-endian) and an
//! [`Event`] (postcard). So what a layer prints, which may come from a stranger, is never taken for
//! an event; what a layer says itself that has been taken over, it says in its own name only, for
//! the pipe says whose it is. A frame is at most [`FRAME`] bytes, which the kernel writes into a pipe
//! as one piece (pipe(7), `PIPE_BUF`).

use serde::{Deserialize, Serialize};

use crate::policy::plan::LogLevel;

/// The largest frame, in bytes.
pub const FRAME: usize = 4096;

/// What is before an event in its frame, in bytes.
pub const HEAD: usize = 1 + Mark::LENGTH + 2;

/// The most fields of an event or of a span.
pub const MAX_FIELDS: usize = 32;
/// The most spans of an event: the innermost.
pub const MAX_SPANS: usize = 8;
/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 2048;
/// The longest text in a field, in bytes.
pub const MAX_TEXT: usize = 512;
/// The longest name of a field, a span or a target, in bytes.
pub const MAX_NAME: usize = 96;

/// What a frame begins with.
const FIRST: u8 = 0;

/// What begins the frames of one layer, and of no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark(pub [u8; Mark::LENGTH]);

impl Mark {
    /// Bytes of a mark.
    pub const LENGTH: usize = 16;
}

/// Something that a layer's code tells of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// How much it matters.
    pub level: LogLevel,
    /// Which part of the code tells it: `keeper::store`.
    pub target: String,
    /// The message.
    pub message: String,
    /// What else is told, by name.
    pub fields: Vec<(String, Value)>,
    /// In which spans it happened, the outermost first.
    pub spans: Vec<Span>,
    /// How many events were lost before it, for which there was no room.
    pub lost: u32,
    /// Whether something was left out that didn't fit.
    pub cut: bool,
}

/// A span of time in which events happen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// What is told of it, by name.
    pub fields: Vec<(String, Value)>,
}

/// A field's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Value {
    /// A text, or what a value looks like.
    Text(String),
    /// A whole number.
    Signed(i64),
    /// A whole number.
    Unsigned(u64),
    /// A number.
    Float(f64),
    /// Yes or no.
    Bool(bool),
}

impl Event {
    /// The frame. What doesn't fit is left out: first what is told of spans, then the spans, the
    /// fields, and the end of the message.
    pub fn frame(mut self, mark: Mark) -> Vec<u8> {
        loop {
            let mut bytes = vec![FIRST];
            bytes.extend_from_slice(&mark.0);
            // Strings and numbers always have a form.
            let event = postcard::to_stdvec(&self).unwrap_or_default();
            if let Ok(length) = u16::try_from(event.len())
                && HEAD + event.len() <= FRAME
            {
                bytes.extend_from_slice(&length.to_le_bytes());
                bytes.extend_from_slice(&event);
                return bytes;
            }
            self.shorten();
        }
    }

    fn shorten(&mut self) {
        self.cut = true;
        if let Some(span) = self.spans.iter_mut().find(|span| !span.fields.is_empty()) {
            span.fields.clear();
        } else if !self.spans.is_empty() {
            self.spans.remove(0);
        } else if self.fields.pop().is_none() {
            cut(&mut self.target, MAX_NAME);
            let half = self.message.len() / 2;
            cut(&mut self.message, half);
        }
    }

    /// Reads what is in a frame behind its [`HEAD`].
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (event, rest) = postcard::take_from_bytes::<Self>(bytes).ok()?;
        rest.is_empty().then_some(event)
    }
}

/// Cuts a text at a character. Whether something was cut.
pub fn cut(text: &mut String, most: usize) -> bool {
    let is_longer = text.len() > most;
    text.truncate(text.floor_char_boundary(most));
    is_longer
}

/// What stands at the beginning of `bytes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'a> {
    /// No frame with that mark.
    Text,
    /// A frame, as far as that can be seen; more must come.
    Part,
    /// A frame of so many bytes with this in it.
    Frame(usize, &'a [u8]),
}

/// Looks for a frame at the beginning of `bytes`.
pub fn find(bytes: &[u8], mark: Mark) -> Found<'_> {
    let Some((&FIRST, rest)) = bytes.split_first() else { return Found::Text };
    let Some((begin, rest)) = rest.split_at_checked(Mark::LENGTH) else {
        return if mark.0.starts_with(rest) { Found::Part } else { Found::Text };
    };
    if begin != mark.0 {
        return Found::Text;
    }
    let Some((length, rest)) = rest.split_first_chunk::<2>() else { return Found::Part };
    let length = usize::from(u16::from_le_bytes(*length));
    match rest.get(..length) {
        _ if HEAD + length > FRAME => Found::Text,
        None => Found::Part,
        Some(event) => Found::Frame(HEAD + length, event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark([7; 16]);

    fn event(message: &str) -> Event {
        let field = |name: &str| (name.to_owned(), Value::Text("x".repeat(MAX_TEXT)));
        Event {
            level: LogLevel::Warn,
            target: "a::b".to_owned(),
            message: message.to_owned(),
            fields: vec![("n".to_owned(), Value::Signed(-1)), field("long"), field("longer")],
            spans: (0..MAX_SPANS)
                .map(|_| Span { name: "s".to_owned(), fields: vec![field("f")] })
                .collect(),
            lost: 3,
            cut: false,
        }
    }

    #[test]
    fn a_frame_says_what_was_told() {
        let whole = Event { spans: Vec::new(), ..event("hello\nworld") };
        let frame = whole.clone().frame(MARK);
        assert_eq!(find(&frame, MARK), Found::Frame(frame.len(), &frame[HEAD..]));
        assert_eq!(Event::decode(&frame[HEAD..]), Some(whole));
        for end in 1..frame.len() {
            assert_eq!(find(&frame[..end], MARK), Found::Part, "{end}");
        }
        assert_eq!(find(&frame, Mark([8; 16])), Found::Text);
        assert_eq!(find(b"text", MARK), Found::Text);
        let long = [&[0][..], &MARK.0, &[255, 255]].concat();
        assert_eq!(find(&long, MARK), Found::Text);
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        for message in ["short".to_owned(), "é".repeat(FRAME)] {
            let frame = event(&message).frame(MARK);
            assert!(frame.len() <= FRAME);
            let event = Event::decode(&frame[HEAD..]).unwrap();
            assert!(event.cut && message.starts_with(&event.message));
        }
    }

    #[test]
    fn garbage_is_no_event() {
        assert_eq!(Event::decode(&[]), None);
        assert_eq!(Event::decode(&[255; 64]), None);
        let mut frame = event("x").frame(MARK);
        frame.push(0);
        assert_eq!(Event::decode(&frame[HEAD..]), None);
    }
}
