//! The system-call filter: from plan entries to a program that the kernel runs at every call.
//!
//! - `link` makes the program, with `rules` for conditions on arguments, and refuses what it can't
//!   translate exactly;
//! - [`evaluate`] runs a program as the kernel does, so that a filter is checked without one;
//! - [`supervisor`] is the filter of the supervisor itself.
//!
//! Every filter first kills calls of a foreign architecture (`int 0x80` on x86-64, threat A1) and
//! of the x32 interface (A2), then finds the call's number by binary search. What is not listed
//! ends the process: never only the thread, which would leave its locks held (A9). A number that is
//! younger than this program, or has never had a call, answers `ENOSYS` (A10).
//!
//! Two numbers pass every filter by the kernel's design, whatever it says: `uretprobe` (335) and
//! `uprobe` (336) of x86-64. Outside the kernel's own trampolines they do nothing (A7).

mod emit;
pub mod evaluate;
mod link;
mod rules;
pub mod supervisor;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use evaluate::Verdict;
pub use supervisor::supervisor_filter;

use crate::policy::plan::SyscallPlan;
use crate::policy::syscall::by_name;
use crate::policy::syscall::meaning::permits;
use crate::sys::spawn::FilterLine;

/// A compiled filter, ready to be loaded.
///
/// It is made before the first layer starts, and travels to the layer in its slice of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    program: Vec<Instruction>,
}

/// One instruction of classic BPF, as `struct sock_filter` of `linux/filter.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// The operation.
    pub code: u16,
    /// How many instructions to skip if a comparison is true.
    pub jt: u8,
    /// How many instructions to skip if it is false.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// An architecture whose calls a filter judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// x86-64, without x32.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// The architecture of this program.
    pub const NATIVE: Self =
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// The kernel's name for it, `AUDIT_ARCH_*` of `linux/audit.h`.
    pub const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Whether this program knows a call of this number.
    fn knows(self, number: u32) -> bool {
        let number = number as usize;
        match self {
            Self::X86_64 => syscalls::x86_64::Sysno::new(number).is_some(),
            Self::Aarch64 => syscalls::aarch64::Sysno::new(number).is_some(),
        }
    }

    /// The numbers from which on calls are known, or aren't: 0, and where that changes.
    fn edges(self) -> Vec<u32> {
        let last = match self {
            Self::X86_64 => syscalls::x86_64::Sysno::last().id(),
            Self::Aarch64 => syscalls::aarch64::Sysno::last().id(),
        };
        let last = u32::try_from(last).unwrap_or(0);
        let changes = |&number: &u32| number == 0 || self.knows(number) != self.knows(number - 1);
        (0..=last + 1).filter(changes).collect()
    }

    /// The answer to a number that no plan entry names.
    fn unplanned(self, number: u32, unlisted: Action) -> Action {
        if self.knows(number) { unlisted } else { Action::Errno(ENOSYS) }
    }
}

/// errno(3), of the kernel's interface on every architecture.
const ENOSYS: u16 = 38;

/// What a filter answers to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The call is carried out.
    Allow,
    /// It is not, and returns this error.
    Errno(u16),
    /// It is not, and returns `ENOSYS`, where no other filter of the process answers more strictly:
    /// one that leaves it to an observer does. Who debugs the process is asked first
    /// (`SECCOMP_RET_TRACE`, seccomp(2)).
    Trace,
    /// It waits until who observes the process has answered it (`seccomp_unotify(2)`); where nobody
    /// does, it fails with `ENOSYS`.
    Notify,
    /// The process ends with `SIGSYS`.
    Kill,
}

/// Why a plan can't be made a filter. Every one is a mistake of whoever made the plan: the checker
/// makes none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No architecture has such a number.
    #[error("there is no system call {0:#x}")]
    Number(u32),
    /// Two entries for one number.
    #[error("system call {0} is planned twice")]
    Twice(u32),
    /// A condition on an argument after the sixth.
    #[error("system call {0}: a condition is on argument {1}, the last one is 5")]
    Argument(u32, u8),
    /// A condition's value has bits outside its width or its mask.
    #[error("system call {0}: the value {1:#x} of a condition is wider than what it looks at")]
    Value(u32, u64),
    /// An error number that the kernel would change: 0 or above 4095.
    #[error("system call {0}: {1} is no error")]
    Errno(u32, u16),
    /// A rule with so many conditions that its jumps don't reach.
    #[error("system call {0}: one rule has too many conditions")]
    Rule(u32),
    /// More than [`Filter::MAX`] instructions.
    #[error("the filter has {0} instructions, the kernel takes {max}", max = Filter::MAX)]
    TooLong(usize),
    /// The program answers otherwise than its plan: a fault in the linker, found before use.
    #[error("the filter answers system call {0} otherwise than planned")]
    Disagrees(u32),
}

