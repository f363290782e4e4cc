//! Sealed channels and their descriptors (promises P2 and P3): both ends in one process, and
//! whoever attacks them between.

// Attackers make system calls without a library in between.
#![allow(unsafe_code)]
#![allow(clippy::cast_possible_truncation, clippy::similar_names, clippy::result_large_err)]

#[path = "../support/mod.rs"]
mod support;

mod calls;
mod message;
mod noise_vectors;
mod pipe;
mod queue;
mod rules;
mod streams;
mod tamper;
mod topics;
