//! What the standard streams of another program are.

use serde::{Deserialize, Serialize};

use super::{LayerPlan, Pass};
use crate::ident::Name;

/// What a standard stream of an `exec` layer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stream {
    /// A raw pipe to or from another layer.
    Pipe(Name),
    /// What whoever started the daemon gave it as its own.
    Inherited,
}

impl Stream {
    /// How a policy says [`Stream::Inherited`].
    pub const INHERITED: &str = "inherit";
}

impl LayerPlan {
    /// Its standard streams, in the order of their numbers.
    pub const fn streams(&self) -> [Option<&Stream>; 3] {
        [self.stdin.as_ref(), self.stdout.as_ref(), self.stderr.as_ref()]
    }

    /// Whether its program is started for each connection.
    pub fn is_inetd(&self) -> bool {
        self.listen.iter().any(|listen| listen.pass == Pass::Inetd)
    }

    /// Which of its standard streams a pipe is.
    pub fn stream_of(&self, name: &Name) -> Option<usize> {
        let is_it =
            |stream: Option<&Stream>| matches!(stream, Some(Stream::Pipe(pipe)) if pipe == name);
        self.streams().into_iter().position(is_it)
    }
}
