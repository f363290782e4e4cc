//! cofferdam builds Linux daemons out of privilege-separated, sandboxed layers.
//!
//! A *supervisor* forks *layers*: processes that may do what their policy grants and nothing else.
//! Layers are joined by sealed channels, over which they pass messages and descriptors. A breach
//! of one layer stays in it, as water stays between two bulkheads.
//!
//! ```no_run
//! use cofferdam::{Daemon, Layer, LayerError};
//!
//! async fn sleeper(layer: Layer) -> Result<(), LayerError> {
//!     layer.stopping().await;
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     Daemon::from_text(
//!         "sleeper.toml",
//!         r#"
//!             cofferdam = 1
//!             name = "sleeper"
//!             [layer.sleeper]
//!             run = "sleeper"
//!             syscalls = ["@core"]
//!         "#,
//!     )
//!     .layer("sleeper", sleeper)
//!     .main()
//! }
//! ```
//!
//! # Reading order
//!
//! A file imports from its own floor and from lower ones, never from a higher one.
//!
//! | floor | module | what is there |
//! |---|---|---|
//! | 5 | [`cli`] | the verbs of the command line |
//! | 4 | [`supervisor`], [`layer`] | who starts, joins and clears away; what a layer's code sees |
//! | 3 | [`ipc`], [`audit`], `prepare` | the facilities by which layers communicate; the log of what they did; what is made before the first layer starts |
//! | 2 | [`confine`], [`users`], [`channel`], [`report`], [`review`] | what the kernel enforces on a layer; which user it is; one sealed link; what a process tells the auditor; what people ask of a policy |
//! | 1 | [`policy`], [`wire`], [`seal`], [`ring`] | pure: the policy and its plan, bytes on the wire, keys; a ring in shared memory |
//! | 0 | [`ident`], [`text`], [`sys`], `mark` | names; harmless text; system calls and all unsafe code; points at which tests stop |
//!
//! # What is deliberately absent
//!
//! The supervisor holds no key of any channel and carries no message. No layer opens anything by
//! name that its policy didn't name. Nothing falls back to less protection unless the policy says
//! `optional`.

pub mod audit;
pub mod channel;
pub mod cli;
pub mod confine;
pub mod ident;
pub mod ipc;
pub mod layer;
#[cfg(feature = "testing")]
pub mod mark;
#[cfg(not(feature = "testing"))]
mod mark;
pub mod policy;
mod prepare;
pub mod report;
pub mod review;
pub mod ring;
pub mod seal;
pub mod supervisor;
pub mod sys;
pub mod text;
pub mod users;
pub mod wire;

pub use layer::{Layer, LayerError};
pub use supervisor::{Daemon, Flags, Setup, SetupError};
