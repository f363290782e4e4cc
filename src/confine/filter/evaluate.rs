//! Runs a filter as the kernel would, without one.
//!
//! Only the part of classic BPF that the kernel lets seccomp filters use (`seccomp_check_filter`
//! in `kernel/seccomp.c`) and that `link` emits is understood. Anything else is
//! [`Verdict::Broken`], for the kernel would refuse to load it.

use super::{Action, Instruction};

/// What a filter answers to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call is carried out.
    Allow,
    /// It returns this error.
    Errno(u16),
    /// It returns `ENOSYS`, unless somebody debugs the process.
    Trace,
    /// Who observes the process answers.
    Notify,
    /// The process ends.
    Kill,
    /// Another answer of the kernel's list, as `SECCOMP_RET_*`.
    Other(u32),
    /// This is no program: it runs off its end, or holds an instruction that no filter may have.
    Broken,
}

impl From<Action> for Verdict {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Errno(number) => Self::Errno(number),
            Action::Trace => Self::Trace,
            Action::Notify => Self::Notify,
            Action::Kill => Self::Kill,
        }
    }
}

/// Load the 32-bit word at offset `k` of `struct seccomp_data`.
pub(super) const LOAD: u16 = 0x20;
/// Accumulator and `k`.
pub(super) const AND: u16 = 0x54;
/// Skip `k` instructions.
pub(super) const JUMP: u16 = 0x05;
/// Is the accumulator equal to `k`?
pub(super) const IF_EQUAL: u16 = 0x15;
/// Is it above `k`?
pub(super) const IF_ABOVE: u16 = 0x25;
/// Is it `k` or above?
pub(super) const IF_AT_LEAST: u16 = 0x35;
/// Has it any of the bits of `k`?
pub(super) const IF_ANY_BIT: u16 = 0x45;
/// Answer `k`.
pub(super) const RETURN: u16 = 0x06;

/// `SECCOMP_RET_KILL_PROCESS`.
pub(super) const RET_KILL: u32 = 0x8000_0000;
/// `SECCOMP_RET_ERRNO`; the error is in the low 16 bits.
pub(super) const RET_ERRNO: u32 = 0x0005_0000;
/// `SECCOMP_RET_TRACE`.
pub(super) const RET_TRACE: u32 = 0x7ff0_0000;
/// `SECCOMP_RET_USER_NOTIF`.
pub(super) const RET_NOTIFY: u32 = 0x7fc0_0000;
/// `SECCOMP_RET_ALLOW`.
pub(super) const RET_ALLOW: u32 = 0x7fff_0000;

/// Offsets in `struct seccomp_data` of `linux/seccomp.h`.
pub(super) const NUMBER: u32 = 0;
/// The architecture.
pub(super) const ARCH: u32 = 4;
/// The arguments: eight bytes each, the low word first, for both architectures are little-endian.
pub(super) const ARGUMENTS: u32 = 16;

/// Runs a program on one call. It always ends: jumps only go forwards.
pub(super) fn run(
    program: &[Instruction],
    arch: u32,
    number: u32,
    arguments: &[u64; 6],
) -> Verdict {
    let mut accumulator = 0;
    let mut at = 0;
    while let Some(&Instruction { code, jt, jf, k }) = program.get(at) {
        at += 1;
        let taken = match code {
            RETURN => return verdict(k),
            LOAD => {
                let Some(word) = word(k, arch, number, arguments) else { return Verdict::Broken };
                accumulator = word;
                continue;
            }
            AND => {
                accumulator &= k;
                continue;
            }
            JUMP => {
                at = at.saturating_add(k as usize);
                continue;
            }
            IF_EQUAL => accumulator == k,
            IF_ABOVE => accumulator > k,
            IF_AT_LEAST => accumulator >= k,
            IF_ANY_BIT => accumulator & k != 0,
            _ => return Verdict::Broken,
        };
        at += usize::from(if taken { jt } else { jf });
    }
    Verdict::Broken
}

/// The word at an offset of `struct seccomp_data`. The instruction pointer reads as 0.
fn word(offset: u32, arch: u32, number: u32, arguments: &[u64; 6]) -> Option<u32> {
    match offset {
        NUMBER => Some(number),
        ARCH => Some(arch),
        8 | 12 => Some(0),
        _ if !offset.is_multiple_of(4) => None,
        _ => {
            let word = offset.checked_sub(ARGUMENTS)? / 4;
            let argument = arguments.get(word as usize / 2)?;
            Some(if word.is_multiple_of(2) { low(*argument) } else { low(argument >> 32) })
        }
    }
}

/// The low word.
pub(super) const fn low(value: u64) -> u32 {
    #[allow(clippy::cast_possible_truncation, reason = "the high word is looked at on its own")]
    let low = value as u32;
    low
}

fn verdict(answer: u32) -> Verdict {
    match (answer & 0xffff_0000, answer & 0xffff) {
        (RET_ALLOW, _) => Verdict::Allow,
        // The kernel caps errors at MAX_ERRNO.
        (RET_ERRNO, errno) => Verdict::Errno(u16::try_from(errno.min(4095)).unwrap_or(4095)),
        (RET_TRACE, _) => Verdict::Trace,
        (RET_NOTIFY, _) => Verdict::Notify,
        (RET_KILL, _) => Verdict::Kill,
        _ => Verdict::Other(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(code: u16, k: u32) -> Instruction {
        Instruction { code, jt: 0, jf: 0, k }
    }

    #[test]
    fn what_is_no_program_is_broken() {
        for program in [
            vec![],
            vec![instruction(LOAD, NUMBER)],
            vec![instruction(LOAD, 64), instruction(RETURN, RET_ALLOW)],
            vec![instruction(LOAD, 3), instruction(RETURN, RET_ALLOW)],
            vec![instruction(JUMP, u32::MAX), instruction(RETURN, RET_ALLOW)],
            vec![instruction(0x87, 0), instruction(RETURN, RET_ALLOW)],
        ] {
            assert_eq!(run(&program, 0, 0, &[0; 6]), Verdict::Broken);
        }
    }

    #[test]
    fn words_are_little_endian() {
        let arguments = [0, 0, 0, 0, 0, 0x1122_3344_5566_7788];
        assert_eq!(word(56, 0, 0, &arguments), Some(0x5566_7788));
        assert_eq!(word(60, 0, 0, &arguments), Some(0x1122_3344));
    }

    #[test]
    fn answers_are_read_by_their_high_half() {
        assert_eq!(verdict(RET_ERRNO | 2), Verdict::Errno(2));
        assert_eq!(verdict(RET_ERRNO | 0xffff), Verdict::Errno(4095));
        assert_eq!(verdict(0), Verdict::Other(0));
        assert_eq!(verdict(RET_TRACE), Verdict::Trace);
        assert_eq!(verdict(RET_NOTIFY), Verdict::Notify);
        assert_eq!(verdict(RET_KILL), Verdict::Kill);
    }
}
