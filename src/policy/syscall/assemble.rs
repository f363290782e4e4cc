//! From the items of a policy to one plan entry for each system call.

use std::collections::BTreeMap;

use super::call::CallItem;
use super::groups::{self, groups};
use super::meaning::implies;
use super::{EXEC_FD, Implied, Item, names};
use crate::policy::plan::{CallRule, Compare, Condition, SyscallPlan, Width};

/// Joins grants and refusals into entries sorted by number.
///
/// - Several grants of one call are alternatives; an unconditional one absorbs all others.
/// - A refusal says what is answered where no grant holds. A call that is only refused has no
///   rule. The last refusal of a number counts.
/// - `clone3` keeps its flags in memory, where no filter looks, so it always answers `ENOSYS`,
///   whatever is granted: C libraries then use `clone`, whose flags are checked.
/// - The parent-death signal of a [`Implied::Run`] layer is what ends it with its supervisor, so no
///   grant of `prctl` lets it take that back. The program of an `exec` layer has an init above it
///   that keeps its own.
/// - [`Implied::Exec`] adds what a program needs to start and takes for granted: the groups
///   `@loader` and `@foreign`, and the `execveat` of [`EXEC_FD`].
/// - Of two groups that refuse a call the later one counts, and what a layer's policy says counts
///   before all of them.
pub fn assemble(grants: &[Item], refusals: &[(u32, u16)], implied: Implied) -> Vec<SyscallPlan> {
    let mut calls = Assembly::default();
    for item in grants {
        match item {
            Item::Group(group) => calls.group(group),
            Item::Call(call) => calls.grant(call),
        }
    }
    if implied == Implied::Exec {
        for group in groups().iter().filter(|it| matches!(it.name.as_str(), "loader" | "foreign")) {
            calls.group(group);
        }
        if let Some(number) = names::by_name("execveat") {
            calls.0.entry(number).or_default().0.push(launch());
        }
    }
    if implied == Implied::Run {
        calls.keep_parent_death();
    }
    for &(number, errno) in refusals {
        calls.0.entry(number).or_default().1 = Some(errno);
    }
    if let (Some(clone3), enosys) = (names::by_name("clone3"), names::errno("ENOSYS")) {
        calls.0.insert(clone3, (Vec::new(), enosys));
    }
    calls.finish()
}

/// The plan of the tiny init of an `exec` layer: it waits for its program, forwards signals to it
/// within the pid namespace, answers the calls that the program's filter leaves to it, and talks on
/// the control socket. It opens nothing, starts nothing.
pub fn init_plan() -> Vec<SyscallPlan> {
    let mut calls = Assembly::default();
    let is_its = |name: &str| matches!(name, "core" | "init" | "observer");
    for group in groups().iter().filter(|group| is_its(&group.name)) {
        calls.group(group);
    }
    if let (Some(clone3), enosys) = (names::by_name("clone3"), names::errno("ENOSYS")) {
        calls.0.insert(clone3, (Vec::new(), enosys));
    }
    calls.finish()
}

/// The plan of an init that starts its program anew for each connection: what the init of one program
/// may, what starting takes, and all that the program may, for it gets its own filter on top of this
/// one. What that refuses is its answer to give: so this one gives no errno of its own.
pub fn spawner_plan(program: &[SyscallPlan]) -> Vec<SyscallPlan> {
    let mut calls = Assembly::default();
    for plan in program.iter().filter(|plan| !plan.allow.is_empty()) {
        calls.0.insert(plan.number, (plan.allow.clone(), None));
    }
    let is_its = |name: &str| matches!(name, "core" | "init" | "inetd" | "observer");
    for group in groups().iter().filter(|group| is_its(&group.name)) {
        for member in &group.members {
            calls.grant(&member.call);
        }
    }
    calls.finish()
}

