//! Policy: the text, what it says, and the plan that was checked. Pure: no system calls.

pub mod plan;
pub mod syscall;
