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
//! | 5 | [`cli`], [`daemon`] | the verbs of the command line; a daemon as its program writes it |
//! | 4 | [`supervisor`], [`prepare`], [`layer`] | who starts, joins and clears away; what is made before the first layer starts; what a layer's code sees |
//! | 3 | [`ipc`], [`audit`] | the facilities by which layers communicate; the log of what they did |
//! | 2 | [`confine`], [`users`], [`channel`], [`report`], [`trace`], [`log`], [`review`], [`registry`], [`handle`] | what the kernel enforces on a layer; which user it is; one sealed link; what a process tells the auditor; which request it is at; what its code tells people; what people ask of a policy; which daemons run; one of them, from outside |
//! | 1 | [`policy`], [`wire`], [`seal`], [`ring`] | pure: the policy and its plan, bytes on the wire, keys; a ring in shared memory |
//! | 0 | [`ident`], [`text`], [`calendar`], [`sockaddr`], [`sys`], `mark` | names; harmless text; dates; socket addresses; system calls and all unsafe code; points at which tests stop |
//!
//! What a daemon is written with is [`Daemon`], [`Layer`], [`ipc`], [`policy`], [`trace`] and their errors. The
//! other modules are for the command line, and for tests, benches and fuzzing of this crate: they
//! are left out of these pages, and change as they need to.
//!
//! # What is deliberately absent
//!
//! The supervisor holds no key of any channel and carries no message. No layer opens anything by
//! name that its policy didn't name. Nothing falls back to less protection unless the policy says
//! `optional`.

#[doc(hidden)]
pub mod audit;
#[doc(hidden)]
pub mod calendar;
#[doc(hidden)]
pub mod channel;
#[doc(hidden)]
pub mod cli;
#[doc(hidden)]
pub mod confine;
#[doc(hidden)]
pub mod daemon;
#[doc(hidden)]
pub mod handle;
mod host_key;
pub mod ident;
pub mod ipc;
#[doc(hidden)]
pub mod layer;
pub mod log;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub mod mark;
#[cfg(not(feature = "testing"))]
mod mark;
pub mod policy;
#[doc(hidden)]
pub mod prepare;
#[doc(hidden)]
pub mod registry;
#[doc(hidden)]
pub mod report;
#[doc(hidden)]
pub mod review;
#[doc(hidden)]
pub mod ring;
#[doc(hidden)]
pub mod seal;
#[doc(hidden)]
pub mod sockaddr;
#[doc(hidden)]
pub mod supervisor;
#[doc(hidden)]
pub mod sys;
#[doc(hidden)]
pub mod text;
pub mod trace;
#[doc(hidden)]
pub mod users;
#[doc(hidden)]
pub mod wire;

pub use confine::Receipt;
pub use daemon::policy_file::{Defect, PolicyFileError};
pub use daemon::{Daemon, Flags, Setup, SetupError};
pub use handle::{Handle, HandleError, InstanceStatus, Load, State, Status, Usage};
pub use layer::{Layer, LayerConnectError, LayerError};
