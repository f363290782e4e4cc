//! What the supervisor tells the recipe.

use std::os::fd::RawFd;

use serde::{Deserialize, Serialize};

use super::cgroup::Grouped;
use super::paths::Contents;
use crate::ident::Instance;
use crate::policy::plan::LayerPlan;
use crate::sys::spawn::Namespaces;

/// All that the recipe must know; the supervisor writes it into the layer's slice of the plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// Who this is.
    pub instance: Instance,
    /// What its policy says.
    pub layer: LayerPlan,
    /// Who it becomes.
    pub identity: Identity,
    /// The namespaces that the clone made or joined.
    pub namespaces: Namespaces,
    /// What is in its root, besides what its view shows.
    pub contents: Contents,
    /// Ports that it may connect to, in its network namespace.
    pub ports: Vec<u16>,
    /// Whether it may connect to Unix sockets that it finds by a path.
    pub sockets: bool,
    /// The descriptors that stay open, besides the control socket.
    pub keep: Vec<RawFd>,
    /// What its control group limits.
    pub grouped: Grouped,
    /// It is told of the supervisor's death by the control socket alone, and ends by itself: the
    /// auditor, which has yet to write down what everybody did.
    pub lingers: bool,
}

/// Who a layer becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Identity {
    /// A user and group of its own. The supervisor is root.
    Own {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
    },
    /// The supervisor's own ordinary user, as the only one of a user namespace, where it has these
    /// numbers. Outside of it the layers are the same user, and what parts them is everything else:
    /// so the receipt calls this a fallback.
    Mapped {
        /// The user within.
        uid: u32,
        /// The group within.
        gid: u32,
    },
}

impl Identity {
    /// User and group as the layer finds them.
    pub(super) fn numbers(self) -> (u32, u32) {
        let (Self::Own { uid, gid } | Self::Mapped { uid, gid }) = self;
        (uid, gid)
    }

    /// Whether the user is root of the whole machine, to whom limits by user don't apply.
    pub(crate) fn is_root(self) -> bool {
        matches!(self, Self::Own { uid: 0, .. })
    }
}
