//! What reads the audit log's files, given any bytes. Taken in by `fuzz_targets/audit.rs` and by
//! `tests/audit/tampering.rs`.

use cofferdam::audit::entry;
use cofferdam::audit::frame;
use cofferdam::audit::index::Index;
use cofferdam::audit::note::{Notes, Signed};
use cofferdam::audit::segment::Header;
use cofferdam::audit::tables::Tables;

/// Bytes as each part of a log: what is read is written to the same bytes.
pub fn audit(bytes: &[u8]) {
    if let Ok(frame) = frame::parse(bytes) {
        let _ = frame.payload_state();
        assert_eq!(frame.length(), frame::length(bytes).expect("it was parsed"));
        body(frame.body);
    }
    body(bytes);
    if let Ok(header) = Header::parse(bytes) {
        let again = header.encode();
        assert_eq!(again, bytes[..again.len()]);
    }
    let notes = Notes::read(bytes);
    assert!(notes.end <= bytes.len());
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(signed) = Signed::parse(text)
    {
        assert_eq!(signed.encode(), text);
    }
    let link = bytes.get(16..48).and_then(|link| link.try_into().ok()).unwrap_or([0; 32]);
    if let Some((index, covered)) = Index::parse(bytes, &link) {
        assert_eq!(index.encode(&link, covered)[16..], bytes[16..]);
    }
    let _ = Tables::parse(bytes);
}

fn body(bytes: &[u8]) {
    if let Ok(record) = entry::decode(bytes) {
        let mut again = Vec::new();
        entry::encode(record.index, record.at, &record.entry, record.payload, &mut again);
        assert_eq!(again, bytes, "two bodies say the same");
    }
}
