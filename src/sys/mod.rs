//! Every system call that nix and rustix lack, and all unsafe code.
#![allow(unsafe_code)]

pub mod seccomp;