/// Narrows what a layer may do that holds descriptors for appending alone: `O_APPEND` is a flag of
/// the descriptor, so no call may take it off (fcntl(2)), pass over it (`RWF_NOAPPEND`,
/// pwritev2(2)) or cut a hole before the end (fallocate(2)).
pub fn keep_append(plans: &mut [SyscallPlan]) {
    let command = |compare| Condition { argument: 1, width: Width::Dword, compare };
    for plan in plans {
        let mut narrowed = Vec::new();
        for mut rule in std::mem::take(&mut plan.allow) {
            match names::name_of(plan.number) {
                Some("fcntl") => {
                    let is_other = |it: &Condition| {
                        it.argument == 1 && matches!(it.compare, Compare::Eq(it) if it != F_SETFL)
                    };
                    if !rule.0.iter().any(is_other) {
                        let set = command(Compare::Eq(F_SETFL));
                        if !rule.0.contains(&set) {
                            let mut rest = rule.clone();
                            rest.0.push(command(Compare::Ne(F_SETFL)));
                            narrowed.push(rest);
                            rule.0.push(set);
                        }
                        demand(&mut rule, 2, O_APPEND, O_APPEND);
                    }
                }
                Some("pwritev2") => demand(&mut rule, 5, RWF_NOAPPEND, 0),
                Some("fallocate") => {
                    demand(&mut rule, 1, u64::from(u32::MAX) & !FALLOC_FL_KEEP_SIZE, 0);
                }
                _ => {}
            }
            narrowed.push(rule);
        }
        plan.allow = widest(narrowed);
    }
}

/// Adds `argument & mask == value` to a rule, as one condition with what it has of that kind.
fn demand(rule: &mut CallRule, argument: u8, mask: u64, value: u64) {
    for condition in &mut rule.0 {
        if let (true, Compare::Masked { mask: old, value: held }) =
            (condition.argument == argument, &mut condition.compare)
            && *held & mask == value & *old
        {
            (*old, *held) = (*old | mask, *held | value);
            return;
        }
    }
    let compare = Compare::Masked { mask, value };
    rule.0.push(Condition { argument, width: Width::Dword, compare });
}

/// fcntl(2), open(2), pwritev2(2), fallocate(2), of the kernel's interface on every architecture.
const F_SETFL: u64 = 4;
const O_APPEND: u64 = 0o2000;
const RWF_NOAPPEND: u64 = 0x20;
const FALLOC_FL_KEEP_SIZE: u64 = 1;

/// Why an item needs a `because`: it belongs to no group, or to dangerous ones only, or it grants
/// more of a call than the ordinary groups do.
pub fn is_dangerous(item: &Item) -> Option<&'static str> {
    let call = match item {
        Item::Group(group) => return group.dangerous.as_deref(),
        Item::Call(call) => call,
    };
    let granted = |dangerous: bool| {
        groups()
            .iter()
            .filter(move |group| group.dangerous.is_some() == dangerous)
            .flat_map(|group| group.members.iter().map(move |member| (group, member)))
            .filter(|(_, member)| member.call.number == call.number)
    };
    let ordinary: Vec<&CallRule> =
        granted(false).flat_map(|(_, member)| &member.call.rules).collect();
    if call.rules.iter().all(|rule| ordinary.iter().any(|wider| implies(rule, wider))) {
        return None;
    }
    if !ordinary.is_empty() {
        return Some("it grants more of this call than the ordinary groups do");
    }
    match granted(true).next() {
        Some((group, member)) => member.note.as_deref().or(group.dangerous.as_deref()),
        None => Some("it is in no group of system calls"),
    }
}

/// `execveat(EXEC_FD, _, _, _, AT_EMPTY_PATH)`.
///
/// The path can't be looked at, and an absolute one overrides the descriptor: so what can be
/// started is bounded by the layer's view and its Landlock rules, and not by this rule.
fn launch() -> CallRule {
    let equal =
        |argument, value| Condition { argument, width: Width::Dword, compare: Compare::Eq(value) };
    CallRule(vec![equal(0, u64::from(EXEC_FD.unsigned_abs())), equal(4, AT_EMPTY_PATH)])
}

/// prctl(2), likewise.
const PR_SET_PDEATHSIG: u64 = 1;

