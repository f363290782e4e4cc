//! What the audit log keeps of what a layer does.

use crate::ident::Name;
use crate::policy::plan::{Audit, Part, Plan};

/// What of a layer's facilities is recorded, in sentences without a full stop; none where it has
/// no facility.
pub(super) fn recorded(plan: &Plan, me: &Name) -> Vec<String> {
    let all = plan.parts_of(me);
    let of = |level| -> Vec<String> {
        let alike = all.iter().filter(|it| it.audit == level);
        alike.map(Part::object).collect()
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
