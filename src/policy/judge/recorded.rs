//! What the audit log keeps of what a layer does.

use crate::ident::Name;
use crate::policy::plan::{Audit, Plan};

/// What of a layer's facilities is recorded, in sentences without a full stop; none where it has
/// no facility.
pub(super) fn recorded(plan: &Plan, me: &Name) -> Vec<String> {
    let all = facilities(plan, me);
    let of = |level| -> Vec<String> {
        all.iter().filter(|(_, it)| *it == level).map(|(name, _)| name.clone()).collect()
    };
    let mut lines = Vec::new();
    if !all.is_empty() && !plan.audit.demanded {
        lines.push("only where the daemon is run with --audit:".to_owned());
    }
    let kinds = [
        (Audit::Payload, "whole messages, sealed to payload-key, of"),
        (Audit::Digest, "what is done, with hashes, on"),
        (Audit::None, "nothing of"),
    ];
    for (level, what) in kinds {
        let names = of(level);
        if !names.is_empty() {
            lines.push(format!("{what} {}", names.join(", ")));
        }
    }
    let ends = plan.channels.iter().filter(|it| it.from == *me || it.to == *me);
    for channel in ends.filter(|channel| channel.witness) {
        lines.push(format!("and by the witness, on channel.{}", channel.name));
    }
    lines
}

/// The facilities of which a layer is a part, with what is recorded of each.
fn facilities(plan: &Plan, me: &Name) -> Vec<(String, Audit)> {
    let mut found = Vec::new();
    let mut add = |kind: &str, name: &Name, audit, mine: bool| {
        if mine {
            found.push((format!("{kind}.{name}"), audit));
        }
    };
    for it in &plan.channels {
        add("channel", &it.name, it.audit, it.from == *me || it.to == *me);
    }
    for it in &plan.files {
        add("file", &it.name, it.audit, it.grant.contains_key(me));
    }
    let all = &plan.facilities;
    for it in &all.signals {
        add("signal", &it.name, it.audit, it.from == *me || it.to == *me);
    }
    for it in &all.queues {
        add("queue", &it.name, it.audit, it.send.contains(me) || it.receive.contains(me));
    }
    for it in &all.pipes {
        add("pipe", &it.name, it.audit, it.from == *me || it.to == *me);
    }
    for it in &all.fifos {
        add("fifo", &it.name, it.audit, it.to == *me);
    }
    for it in &all.semaphores {
        add("semaphore", &it.name, it.audit, it.holders.contains(me));
    }
    for it in &all.regions {
        add("region", &it.name, it.audit, it.grant.contains_key(me));
    }
    for it in &all.mapped_files {
        add("mapped-file", &it.name, it.audit, it.grant.contains_key(me));
    }
    found
}
