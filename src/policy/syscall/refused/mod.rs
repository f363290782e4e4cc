//! A call that was refused, for people: what it was, what is granted of it already, and the
//! narrowest text that would grant it.
//!
//! - [`describe`] decodes it: `openat("/etc/ld.so.preload", O_RDONLY)`;
//! - [`advise`] finds the item of `syscalls` that allows exactly this, and tries it out before it
//!   is said;
//! - [`granted`] says what a layer's plan has of the call;
//! - [`answer`] is the errno with which libraries go on without it.
//!
//! Nothing here calls the kernel: what the process has in its memory comes by a [`Maker`].

mod advice;
mod answer;
mod names;
mod shape;
mod show;
mod table;
mod written;

pub use advice::{Advice, Grant, Way, advise, advise_some, granted};
pub use answer::answer;
pub use show::describe;
pub use written::expressions;

/// A system call as a process made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its number on the running architecture.
    pub number: u32,
    /// Its arguments, as they were in the registers: of an `int` the low half counts.
    pub arguments: [u64; 6],
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Between processes of this machine.
    Unix,
}

/// The process that made a call, as far as somebody can look into it.
///
/// It may change its memory meanwhile, and lie: what it says is for people, and nothing is decided
/// by it.
pub trait Maker {
    /// Copies its memory from `address` on, and gives how many bytes could be read.
    fn read(&self, address: u64, into: &mut [u8]) -> usize;

    /// What a socket of its is for; `None` if that isn't known, or it is none.
    fn transport(&self, fd: i32) -> Option<Transport>;
}

/// A process into which nobody can look.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

impl Maker for Closed {
    fn read(&self, _: u64, _: &mut [u8]) -> usize {
        0
    }

    fn transport(&self, _: i32) -> Option<Transport> {
        None
    }
}
