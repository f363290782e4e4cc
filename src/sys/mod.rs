//! System calls that nix and rustix have not, and all unsafe code.
#![allow(unsafe_code)]

pub mod secret_page;
pub mod socket;
