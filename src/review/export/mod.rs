//! A layer's confinement in the words of other programs, and what those have no words for.
//!
//! An export is for people who run something else already. It is never the whole policy: sealed
//! channels, brokered acts and receipts are cofferdam's own. What can't be said is in
//! [`Export::not_expressed`], each with the direction of the difference.

mod masks;
mod oci;
mod quote;
mod service;
mod systemd;

pub use oci::oci_seccomp;
pub use service::systemd_daemon;
pub use systemd::systemd;

use crate::policy::plan::{FacilityKind, LayerPlan, Plan};

/// What came of an export.
#[derive(Clone, Debug)]
pub struct Export<T> {
    /// The export.
    pub value: T,
    /// What it does not say, one sentence each. Empty: it says all.
    pub not_expressed: Vec<String>,
}

/// The facilities that a layer takes part in, as `channel sign`, which only cofferdam makes.
fn facilities(plan: &Plan, layer: &LayerPlan) -> Vec<String> {
    let parts = plan.parts_of(&layer.name).into_iter();
    let made = parts.filter(|it| it.kind != FacilityKind::File);
    made.map(|it| format!("{} {}", it.kind.name(), it.name)).collect()
}
