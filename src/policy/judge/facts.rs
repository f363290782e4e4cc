//! Facts: everything that a plan lets each layer do, one by one.

mod facility;
mod layer;

use std::fmt;
use std::ops::Range;
use std::time::Duration;

pub(super) use facility::has;

use super::act::Act;
use crate::ident::Name;
use crate::policy::plan::{CallRule, Plan, Rate};
use crate::policy::value::show_size;

/// One thing that one layer may do by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Who.
    pub layer: Name,
    /// Does what.
    pub act: Act,
    /// To what: `file.key`, `channel.sign`, `channel.sign.hello` (one method),
    /// `channel.open.fds.stream` (one kind of descriptor), `signal.reload.HUP` (one signal),
    /// `listen.LAYER.NAME`, `connect.LAYER.NAME`, `syscall.NAME`, `capability.NAME`.
    pub object: String,
    /// The path of the rule in the policy: `file.key.grant.keeper`.
    pub rule: String,
    /// For a system call: the alternatives under which it is allowed, never empty; one without
    /// conditions is always. For everything else: empty.
    pub calls: Vec<CallRule>,
    /// What bounds it.
    pub bounds: Vec<Bound>,
}

impl fmt::Display for Fact {
    /// A sentence without a full stop: `keeper reads file.key`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.layer, self.act.verb(), self.object)
    }
}

/// A bound on an act. A larger amount is more authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What is bounded: `max`, `rate`.
    pub name: &'static str,
    /// How much there may be, in a unit of its own; [`u128::MAX`] is no bound.
    pub amount: u128,
    /// The amount as a person reads it: `4KiB`, `500/s`.
    pub text: String,
}

impl Bound {
    /// Whether it bounds anything that a person would ask about.
    pub(crate) fn is_worth_saying(&self) -> bool {
        let usual = matches!(self.name, "transport" | "owner")
            || matches!(
                (self.name, self.text.as_str()),
                ("once" | "witness" | "stream", "no") | ("deny", "none")
            )
            || (self.name, self.amount) == ("after", 1);
        self.amount != u128::MAX && !usual
    }

    /// A bound that is a number.
    pub(super) fn count(name: &'static str, amount: impl Into<u128>) -> Self {
        let amount = amount.into();
        Self { name, amount, text: amount.to_string() }
    }

    /// A bound that is a size in bytes.
    pub(super) fn size(name: &'static str, bytes: u64) -> Self {
        Self { name, amount: bytes.into(), text: show_size(bytes) }
    }

    /// A bound on how often; `None` is no bound.
    pub(super) fn rate(rate: Option<Rate>) -> Self {
        let (amount, text) = match rate {
            // Millionths of one in a second, so that one a day is still more than none.
            Some(Rate { count, per }) => (
                u128::from(count) * 1_000_000_000_000_000 / per.as_nanos().max(1),
                format!("{count}/{}", time(per)),
            ),
            None => (u128::MAX, "any rate".to_owned()),
        };
        Self { name: "rate", amount, text }
    }

    /// A bound that there is or is not; `free` is the greater authority.
    pub(super) fn flag(name: &'static str, free: bool, text: impl Into<String>) -> Self {
        Self { name, amount: u128::from(free), text: text.into() }
    }
}

/// A duration as policies write it; one second is `s`.
pub(super) fn time(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (1, 0) => "s".to_owned(),
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// Every fact of a plan, found by layer and by object.
#[derive(Debug)]
pub struct Facts {
    /// Sorted by layer, object and act.
    list: Vec<Fact>,
    /// Where each layer's facts begin and end.
    layers: Vec<Range<usize>>,
}

/// All that a plan lets its layers do by themselves.
pub fn facts(plan: &Plan) -> Facts {
    let mut list = Vec::new();
    layer::all(plan, &mut list);
    facility::all(plan, &mut list);
    list.sort_by(|a, b| (&a.layer, &a.object, a.act).cmp(&(&b.layer, &b.object, b.act)));
    let mut layers = Vec::new();
    let mut start = 0;
    for of_layer in list.chunk_by(|a, b| a.layer == b.layer) {
        layers.push(start..start + of_layer.len());
        start += of_layer.len();
    }
    Facts { list, layers }
}

impl Facts {
    /// All of them, sorted by layer, object and act.
    pub fn all(&self) -> &[Fact] {
        &self.list
    }

    /// Those of one layer, sorted by object and act.
    pub fn of(&self, layer: &str) -> &[Fact] {
        let start = self.list.partition_point(|fact| fact.layer.as_str() < layer);
        let rest = &self.list[start..];
        &rest[..rest.partition_point(|fact| fact.layer.as_str() <= layer)]
    }

    /// Those about one object.
    pub fn about(&self, object: &str) -> impl Iterator<Item = &Fact> {
        self.layers.iter().flat_map(move |layer| {
            let of_layer = &self.list[layer.clone()];
            let start = of_layer.partition_point(|fact| fact.object.as_str() < object);
            of_layer[start..].iter().take_while(move |fact| fact.object == object)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_read_as_in_policies() {
        assert_eq!(Bound::size("max", 64 << 20).text, "64MiB");
        let rate = |count, per| Bound::rate(Some(Rate { count, per }));
        assert_eq!(rate(500, Duration::from_secs(1)).text, "500/s");
        assert_eq!(rate(1, Duration::from_mins(1)).text, "1/60s");
        assert!(rate(1, Duration::from_hours(24)).amount > 0);
        assert!(rate(1, Duration::from_secs(1)).amount < Bound::rate(None).amount);
    }
}