/// open(2), of the kernel's interface on every architecture.
const AT_EMPTY_PATH: u64 = 0x1000;

/// What is granted, and the refusal, by number.
#[derive(Default)]
struct Assembly(BTreeMap<u32, (Vec<CallRule>, Option<u16>)>);

impl Assembly {
    fn group(&mut self, group: &groups::Group) {
        for member in &group.members {
            self.grant(&member.call);
        }
        for &(number, errno) in &group.refuse {
            self.0.entry(number).or_default().1 = Some(errno);
        }
    }

    fn grant(&mut self, call: &CallItem) {
        self.0.entry(call.number).or_default().0.extend(call.rules.iter().cloned());
    }

    /// Takes `prctl(PR_SET_PDEATHSIG)` out of what is granted.
    fn keep_parent_death(&mut self) {
        let prctl = names::by_name("prctl").and_then(|number| self.0.get_mut(&number));
        let Some((rules, _)) = prctl else { return };
        let option = |compare| Condition { argument: 0, width: Width::Dword, compare };
        rules.retain(|rule| !rule.0.contains(&option(Compare::Eq(PR_SET_PDEATHSIG))));
        let is_other = |condition: &Condition| {
            condition.argument == 0 && matches!(condition.compare, Compare::Eq(_))
        };
        for rule in rules.iter_mut().filter(|rule| !rule.0.iter().any(is_other)) {
            rule.0.push(option(Compare::Ne(PR_SET_PDEATHSIG)));
        }
    }

    fn finish(self) -> Vec<SyscallPlan> {
        self.0
            .into_iter()
            .map(|(number, (rules, otherwise))| {
                let allow = widest(rules);
                // What is always granted is never answered.
                let otherwise = otherwise.filter(|_| !allow.iter().any(|rule| rule.0.is_empty()));
                SyscallPlan { number, allow, otherwise }
            })
            .collect()
    }
}

