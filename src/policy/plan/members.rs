//! Which layers take part in which facilities.

use super::{Audit, Plan};
use crate::ident::Name;

/// A facility of which a layer is a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'p> {
    /// Its kind, as policies write it: `mapped-file`.
    pub kind: &'static str,
    /// Its name.
    pub name: &'p Name,
    /// What the audit log keeps of it.
    pub audit: Audit,
}

impl Plan {
    /// The facilities of which `layer` is a part, kind by kind, each sorted by name.
    pub fn parts_of<'p>(&'p self, layer: &Name) -> Vec<Part<'p>> {
        let mut found = Vec::new();
        let mut add = |kind, name: &'p Name, audit, takes_part: bool| {
            if takes_part {
                found.push(Part { kind, name, audit });
            }
        };
        for it in &self.channels {
            add("channel", &it.name, it.audit, it.from == *layer || it.to == *layer);
        }
        for it in &self.files {
            add("file", &it.name, it.audit, it.grant.contains_key(layer));
        }
        let all = &self.facilities;
        for it in &all.signals {
            add("signal", &it.name, it.audit, it.from == *layer || it.to == *layer);
        }
        for it in &all.queues {
            add("queue", &it.name, it.audit, it.send.contains(layer) || it.receive.contains(layer));
        }
        for it in &all.pipes {
            add("pipe", &it.name, it.audit, it.from == *layer || it.to == *layer);
        }
        for it in &all.fifos {
            add("fifo", &it.name, it.audit, it.to == *layer);
        }
        for it in &all.semaphores {
            add("semaphore", &it.name, it.audit, it.holders.contains(layer));
        }
        for it in &all.regions {
            add("region", &it.name, it.audit, it.grant.contains_key(layer));
        }
        for it in &all.mapped_files {
            add("mapped-file", &it.name, it.audit, it.grant.contains_key(layer));
        }
        found
    }
}
