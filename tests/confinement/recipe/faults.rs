//! Each protection taken away by a kernel that refuses its call: the layer must not start, and
//! starts without it where the policy calls it optional (promise P6).
//!
//! The refusing kernel is a filter that the spawn loads before the exec, so it is in force from
//! the child's first instruction.

use std::collections::BTreeMap;

use cofferdam::confine::spaces;
use cofferdam::policy::plan::Protection;
use cofferdam::sys::spawn::{FilterLine, Namespaces};
use libtest_mimic::{Failed, Trial};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::harness::{is_root, order, start};

/// A call that fails, as the condition that its first argument (if any) has one of these values.
type Call = (i64, &'static [u64]);

/// What each protection stands on.
const FAULTS: &[(Protection, Call)] = &[
    (Protection::ParentDeath, (libc::SYS_prctl, &[1])),
    (Protection::CloseDescriptors, (libc::SYS_close_range, &[])),
    (Protection::Session, (libc::SYS_setsid, &[])),
    (Protection::Rlimits, (libc::SYS_prlimit64, &[])),
    (Protection::NamespaceCgroup, (libc::SYS_unshare, &[])),
    (Protection::Root, (libc::SYS_pivot_root, &[])),
    (Protection::Keyring, (libc::SYS_keyctl, &[])),
    (Protection::NotDumpable, (libc::SYS_prctl, &[4])),
    (Protection::Capabilities, (libc::SYS_capset, &[])),
    (Protection::Capabilities, (libc::SYS_prctl, &[24])),
    (Protection::Capabilities, (libc::SYS_prctl, &[47])),
    (Protection::Securebits, (libc::SYS_prctl, &[28])),
    (Protection::Mdwe, (libc::SYS_prctl, &[65])),
    (Protection::LandlockFile, (libc::SYS_landlock_create_ruleset, &[])),
    (Protection::LandlockFile, (libc::SYS_landlock_restrict_self, &[])),
    (Protection::Seccomp, (libc::SYS_seccomp, &[])),
];

/// The same for root alone: an ordinary user's layer doesn't change its user.
const FAULTS_OF_ROOT: &[(Protection, Call)] = &[
    (Protection::Identity, (libc::SYS_setgroups, &[])),
    (Protection::Identity, (libc::SYS_setresgid, &[])),
    (Protection::Identity, (libc::SYS_setresuid, &[])),
];

/// A test for each.
pub(crate) fn trials() -> Vec<Trial> {
    let mut faults = FAULTS.to_vec();
    if is_root() {
        faults.extend(FAULTS_OF_ROOT);
    }
    let mut trials = Vec::new();
    for (protection, (number, values)) in faults {
        let call = syscalls::Sysno::new(usize::try_from(number).expect("a number"))
            .map_or("?", |call| call.name());
        let name = format!("fault::{}-by-{call}{values:?}", protection.name());
        trials.push(Trial::test(name, move || take_away(protection, number, values)));
    }
    for (protection, one) in spaces::FAMILY {
        // A user namespace that an ordinary user's layer lacks takes all others with it.
        if protection != Protection::NamespaceUser {
            let name = format!("fault::{}", protection.name());
            trials.push(Trial::test(name, move || without_namespace(protection, one)));
        }
    }
    trials
}

fn take_away(protection: Protection, number: i64, values: &'static [u64]) -> Result<(), Failed> {
    let filter = refusing(number, values);

    let mut demanded = start("none", &order(), Some(&filter));
    let facts = demanded.facts();
    let refused = facts.0.get("refused").ok_or(format!("it started: {facts:?}"))?;
    if !refused.contains(protection.name()) && protection != Protection::Seccomp {
        return Err(format!("{} isn't named in: {refused}", protection.name()).into());
    }
    demanded.end();

    let mut order = order();
    order.layer.optional = optional(protection);
    let mut optional = start("none", &order, Some(&filter));
    let facts = optional.facts();
    let got = facts.get(&format!("got-{}", protection.name()));
    assert!(got.starts_with("missing"), "{got}");
    assert_eq!(facts.get("missing"), "0");
    optional.end();
    Ok(())
}

/// `protection`, and what can't be had without it.
fn optional(protection: Protection) -> Vec<Protection> {
    let mut list = match protection {
        Protection::LandlockFile => Protection::ALL
            .into_iter()
            .filter(|other| other.name().starts_with("landlock"))
            .collect(),
        // Without limits of the process, nothing stands in for those by cgroup.
        Protection::Rlimits => {
            vec![Protection::Rlimits, Protection::CgroupMemory, Protection::CgroupTasks]
        }
        // Who keeps its capabilities can go back to being root.
        Protection::Capabilities => vec![Protection::Identity, Protection::Capabilities],
        other => vec![other],
    };
    list.sort_unstable();
    list
}

fn without_namespace(protection: Protection, one: Namespaces) -> Result<(), Failed> {
    let mut order = order();
    order.namespaces = order.namespaces.without(one);
    let mut demanded = start("none", &order, None);
    let facts = demanded.facts();
    let refused = facts.0.get("refused").ok_or(format!("it started: {facts:?}"))?;
    assert!(refused.contains(protection.name()), "{refused}");
    demanded.end();

    order.layer.optional = vec![protection];
    if protection == Protection::NamespaceMount {
        order.layer.optional.push(Protection::Root);
    }
    let mut optional = start("none", &order, None);
    let facts = optional.facts();
    assert_eq!(facts.get("missing"), "0");
    assert!(facts.get(&format!("got-{}", protection.name())).starts_with("missing"));
    optional.end();
    Ok(())
}

/// A filter that answers `EPERM` to one call (with one of `values` as its first argument), and
/// lets everything else pass.
pub(crate) fn refusing(number: i64, values: &[u64]) -> Vec<FilterLine> {
    let rule = |value: &u64| {
        let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value)
            .expect("a condition");
        SeccompRule::new(vec![condition]).expect("a rule")
    };
    let rules = BTreeMap::from([(number, values.iter().map(rule).collect())]);
    let arch: TargetArch = std::env::consts::ARCH.try_into().expect("an architecture");
    let errno = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, errno, arch).expect("a filter");
    let program: BpfProgram = filter.try_into().expect("a program");
    program
        .iter()
        .map(|line| FilterLine { code: line.code, jt: line.jt, jf: line.jf, k: line.k })
        .collect()
}
