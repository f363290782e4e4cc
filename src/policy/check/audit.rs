//! Checking `[audit]`, and whether what facilities say of it fits together.

use crate::ident::unhex;
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::document::{At, AuditText, Document};
use crate::policy::plan::{Audit, AuditPlan, ChannelPlan, Plan};
use crate::policy::source_map;
use crate::policy::tree::Table;
use crate::policy::value::{self, show_duration, show_size};
use crate::seal::{PublicKey, secret};

/// Memory is mapped in pages; 4 KiB is the smallest on every architecture that is built for.
const PAGE: u32 = 4 << 10;

pub(super) fn plan(document: &Document, out: &mut Diagnostics) -> AuditPlan {
    let demanded = is_demanded(document);
    witnessed(document, out);
    few_enough_links(document, out);
    let Some(text) = &document.audit else {
        no_key(document, None, out);
        return AuditPlan { demanded, ..AuditPlan::default() };
    };
    no_key(document, Some(text), out);
    if let Some(directory) = &text.directory
        && let Err(why) = value::path(&directory.value)
    {
        let path = directory.value.escape_debug();
        out.error(Code::BadPath, &directory.span, format!("`{path}` can't hold the audit log"))
            .label(why);
    }
    let (keep, keep_age) = (text.keep.as_ref(), text.keep_age.as_ref());
    at_least("keep", keep, "segment", text.segment.as_ref(), text.segment(), show_size, out);
    let (age, least) = (text.segment_age.as_ref(), text.segment_age());
    at_least("keep-age", keep_age, "segment-age", age, least, show_duration, out);
    AuditPlan {
        demanded,
        payload_key: text.payload_key.as_ref().and_then(|key| public_key(key, out)),
        ring_bytes: ring(text, out),
        ..text.into()
    }
}

/// Whether the policy asks for a log: by its table, or where a facility says in so many words that
/// it is recorded, or that a witness stands between its ends.
pub(super) fn is_demanded(document: &Document) -> bool {
    let witnessed = |it: &Option<At<bool>>| it.as_ref().is_some_and(|yes| yes.value);
    document.audit.is_some()
        || document.channels.iter().any(|channel| witnessed(&channel.witness))
        || levels(document).any(|level| level.value != Audit::None)
}

/// What each facility says, in the order of their kinds.
pub(super) fn levels(document: &Document) -> impl Iterator<Item = &At<Audit>> {
    document.facilities().into_iter().filter_map(|facility| facility.audit)
}

/// A witness is there for the log: of a channel that isn't in it, it would see nothing to say.
fn witnessed(document: &Document, out: &mut Diagnostics) {
    for channel in &document.channels {
        let witness = channel.witness.as_ref().filter(|yes| yes.value);
        let none = channel.audit.as_ref().filter(|level| level.value == Audit::None);
        if let (Some(witness), Some(none)) = (witness, none) {
            out.error(Code::Contradiction, &witness.span, "a witness of what is not recorded")
                .label("it reports to the audit log")
                .also(&none.span, "and nothing of this channel is in that")
                .help("take out `witness`, or write `audit = \"digest\"`");
        }
    }
}

/// One witness relays every link of every channel that asks for one: from each copy of a layer to
/// each copy of the other.
fn few_enough_links(document: &Document, out: &mut Diagnostics) {
    let copies = |end: &Option<At<String>>| {
        let end = end.as_ref().map(|end| &end.value);
        let layer = document.layers.iter().find(|layer| Some(&layer.name.value) == end);
        let copies = layer.map_or(1, |layer| layer.instances().most);
        u64::from(copies)
    };
    let (mut all, most) = (0_u64, ChannelPlan::MAX_WITNESSED);
    for channel in &document.channels {
        let Some(witness) = channel.witness.as_ref().filter(|yes| yes.value) else { continue };
        let links = copies(&channel.from).saturating_mul(copies(&channel.to));
        let before = all;
        all = all.saturating_add(links);
        if before <= most && all > most {
            out.error(Code::OutOfRange, &witness.span, "more links than one witness relays")
                .label(match before {
                    0 => format!("{links} between copies of these layers: the most is {most}"),
                    _ => format!(
                        "{links} between copies of these layers, {all} with the channels before: \
                         the most is {most}"
                    ),
                })
                .help("give the layers fewer `instances`, or fewer channels a witness");
        }
    }
}

