//! The audit log: who said what to whom, in a form that nobody alters unseen.
//!
//! [`entry`] is what a record says and [`tables`] what its numbers mean; [`log`] writes records
//! into segments, chains and signs them; [`verify`] reads them back with mistrust. The format is
//! described in `docs/audit-format.md`, well enough to write another implementation from.
//!
//! | file | what is there |
//! |---|---|
//! | [`entry`] | a record's body: 128 bytes, and text |
//! | [`runs`] | the messages of a batch |
//! | [`tables`] | the policy and the names behind the numbers, themselves a record |
//! | [`rules`] | the rules of a policy, numbered |
//! | [`hash`], [`tree`] | BLAKE2s, the chain's links, the Merkle tree and its proofs |
//! | [`frame`], [`segment`], [`reader`] | a record and a segment as bytes in a file, and reading them |
//! | [`note`], [`keys`] | signed checkpoints, and the keys that evolve |
//! | [`store`] | the file system: every system call of this module |
//! | [`log`] | append, commit, checkpoint, rotate, retain, recover |
//! | [`index`], [`query`], [`follow`] | finding records among gigabytes, and as they come |
//! | [`verify`], [`prove`], [`redact`], [`reconcile`], [`usage`], [`payload`] | questions to a log |
//! | [`done`] | whether a layer did what it may, and how often |
//! | [`ways`], [`traced`] | what followed from what; what belongs to one trace |
//!
//! Time comes in as [`entry::Moment`], randomness through [`Chance`](crate::seal::Chance).

#![forbid(unsafe_code)]

pub mod done;
pub mod entry;
pub mod follow;
pub mod frame;
pub mod hash;
pub mod index;
pub mod keys;
pub mod log;
pub mod note;
pub mod payload;
pub mod prove;
pub mod query;
pub mod reader;
pub mod reconcile;
pub mod redact;
pub mod rules;
pub mod runs;
pub mod segment;
pub mod store;
pub mod tables;
pub mod traced;
pub mod tree;
pub mod usage;
pub mod verify;
pub mod ways;

pub use entry::{Entry, Moment, Record};
pub use log::{Log, LogError, Options};
pub use store::Store;
