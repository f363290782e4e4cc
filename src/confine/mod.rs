//! Confinement: everything that the kernel is asked to enforce on a layer.
//!
//! | module | what is here |
//! |---|---|
//! | [`recipe`] | the ordered steps; the place to read first |
//! | `order`, `error` | what the recipe is told, and why it can fail |
//! | [`receipt`] | what was asked beside what the kernel enforces |
//! | [`spaces`] | which namespaces, and what this user may make |
//! | [`limits`] | resource limits of the process |
//! | [`cgroup`] | limits by control group, made by the supervisor |
//! | [`paths`] | what a layer sees of the file system, as data |
//! | [`generated`] | small files that are written into it |
//! | `root` | the empty root directory with that in it |
//! | `identity` | user, groups, capabilities, securebits |
//! | `domain` | Landlock |
//! | [`init`] | process 1 of an `exec` layer |

pub mod cgroup;
pub(crate) mod domain;
mod error;
pub mod generated;
pub(crate) mod identity;
pub mod init;
pub mod limits;
mod order;
pub mod paths;
pub mod receipt;
pub mod recipe;
mod root;
pub mod spaces;
pub mod spawner;

pub use error::ConfineError;
pub use order::{Identity, Order};
pub use receipt::{Asked, Got, Receipt};
pub use recipe::{Bare, confine, prepare};

pub mod filter;

/// Proof that this process is confined as its policy asks.
///
/// The recipe mints it as its last act, and no sealed channel can be made without one. Holding it
/// says that the filter is loaded and that the receipt was compared with the plan; it says
/// nothing of what the layer does within its grants.
#[derive(Debug)]
pub struct Confined(());

impl Confined {
    /// Called by the recipe alone.
    pub(crate) fn mint() -> Self {
        Self(())
    }

    /// A token without confinement, for tests of the floors above.
    #[cfg(feature = "testing")]
    pub fn pretend() -> Self {
        Self(())
    }
}
