//! The forms of bytes that cross a boundary. Pure.

pub mod control;
