//! The facilities that a layer's code uses, one module each.

pub mod broker;
pub mod file;
pub mod message;
pub mod semaphore;
pub mod signal;
