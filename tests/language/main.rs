//! The policy language: what it takes, what it refuses and how it says so, and what can be asked of
//! a policy. No daemon runs here.

// Filters are loaded in children that do nothing else.
#![allow(unsafe_code)]

#[path = "../support/mod.rs"]
mod support;

mod advice;
mod authority;
mod check;
mod composition;
mod export;
mod fuzz_smoke;
mod graph;
mod json;
mod learn;
mod policies;
mod policy;
mod properties;
mod questions;
mod refused;
mod schema;
