//! What holds for every policy that the checker accepts: its filters compile, the kernel loads
//! them, and they answer as the text means.

use std::collections::BTreeMap;

use cofferdam::confine::filter::{Arch, Filter, Verdict, compile};
use cofferdam::policy::check;
use cofferdam::policy::plan::{CallRule, Compare, Plan, Program};
use cofferdam::policy::syscall::meaning::holds;
use cofferdam::policy::syscall::{Item, all, by_name, errno, groups, name_of, parse_item};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::strategy::ValueTree;

/// What a policy's layer asks of its filter.
#[derive(Clone, Debug)]
struct Wish {
    exec: bool,
    syscalls: Vec<String>,
    refuse: BTreeMap<&'static str, &'static str>,
}

/// Calls with arguments that are numbers.
const PLAIN: [&str; 9] =
    ["close", "dup", "fcntl", "socket", "kill", "madvise", "lseek", "fchmod", "clone"];

/// Groups, calls, and calls with conditions; also some that the checker must refuse.
fn item() -> impl Strategy<Value = String> {
    let groups: Vec<_> = groups().iter().map(|group| format!("@{}", group.name)).collect();
    let members: Vec<_> = groups_of_calls().map(str::to_owned).collect();
    let calls: Vec<_> = all().map(|(_, name)| name.to_owned()).collect();
    let check = prop_oneof![
        Just("_".to_owned()),
        (any::<u32>(), select(vec!["", "!= ", "< ", "<= ", "> ", ">= "]))
            .prop_map(|(value, how)| format!("{how}{}", value >> (value % 32))),
        any::<u32>().prop_map(|bits| format!("subset of {bits:#x}")),
        (any::<u32>(), any::<u32>())
            .prop_map(|(mask, bits)| { format!("& {mask:#x} == {:#x}", mask & bits) }),
        prop::collection::btree_set(0..99_u32, 1..4).prop_map(|set| {
            format!("in {{{}}}", set.iter().map(u32::to_string).collect::<Vec<_>>().join(", "))
        }),
    ];
    let conditional = (select(&PLAIN[..]), prop::collection::vec(check, 1..4))
        .prop_map(|(call, checks)| format!("{call}({})", checks.join(", ")));
    prop_oneof![select(groups), select(members), select(calls), conditional]
}

/// Every member of every group, as it is written.
fn groups_of_calls() -> impl Iterator<Item = &'static str> {
    groups().iter().flat_map(|group| &group.members).map(|member| member.text.as_str())
}

fn wish() -> impl Strategy<Value = Wish> {
    let refusals = vec![("openat", "ENOENT"), ("socket", "EACCES"), ("uname", "EPERM")];
    let refuse = subsequence(refusals, 0..=2);
    (any::<bool>(), prop::collection::btree_set(item(), 0..12), refuse).prop_map(
        |(exec, syscalls, refuse)| Wish {
            exec,
            syscalls: syscalls.into_iter().collect(),
            refuse: refuse.into_iter().collect(),
        },
    )
}

impl Wish {
    fn policy(&self) -> String {
        let program = if self.exec { "exec = [\"/bin/true\"]" } else { "run = \"a\"" };
        let refuse: Vec<_> =
            self.refuse.iter().map(|(call, e)| format!("{call} = \"{e}\"")).collect();
        format!(
            "cofferdam = 1\nname = \"a\"\n[layer.a]\n{program}\nbecause = \"a test\"\n\
             syscalls = {:?}\nrefuse = {{ {} }}\n",
            self.syscalls,
            refuse.join(", ")
        )
    }

    fn plan(&self) -> Option<Plan> {
        check("a.toml", self.policy().as_bytes()).plan
    }
}

/// What the text grants, read once more: alternatives by number, and errnos.
struct Text {
    granted: BTreeMap<u32, Vec<CallRule>>,
    refused: BTreeMap<u32, u16>,
}

impl Text {
    fn read(wish: &Wish) -> Self {
        let mut text = Self { granted: BTreeMap::new(), refused: BTreeMap::new() };
        let mut items = wish.syscalls.clone();
        if wish.exec {
            let implied =
                ["@foreign", "@loader", "@same-user", "@signal-inside"].map(str::to_owned);
            items
                .extend(implied.into_iter().chain(["execveat(15, _, _, _, AT_EMPTY_PATH)".into()]));
        }
        for item in &items {
            match parse_item(item).unwrap() {
                Item::Call(call) => {
                    text.granted.entry(call.number).or_default().extend(call.rules);
                }
                Item::Group(group) => {
                    for member in &group.members {
                        let rules = member.call.rules.iter().cloned();
                        text.granted.entry(member.call.number).or_default().extend(rules);
                    }
                    text.refused.extend(group.refuse.iter().copied());
                }
            }
        }
        let refused = wish.refuse.iter();
        text.refused
            .extend(refused.map(|(call, error)| (by_name(call).unwrap(), errno(error).unwrap())));
        // Whatever is granted, for its flags are in memory.
        let clone3 = by_name("clone3").unwrap();
        text.granted.remove(&clone3);
        text.refused.insert(clone3, errno("ENOSYS").unwrap());
        text
    }

    fn means(&self, number: u32, arguments: &[u64; 6]) -> Verdict {
        let passes = |rule: &CallRule| rule.0.iter().all(|condition| holds(condition, arguments));
        if self.granted.get(&number).is_some_and(|rules| rules.iter().any(passes)) {
            Verdict::Allow
        } else {
            let unlisted = match name_of(number) {
                Some(_) => Verdict::Kill,
                None => Verdict::Errno(errno("ENOSYS").unwrap()),
            };
            self.refused.get(&number).map_or(unlisted, |errno| Verdict::Errno(*errno))
        }
    }

