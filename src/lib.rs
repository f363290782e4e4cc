//! cofferdam builds Linux daemons out of privilege-separated, sandboxed layers.

pub mod cli;
pub mod confine;
pub mod ident;
pub mod policy;
pub mod sys;
