//! The facilities that a layer's code uses, one module each.

mod blocking;
pub mod broker;
mod companion;
pub(crate) mod control;
pub mod fifo;
pub mod file;
pub(crate) mod gauge;
pub mod mapped_file;
pub mod message;
pub(crate) mod patience;
pub mod pipe;
pub mod queue;
pub mod region;
pub mod semaphore;
pub mod signal;
pub mod socket;

pub use self::blocking::Blocking;
