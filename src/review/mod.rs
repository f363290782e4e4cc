//! Review: what people ask of a policy, and nothing that a daemon needs in order to run.
//!
//! [`can`](mod@can), [`explain`](mod@explain) and [`diff`](mod@diff) answer questions about a plan,
//! from the [ways](crate::policy::ways) through it; [`score`] says how exposed a layer is. [`graph`]
//! draws a plan, [`export`] says it in the words of other programs, [`mod@tighten`] takes grants out
//! of a policy's text and [`learn`] puts grants into it. [`mod@reference`], [`mod@schema`] and [`mod@explanation`] are the language
//! for people and editors.
//!
//! No supervisor, layer or confinement imports this room: what runs a policy is smaller than what
//! explains it.
#![forbid(unsafe_code)]

pub mod calls;
pub mod can;
pub mod diff;
pub mod explain;
pub mod explanation;
pub mod export;
pub mod graph;
pub mod learn;
pub mod reference;
pub mod schema;
pub mod score;
pub mod settings;
pub mod tighten;

mod recorded;

pub use can::{Answer, can};
pub use diff::{Diff, diff};
pub use explain::{Account, explain};
pub use explanation::{Explanation, explanation};
pub use reference::reference;
pub use schema::schema;
pub use score::{Exposure, exposure};
