//! What is said of a refused call: pasted into the policy, it allows exactly that call.

use cofferdam::policy::check;
use cofferdam::policy::plan::{Plan, SyscallPlan};
use cofferdam::policy::syscall::meaning::permits;
use cofferdam::policy::syscall::refused::{
    Closed, Grant, Made, Way, advise, advise_some, describe, granted,
};
use cofferdam::policy::syscall::{Implied, all, by_name, groups};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

/// A layer before it is advised.
#[derive(Clone, Debug)]
struct Before {
    exec: bool,
    groups: Vec<String>,
    appends: bool,
}

impl Before {
    /// Its policy with more items of `syscalls`, and lines.
    fn text(&self, items: &[&str], lines: &str) -> String {
        let program = if self.exec { "exec = [\"/bin/true\"]" } else { "run = \"a\"" };
        let groups = self.groups.iter().map(String::as_str);
        let items: Vec<&str> = groups.chain(items.iter().copied()).collect();
        let file = if self.appends {
            "[file.note]\npath = \"/srv/note\"\ngrant = { a = [\"append\"] }\n"
        } else {
            ""
        };
        format!(
            "cofferdam = 1\nname = \"a\"\n[layer.a]\n{program}\nsyscalls = {items:?}\n{lines}\n{file}"
        )
    }

    fn plan(&self, items: &[&str], lines: &str) -> Plan {
        let text = self.text(items, lines);
        let checked = check("a.toml", text.as_bytes());
        checked.plan.as_ref().unwrap_or_else(|| panic!("{text}\n{}", checked.render(false))).clone()
    }

    fn grant<'a>(&self, calls: &'a [SyscallPlan]) -> Grant<'a> {
        let implied = if self.exec { Implied::Exec } else { Implied::Run };
        Grant { calls, implied, appends: self.appends }
    }
}

fn before() -> impl Strategy<Value = Before> {
    let ordinary = groups().iter().filter(|group| group.dangerous.is_none());
    let names: Vec<String> = ordinary.map(|group| format!("@{}", group.name)).collect();
    (any::<bool>(), subsequence(names, 0..=5), any::<bool>())
        .prop_map(|(exec, groups, appends)| Before { exec, groups, appends: appends && !exec })
}

/// Arguments that choose between acts, by call and place.
const CHOICES: &[(&str, &[usize])] = &[
    ("socket", &[0, 1, 2]),
    ("socketpair", &[0, 1, 2]),
    ("prctl", &[0]),
    ("ioctl", &[1]),
    ("fcntl", &[1]),
    ("setsockopt", &[1, 2]),
    ("getsockopt", &[1, 2]),
    ("openat", &[2]),
    ("open", &[1]),
    ("madvise", &[2]),
    ("kill", &[1]),
    ("tgkill", &[2]),
    ("futex", &[1]),
    ("clone", &[0]),
    ("mmap", &[2, 3]),
    ("mprotect", &[2]),
    ("fchmod", &[1]),
    ("memfd_create", &[1]),
    ("unshare", &[0]),
    ("prlimit64", &[1]),
    ("personality", &[0]),
];

/// Values that calls are made with: small ones, flags, addresses.
fn value() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..128_u64,
        (0..32_u32).prop_map(|bit| 1 << bit),
        (0..32_u32, 0..32_u32).prop_map(|(one, other)| 1 << one | 1 << other),
        any::<u32>().prop_map(u64::from),
        any::<u64>(),
    ]
}

fn made() -> impl Strategy<Value = Made> {
    let any_call = select(all().map(|(number, _)| number).collect::<Vec<_>>());
    let known: Vec<u32> = CHOICES.iter().filter_map(|(call, _)| by_name(call)).collect();
    let number = prop_oneof![any_call, select(known)];
    (number, prop::array::uniform6(value()))
        .prop_map(|(number, arguments)| Made { number, arguments })
}

