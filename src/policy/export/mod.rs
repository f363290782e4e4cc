//! A layer's confinement in the words of other programs, and what those have no words for.
//!
//! An export is for people who run something else already. It is never the whole policy: sealed
//! channels, brokered acts and receipts are cofferdam's own. What can't be said is in
//! [`Export::not_expressed`], each with the direction of the difference.

mod masks;
mod oci;
mod quote;
mod systemd;

pub use oci::oci_seccomp;
pub use systemd::systemd;

use super::plan::{LayerPlan, Plan};

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
    let own = &layer.name;
    let all = &plan.facilities;
    let mut found = Vec::new();
    let mut add = |kind: &str, name: &str, takes_part: bool| {
        if takes_part {
            found.push(format!("{kind} {name}"));
        }
    };
    for item in &plan.channels {
        add("channel", item.name.as_str(), item.from == *own || item.to == *own);
    }
    for item in &all.signals {
        add("signal", item.name.as_str(), item.from == *own || item.to == *own);
    }
    for item in &all.queues {
        add("queue", item.name.as_str(), item.send.contains(own) || item.receive.contains(own));
    }
    for item in &all.pipes {
        add("pipe", item.name.as_str(), item.from == *own || item.to == *own);
    }
    for item in &all.fifos {
        add("fifo", item.name.as_str(), item.to == *own);
    }
    for item in &all.semaphores {
        add("semaphore", item.name.as_str(), item.holders.contains(own));
    }
    for item in &all.regions {
        add("region", item.name.as_str(), item.grant.contains_key(own));
    }
    for item in &all.mapped_files {
        add("mapped-file", item.name.as_str(), item.grant.contains_key(own));
    }
    found
}
