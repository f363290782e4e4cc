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
pub use service::service_unit;
pub use systemd::systemd;

use crate::policy::plan::{CallRule, Compare, FacilityKind, LayerPlan, Plan};

/// Address families by number (`linux/socket.h`).
const FAMILIES: [(u64, &str); 7] = [
    (1, "AF_UNIX"),
    (2, "AF_INET"),
    (10, "AF_INET6"),
    (16, "AF_NETLINK"),
    (17, "AF_PACKET"),
    (38, "AF_ALG"),
    (40, "AF_VSOCK"),
];

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

/// The family of sockets that a rule for `socket` names, if it names one.
fn family(rule: &CallRule) -> Option<&'static str> {
    let number = rule.0.iter().find_map(|one| match one.compare {
        Compare::Eq(number) if one.argument == 0 => Some(number),
        _ => None,
    });
    FAMILIES.iter().find(|(known, _)| Some(*known) == number).map(|(_, name)| *name)
}