fn allows(calls: &[SyscallPlan], made: &Made) -> bool {
    let entry = calls.iter().find(|entry| entry.number == made.number);
    entry.is_some_and(|entry| permits(entry, &made.arguments))
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 96,
        ..ProptestConfig::default()
    })]

    #[test]
    fn advice_allows_exactly_the_call(before in before(), made in made(), other in value()) {
        let plan = before.plan(&[], "");
        let calls = &plan.layers[0].syscalls;
        let advice = match advise(&made, &before.grant(calls)) {
            Way::Granted => {
                prop_assert!(allows(calls, &made));
                return Ok(());
            }
            Way::Never(_) => {
                prop_assert!(!allows(calls, &made));
                return Ok(());
            }
            Way::Advice(advice) => advice,
        };
        prop_assert!(!allows(calls, &made));
        // With the reason that it says, and no other.
        let because = advice.because().unwrap_or_default();
        let changed = before.plan(&[&advice.item], &because);
        let after = &changed.layers[0].syscalls;
        prop_assert!(allows(after, &made), "{}", advice.item);
        // Nothing else has changed.
        for entry in calls.iter().filter(|entry| entry.number != made.number) {
            prop_assert!(after.contains(entry));
        }
        prop_assert!(after.len() <= calls.len() + 1);
        for group in &advice.groups {
            let with = before.plan(&[&format!("@{}", group.name)], "");
            prop_assert!(allows(&with.layers[0].syscalls, &made), "@{}", group.name);
        }
        // Another choice is as it was.
        let choices = CHOICES.iter().find(|(call, _)| by_name(call) == Some(made.number));
        for &place in choices.iter().flat_map(|(_, places)| *places) {
            let mut another = made;
            another.arguments[place] = other;
            let low = |value: u64| value & u64::from(u32::MAX);
            if low(other) != low(made.arguments[place]) {
                prop_assert_eq!(
                    allows(after, &another),
                    allows(calls, &another),
                    "{} and {:?}", advice.item, another
                );
            }
        }
    }

    #[test]
    fn advice_without_arguments_helps(before in before(), made in made()) {
        let plan = before.plan(&[], "");
        let calls = &plan.layers[0].syscalls;
        match advise_some(made.number, &before.grant(calls)) {
            Way::Granted => prop_assert!(allows(calls, &made)),
            Way::Never(_) => prop_assert!(!allows(calls, &made)),
            Way::Advice(advice) => {
                let because = advice.because().unwrap_or_default();
                let changed = before.plan(&[&advice.item], &because);
                prop_assert!(changed.layers[0].syscalls != *calls);
                for group in &advice.groups {
                    let with = before.plan(&[&format!("@{}", group.name)], "");
                    prop_assert!(with.layers[0].syscalls != *calls, "@{}", group.name);
                }
            }
        }
    }

    #[test]
    fn any_call_can_be_described(number in 0..600_u32, arguments: [u64; 6]) {
        let told = describe(&Made { number, arguments }, &Closed);
        prop_assert!(told.len() < 400 && !told.contains('\n'), "{}", told);
    }
}

/// What a person pastes, for calls that real programs were refused.
#[test]
fn the_narrowest_text_of_real_calls() {
    let before = Before { exec: false, groups: vec!["@core".to_owned()], appends: false };
    let plan = before.plan(&[], "");
    let calls = &plan.layers[0].syscalls;
    let item = |call: &str, arguments: &[u64]| {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let made = Made { number: by_name(call).unwrap(), arguments: all };
        match advise(&made, &before.grant(calls)) {
            Way::Advice(advice) => {
                let groups: Vec<_> = advice.groups.iter().map(|it| it.name.as_str()).collect();
                (advice.item, groups.join(" "), advice.danger.is_some())
            }
            other => (format!("{other:?}"), String::new(), false),
        }
    };
    let text = |item: &str, groups: &str, danger| (item.to_owned(), groups.to_owned(), danger);
    assert_eq!(item("prctl", &[41, 1]), text("prctl(PR_SET_THP_DISABLE, 1)", "foreign", false));
    assert_eq!(
        item("openat", &[0xffff_ff9c, 0x7fff_0000, 0]),
        text("openat(_, _, O_RDONLY)", "file-read file-write foreign loader", false)
    );
    assert_eq!(
        item("socket", &[2, 1, 0]),
        text("socket(AF_INET, SOCK_STREAM, 0)", "net-connect socket-dial", false)
    );
    // Five groups have the call, and none this form of it.
    assert_eq!(
        item("setsockopt", &[4, 1, 2, 0x7fff_0000, 4]),
        text("setsockopt(_, SOL_SOCKET, SO_REUSEADDR)", "", true)
    );
    assert_eq!(item("fcntl", &[0, 1032]), text("fcntl(_, F_GETPIPE_SZ)", "foreign", false));
    assert_eq!(item("kill", &[7, 15]), text("kill(_, SIGTERM)", "", true));
    assert_eq!(item("uname", &[0x7fff_0000]), text("uname", "loader", false));
    assert_eq!(item("prctl", &[15, 0x7fff_0000]), text("Granted", "", false));
    assert!(item("clone3", &[]).0.starts_with("Never"));
    assert!(item("prctl", &[1, 9]).0.starts_with("Never"));
    assert_eq!(
        granted(by_name("setsockopt").unwrap(), calls),
        ["setsockopt(_, SOL_SOCKET, SO_PASSRIGHTS)"]
    );
}
