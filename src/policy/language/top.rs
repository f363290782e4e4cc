//! The policy as a whole, `[[never]]`, and the ceiling.

use super::kinds::{
    Allowed, Any, Boolean, Call, Capability, Inside, Integer, Layer, Level, Most, Object,
    Protection, Reason, Signal, Text,
};
use super::{
    Default, Key, Kind, LimitsText, Section, Table, audit, facility, host, layer, link, table,
};
use crate::policy::code::Code;
use crate::policy::diagnostic::Diagnostics;
use crate::policy::plan::LayerPlan;
use crate::policy::tree::Node;

pub(crate) static POLICY: Table = Table {
    name: "policy",
    header: "the file",
    what: "a policy",
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
            "host",
            Kind::Tables(&host::HOST),
            "one machine",
            "The machines on which the layers run.",
            "",
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
            "reload",
            Kind::Table(&RELOAD),
            "whatever a new policy says",
            "What may change while the daemon runs.",
            "",
        ),
        said(
            "metrics",
            Kind::Table(&METRICS),
            "nowhere",
            "Where the daemon's numbers are served.",
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

table! { RELOAD, ReloadText: "reload", "[reload]", "`[reload]`";
    "What may change while the daemon runs (`cofferdam reload`, SIGHUP).";

    gain: Boolean = true;
        "Whether a policy may take effect that grants anything which this one doesn't, as `cofferdam \
         diff` tells it. To say `true` where it was `false` is such a grant, so `false` holds until \
         the daemon is started anew.";
        "The supervisor, by the policy that holds, whatever the new one says.";
}

table! { METRICS, MetricsText: "metrics", "[metrics]", "`[metrics]`";
    "Where the daemon's numbers are served, as OpenMetrics by HTTP. Whoever reaches the address reads \
     the names of the daemon, its layers, and how their processes are.";

    listen: layer::Address => "where, as in `listen = \"tcp:127.0.0.1:9464\"`";
        "A TCP address. `GET /metrics` is all that is answered there.";
        "A helper layer of the framework's own, `cofferdam-metrics`, which has nothing else.";
}

table! { NEVER, NeverText: "never", "[[never]]", "`never`";
    "A promise that the checker keeps: no way leads from the layer to the object, or the policy is \
     refused (E0192).";

    layer: Layer => "who must not, as in `layer = \"parser\"`"; "Who must not."; "";
    reach: Object => "what, as in `reach = \"file.key\"`";
        "What it must not reach: `file.key`, `layer.keeper`, `connect.relay.upstream`.";
        "Checked over all grants and channels before anything runs.";
    through_except: Any<Layer>, or "none"; "Ways that pass one of these layers are fine."; "";
    why: Reason => "the reason, as in `why = \"...\"`";
        "What would be lost. Reviewers read it."; "";
}

/// A ceiling file: what it is, and its one table.
pub(crate) static CEILING_FILE: Table = Table {
    name: "ceiling-file",
    header: "the file",
    what: "a ceiling file",
    meaning: "What any policy on a machine may grant.",
    keys: &[
        required("cofferdam", Kind::Version, "The version of the language.", ""),
        required("ceiling", Kind::Table(&CEILING), "The ceiling.", ""),
    ],
};

table! { CEILING, CeilingText: "ceiling", "[ceiling]", "a ceiling";
    "Of a ceiling file (`--ceiling FILE`), which bounds what any policy on a machine may grant. \
     Such a file holds `cofferdam = 1` and this table. What it doesn't name is granted to nobody; \
     only numbers are without bound where it names none, and nothing must be recorded. A grant \
     above it is an error (E0124). In `exec`, `paths`, `listen` and `connect` a `*` stands for any \
     text.";

    syscalls: Most<Call>, or "none"; "System calls at most."; "";
    capabilities: Most<Capability>, or "none"; "Capabilities at most."; "";
    execmem: Allowed, or "`false`"; "Whether `execmem` may be granted."; "";
    root: Allowed, or "`false`"; "Whether a layer may have `uid = 0`."; "";
    exec: Most<Text>, or "none"; "Programs that layers may run."; "";
    paths: Most<Text>, or "none"; "Paths that may be granted."; "";
    listen: Most<Text>, or "none"; "Addresses to listen on."; "";
    connect: Most<Text>, or "none"; "Addresses to connect to."; "";
    signals: Most<Signal>, or "none"; "Signals that may be sent."; "";
    optional: Most<Protection>, or "none"; "Protections that may be called optional."; "";
    instances: Integer<u16, 1, { LayerPlan::MAX_INSTANCES as u64 }>, or "no bound";
        "Instances of one layer at most."; "";
    limits: Inside<LimitsText>, or "no bound"; "Limits of one layer at most."; "";
    audit: Level, or "`\"none\"`";
        "What is recorded of everything at least. With `digest` a policy without a log is refused, \
         and so is a facility with `audit = \"none\"`.";
        "";
}

/// A promise, whose reason must say something.
pub(crate) fn never(node: &Node, out: &mut Diagnostics) -> Option<NeverText> {
    let never: NeverText = Section::open(node, &NEVER, out)?.read(out);
    if let Some(empty) = never.why.as_ref().filter(|why| why.value.trim().is_empty()) {
        out.error(Code::EmptyBecause, &empty.span, "`why` says nothing")
            .help("say what would be lost; reviewers read this");
    }
    Some(never)
}

/// A key that must be written.
const fn required(
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    kernel: &'static str,
) -> Key {
    Key { name, kind, default: Default::Required, meaning, kernel }
}

/// A key whose default is told in words.
const fn said(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
    kernel: &'static str,
) -> Key {
    Key { name, kind, default: Default::Said(default), meaning, kernel }
}