/// Drops every rule that another one covers, and sorts the rest, so equal grants are equal plans.
fn widest(mut rules: Vec<CallRule>) -> Vec<CallRule> {
    for rule in &mut rules {
        rule.0.sort_unstable();
        rule.0.dedup();
    }
    rules.sort_unstable();
    rules.dedup();
    let covered = |at: usize| {
        rules.iter().enumerate().any(|(other, wider)| {
            other != at
                && implies(&rules[at], wider)
                // Of two that cover each other, the first stays.
                && (!implies(wider, &rules[at]) || other < at)
        })
    };
    (0..rules.len()).filter(|&at| !covered(at)).map(|at| rules[at].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::parse_item;
    use super::*;

    fn plan(items: &[&str]) -> Vec<SyscallPlan> {
        let items: Vec<_> = items.iter().map(|text| parse_item(text).unwrap()).collect();
        assemble(&items, &[(names::by_name("openat").unwrap(), 2)], Implied::Run)
    }

    fn entry<'a>(plan: &'a [SyscallPlan], name: &str) -> &'a SyscallPlan {
        let number = names::by_name(name).unwrap();
        plan.iter().find(|entry| entry.number == number).unwrap()
    }

    #[test]
    fn entries_are_sorted_and_single() {
        let plan = plan(&["@core", "@loader", "@thread", "read", "@core"]);
        assert!(plan.is_sorted_by(|a, b| a.number < b.number));
    }

    #[test]
    fn an_unconditional_grant_absorbs() {
        let plan = plan(&["ioctl(_, FIONREAD)", "ioctl", "ioctl(_, FIONBIO)"]);
        assert_eq!(entry(&plan, "ioctl").allow, [CallRule(vec![])]);
    }

    #[test]
    fn conditions_are_alternatives_and_covered_ones_go() {
        let plan = plan(&["dup(<= 5)", "dup(3)", "dup(9)", "dup(9)"]);
        assert_eq!(entry(&plan, "dup").allow.len(), 2);
    }

    #[test]
    fn a_refusal_alone_has_no_rule_and_clone3_is_unknown() {
        let plan = plan(&["clone3"]);
        let refused = entry(&plan, "openat");
        assert_eq!((refused.allow.len(), refused.otherwise), (0, Some(2)));
        let clone3 = entry(&plan, "clone3");
        assert_eq!((clone3.allow.len(), clone3.otherwise), (0, names::errno("ENOSYS")));
    }

    #[test]
    fn no_grant_lets_a_layer_outlive_its_supervisor() {
        let allows = |plan: &[SyscallPlan], option| {
            entry(plan, "prctl").allow.iter().any(|rule| {
                rule.0.iter().filter(|c| c.argument == 0).all(|c| match c.compare {
                    Compare::Eq(value) => value == option,
                    Compare::Ne(value) => value != option,
                    _ => panic!("{c:?}"),
                })
            })
        };
        for items in [&["prctl"][..], &["@core", "prctl(PR_SET_PDEATHSIG)"], &["@privilege"]] {
            assert!(!allows(&plan(items), PR_SET_PDEATHSIG), "{items:?}");
        }
        assert!(allows(&plan(&["prctl"]), 2) && allows(&plan(&["@core"]), 3));
        let items = [parse_item("prctl").unwrap()];
        assert!(allows(&assemble(&items, &[], Implied::Exec), PR_SET_PDEATHSIG));
    }

    #[test]
    fn an_appender_never_takes_the_flag_off() {
        let items = ["@core", "@file-write", "fcntl"].map(|text| parse_item(text).unwrap());
        let mut narrowed = assemble(&items, &[], Implied::Run);
        keep_append(&mut narrowed);
        let once = narrowed.clone();
        keep_append(&mut narrowed);
        assert_eq!(once, narrowed);
        for rule in &entry(&narrowed, "fcntl").allow {
            let of = |argument| rule.0.iter().find(|it| it.argument == argument).unwrap().compare;
            match of(1) {
                Compare::Ne(F_SETFL) => {}
                Compare::Eq(F_SETFL) => {
                    let Compare::Masked { mask, value } = of(2) else { panic!("{rule:?}") };
                    assert_eq!((mask & O_APPEND, value & O_APPEND), (O_APPEND, O_APPEND));
                }
                other => panic!("{other:?}"),
            }
        }
        let Compare::Masked { mask, value } = entry(&narrowed, "fallocate").allow[0].0[0].compare
        else {
            panic!("no mask")
        };
        assert_eq!((mask & 2, value), (2, 0));
    }

    #[test]
    fn exec_implies_the_loader_and_one_execveat() {
        let plan = assemble(&[], &[], Implied::Exec);
        assert_eq!(entry(&plan, "execveat").allow, [launch()]);
        assert!(!entry(&plan, "mmap").allow.is_empty());
        assert!(!plan.iter().any(|entry| Some(entry.number) == names::by_name("execve")));
        assert_eq!(entry(&plan, "socket").otherwise, names::errno("EACCES"));
    }

    #[test]
    fn danger_is_measured_by_the_groups() {
        let danger = |text: &str| is_dangerous(&parse_item(text).unwrap());
        assert_eq!(danger("@core"), None);
        assert_eq!(danger("read"), None);
        assert_eq!(danger("ioctl(_, FIONREAD)"), None);
        assert_eq!(danger("mmap(_, _, PROT_READ|PROT_WRITE)"), None);
        assert_eq!(danger("mmap(_, _, PROT_READ)"), None);
        for text in [
            "fcntl",
            "mmap",
            "mprotect(_, _, PROT_EXEC|PROT_READ)",
            "@debug",
            "ptrace",
            "io_uring_setup",
            "socketpair(AF_UNIX, SOCK_DGRAM)",
            "setsockopt(_, IPPROTO_IPV6, 1)",
            "sendto(_, _, _, MSG_FASTOPEN, 0)",
            "socket(AF_NETLINK)",
            "clone",
            "ioctl(_, TIOCSTI)",
            "execve",
            "get_mempolicy",
        ] {
            assert!(danger(text).is_some(), "{text}");
        }
    }
}
