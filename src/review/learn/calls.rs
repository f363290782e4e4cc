//! Which items of `syscalls` a policy needs for the calls that were seen.
//!
//! Some items are always there ([`ALWAYS`]). A group is taken where it fits: it grants three kinds
//! of calls that were seen and not granted yet, or half of all that it adds. What remains is granted
//! call by call, by the narrowest item. Last, every item goes that the others make needless: so none
//! can be taken out without a call that was seen being refused.

use std::collections::{BTreeMap, BTreeSet};

use super::Proposal;
use super::choosing::CHOOSING;
use super::seen::{Evidence, Seen};
use crate::policy::plan::{LayerPlan, Protection, SyscallPlan};
use crate::policy::syscall::meaning::{implies, permits};
use crate::policy::syscall::refused::{answer, expressions};
use crate::policy::syscall::{
    Group, Implied, Item, assemble, groups, is_dangerous, name_of, offering, parse_item,
};

/// What every learned layer has besides what programs get anyway. A learner needs not look at it.
pub const ALWAYS: &str = "@core";

/// The groups that are named for what a program does; the others come with a facility, or are
/// dangerous.
const NAMED: [&str; 9] = [
    "file-read",
    "file-write",
    "net-connect",
    "net-datagram",
    "net-stream",
    "process",
    "shared-memory",
    "thread",
    "time",
];

/// System V's objects: of a layer that is alone in its IPC namespace nobody else has the numbers.
const SYSTEM_V: [&str; 11] = [
    "shmget",
    "shmat",
    "shmdt",
    "shmctl",
    "semget",
    "semop",
    "semtimedop",
    "semctl",
    "msgget",
    "msgsnd",
    "msgrcv",
];

/// How many kinds of calls a group must add, or the half of what it could.
const FITS: usize = 3;

/// The narrowest item that allows a call with these arguments; `None` if the language has no name
/// for the call, or no policy can grant it.
fn narrow(number: u32, arguments: &[u64; 6]) -> Option<String> {
    let name = name_of(number)?;
    let allows = |text: &String| {
        parse_item(text)
            .is_ok_and(|item| has(&assemble(&[item], &[], Implied::Exec), number, arguments))
    };
    let members = offering(number).into_iter().flat_map(|group| &group.members);
    let known = members.filter(|it| it.call.number == number).map(|it| it.text.clone());
    chosen(name, arguments)
        .into_iter()
        .chain(known.filter(|text| text.contains('(')))
        .chain(std::iter::once(name.to_owned()))
        .find(allows)
}

/// The call with the arguments that choose what it does: `ioctl(_, 0x5401)`.
fn chosen(name: &str, arguments: &[u64; 6]) -> Option<String> {
    let (_, places) = CHOOSING.iter().find(|(call, _)| *call == name)?;
    let last = places.last()?;
    let shown = (0..=*last).map(|place| match arguments[place] & u64::from(u32::MAX) {
        _ if !places.contains(&place) => "_".to_owned(),
        value if value < 10 => value.to_string(),
        value => format!("{value:#x}"),
    });
    let text = format!("{name}({})", shown.collect::<Vec<_>>().join(", "));
    // With names for numbers, where there are some.
    let Ok(Item::Call(call)) = parse_item(&text) else { return Some(text) };
    expressions(call.number, &call.rules).into_iter().next().or(Some(text))
}

/// A call that was seen.
struct Call<'a> {
    number: u32,
    arguments: &'a [u64; 6],
    evidence: &'a Evidence,
}

