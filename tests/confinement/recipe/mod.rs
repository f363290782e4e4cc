//! What the recipe promises, tried on processes that went through it.

pub(crate) mod child;
pub(crate) mod exec;
pub(crate) mod faults;
pub(crate) mod groups;
pub(crate) mod harness;
pub(crate) mod promises;
