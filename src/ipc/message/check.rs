//! What of a message the policy must allow, before it is sent.

use super::error::{Key, Violation};
use super::state::SendRequest;
use super::{Channel, Message};
use crate::channel::Rules;
use crate::channel::descriptor::describe_all;
use crate::trace;
use crate::wire::record::{Descriptor, Kind};

impl Channel {
    /// Checks a message against the policy: the method's number, and what its descriptors are.
    pub(super) fn check(
        &self,
        kind: Kind,
        method: &str,
        message: &Message,
    ) -> Result<(u16, Vec<Descriptor>), Violation> {
        self.judge(kind, method, message).inspect_err(|it| self.refused(it))
    }

    /// Reports what was refused.
    fn refused(&self, violation: &Violation) {
        if let Some(tap) = &self.tap {
            tap.refused(0, &violation.to_string());
        }
    }

    fn judge(
        &self,
        kind: Kind,
        method: &str,
        message: &Message,
    ) -> Result<(u16, Vec<Descriptor>), Violation> {
        let plan = &self.rules.plan;
        let channel = || plan.name.clone();
        let number = self.rules.number(method);
        if !self.rules.may_send(kind, number) {
            let (act, may) = match kind {
                Kind::Request => ("call methods", &plan.from),
                _ if self.rules.goes_back(number) => ("send this message", &plan.to),
                _ => ("send messages of its own", &plan.from),
            };
            return Err(Violation::Direction { channel: channel(), act, may: may.clone() });
        }
        let Some(number) = number else {
            return Err(Violation::Method { channel: channel(), method: method.to_owned() });
        };
        check_message(&self.rules, number, message).map(|descriptions| (number, descriptions))
    }

    /// The same for a call that is to be answered by a stream, or is not.
    pub(super) fn check_call(
        &self,
        method: &str,
        message: &Message,
        streams: bool,
    ) -> Result<(u16, Vec<Descriptor>), Violation> {
        let checked = self.check(Kind::Request, method, message)?;
        let answered = check_answer(&self.rules, checked.0, streams);
        answered.map(|()| checked).inspect_err(|it| self.refused(it))
    }
}

/// Whether calls of a method are answered so.
pub(super) fn check_answer(rules: &Rules, number: u16, streams: bool) -> Result<(), Violation> {
    if rules.streams(number) == streams {
        return Ok(());
    }
    let channel = rules.plan.name.clone();
    let method = rules.plan.methods.get(usize::from(number)).map(|method| method.name.clone());
    Err(Violation::Stream { key: Key { channel, method }, streams: !streams })
}

/// What of a message the policy must allow: its size and its descriptors.
pub(super) fn check_message(
    rules: &Rules,
    number: u16,
    message: &Message,
) -> Result<Vec<Descriptor>, Violation> {
    let plan = &rules.plan;
    let channel = || plan.name.clone();
    let max = rules.max(number).unwrap_or(0);
    let size = message.body.len();
    if size > max {
        let method = plan.methods.get(usize::from(number)).map(|method| method.name.clone());
        let key = Key { channel: channel(), method };
        return Err(Violation::Size { key, size, max });
    }
    if message.fds.is_empty() {
        return Ok(Vec::new());
    }
    let allowed = plan.fds_of(number);
    let key = || {
        let own = plan.methods.get(usize::from(number)).filter(|method| method.fds.is_some());
        Key { channel: channel(), method: own.map(|method| method.name.clone()) }
    };
    let (count, max) = (message.fds.len(), allowed.max);
    if count > usize::from(max) {
        return Err(Violation::DescriptorCount { key: key(), count, max });
    }
    describe_all(allowed, &message.fds).map_err(|(place, fault)| Violation::Descriptor {
        key: key(),
        place,
        fault,
    })
}

/// A message that goes as soon as it can. It belongs to the request that this task or thread is at; a
/// call belongs to one of its own where that isn't known.
pub(super) fn request<'a>(
    kind: Kind,
    method: u16,
    message: &'a mut Message,
    descriptions: &'a [Descriptor],
) -> SendRequest<'a> {
    let trace = match kind {
        Kind::Request => Some(trace::next().unwrap_or_else(trace::begin)),
        Kind::Message => trace::next(),
        _ => None,
    };
    SendRequest { kind, method, message, descriptions, deadline: None, trace, hold: false }
}