/// Tells payloads that nothing seals, and a key that seals nothing.
fn no_key(document: &Document, text: Option<&AuditText>, out: &mut Diagnostics) {
    let mut channels = document.channels.iter().filter_map(|channel| channel.audit.as_ref());
    let payload = channels.find(|level| level.value == Audit::Payload);
    let key = text.and_then(|text| text.payload_key.as_ref());
    match (payload, key) {
        (Some(payload), None) => {
            let mistake = out.error(
                Code::NoKey,
                &payload.span,
                "messages are kept, and there is no key to seal them to",
            );
            mistake
                .label("whoever reads the log would read them")
                .help("add `payload-key` to `[audit]`: an X25519 public key in 64 hex digits");
        }
        // A channel that is told may have been meant to keep them.
        (None, Some(key)) if !out.has_errors() => {
            out.warning(Code::SealsNothing, &key.span, "no message is ever sealed to this key")
                .label("no channel has `audit = \"payload\"`")
                .help("take it out, or write `audit = \"payload\"` where messages are to be kept");
        }
        _ => {}
    }
}

/// An X25519 public key, in the one form in which such keys are made.
fn public_key(text: &At<String>, out: &mut Diagnostics) -> Option<[u8; 32]> {
    key(
        text,
        out,
        "nothing can be sealed to this key",
        "`payload-key` is the public key of whoever may read the payloads; the private one stays \
         with them",
    )
}

/// The public key of a host.
pub(super) fn host_key(text: &At<String>, out: &mut Diagnostics) -> Option<[u8; 32]> {
    key(text, out, "no host has this key", "write what `cofferdam host key` prints on that host")
}

fn key(text: &At<String>, out: &mut Diagnostics, wrong: &str, help: &str) -> Option<[u8; 32]> {
    let why = match unhex(text.value.as_bytes()) {
        None => "a key is 64 hex digits",
        // No private key has such a public key, and everybody knows the secret that it gives.
        Some(key) if secret::agree(&[1; 32], &PublicKey(key)).is_err() => {
            "a key of small order: everybody could open what is sealed to it"
        }
        Some(key) if !is_canonical(&key) => "no X25519 key pair has this number",
        Some(key) => return Some(key),
    };
    out.error(Code::BadKey, &text.span, wrong).label(why).help(help);
    None
}

/// Whether a key is below the field's prime, 2^255 - 19: the same point has one such form.
fn is_canonical(key: &[u8; 32]) -> bool {
    let above = key[31] > 0x7f || (key[31] == 0x7f && key[1..31].iter().all(|byte| *byte == 0xff));
    !(above && (key[31] > 0x7f || key[0] >= 0xed))
}

/// What is kept is never less than one segment, or the one that is being written would have to go.
fn at_least<N: PartialOrd + Copy>(
    key: &str,
    kept: Option<&At<N>>,
    other: &str,
    written: Option<&At<N>>,
    segment: N,
    show: fn(N) -> String,
    out: &mut Diagnostics,
) {
    let Some(kept) = kept.filter(|kept| kept.value < segment) else { return };
    let message = format!("`{key}` keeps less than one segment");
    let mistake = out.error(Code::Contradiction, &kept.span, message);
    mistake.label("only whole segments are dropped");
    match written {
        Some(written) => mistake.also(&written.span, "one segment"),
        None => mistake.label(format!("`{other}` is {} where it isn't written", show(segment))),
    };
    mistake.help(format!("write a `{key}` of several segments, or a smaller `{other}`"));
}

/// Whole pages.
fn ring(text: &AuditText, out: &mut Diagnostics) -> u32 {
    let whole = text.ring().next_multiple_of(PAGE);
    if let Some(ring) = text.ring.as_ref().filter(|ring| ring.value != whole) {
        out.warning(Code::KernelRefuses, &ring.span, "memory is shared in whole pages")
            .label(format!("{} are made of it", show_size(whole.into())))
            .help(format!("write a multiple of {}", show_size(PAGE.into())));
    }
    whole
}

/// Tells what layers are granted in, around or at the log's directory.
pub(super) fn reach(document: &Document, plan: &Plan, tree: &Table, out: &mut Diagnostics) {
    let directory = document.audit.as_ref().and_then(|audit| audit.directory.as_ref());
    let Some(directory) = directory else { return };
    for rule in plan.reaching(&directory.value) {
        let message = "a layer could reach the audit log here";
        let mistake = out.error(Code::LogInReach, &directory.span, message);
        mistake.label("only the auditor writes here, and no layer reads");
        if let Some(span) = source_map::span(tree, &rule) {
            mistake.also(&span, "this reaches what is in it, or around it");
        }
        mistake.help("give the log a directory of its own");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_form() {
        let key = |first: u8, middle: u8, last: u8| {
            let mut key = [middle; 32];
            (key[0], key[31]) = (first, last);
            key
        };
        assert!(is_canonical(&key(9, 0, 0)));
        assert!(is_canonical(&key(0xec, 0xff, 0x7f)), "2^255 - 20");
        assert!(!is_canonical(&key(0xed, 0xff, 0x7f)), "2^255 - 19");
        assert!(!is_canonical(&key(9, 0, 0x80)));
        assert!(is_canonical(&key(0xff, 0xfe, 0x7f)));
    }
}
