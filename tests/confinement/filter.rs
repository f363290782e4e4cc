//! The compiled system-call filter against what its plan means, without a kernel.

use cofferdam::confine::filter::{
    Action, Answers, Arch, Filter, FilterError, Verdict, compile, compile_observed, compile_with,
};
use cofferdam::policy::plan::{CallRule, Compare, Condition, SyscallPlan, Width};
use cofferdam::policy::syscall::meaning::permits;
use cofferdam::policy::syscall::{
    Implied, assemble, by_name, errno, groups, init_plan, parse_item,
};
use proptest::prelude::*;

crate::support::suite::tests! {
    every_number_is_answered_as_planned,
    x32_is_killed_even_where_the_rest_is_an_error,
    what_is_observed_is_left_to_the_observer_where_it_is_granted,
    plans_that_cant_be_translated_are_refused,
    a_call_may_have_hundreds_of_alternatives,
    a_filter_survives_the_way_to_its_layer,
    any_filter_answers_as_its_plan_means,
    no_text_makes_the_reader_panic,
}

fn number(name: &str) -> u32 {
    by_name(name).unwrap()
}

fn plan(items: &[&str], refuse: &[(&str, &str)], implied: Implied) -> Vec<SyscallPlan> {
    let items: Vec<_> = items.iter().map(|text| parse_item(text).unwrap()).collect();
    let refuse: Vec<_> =
        refuse.iter().map(|(call, error)| (number(call), errno(error).unwrap())).collect();
    assemble(&items, &refuse, implied)
}

/// Whether an architecture has a call of this number, as far as this build knows.
fn is_known(arch: Arch, number: u32) -> bool {
    let number = usize::try_from(number).unwrap();
    match arch {
        Arch::X86_64 => syscalls::x86_64::Sysno::new(number).is_some(),
        Arch::Aarch64 => syscalls::aarch64::Sysno::new(number).is_some(),
    }
}

/// What a plan means for a call.
fn meaning(plans: &[SyscallPlan], arch: Arch, number: u32, arguments: &[u64; 6]) -> Verdict {
    match plans.iter().find(|plan| plan.number == number) {
        None if !is_known(arch, number) => Verdict::Errno(errno("ENOSYS").unwrap()),
        None => Verdict::Kill,
        Some(plan) if permits(plan, arguments) => Verdict::Allow,
        Some(plan) => plan.otherwise.map_or(Verdict::Kill, Verdict::Errno),
    }
}

fn every_number_is_answered_as_planned() {
    let every: Vec<_> = groups().iter().map(|group| format!("@{}", group.name)).collect();
    let every: Vec<_> = every.iter().map(String::as_str).collect();
    let plans = [
        vec![],
        plan(&["@core"], &[], Implied::Run),
        plan(&["@core", "@net-stream"], &[("openat", "ENOENT"), ("ioctl", "ENOTTY")], Implied::Run),
        plan(&["@file-write", "@thread"], &[], Implied::Exec),
        plan(&every, &[], Implied::Exec),
        init_plan(),
    ];
    for plan in &plans {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let filter = compile(plan, arch).unwrap();
            for number in 0..=1000 {
                for arguments in [[0; 6], [u64::MAX; 6], [1; 6], [2, 1, 6, 0, 0, 0]] {
                    let found = filter.evaluate(arch.audit(), number, arguments);
                    assert_eq!(
                        found,
                        meaning(plan, arch, number, &arguments),
                        "{number} {arguments:x?}"
                    );
                    // AUDIT_ARCH_I386, AUDIT_ARCH_ARM, none.
                    for foreign in [0x4000_0003, 0x4000_0028, 0] {
                        assert_eq!(filter.evaluate(foreign, number, arguments), Verdict::Kill);
                    }
                    let x32 = filter.evaluate(arch.audit(), number | 0x4000_0000, arguments);
                    assert_eq!(x32, Verdict::Kill);
                }
            }
            assert_eq!(filter.evaluate(arch.audit(), u32::MAX, [0; 6]), Verdict::Kill);
        }
    }
}