/// What a layer needs besides what it `has` for all that was seen. Calls that need a reason become
/// questions.
///
/// With a reason given, what starts programs is granted, memory that can be written and run, System V's
/// objects of its own, and calls that no group warns of.
pub(super) fn choose(seen: &Seen, layer: &LayerPlan, because: Option<&str>) -> Vec<Proposal> {
    let has_already = layer.syscalls.as_slice();
    let is_alone = !layer.optional.contains(&Protection::NamespaceIpc);
    let calls = seen.calls.iter().map(|((number, arguments), evidence)| Call {
        number: *number,
        arguments,
        evidence,
    });
    let missing: Vec<Call<'_>> = calls.filter(|call| !allowed(has_already, call)).collect();
    let mut taken: Vec<(String, Item)> = Vec::new();
    loop {
        let mut plans = plans(&taken);
        plans.extend(has_already.iter().cloned());
        let open: Vec<&Call<'_>> = missing.iter().filter(|call| !allowed(&plans, call)).collect();
        let Some(group) = best(&open, &plans) else { break };
        taken.push((format!("@{}", group.name), Item::Group(group)));
    }
    let (mut asked, granted) = (Vec::new(), plans(&taken));
    let (starts, runs) = (group("@exec"), group("@execmem"));
    let (mut execmem, mut needs_reason) = (Vec::new(), false);
    for call in missing.iter().filter(|call| !allowed(&granted, call)) {
        if allowed(&runs, call) {
            execmem.push(call);
            continue;
        }
        let Some(text) = narrow(call.number, call.arguments) else { continue };
        let Ok(item) = parse_item(&text) else { continue };
        match is_dangerous(&item) {
            Some(_)
                if because.is_some()
                    && (allowed(&starts, call)
                        || (is_alone && is_system_v(call.number))
                        || !is_warned_of(call)) =>
            {
                needs_reason = true;
                if taken.iter().all(|(other, _)| *other != text) {
                    taken.push((text, item));
                }
            }
            Some(why) => asked.push((text, call, why)),
            None if taken.iter().any(|(other, _)| *other == text) => {}
            None => taken.push((text, item)),
        }
    }
    leave_out_needless(&mut taken, &missing);
    let grants = taken.into_iter().map(|(text, item)| {
        let alone = assemble(std::slice::from_ref(&item), &[], Implied::Exec);
        let by = missing.iter().filter(|call| allowed(&alone, call));
        Proposal::Call { item: text, evidence: Evidence::sum(by.map(|call| call.evidence)) }
    });
    let refused = asked.iter().map(|(_, call, _)| *call);
    let refused = refused.chain(execmem.iter().copied().filter(|_| because.is_none()));
    let refusals: BTreeMap<u32, &Evidence> = refused
        .filter(|call| !is_answered(has_already, call.number))
        .map(|call| (call.number, call.evidence))
        .collect();
    let refusals = refusals.into_iter().filter_map(|(number, evidence)| {
        let call = name_of(number)?.to_owned();
        let errno = answer(number);
        Some(Proposal::Refuse { call, errno, evidence: evidence.clone() })
    });
    let mut questions: BTreeMap<&str, (&str, Vec<&Evidence>)> = BTreeMap::new();
    for (text, call, why) in &asked {
        questions.entry(text).or_insert((*why, Vec::new())).1.push(call.evidence);
    }
    let questions = questions.into_iter().map(|(text, (why, all))| Proposal::Question {
        line: format!("syscalls = [{text:?}]"),
        why: why.to_owned(),
        evidence: Evidence::sum(all.into_iter()),
    });
    let memory = (!execmem.is_empty()).then(|| {
        let evidence = Evidence::sum(execmem.iter().map(|call| call.evidence));
        let proposal = Proposal::Execmem { evidence };
        match because {
            Some(_) => proposal,
            None => proposal.ask("memory that was written can be run"),
        }
    });
    needs_reason |= memory.as_ref().is_some_and(Proposal::is_grant);
    let reason = because.filter(|_| needs_reason);
    let reason = reason.map(|reason| Proposal::Because { reason: reason.to_owned() });
    reason.into_iter().chain(grants).chain(memory).chain(refusals).chain(questions).collect()
}

fn is_system_v(number: u32) -> bool {
    name_of(number).is_some_and(|name| SYSTEM_V.contains(&name))
}

/// Whether a group that is dangerous has a call.
fn is_warned_of(call: &Call<'_>) -> bool {
    let dangerous = groups().iter().filter(|group| group.dangerous.is_some());
    dangerous
        .map(|group| assemble(&[Item::Group(group)], &[], Implied::Run))
        .any(|plans| allowed(&plans, call))
}

/// What a group grants.
fn group(name: &str) -> Vec<SyscallPlan> {
    let item: Vec<Item> = parse_item(name).into_iter().collect();
    assemble(&item, &[], Implied::Run)
}

/// Whether a layer is told an error for such a call where nothing allows it.
fn is_answered(plans: &[SyscallPlan], number: u32) -> bool {
    plans.iter().any(|plan| plan.number == number && plan.otherwise.is_some())
}

