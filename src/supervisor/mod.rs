//! The supervisor.

pub mod policy_file;
