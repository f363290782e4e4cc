//! What a policy would have to say for a call to be allowed: found, and then tried out.

use super::Made;
use super::names::show;
use super::shape::{self, Part};
use super::show::{mode, seen};
use super::written::expressions;
use crate::policy::plan::SyscallPlan;
use crate::policy::syscall::assemble::{assemble, is_dangerous, keep_append};
use crate::policy::syscall::groups::{Group, offering};
use crate::policy::syscall::meaning::{implies, permits};
use crate::policy::syscall::names::name_of;
use crate::policy::syscall::prototype::{self, Kind};
use crate::policy::syscall::{Implied, Item, parse_item};

/// What a layer has, and what it is.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// Its plan's system calls.
    pub calls: &'a [SyscallPlan],
    /// What is granted by what it is.
    pub implied: Implied,
    /// Whether it may append to some file that it may not write otherwise.
    pub appends: bool,
}

/// How a call that was refused can be allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// By this.
    Advice(Advice),
    /// The layer has it already: something other than its filter has refused it.
    Granted,
    /// By no policy, for this reason.
    Never(&'static str),
}

/// What would allow a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// The narrowest item of `syscalls` that does.
    pub item: String,
    /// Why the item needs a `because`, if it does.
    pub danger: Option<&'static str>,
    /// Ordinary groups that the layer hasn't, or has by half, and that do as well.
    pub groups: Vec<&'static Group>,
}

impl Advice {
    /// A line for `[layer.NAME]` that says why, for a policy that gives no reason yet.
    pub fn because(&self) -> Option<String> {
        self.danger.map(|_| format!("because = \"it makes the call {}\"", self.item))
    }
}

/// The narrowest text that allows a call with these arguments.
///
/// What is said has been tried: the item reads, the plan with it permits the call, and without it
/// the plan does not.
pub fn advise(made: &Made, grant: &Grant<'_>) -> Way {
    let number = made.number;
    let has = |calls: &[SyscallPlan]| {
        let entry = calls.iter().find(|entry| entry.number == number);
        entry.is_some_and(|entry| permits(entry, &made.arguments))
    };
    let Some(name) = name_of(number) else { return Way::Never(NAMELESS) };
    if has(grant.calls) {
        return Way::Granted;
    }
    let helps = |item: &Item| has(&alone(item, grant));
    let found = items(name, &made.arguments).find_map(|text| {
        let item = parse_item(&text).ok()?;
        helps(&item).then_some((text, item))
    });
    let Some((text, item)) = found else { return Way::Never(never(name)) };
    let groups = ordinary(number).filter(|group| helps(&Item::Group(group))).collect();
    Way::Advice(Advice { item: text, danger: is_dangerous(&item), groups })
}

/// The same for a call of which nobody knows the arguments: the whole call, and the groups that
/// have forms of it which the layer hasn't.
pub fn advise_some(number: u32, grant: &Grant<'_>) -> Way {
    let Some(name) = name_of(number) else { return Way::Never(NAMELESS) };
    let has = grant.calls.iter().find(|entry| entry.number == number);
    let rules = has.map(|entry| entry.allow.as_slice()).unwrap_or_default();
    if rules.iter().any(|rule| rule.0.is_empty()) {
        return Way::Granted;
    }
    let adds = |item: &Item| {
        let calls = alone(item, grant);
        let entry = calls.iter().find(|entry| entry.number == number);
        let mut new = entry.iter().flat_map(|entry| &entry.allow);
        new.any(|rule| !rules.iter().any(|known| implies(rule, known)))
    };
    let Ok(item) = parse_item(name) else { return Way::Never(NAMELESS) };
    if !adds(&item) {
        return Way::Never(never(name));
    }
    let groups = ordinary(number).filter(|group| adds(&Item::Group(group))).collect();
    Way::Advice(Advice { item: name.to_owned(), danger: is_dangerous(&item), groups })
}

/// What a layer's plan has of a call, as expressions of policies.
pub fn granted(number: u32, calls: &[SyscallPlan]) -> Vec<String> {
    let entry = calls.iter().find(|entry| entry.number == number);
    entry.map(|entry| expressions(number, &entry.allow)).unwrap_or_default()
}

const NAMELESS: &str = "cofferdam has no name for it, and answers ENOSYS";

/// Why a call can't be granted that the language has a name for.
fn never(name: &str) -> &'static str {
    match name {
        "clone3" => "its flags lie in memory, where no filter looks: it answers ENOSYS",
        "prctl" => "it would outlive its supervisor",
        _ => "its files are open for appending alone",
    }
}

/// What an item gives a layer of this kind.
fn alone(item: &Item, grant: &Grant<'_>) -> Vec<SyscallPlan> {
    let mut calls = assemble(std::slice::from_ref(item), &[], grant.implied);
    if grant.appends {
        keep_append(&mut calls);
    }
    calls
}

fn ordinary(number: u32) -> impl Iterator<Item = &'static Group> {
    offering(number).into_iter().filter(|group| group.dangerous.is_none())
}

/// Items that a call with these arguments might be allowed by, the narrowest first, the whole call
/// last. What chooses between acts is said; where and how much is left open, for it is another the
/// next time.
fn items(name: &'static str, arguments: &[u64; 6]) -> impl Iterator<Item = String> {
    let arguments = seen(name, arguments);
    let parts = shape::of(name, &arguments).unwrap_or_default();
    let kinds = prototype::of(name).into_iter().flatten();
    let checks: Vec<Option<String>> = parts
        .into_iter()
        .zip(kinds)
        .zip(arguments)
        .map(|((part, kind), value)| check(part, kind, value))
        .collect();
    let said: Vec<usize> = (0..checks.len()).filter(|&at| checks[at].is_some()).collect();
    let whole = std::iter::once(name.to_owned());
    let with = (1..=said.len()).rev().map(move |count| {
        let last = said[count - 1];
        let words = checks[..=last].iter().map(|check| check.as_deref().unwrap_or("_"));
        format!("{name}({})", words.collect::<Vec<_>>().join(", "))
    });
    with.chain(whole)
}

/// The condition on an argument that chooses what the call does.
fn check(part: Part, kind: Kind, value: u64) -> Option<String> {
    if kind == Kind::Opaque {
        return None;
    }
    match part {
        Part::Named(names) => Some(names.write(value)),
        Part::Exact => Some(show(value)),
        Part::Mode => Some(mode(value)),
        Part::Process | Part::Limits | Part::Address | Part::Null if value == 0 => {
            Some("0".to_owned())
        }
        _ => None,
    }
}
