//! Single instructions, and jumps between them.

use super::evaluate::{JUMP, LOAD, RET_ALLOW, RET_ERRNO, RET_KILL, RET_NOTIFY, RET_TRACE, RETURN};
use super::{Action, Instruction};

pub(super) fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jt: 0, jf: 0, k: offset }
}

pub(super) fn test(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

pub(super) fn jump(skip: usize) -> Instruction {
    // A program this long is refused by its caller.
    Instruction { code: JUMP, jt: 0, jf: 0, k: u32::try_from(skip).unwrap_or(u32::MAX) }
}

pub(super) fn answer(action: Action) -> Instruction {
    let k = match action {
        Action::Allow => RET_ALLOW,
        Action::Errno(number) => RET_ERRNO | u32::from(number),
        Action::Trace => RET_TRACE,
        Action::Notify => RET_NOTIFY,
        Action::Kill => RET_KILL,
    };
    Instruction { code: RETURN, jt: 0, jf: 0, k }
}

/// Leads one way of the comparison at `at` to the end of the code. `None` if that is too far.
pub(super) fn aim(code: &mut [Instruction], at: usize, if_true: bool) -> Option<()> {
    let skip = u8::try_from(code.len() - at - 1).ok()?;
    let instruction = code.get_mut(at)?;
    *if if_true { &mut instruction.jt } else { &mut instruction.jf } = skip;
    Some(())
}
