//! Confinement: everything that the kernel is asked to enforce on a layer.

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
    #[allow(dead_code)]
    pub(crate) fn mint() -> Self {
        Self(())
    }

    /// A token without confinement, for tests of the floors above.
    #[cfg(feature = "testing")]
    pub fn pretend() -> Self {
        Self(())
    }
}