    /// Every value that a condition names, and its neighbours.
    fn values(&self) -> Vec<u64> {
        let conditions = self.granted.values().flatten().flat_map(|rule| &rule.0);
        let named = conditions.map(|condition| match condition.compare {
            Compare::Eq(value)
            | Compare::Ne(value)
            | Compare::Lt(value)
            | Compare::Le(value)
            | Compare::Gt(value)
            | Compare::Ge(value)
            | Compare::Masked { value, .. } => value,
        });
        let mut values: Vec<u64> =
            named.flat_map(|value| [value, value.wrapping_add(1), value ^ 1 << 32]).collect();
        values.extend([0, u64::MAX]);
        values.sort_unstable();
        values.dedup();
        values
    }
}

fn filter(plan: &Plan) -> Filter {
    compile(&plan.layers[0].syscalls, Arch::NATIVE).expect("an accepted layer has a filter")
}

/// Loads a filter in a child. The child ends at once, by `SIGSYS` if it may not even exit.
fn loads(filter: &Filter) -> bool {
    const REFUSED: i32 = 9;
    let program: Vec<libc::sock_filter> = filter
        .program()
        .iter()
        .map(|line| libc::sock_filter { code: line.code, jt: line.jt, jf: line.jf, k: line.k })
        .collect();
    let length = u16::try_from(program.len()).unwrap();
    let filter = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the child, which may be one of a process with threads, makes only these calls: they
    // take no lock and allocate nothing. The program that it points to is its own copy.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above.
        unsafe {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
            let mode = libc::SECCOMP_SET_MODE_FILTER;
            let fine = libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::syscall(libc::SYS_seccomp, mode, 0, &raw const filter) == 0;
            libc::_exit(if fine { 0 } else { REFUSED });
        }
    }
    assert!(pid > 0);
    let mut status = 0;
    // SAFETY: the status is ours to be written.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    let ended_by_filter = libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSYS;
    ended_by_filter || libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// Without it the properties could hold of nothing.
#[test]
fn many_of_these_policies_are_accepted() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = (0..100)
        .filter(|_| wish().new_tree(&mut runner).unwrap().current().plan().is_some())
        .count();
    assert!(accepted > 30, "{accepted} of 100");
}

#[test]
fn a_filter_that_is_none_does_not_load() {
    // It loads a word and never answers.
    let filter: Filter = postcard::from_bytes(&[1, 0x20, 0, 0, 0]).unwrap();
    assert!(!loads(&filter));
}

#[test]
fn every_group_at_once_loads() {
    let syscalls = groups().iter().map(|group| format!("@{}", group.name)).collect();
    let wish = Wish { exec: true, syscalls, refuse: BTreeMap::new() };
    let plan = wish.plan().expect("every group, with a reason");
    assert!(matches!(plan.layers[0].program, Program::Exec(_)));
    assert!(loads(&filter(&plan)));
}

#[test]
fn the_most_conditions_that_are_accepted_load() {
    let set = |from: usize| {
        let values: Vec<_> = (from..from + 11).map(|value| value.to_string()).collect();
        format!("in {{{}}}", values.join(", "))
    };
    let wish = |count: usize| Wish {
        exec: false,
        syscalls: (0..count)
            .map(|n| format!("sched_setscheduler({}, {})", set(n * 20), set(1000 + n * 20)))
            .collect(),
        refuse: BTreeMap::new(),
    };
    let most = (1..20).take_while(|count| wish(*count).plan().is_some()).count();
    assert!((3..19).contains(&most), "{most}");
    assert!(loads(&filter(&wish(most).plan().unwrap())));
}

/// What the kernel reads of an `int`.
fn low(argument: u64) -> u64 {
    argument & u64::from(u32::MAX)
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 64,
        ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_is_accepted_compiles_and_loads(wish in wish()) {
        if let Some(plan) = wish.plan() {
            prop_assert!(loads(&filter(&plan)), "{}", wish.policy());
        }
    }

    #[test]
    fn every_number_is_answered_as_the_text_means(wish in wish(), random: [u64; 6]) {
        if let Some(plan) = wish.plan() {
            let (filter, text) = (filter(&plan), Text::read(&wish));
            let mut calls = vec![[0; 6], [u64::MAX; 6], random];
            for (place, value) in text.values().into_iter().enumerate() {
                // The same everywhere, and at one place beside random neighbours.
                calls.push([value; 6]);
                calls.push(random);
                calls.last_mut().unwrap()[place % 6] = value;
            }
            for number in (0..=600).chain([0x3fff_ffff]) {
                for arguments in &calls {
                    // PR_SET_PDEATHSIG is taken out of every grant to a `run` layer: it must not
                    // outlive its supervisor, whatever its policy says of `prctl`.
                    let deathless = by_name("prctl") == Some(number) && low(arguments[0]) == 1;
                    if deathless && !wish.exec {
                        continue;
                    }
                    let found = filter.evaluate(Arch::NATIVE.audit(), number, *arguments);
                    prop_assert_eq!(
                        found, text.means(number, arguments),
                        "{} {:x?}\n{}", number, arguments, wish.policy()
                    );
                }
            }
            for number in [0x4000_0000, 0x4000_0027, u32::MAX] {
                let found = filter.evaluate(Arch::X86_64.audit(), number, random);
                prop_assert_eq!(found, Verdict::Kill);
            }
        }
    }
}