/// What a filter answers besides the errnos that its plan states.
#[derive(Clone, Copy, Debug)]
pub struct Answers<'a> {
    /// To calls that are not listed.
    pub unlisted: Action,
    /// These calls, by number, are left to who observes the process, where they are granted.
    pub observed: &'a [u32],
    /// Whether every call that is refused is left to the observer too, which then gives it the
    /// answer of a filter that leaves it none.
    pub tells: bool,
}

impl Answers<'_> {
    /// The answer to a call where a rule holds.
    fn granted(&self, number: u32) -> Action {
        if self.observed.contains(&number) { Action::Notify } else { Action::Allow }
    }

    /// The answer to a call that is listed, where no rule holds and its plan names no errno. A filter
    /// that yields to others yields here too.
    fn unmet(&self) -> Action {
        if self.unlisted == Action::Trace { Action::Trace } else { Action::Kill }
    }

    /// The answer to a call of that number where none does, or that is of no interface that a policy
    /// grants. `clone3` is never granted, C libraries go on without it, and each new thread begins
    /// with it: so nobody is asked.
    fn refused(&self, number: Option<u32>, answer: Action) -> Action {
        let is_quiet = || number.is_some() && number == by_name("clone3");
        if self.tells && !is_quiet() { Action::Notify } else { answer }
    }
}

/// Compiles a layer's filter: a call that is not listed ends the process, and one that is unknown
/// here answers `ENOSYS`.
pub fn compile(plans: &[SyscallPlan], arch: Arch) -> Result<Filter, FilterError> {
    compile_with(plans, arch, Action::Kill)
}

/// Compiles a filter with this answer to calls that are known and not listed; nobody observes the
/// process.
pub fn compile_with(
    plans: &[SyscallPlan],
    arch: Arch,
    unlisted: Action,
) -> Result<Filter, FilterError> {
    compile_observed(plans, arch, Answers { unlisted, observed: &[], tells: false })
}

/// Compiles a filter that leaves some calls to an observer.
///
/// The result is checked against the plan before it is returned; see [`FilterError::Disagrees`].
pub fn compile_observed(
    plans: &[SyscallPlan],
    arch: Arch,
    answers: Answers<'_>,
) -> Result<Filter, FilterError> {
    let filter = Filter { program: link::link(plans, arch, answers)? };
    if filter.len() > Filter::MAX {
        return Err(FilterError::TooLong(filter.len()));
    }
    for plan in plans {
        verify(&filter, plan, arch, answers)?;
    }
    verify_gaps(&filter, plans, arch, answers)?;
    Ok(filter)
}

impl Filter {
    /// The longest program, in instructions: `BPF_MAXINSNS` of `linux/bpf_common.h`.
    pub const MAX: usize = 4096;

    /// How many instructions it has.
    pub fn len(&self) -> usize {
        self.program.len()
    }

    /// Whether it has none, as no compiled filter has.
    pub fn is_empty(&self) -> bool {
        self.program.is_empty()
    }

    /// Its instructions.
    pub fn program(&self) -> &[Instruction] {
        &self.program
    }

    /// What it answers to a call: `arch` as [`Arch::audit`], the number and the six arguments.
    pub fn evaluate(&self, arch: u32, number: u32, arguments: [u64; 6]) -> Verdict {
        evaluate::run(&self.program, arch, number, &arguments)
    }

    /// Whether it leaves some call to who observes the process.
    pub fn is_observed(&self) -> bool {
        self.program.contains(&emit::answer(Action::Notify))
    }

    /// The instructions as the kernel's `struct sock_filter`, for a child that loads them itself.
    pub fn lines(&self) -> Vec<FilterLine> {
        let line = |&Instruction { code, jt, jf, k }| FilterLine { code, jt, jf, k };
        self.program.iter().map(line).collect()
    }

    /// The same, with what is left to an observer allowed. Only of one that [tells](Answers::tells)
    /// nothing: else that is all that it refuses.
    pub fn unobserved(&self) -> Vec<FilterLine> {
        let [asks, allows] = [Action::Notify, Action::Allow].map(emit::answer);
        let swapped = |it: &Instruction| if *it == asks { allows } else { *it };
        Self { program: self.program.iter().map(swapped).collect() }.lines()
    }

