//! Reading a ceiling file: `[ceiling]`, what any layer may have at most.

use super::layer::limits;
use super::section::Section;
use super::{At, CeilingText, audit, keys};
use crate::policy::diagnostic::Diagnostics;
use crate::policy::tree::Table;

/// Reads the tree of a ceiling file; `None` if it has no ceiling.
pub(crate) fn read(tree: &Table, out: &mut Diagnostics) -> Option<CeilingText> {
    let top = Section::root(tree, &keys::CEILING_FILE, out);
    top.demand("ceiling", "`[ceiling]`, with what any layer may have at most", out);
    let node = top.get("ceiling")?;
    let ceiling = Section::open(node, &keys::CEILING, out)?;
    let list = |key, out: &mut Diagnostics| {
        let list = ceiling.strings(key, out);
        // A key that is missing grants nothing; the table is then the other place of a conflict.
        list.unwrap_or_else(|| At { value: Vec::new(), span: node.span.clone() })
    };
    Some(CeilingText {
        syscalls: list("syscalls", out),
        capabilities: list("capabilities", out),
        exec: list("exec", out),
        paths: list("paths", out),
        listen: list("listen", out),
        connect: list("connect", out),
        signals: list("signals", out),
        optional: list("optional", out),
        execmem: ceiling.boolean("execmem", out),
        root: ceiling.boolean("root", out),
        instances: ceiling.integer("instances", out),
        limits: limits(&ceiling, out),
        audit: audit::of(&ceiling, out),
        span: node.span.clone(),
    })
}
