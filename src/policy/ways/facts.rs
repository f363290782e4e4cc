//! Facts: everything that a plan lets each layer do, one by one.

mod facility;
mod layer;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use facility::has;
pub(crate) use layer::syscall;

use super::act::Act;
use crate::ident::Name;
use crate::policy::plan::{Audit, Plan, Rate};
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
    /// `listen.LAYER.NAME`, `connect.LAYER.NAME`, `state.LAYER` (and `cache`, `logs`,
    /// `runtime-directory`), `syscall.NAME`, `capability.NAME`.
    pub object: Arc<str>,
    /// The path of the rule in the policy: `file.key.grant.keeper`.
    pub rule: Arc<str>,
    /// What bounds it. The conditions of a system call are in the plan.
    pub bounds: Vec<Bound>,
}

impl Fact {
    /// What tells it from the other facts of its layer, and sorts it among them.
    pub(crate) fn key(&self) -> (&str, Act) {
        (&self.object, self.act)
    }
}

impl fmt::Display for Fact {
    /// A sentence without a full stop: `keeper reads file.key`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.layer, self.act.verb(), self.object)
    }
}

/// A fact; the facilities' and the layers' tables make them.
fn fact(
    layer: &Name,
    act: Act,
    object: impl Into<Arc<str>>,
    rule: impl Into<Arc<str>>,
    bounds: impl Into<Vec<Bound>>,
) -> Fact {
    let (object, rule, bounds) = (object.into(), rule.into(), bounds.into());
    Fact { layer: layer.clone(), act, object, rule, bounds }
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
        let usual = matches!(self.name, "transport" | "owner" | "payloads")
            || matches!(
                (self.name, self.text.as_str()),
                ("once" | "witness" | "stream" | "follow" | "optional", "no") | ("deny", "none")
            )
            || matches!((self.name, self.amount), ("after", 1) | ("audit" | "at", 0));
        // What a method can't carry.
        let none = self.name.starts_with("fds.") && self.amount == 0;
        self.amount != u128::MAX && !usual && !none
    }

    /// A bound that is a number.
    pub(crate) fn count(name: &'static str, amount: impl Into<u128>) -> Self {
        let amount = amount.into();
        Self { name, amount, text: amount.to_string() }
    }

    /// A bound that is a size in bytes.
    pub(crate) fn size(name: &'static str, bytes: u64) -> Self {
        Self { name, amount: bytes.into(), text: show_size(bytes) }
    }

    /// A bound on how often; `None` is no bound.
    pub(crate) fn rate(rate: Option<Rate>) -> Self {
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

    /// What is done unrecorded leaves no evidence, which is more authority. Where payloads are
    /// kept is another bound.
    pub(crate) fn audit(level: Audit) -> Self {
        let recorded = level != Audit::None;
        Self::flag("audit", !recorded, if recorded { "recorded" } else { "none" })
    }

    /// Whether messages are kept whole: more evidence, and more for others to read.
    pub(crate) fn payloads(level: Audit) -> Self {
        let kept = level == Audit::Payload;
        Self::flag("payloads", true, if kept { "kept" } else { "not kept" })
    }

    /// A bound that there is or is not; `free` is the greater authority.
    pub(crate) fn flag(name: &'static str, free: bool, text: impl Into<String>) -> Self {
        Self { name, amount: u128::from(free), text: text.into() }
    }
}

/// A duration as policies write it; one second is `s`.
pub(crate) fn time(time: Duration) -> String {
    match (time.as_secs(), time.subsec_millis()) {
        (1, 0) => "s".to_owned(),
        (seconds, 0) => format!("{seconds}s"),
        _ => format!("{}ms", time.as_millis()),
    }
}

/// Every fact of a plan, by layer; those of each sorted by object and act.
#[derive(Debug)]
pub struct Facts(BTreeMap<Name, Vec<Fact>>);

/// All that a plan lets its layers do by themselves.
pub fn facts(plan: &Plan) -> Facts {
    let mut list = Vec::new();
    layer::all(plan, &mut list);
    facility::all(plan, &mut list);
    let mut layers: BTreeMap<Name, Vec<Fact>> = BTreeMap::new();
    for fact in list {
        layers.entry(fact.layer.clone()).or_default().push(fact);
    }
    for of_layer in layers.values_mut() {
        of_layer.sort_by(|a, b| a.key().cmp(&b.key()));
    }
    Facts(layers)
}

impl Facts {
    /// All of them, sorted by layer, object and act.
    pub fn all(&self) -> impl Iterator<Item = &Fact> {
        self.0.values().flatten()
    }

    /// Those of one layer, sorted by object and act.
    pub fn of(&self, layer: &str) -> &[Fact] {
        self.0.get(layer).map_or(&[], Vec::as_slice)
    }

    /// Those about one object.
    pub fn about(&self, object: &str) -> impl Iterator<Item = &Fact> {
        self.0.values().flat_map(move |of_layer| {
            let start = of_layer.partition_point(|fact| *fact.object < *object);
            of_layer[start..].iter().take_while(move |fact| *fact.object == *object)
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
