//! What an end of a link reports of each record, if the policy has it recorded.

use crate::channel::fault::PeerFault;
use crate::report::{CAPTURE_OVERHEAD, Facts, Form, Side, Tap, Verdict, Who};
use crate::seal::aead::TAG;
use crate::wire::record::{FRAME, Frame, HEADER, Head, Kind, trace_of};
use crate::wire::report::runs::{self, Run};

/// A tap on a link to one peer.
#[derive(Clone, Debug)]
pub struct LinkTap {
    tap: Tap,
    peer: Who,
    /// What a record's number on the link is counted from.
    first: u64,
    list: List,
}

/// The messages of the batch that was observed last; nothing otherwise. Kept for its memory.
#[derive(Clone, Debug, Default)]
struct List {
    runs: Vec<Run>,
    bytes: Vec<u8>,
}

impl List {
    /// Lists a batch's messages. What is malformed ends the list, and then the link.
    fn fill(&mut self, mut batch: &[u8], facts: &mut Facts) {
        self.runs.clear();
        while let Ok(frame) = Frame::decode(&mut batch) {
            let Frame { kind, method, call, trace, .. } = frame;
            runs::count(&mut self.runs, form(kind), method, call, trace);
        }
        facts.value = self.runs.iter().map(|run| run.messages).fold(0, u32::saturating_add);
        facts.method = self.runs.first().map_or(0, |run| run.method.into());
        self.runs.iter().for_each(|run| runs::encode(run, &mut self.bytes));
    }
}

impl LinkTap {
    /// A tap on the link to `peer`, whose first record has the number `first`.
    pub fn new(tap: Tap, peer: Who, first: u64) -> Self {
        Self { tap, peer, first, list: List::default() }
    }

    /// Whether the next record's report finds room.
    pub(super) fn has_room(&self) -> bool {
        self.tap.has_room()
    }

    /// What there is to say of a record with this head and length, whose body is not sealed.
    /// `piece`: it goes on with the message before.
    fn facts(&self, side: Side, head: &Head, length: usize, piece: bool) -> Facts {
        Facts {
            descriptors: head.descriptors,
            form: if piece { Form::Piece } else { form(head.kind) },
            method: head.method.into(),
            sequence: self.first.wrapping_add(head.sequence),
            length: length as u64,
            peer: self.peer,
            ..self.tap.bare(side)
        }
    }

    /// Looks at the body of a record before it is sealed: what there is to say of it, and what is
    /// kept of it.
    pub(super) fn look(&mut self, head: &Head, body: &[u8], piece: bool) -> (Facts, Vec<u8>) {
        let mut facts = self.facts(Side::Sender, head, HEADER + body.len() + TAG, piece);
        describe(&mut facts, &mut self.list, head, body);
        let kept = keep(&self.tap, &facts, body);
        (facts, kept)
    }

    /// Reports the record that was looked at last, which is about to be sent.
    pub(super) fn sending(&self, facts: &Facts, record: &[u8], kept: &[u8]) {
        let pending = self.tap.begin(record, self.list.bytes.len() + kept.len());
        pending.finish(facts, &self.list.bytes, kept);
    }

    /// Reports a record that came, and which `open` opens where it lies: the bytes as they came
    /// are taken down before, and what is in them is looked at before anybody else sees it.
    pub(super) fn coming<'a>(
        &mut self,
        head: &Head,
        record: &'a mut [u8],
        piece: bool,
        open: impl FnOnce(&'a mut [u8]) -> Result<&'a [u8], PeerFault>,
    ) -> Result<&'a [u8], PeerFault> {
        let mut facts = self.facts(Side::Receiver, head, record.len(), piece);
        let batch = head.kind == Kind::Batch;
        let runs = if batch { (record.len() / FRAME).min(runs::MOST + 1) } else { 0 };
        let kept = if self.tap.captures() { record.len() + CAPTURE_OVERHEAD } else { 0 };
        let pending = self.tap.begin(record, runs * runs::BYTES + kept);
        let opened = open(record);
        if let Ok(body) = opened {
            describe(&mut facts, &mut self.list, head, body);
            let kept = keep(&self.tap, &facts, body);
            pending.finish(&facts, &self.list.bytes, &kept);
        }
        opened
    }

    /// Reports that a record breaks a rule: beside the report that it came, for a record may break
    /// a rule after a part of it was accepted. What has no head is the one that was `due`.
    pub(super) fn refuse(&self, head: Option<&Head>, due: u64, fault: &PeerFault) {
        let facts = match head {
            Some(head) => self.facts(Side::None, head, 0, false),
            None => Facts {
                sequence: self.first.wrapping_add(due),
                peer: self.peer,
                ..self.tap.bare(Side::None)
            },
        };
        let facts = Facts { verdict: Verdict::Refused, value: fault.code(), ..facts };
        self.tap.report(&facts, &[], fault.to_string().as_bytes());
    }
}

/// Adds what the body says: how many messages it holds, or which call and which trace it belongs to.
fn describe(facts: &mut Facts, list: &mut List, head: &Head, body: &[u8]) {
    list.bytes.clear();
    match facts.form {
        Form::Batch => list.fill(body, facts),
        Form::Piece => {}
        _ => {
            facts.value = body.first_chunk().map_or(0, |call| u32::from_le_bytes(*call));
            facts.trace = trace_of(head, body);
        }
    }
}

/// What is kept of a body: nothing, or the body, sealed to the auditor.
fn keep(tap: &Tap, facts: &Facts, body: &[u8]) -> Vec<u8> {
    if tap.captures() { tap.capture(facts, body) } else { Vec::new() }
}

/// What a record of this kind is in the log.
pub(in crate::channel) fn form(kind: Kind) -> Form {
    match kind {
        Kind::Handshake => Form::None,
        Kind::Message => Form::Message,
        Kind::Request => Form::Request,
        Kind::Reply => Form::Reply,
        Kind::Refusal => Form::Refusal,
        Kind::Batch => Form::Batch,
        Kind::Cancel => Form::Cancel,
        Kind::Item => Form::Item,
        Kind::End => Form::End,
        Kind::Credit => Form::Credit,
    }
}