    /// The same, with the question to an observer in the place of an errno: so that calls outside of
    /// their conditions are asked about, and not those within.
    pub fn asking(&self, errno: u16) -> Vec<FilterLine> {
        let [asks, answers] = [Action::Errno(errno), Action::Notify].map(emit::answer);
        let swapped = |it: &Instruction| if *it == asks { answers } else { *it };
        let program = self.program.iter().map(swapped).collect();
        Self { program }.lines()
    }

    /// Loads it into every thread of this process, for good.
    ///
    /// All threads get the filter or none does (`SECCOMP_FILTER_FLAG_TSYNC`, seccomp(2)). Sets
    /// `no_new_privs`, without which the kernel would refuse.
    pub fn load(&self) -> Result<(), LoadError> {
        let line = |&Instruction { code, jt, jf, k }| seccompiler::sock_filter { code, jt, jf, k };
        let program: Vec<_> = self.program.iter().map(line).collect();
        seccompiler::apply_filter_all_threads(&program).map_err(LoadError)
    }
}

/// The kernel refused the filter.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused the system-call filter: {0}")]
pub struct LoadError(#[source] seccompiler::Error);

/// Runs the filter on calls around every value that an entry's conditions name, and compares the
/// answers with what the entry means.
fn verify(
    filter: &Filter,
    plan: &SyscallPlan,
    arch: Arch,
    answers: Answers<'_>,
) -> Result<(), FilterError> {
    let granted = answers.granted(plan.number);
    let refused = plan.otherwise.map_or(answers.unmet(), Action::Errno);
    let refused = answers.refused(Some(plan.number), refused);
    for arguments in probes(plan) {
        let expected = if permits(plan, &arguments) { granted } else { refused };
        if filter.evaluate(arch.audit(), plan.number, arguments) != Verdict::from(expected) {
            return Err(FilterError::Disagrees(plan.number));
        }
    }
    Ok(())
}

/// Checks the answer to the numbers next to planned ones, at the ends of what is known, and to the
/// first and the last.
fn verify_gaps(
    filter: &Filter,
    plans: &[SyscallPlan],
    arch: Arch,
    answers: Answers<'_>,
) -> Result<(), FilterError> {
    let planned: BTreeSet<u32> = plans.iter().map(|plan| plan.number).collect();
    planned
        .iter()
        .copied()
        .chain(arch.edges())
        .flat_map(|number| [number.saturating_sub(1), number, number + 1])
        .chain([0, link::LAST_NUMBER])
        .filter(|number| *number <= link::LAST_NUMBER && !planned.contains(number))
        .find(|&number| {
            let answer = filter.evaluate(arch.audit(), number, [0; 6]);
            let planned = arch.unplanned(number, answers.unlisted);
            answer != Verdict::from(answers.refused(Some(number), planned))
        })
        .map_or(Ok(()), |number| Err(FilterError::Disagrees(number)))
}

/// Arguments on which an entry's conditions turn from false to true.
fn probes(plan: &SyscallPlan) -> Vec<[u64; 6]> {
    use crate::policy::plan::Compare::{Eq, Ge, Gt, Le, Lt, Masked, Ne};
    let mut probes = vec![[0; 6], [u64::MAX; 6]];
    for rule in &plan.allow {
        // Arguments for which the whole rule holds, or nearly so.
        let mut base = [0; 6];
        for condition in &rule.0 {
            base[usize::from(condition.argument)] = match condition.compare {
                Eq(value) | Le(value) | Ge(value) | Masked { value, .. } => value,
                Ne(value) | Gt(value) => value.wrapping_add(1),
                Lt(value) => value.wrapping_sub(1),
            };
        }
        probes.push(base);
        for condition in &rule.0 {
            let argument = usize::from(condition.argument);
            let (Eq(value)
            | Ne(value)
            | Lt(value)
            | Le(value)
            | Gt(value)
            | Ge(value)
            | Masked { value, .. }) = condition.compare;
            let near = [value, value.wrapping_add(1), value.wrapping_sub(1), !value];
            for value in near.into_iter().flat_map(|value| [value, value ^ 1 << 32]) {
                let mut probe = base;
                probe[argument] = value;
                probes.push(probe);
            }
        }
    }
    probes
}