fn what_is_observed_is_left_to_the_observer_where_it_is_granted() {
    let items = ["@core", "bind", "socket(AF_INET, SOCK_STREAM)", "socket(AF_INET6)"];
    let plan = plan(&items, &[("socket", "EACCES")], Implied::Exec);
    let observed = ["bind", "listen", "socket"].map(number);
    let answers = Answers { unlisted: Action::Kill, observed: &observed, tells: false };
    let filter = compile_observed(&plan, Arch::NATIVE, answers).unwrap();
    assert!(filter.is_observed() && !compile(&plan, Arch::NATIVE).unwrap().is_observed());
    let answer = |call: &str, arguments: [u64; 2]| {
        let [first, second] = arguments;
        filter.evaluate(Arch::NATIVE.audit(), number(call), [first, second, 0, 0, 0, 0])
    };
    assert_eq!(answer("bind", [3, 0]), Verdict::Notify);
    // It isn't granted.
    assert_eq!(answer("listen", [3, 0]), Verdict::Kill);
    // Granted with conditions.
    assert_eq!(answer("socket", [2, 1]), Verdict::Notify);
    assert_eq!(answer("socket", [10, 2]), Verdict::Notify);
    assert_eq!(answer("socket", [2, 2]), Verdict::Errno(13));
    assert_eq!(answer("read", [0, 0]), Verdict::Allow);
}

fn x32_is_killed_even_where_the_rest_is_an_error() {
    let filter = compile_with(&[], Arch::X86_64, Action::Errno(1)).unwrap();
    let audit = Arch::X86_64.audit();
    assert_eq!(filter.evaluate(audit, 39, [0; 6]), Verdict::Errno(1));
    assert_eq!(filter.evaluate(audit, 0x3fff_ffff, [0; 6]), Verdict::Errno(38));
    assert_eq!(filter.evaluate(audit, 0x4000_0000, [0; 6]), Verdict::Kill);
    assert_eq!(filter.evaluate(audit, 0x4000_0027, [0; 6]), Verdict::Kill);
}

fn plans_that_cant_be_translated_are_refused() {
    let entry = |number, conditions: Vec<Condition>| SyscallPlan {
        number,
        allow: vec![CallRule(conditions)],
        otherwise: None,
    };
    let on = |argument, width, compare| Condition { argument, width, compare };
    let error = |plans: &[SyscallPlan]| compile(plans, Arch::X86_64).unwrap_err();
    let (word, eq) = (Width::Dword, Compare::Eq(1));
    assert_eq!(error(&[entry(0x4000_0001, vec![])]), FilterError::Number(0x4000_0001));
    assert_eq!(error(&[entry(7, vec![]), entry(7, vec![])]), FilterError::Twice(7));
    assert_eq!(error(&[entry(7, vec![on(6, word, eq)])]), FilterError::Argument(7, 6));
    let wide = Compare::Lt(1 << 32);
    assert_eq!(error(&[entry(7, vec![on(0, word, wide)])]), FilterError::Value(7, 1 << 32));
    let void = Compare::Masked { mask: 1, value: 2 };
    assert_eq!(error(&[entry(7, vec![on(0, word, void)])]), FilterError::Value(7, 2));
    let nothing = SyscallPlan { number: 7, allow: vec![], otherwise: Some(0) };
    assert_eq!(error(&[nothing]), FilterError::Errno(7, 0));
    let long = (0..200).map(|value| on(0, word, Compare::Ne(value))).collect();
    assert!(compile(&[entry(7, long)], Arch::X86_64).is_ok());
    let far = (0..200).map(|value| on(0, Width::Qword, Compare::Ne(value))).collect();
    assert_eq!(error(&[entry(7, far)]), FilterError::Rule(7));
    let many: Vec<_> = (0..1000)
        .map(|number| entry(number, vec![on(0, Width::Qword, Compare::Lt(u64::from(number)))]))
        .collect();
    assert!(matches!(error(&many), FilterError::TooLong(_)));
}

