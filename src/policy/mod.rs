//! Policy: the text, what it says, and the plan that was checked. Pure: no system calls.
//!
//! Reading order: [`plan`] is what comes out; `document` mirrors the text, and is private;
//! [`check`](mod@check) makes the one from the other; [`diagnostic`] is how mistakes are told,
//! [`code`] explains each kind, [`language`] says what each key is and what an unwritten one means.
//! [`source_map`] finds a rule's line again, [`print`](mod@print) makes text of a plan, [`ways`] says
//! who reaches what through whom. What only people ask is in the room `review`.
//!
//! What this floor does not do: open files (see `prepare::policy_file`), look at the machine,
//! or know whether a path exists.
#![forbid(unsafe_code)]

pub mod beneath;
pub mod check;
pub mod code;
pub mod diagnostic;
pub mod language;
pub mod plan;
pub mod print;
pub mod signal;
pub mod source_map;
pub mod syscall;
pub mod ways;

pub(crate) mod capability;
mod document;
mod inputs;
pub(crate) mod nearest;
mod render;
mod slip;
mod source;
mod texts;
mod tree;
mod unbuilt;
pub(crate) mod value;

pub use check::{Checked, check, check_with};
pub use inputs::{Inputs, Load};
pub use print::print;
pub use source::MAX_SIZE;
pub use source_map::{Location, SourceMap};
pub use unbuilt::unbuilt;
