//! The policy as a whole, `[[never]]`, and the ceiling.

use super::{Kind, Table, audit, facility, layer, link, required, said, value};

pub(super) const POLICY: Table = Table {
    name: "policy",
    header: "the file",
    meaning: "A policy is one daemon: its layers, what joins them, and what they may touch. What \
              isn't written isn't granted.",
    keys: &[
        required(
            "cofferdam",
            Kind::Version,
            "The version of the language. Always 1 for now; write it first.",
            "",
        ),
        required(
            "name",
            Kind::Name,
            "The daemon's name.",
            "Names the cgroup directory, the processes and the log lines.",
        ),
        said(
            "include",
            Kind::List(&Kind::Text, true),
            "none",
            "Other files of this policy, by path relative to this one. Their tables are added. \
             Anything defined twice is an error (E0105), never a merge.",
            "",
        ),
        said(
            "vars",
            Kind::Names(&Kind::Text),
            "none",
            "Strings with names. `${name}` inside any string stands for one. \
             `cofferdam run --var NAME=VALUE` replaces a declared one.",
            "",
        ),
        required(
            "layer",
            Kind::Tables(&layer::LAYER),
            "The layers, `[layer.NAME]`. At least one.",
            "One confined process for each instance.",
        ),
        said(
            "channel",
            Kind::Tables(&link::CHANNEL),
            "none",
            "Sealed channels between layers.",
            "",
        ),
        said(
            "file",
            Kind::Tables(&link::FILE),
            "none",
            "Files and directories that layers use.",
            "",
        ),
        said("signal", Kind::Tables(&facility::SIGNAL), "none", "Signals between layers.", ""),
        said("queue", Kind::Tables(&facility::QUEUE), "none", "Message queues.", ""),
        said("pipe", Kind::Tables(&facility::PIPE), "none", "One-way streams of bytes.", ""),
        said(
            "fifo",
            Kind::Tables(&facility::FIFO),
            "none",
            "Named pipes for outside programs.",
            "",
        ),
        said("semaphore", Kind::Tables(&facility::SEMAPHORE), "none", "Permits to lease.", ""),
        said("region", Kind::Tables(&facility::REGION), "none", "Shared memory.", ""),
        said(
            "mapped-file",
            Kind::Tables(&facility::MAPPED_FILE),
            "none",
            "Files that layers map into memory.",
            "",
        ),
        said(
            "audit",
            Kind::Table(&audit::AUDIT),
            "no log is demanded",
            "That there must be an audit log, and how it is kept.",
            "",
        ),
        said(
            "never",
            Kind::Array(&NEVER),
            "none",
            "What must never be possible, in any number of steps.",
            "",
        ),
    ],
};

pub(super) const NEVER: Table = Table {
    name: "never",
    header: "[[never]]",
    meaning: "A promise that the checker keeps: no way leads from the layer to the object, or the \
              policy is refused (E0192).",
    keys: &[
        required("layer", Kind::Layer, "Who must not.", ""),
        required(
            "reach",
            Kind::Object,
            "What it must not reach: `file.key`, `layer.keeper`, `connect.relay.upstream`.",
            "Checked over all grants and channels before anything runs.",
        ),
        said(
            "through-except",
            Kind::List(&Kind::Layer, false),
            "none",
            "Ways that pass one of these layers are fine.",
            "",
        ),
        required("why", Kind::Reason, "What would be lost. Reviewers read it.", ""),
    ],
};

/// Of a file of its own, that `--ceiling` names.
pub(super) const CEILING: Table = Table {
    name: "ceiling",
    header: "[ceiling]",
    meaning: "Of a ceiling file (`--ceiling FILE`), which bounds what any policy on a machine may \
              grant. Such a file holds `cofferdam = 1` and this table. What it doesn't name is \
              granted to nobody; only numbers are without bound where it names none, and nothing must be recorded. A grant above \
              it is an error (E0124). In `exec`, `paths`, `listen` and `connect` a `*` stands for \
              any text.",
    keys: &[
        said("syscalls", Kind::List(&Kind::Call, false), "none", "System calls at most.", ""),
        said(
            "capabilities",
            Kind::List(&Kind::Capability, false),
            "none",
            "Capabilities at most.",
            "",
        ),
        value("execmem", Kind::Boolean, "false", "Whether `execmem` may be granted.", ""),
        value("root", Kind::Boolean, "false", "Whether a layer may have `uid = 0`.", ""),
        said("exec", Kind::List(&Kind::Text, false), "none", "Programs that layers may run.", ""),
        said("paths", Kind::List(&Kind::Text, false), "none", "Paths that may be granted.", ""),
        said("listen", Kind::List(&Kind::Text, false), "none", "Addresses to listen on.", ""),
        said("connect", Kind::List(&Kind::Text, false), "none", "Addresses to connect to.", ""),
        said("signals", Kind::List(&Kind::Signal, false), "none", "Signals that may be sent.", ""),
        said(
            "optional",
            Kind::List(&Kind::Protection, false),
            "none",
            "Protections that may be called optional.",
            "",
        ),
        said("instances", Kind::Integer(1, 64), "no bound", "Instances of one layer at most.", ""),
        said("limits", Kind::Table(&layer::LIMITS), "no bound", "Limits of one layer at most.", ""),
        value(
            "audit",
            Kind::Word(&["none", "digest"]),
            "\"none\"",
            "What is recorded of everything at least. With `digest` a policy without a log is \
             refused, and so is a facility with `audit = \"none\"`.",
            "",
        ),
    ],
};
