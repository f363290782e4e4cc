//! Control groups, made by the supervisor: limits on memory, tasks and processor time.

use serde::{Deserialize, Serialize};

use super::receipt::Got;

/// What a layer's control group limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grouped {
    /// Memory, with what the kernel keeps for it.
    pub memory: Got,
    /// Tasks.
    pub tasks: Got,
    /// Processor time.
    pub cpu: Got,
}

impl Grouped {
    /// No group at all, for this errno.
    pub const fn none(errno: u16) -> Self {
        let missing = Got::Missing(errno);
        Self { memory: missing, tasks: missing, cpu: missing }
    }
}
