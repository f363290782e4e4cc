//! cofferdam builds Linux daemons out of privilege-separated, sandboxed layers.

pub mod ident;
pub mod policy;
