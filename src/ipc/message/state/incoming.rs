//! What comes in: whose it is, and whether it may come now.

use std::collections::{HashMap, VecDeque};
use std::task::Waker;
use std::time::{Duration, Instant};

use super::super::error::CallError;
use super::super::{Message, Method};
use super::inbox::{Inbox, Item, Load};
use super::{CANCELLED, Call, Link, Notice, Owing, Phase, State};
use crate::channel::endpoint::Incoming;
use crate::channel::{LinkError, PeerFault, Rules};
use crate::ident::Instance;
use crate::mark;
use crate::wire::limits::REASON;
use crate::wire::record::Kind;

impl State {
    /// Takes one record in, if there is one.
    pub(super) fn receive(&mut self, place: usize) -> Result<bool, LinkError> {
        let Link { id, instance, phase, calls: waiting, owing, load, notices, warm, .. } =
            &mut self.links[place];
        let Phase::Open(endpoint) = phase else { return Ok(false) };
        let mut intake = Intake {
            rules: &self.rules,
            methods: &self.methods,
            link: *id,
            peer: instance,
            calls: &mut self.calls,
            waiting,
            owing,
            load,
            notices,
            inbox: &mut self.inbox,
            receivers: &mut self.receivers,
            senders: &mut self.senders,
            to_wake: &mut self.to_wake,
        };
        let received =
            endpoint.try_recv(&mut self.buffer, &mut |incoming| intake.take(incoming))?;
        if received {
            *warm = false;
            self.changed = true;
        }
        Ok(received)
    }
}

/// What an incoming message may touch.
struct Intake<'a> {
    rules: &'a Rules,
    methods: &'a [Method],
    link: u64,
    peer: &'a Instance,
    calls: &'a mut HashMap<u32, Call>,
    waiting: &'a mut usize,
    owing: &'a mut Owing,
    load: &'a mut Load,
    notices: &'a mut VecDeque<Notice>,
    inbox: &'a mut Inbox,
    receivers: &'a mut Vec<Waker>,
    senders: &'a mut Vec<Waker>,
    to_wake: &'a mut Vec<Waker>,
}

impl Intake<'_> {
    fn take(&mut self, incoming: Incoming<'_>) -> Result<(), PeerFault> {
        match incoming.kind {
            Kind::Reply | Kind::Refusal | Kind::Item | Kind::End => self.answer(incoming),
            Kind::Cancel => self.cancel(incoming.method, incoming.call),
            Kind::Credit => {
                let amount = incoming.body.as_slice().try_into().map_or(0, u32::from_le_bytes);
                self.to_wake.append(self.senders);
                self.owing.credit(incoming.call, amount)
            }
            Kind::Request => self.request(incoming),
            _ => {
                let link = self.link;
                let (from, method) = (self.peer.clone(), self.method(incoming.method));
                let message = Message { body: incoming.body.into_vec(), fds: incoming.fds };
                let trace = incoming.trace;
                self.keep(Item::Message { link, from, method, trace, message });
                Ok(())
            }
        }
    }

    fn answer(&mut self, incoming: Incoming<'_>) -> Result<(), PeerFault> {
        let Incoming { kind, method, call: number, body, fds, .. } = incoming;
        let call = self.calls.get_mut(&number).ok_or(PeerFault::Answer(number))?;
        if call.link != self.link || call.method != method || call.is_over() {
            return Err(PeerFault::Answer(number));
        }
        match kind {
            Kind::Item => call.item(number, Message { body: body.into_vec(), fds })?,
            Kind::End => call.end(number)?,
            Kind::Reply => {
                mark::reached("message.reply.received");
                call.outcome = Some(Ok(Message { body: body.into_vec(), fds }));
            }
            _ => {
                mark::reached("message.refusal.received");
                let reason = reason(body.as_slice())?;
                call.outcome = Some(Err(CallError::Refused { peer: self.peer.clone(), reason }));
            }
        }
        self.to_wake.extend(call.waker.take());
        if call.is_over() {
            *self.waiting -= 1;
            if call.abandoned {
                self.calls.remove(&number);
            }
        }
        Ok(())
    }

    fn cancel(&mut self, method: u16, call: u32) -> Result<(), PeerFault> {
        self.owing.cancel(call, self.to_wake)?;
        self.to_wake.append(self.senders);
        if let Some(load) = self.inbox.withdraw(self.link, call) {
            // No handler has seen it, so none will answer it.
            *self.load -= load;
            self.owing.complete(call);
            self.notices.push_back(Notice::Refuse { method, call, reason: CANCELLED });
        }
        Ok(())
    }

    fn request(&mut self, incoming: Incoming<'_>) -> Result<(), PeerFault> {
        let Incoming { method: number, call, within, trace, body, fds, .. } = incoming;
        let window = self.rules.streams(number).then(|| self.rules.window(number));
        self.owing.request(call, window)?;
        let time = (within != 0).then(|| Duration::from_millis(within.into()));
        self.keep(Item::Request {
            link: self.link,
            from: self.peer.clone(),
            method: self.method(number),
            number,
            call,
            deadline: time.and_then(|time| Instant::now().checked_add(time)),
            trace,
            message: Message { body: body.into_vec(), fds },
        });
        Ok(())
    }

    fn keep(&mut self, item: Item) {
        *self.load += self.inbox.push(item);
        self.to_wake.append(self.receivers);
    }

    fn method(&self, number: u16) -> Method {
        self.methods.get(usize::from(number)).cloned().unwrap_or(Method::UNNAMED)
    }
}

fn reason(bytes: &[u8]) -> Result<String, PeerFault> {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= REASON => Ok(text.to_owned()),
        _ => Err(PeerFault::Reason),
    }
}
