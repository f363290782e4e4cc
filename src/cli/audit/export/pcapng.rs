//! A capture file for Wireshark: pcapng (draft-ietf-opsawg-pcapng), link type 147 (`USER0`), one
//! interface, a packet for each record. `docs/cofferdam.lua` reads the packets.
//!
//! ```text
//! a packet: magic "cfda", version u8 = 1, zero u8 * 3, bytes of the texts u32,
//!           texts: each what u8, length u16, UTF-8;
//!           the record's body without its detail, docs/audit-format.md, section 3
//! ```
//! Numbers are little-endian. The texts are the record's numbers in the words of the tables in
//! force, and its detail, all neutralised; a detail of more than [`DETAIL`] bytes is cut, which the
//! packet's original length tells.

use std::io::{self, Write};

use super::Writer;
use crate::audit::entry::{self, Kind, Verdict};
use crate::audit::tables::Tables;
use crate::audit::{Entry, Record};
use crate::cli::audit::names::Said;

const LINK_TYPE: u16 = 147;
const VERSION: u8 = 1;
/// The longest detail in a packet, in bytes: far below what readers take for a damaged file.
const DETAIL: usize = 32_768;

const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const PACKET: u32 = 6;
const COMMENT: u16 = 1;

/// What a text in a packet is.
#[derive(Clone, Copy)]
enum Text {
    Kind = 1,
    Side = 2,
    Verdict = 3,
    Facility = 4,
    Edge = 5,
    Form = 6,
    Method = 7,
    Rule = 8,
    Reporter = 9,
    Peer = 10,
    Meaning = 11,
    Batch = 12,
    Detail = 13,
    Trace = 14,
    Span = 15,
    Parent = 16,
}

/// A capture being written.
pub(super) struct Capture {
    about: String,
}

impl Capture {
    /// One of a log with these tables at its end.
    pub(super) fn new(tables: &Tables) -> Self {
        let about = match tables.daemon.as_str() {
            "" => "an audit log without a policy".to_owned(),
            daemon => format!("the audit log of {daemon}, policy {}", tables.policy),
        };
        Self { about }
    }
}

impl Writer for Capture {
    fn begin(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let mut body = Vec::new();
        body.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
        body.extend_from_slice(&[1, 0, 0, 0]);
        body.extend_from_slice(&u64::MAX.to_le_bytes());
        option(&mut body, COMMENT, self.about.as_bytes());
        option(&mut body, 4, b"cofferdam audit export");
        option(&mut body, 0, &[]);
        block(out, SECTION, &body)?;

        body.clear();
        body.extend_from_slice(&LINK_TYPE.to_le_bytes());
        body.extend_from_slice(&[0; 6]);
        option(&mut body, 2, b"cofferdam");
        option(&mut body, 3, self.about.as_bytes());
        // Nanoseconds.
        option(&mut body, 9, &[9]);
        option(&mut body, 0, &[]);
        block(out, INTERFACE, &body)
    }

    fn record(
        &mut self,
        _: usize,
        record: &Record,
        said: &Said<'_>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let (packet, cut) = packet(record, said);
        let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        let real = record.at.real;
        let mut body = Vec::with_capacity(packet.len() + 64);
        body.extend_from_slice(&[0; 4]);
        for half in [real >> 32, real & u64::from(u32::MAX)] {
            body.extend_from_slice(&u32::try_from(half).unwrap_or(u32::MAX).to_le_bytes());
        }
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(&length.saturating_add(cut).to_le_bytes());
        body.extend_from_slice(&packet);
        pad(&mut body);
        if let Some(comment) = comment(record, said) {
            option(&mut body, COMMENT, comment.as_bytes());
        }
        // Seen from the one who reports: 1 came in, 2 went out.
        let direction: u32 = match said.side {
            Some("receiver") => 1,
            Some("sender") => 2,
            _ => 0,
        };
        option(&mut body, 2, &direction.to_le_bytes());
        option(&mut body, 0, &[]);
        block(out, PACKET, &body)
    }

    fn end(&mut self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// The packet of a record, and how many bytes of its detail are left out.
fn packet(record: &Record, said: &Said<'_>) -> (Vec<u8>, u32) {
    let name =
        |it: &Option<_>| it.as_ref().map(|it: &super::super::names::Instance| it.to_string());
    let (reporter, peer) = (name(&said.reporter), name(&said.peer));
    let detail = said.detail.as_deref().map(|detail| truncate(detail, DETAIL));
    let left_out = said.detail.as_deref().map_or(0, str::len) - detail.map_or(0, str::len);
    let batch: Vec<String> = said
        .batch
        .iter()
        .map(|part| {
            let form = part.form.unwrap_or("others");
            let method = part.method.as_deref().unwrap_or("");
            let call =
                if part.call > 0 { format!(" from call {}", part.call) } else { String::new() };
            let trace = part.trace.as_deref().map(|it| format!(" trace {it}")).unwrap_or_default();
            format!("{} {form} {method}{call}{trace}", part.messages)
        })
        .collect();
    let batch = batch.join(", ");
    let texts = [
        (Text::Kind, Some(said.kind)),
        (Text::Side, said.side),
        (Text::Verdict, said.verdict),
        (Text::Facility, said.facility),
        (Text::Edge, said.edge.as_deref()),
        (Text::Form, said.form),
        (Text::Method, said.method.as_deref()),
        (Text::Rule, said.rule.as_deref()),
        (Text::Reporter, reporter.as_deref()),
        (Text::Peer, peer.as_deref()),
        (Text::Meaning, said.meaning.as_deref()),
        (Text::Batch, (!batch.is_empty()).then_some(batch.as_str())),
        (Text::Detail, detail),
        (Text::Trace, said.trace.as_deref()),
        (Text::Span, said.span.as_deref()),
        (Text::Parent, said.parent.as_deref()),
    ];
    let mut list = Vec::new();
    for (what, text) in texts {
        let Some(text) = text else { continue };
        let text = truncate(text, DETAIL);
        list.push(what as u8);
        list.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
        list.extend_from_slice(text.as_bytes());
    }
    let mut packet = b"cfda".to_vec();
    packet.extend_from_slice(&[VERSION, 0, 0, 0]);
    packet.extend_from_slice(&u32::try_from(list.len()).unwrap_or(u32::MAX).to_le_bytes());
    packet.extend_from_slice(&list);
    let bare = Entry { detail: Vec::new(), ..record.entry.clone() };
    entry::encode(record.index, record.at, &bare, record.payload, &mut packet);
    (packet, u32::try_from(left_out).unwrap_or(u32::MAX))
}

/// The first bytes of a text, at most so many, ending with a whole character.
fn truncate(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

/// What Wireshark shows beside a packet: why it is worth a look.
fn comment(record: &Record, said: &Said<'_>) -> Option<String> {
    let entry = &record.entry;
    let bad = matches!(entry.kind, Kind::Alarm | Kind::Loss | Kind::Denial)
        || matches!(entry.verdict, Verdict::Refused | Verdict::Killed);
    bad.then(|| {
        let words = [
            Some(said.kind),
            said.verdict,
            said.edge.as_deref(),
            said.method.as_deref(),
            said.meaning.as_deref(),
            said.detail.as_deref().map(|detail| truncate(detail, 1_024)),
        ];
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    })
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend_from_slice(&code.to_le_bytes());
    body.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    body.extend_from_slice(value);
    pad(body);
}

fn block(out: &mut dyn Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len() + 12).unwrap_or(u32::MAX).to_le_bytes();
    out.write_all(&kind.to_le_bytes())?;
    out.write_all(&length)?;
    out.write_all(body)?;
    out.write_all(&length)
}
