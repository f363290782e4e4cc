//! The facilities by which layers communicate: one file each.

pub mod file;
pub mod message;
