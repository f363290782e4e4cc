//! Sockets: listening ones, which the supervisor has bound and keeps, and connected ones, which it
//! connects and passes. A layer makes no socket itself.

mod accept;
pub mod blocking;
mod connect;
mod limit;
mod single;
mod stream;

pub(crate) use self::accept::Slotted;
pub use self::accept::{Acceptor, Connection};
pub use self::connect::{ConnectError, Target};
pub use self::limit::Source;
pub use self::stream::Stream;