/// The ordinary group that fits best.
fn best(open: &[&Call<'_>], granted: &[SyscallPlan]) -> Option<&'static Group> {
    let named = groups().iter().filter(|group| NAMED.contains(&group.name.as_str()));
    let fitting = named.filter_map(|group| {
        let alone = assemble(&[Item::Group(group)], &[], Implied::Run);
        let kinds = |calls: &mut dyn Iterator<Item = u32>| calls.collect::<BTreeSet<u32>>().len();
        let uses =
            kinds(&mut open.iter().filter(|call| allowed(&alone, call)).map(|call| call.number));
        let adds =
            kinds(&mut alone.iter().filter(|plan| is_new(plan, granted)).map(|it| it.number));
        let fits = uses >= FITS || (uses > 0 && uses * 2 >= adds);
        // The one that adds least of two that are used alike; then by name.
        fits.then_some((std::cmp::Reverse(uses), adds, group))
    });
    fitting.min_by_key(|(uses, adds, group)| (*uses, *adds, &group.name)).map(|(.., group)| group)
}

/// Whether a plan grants something that these don't.
fn is_new(plan: &SyscallPlan, granted: &[SyscallPlan]) -> bool {
    let known: Vec<_> =
        granted.iter().filter(|it| it.number == plan.number).flat_map(|it| &it.allow).collect();
    plan.allow.iter().any(|rule| !known.iter().any(|wide| implies(rule, wide)))
}

/// Takes out what all others together make needless, single calls first.
fn leave_out_needless(taken: &mut Vec<(String, Item)>, missing: &[Call<'_>]) {
    let covered = |items: &[(String, Item)]| {
        let plans = plans(items);
        missing.iter().filter(|call| allowed(&plans, call)).count()
    };
    let whole = covered(taken);
    let mut at = taken.len();
    while at > 0 {
        at -= 1;
        let one = taken.remove(at);
        if covered(taken) < whole {
            taken.insert(at, one);
        }
    }
}

fn plans(items: &[(String, Item)]) -> Vec<SyscallPlan> {
    let items: Vec<Item> = items.iter().map(|(_, item)| item.clone()).collect();
    assemble(&items, &[], Implied::Exec)
}

fn allowed(plans: &[SyscallPlan], call: &Call<'_>) -> bool {
    has(plans, call.number, call.arguments)
}

/// Whether one of the plans permits a call.
fn has(plans: &[SyscallPlan], number: u32, arguments: &[u64; 6]) -> bool {
    plans.iter().any(|plan| plan.number == number && permits(plan, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::check;
    use crate::policy::syscall::by_name;

    fn layer(more: &str) -> LayerPlan {
        let text = format!(
            "cofferdam = 1\nname = \"x\"\n[layer.a]\nexec = [\"/a\"]\nsyscalls = [\"{ALWAYS}\"]\n{more}"
        );
        check("test.toml", text.as_bytes()).plan.unwrap().layers.remove(0)
    }

    fn chosen(calls: &[(&str, [u64; 6])]) -> Vec<String> {
        chosen_by(&layer(""), calls, None)
    }

    fn chosen_by(
        layer: &LayerPlan,
        calls: &[(&str, [u64; 6])],
        because: Option<&str>,
    ) -> Vec<String> {
        let mut seen = Seen::default();
        for (name, arguments) in calls {
            seen.call(by_name(name).unwrap(), *arguments, "/bin/a");
        }
        let text = |proposal| match proposal {
            Proposal::Call { item, .. } => item,
            Proposal::Question { line, .. } => format!("? {line}"),
            other => format!("{other:?}"),
        };
        choose(&seen, layer, because).into_iter().map(text).collect()
    }

    #[test]
    fn what_is_always_granted_is_not_proposed() {
        assert!(chosen(&[("read", [0; 6]), ("epoll_wait", [0; 6])]).is_empty());
    }

    #[test]
    fn a_group_is_taken_where_it_fits_and_a_call_where_none_does() {
        let some = ["unlink", "rename", "mkdir", "ftruncate"].map(|name| (name, [0; 6]));
        assert_eq!(chosen(&some), ["@file-write"]);
        assert_eq!(chosen(&[("unlink", [0; 6])]), ["unlink"]);
        assert_eq!(chosen(&[("ioctl", [0, 0x5421, 0, 0, 0, 0])]), Vec::<String>::new());
    }

    #[test]
    fn what_is_dangerous_is_asked() {
        let asked = chosen(&[("ptrace", [0; 6]), ("ioctl", [0, 0x5412, 0, 0, 0, 0])]);
        // Until it is answered, who asked goes on.
        let [refused, questions @ ..] = &asked[..] else { panic!("{asked:?}") };
        assert!(refused.starts_with("Refuse { call: \"ptrace\", errno: \"EPERM\""), "{refused}");
        let lines = ["? syscalls = [\"ioctl(_, TIOCSTI)\"]", "? syscalls = [\"ptrace\"]"];
        assert_eq!(questions, lines);
    }

    #[test]
    fn objects_of_a_namespace_of_its_own_take_a_reason() {
        let calls = [("shmget", [7, 56, 0o3600, 0, 0, 0])];
        let reason = Some("it demands them");
        let granted = chosen_by(&layer(""), &calls, reason);
        assert_eq!(granted.last().unwrap(), "shmget", "{granted:?}");
        assert!(chosen(&calls).iter().any(|line| line.starts_with('?')));
        // Without such a namespace they are everybody's.
        let shared = chosen_by(&layer("optional = [\"namespace.ipc\"]\n"), &calls, reason);
        assert!(shared.iter().any(|line| line.starts_with('?')), "{shared:?}");
    }
}
