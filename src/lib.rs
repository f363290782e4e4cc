//! cofferdam builds Linux daemons out of privilege-separated, sandboxed layers.

pub mod channel;
pub mod confine;
pub mod ident;
pub mod ipc;
pub mod policy;
pub mod seal;
pub mod sys;
pub mod wire;
