//! The forms of bytes that cross a boundary between processes. Pure.

pub mod broker;
pub mod control;
pub mod event;
pub mod hosts;
pub mod life;
pub mod limits;
pub mod queue;
pub mod record;
pub mod refusal;
pub mod report;
pub mod trace;