fn a_call_may_have_hundreds_of_alternatives() {
    let on =
        |argument, value| Condition { argument, width: Width::Dword, compare: Compare::Eq(value) };
    for shared in [false, true] {
        let rule = |value| {
            let first = shared.then(|| on(0, 1));
            CallRule(first.into_iter().chain([on(1, value)]).collect())
        };
        let allow = (0..300).map(|value| rule(2 * value)).collect();
        let plan = [SyscallPlan { number: 7, allow, otherwise: Some(2) }];
        let filter = compile(&plan, Arch::X86_64).unwrap();
        for value in 0..=600 {
            let arguments = [1, value, 0, 0, 0, 0];
            let found = filter.evaluate(Arch::X86_64.audit(), 7, arguments);
            assert_eq!(found, meaning(&plan, Arch::X86_64, 7, &arguments), "{value}");
        }
        assert_eq!(filter.evaluate(Arch::X86_64.audit(), 8, [0; 6]), Verdict::Kill);
    }
}

fn a_filter_survives_the_way_to_its_layer() {
    let filter = compile(&plan(&["@core"], &[], Implied::Run), Arch::NATIVE).unwrap();
    let bytes = postcard::to_stdvec(&filter).unwrap();
    assert_eq!(postcard::from_bytes::<Filter>(&bytes).unwrap(), filter);
}

/// Values on which comparisons of halves and of signs go wrong.
fn value() -> impl Strategy<Value = u64> {
    let edges = vec![
        0,
        1,
        2,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_fffe,
        0xffff_ffff,
        1 << 32,
        (1 << 32) + 1,
        0x7fff_ffff_ffff_ffff,
        1 << 63,
        u64::MAX - 1,
        u64::MAX,
    ];
    prop_oneof![4 => prop::sample::select(edges), 2 => 0..8_u64, 1 => any::<u64>()]
}

fn condition() -> impl Strategy<Value = Condition> {
    (0..6_u8, any::<bool>(), 0..7, value(), value()).prop_map(|(argument, wide, kind, a, b)| {
        let width = if wide { Width::Qword } else { Width::Dword };
        let cut = if wide { u64::MAX } else { 0xffff_ffff };
        let (a, b) = (a & cut, b & cut);
        let compare = match kind {
            0 => Compare::Eq(a),
            1 => Compare::Ne(a),
            2 => Compare::Lt(a),
            3 => Compare::Le(a),
            4 => Compare::Gt(a),
            5 => Compare::Ge(a),
            _ => Compare::Masked { mask: a, value: a & b },
        };
        Condition { argument, width, compare }
    })
}

fn plans() -> impl Strategy<Value = Vec<SyscallPlan>> {
    let rule = prop::collection::vec(condition(), 0..4).prop_map(CallRule);
    // Rules that begin alike share code, so make some.
    let rules = (prop::collection::vec((rule, any::<bool>()), 0..6), condition()).prop_map(
        |(rules, first)| -> Vec<CallRule> {
            let begin = |(mut rule, alike): (CallRule, bool)| {
                if alike {
                    rule.0.insert(0, first);
                }
                rule
            };
            let mut rules: Vec<_> = rules.into_iter().map(begin).collect();
            rules.sort_unstable();
            rules
        },
    );
    let entry = (rules, prop::option::of(1..4096_u16));
    prop::collection::btree_map(0..40_u32, entry, 0..20).prop_map(|entries| {
        entries
            .into_iter()
            .map(|(number, (allow, otherwise))| SyscallPlan { number, allow, otherwise })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    fn any_filter_answers_as_its_plan_means(
        plans in plans(),
        calls in prop::collection::vec((0..42_u32, prop::array::uniform6(value())), 60),
    ) {
        let filter = compile(&plans, Arch::X86_64).unwrap();
        for (number, arguments) in calls {
            let found = filter.evaluate(Arch::X86_64.audit(), number, arguments);
            prop_assert_eq!(found, meaning(&plans, Arch::X86_64, number, &arguments));
        }
    }

    fn no_text_makes_the_reader_panic(text in "[@a-z_]{0,12}[ (){},|&~<>=!0-9A-Z_x-]{0,40}") {
        if let Err(error) = parse_item(&text) {
            let span = error.span();
            prop_assert!(span.start <= span.end && span.end <= text.len());
            prop_assert!(text.get(span).is_some());
            prop_assert!(!error.to_string().is_empty());
        }
    }
}
