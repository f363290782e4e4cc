//! How a process tells the auditor what it did: a [`Reporter`] that writes into a ring of its own.
//!
//! The ring is made by the supervisor, one for each instance, and mapped before the process is
//! confined. A report is written without a system call while the ring has room and the auditor is
//! awake. What happens when it has none is the policy's choice ([`LogFull`](crate::policy::plan::LogFull)): the act waits, or the
//! report is dropped and counted. Nobody waits who is asked to stop.
//!
//! A report is written *before* the act that it is about wherever that is possible, so nothing
//! leaves an honest process unreported, whenever it is killed.

mod desk;
mod reporter;

/// What the auditor is called, as a layer and as a function. No policy may use the name.
pub const AUDITOR: &str = "cofferdam-auditor";

pub use self::desk::{CAPTURE_OVERHEAD, Desk, Tap, context, room};
pub use self::reporter::{AT_COUNT, AT_STOP, Pending, Reporter};
pub use crate::wire::report::{Facility, Facts, Form, Side, Verdict, Who, first_sequence};
