//! System calls and the conditions on their arguments.

use serde::{Deserialize, Serialize};

/// What the filter answers to one system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyscallPlan {
    /// The call's number on the running architecture.
    pub number: u32,
    /// When it is allowed: if any of these rules holds. No rule at all: never.
    /// One rule with no condition: always.
    pub allow: Vec<CallRule>,
    /// The errno where no rule holds; `None` ends the process (`SIGSYS`).
    pub otherwise: Option<u16>,
}

/// Conditions on a call's arguments that must all hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallRule(pub Vec<Condition>);

/// A condition on one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Condition {
    /// Which argument, 0 to 5.
    pub argument: u8,
    /// How many bits the kernel looks at: `int` arguments have 32, and the filter must not look at
    /// more, or a caller passes the check with a high bit set.
    pub width: Width,
    /// The comparison; the argument is on the left.
    pub compare: Compare,
}

/// How much of an argument counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Width {
    /// The low 32 bits: `int`, `unsigned int`, flags.
    Dword,
    /// All 64 bits: `size_t`, `unsigned long`, pointers (which may only be compared with 0).
    Qword,
}

/// A comparison of an unsigned argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Compare {
    /// Equal.
    Eq(u64),
    /// Not equal.
    Ne(u64),
    /// Below.
    Lt(u64),
    /// Below or equal.
    Le(u64),
    /// Above.
    Gt(u64),
    /// Above or equal.
    Ge(u64),
    /// `argument & mask == value`.
    Masked {
        /// The bits that count.
        mask: u64,
        /// What they must be.
        value: u64,
    },
}
