//! Printing the facilities beside channels and files, and `[[never]]`.

use std::collections::BTreeMap;

use super::{REASON, Text, audit, duration, inline, list, quote, rate, size};
use crate::ident::Name;
use crate::policy::plan::{
    Facilities, FifoPlan, MapRight, MappedFilePlan, OnFull, PipePlan, Plan, QueuePlan, RegionPlan,
    SemaphorePlan, SignalPlan,
};
use crate::policy::signal::signal_name;

/// Takes the plans apart, so that the compiler names this when there is something more to print.
pub(super) fn print(plan: &Plan, out: &mut Text) {
    let Facilities { signals, queues, pipes, fifos, semaphores, regions, mapped_files } =
        &plan.facilities;
    for it in signals {
        signal(it, out);
    }
    for it in queues {
        queue(it, out);
    }
    for it in pipes {
        pipe(it, out);
    }
    for it in fifos {
        fifo(it, out);
    }
    for it in semaphores {
        semaphore(it, out);
    }
    for it in regions {
        region(it, out);
    }
    for it in mapped_files {
        mapped_file(it, out);
    }
}

pub(super) fn never(plan: &Plan, out: &mut Text) {
    for never in &plan.never {
        out.list_item("never");
        out.line("layer", quote(never.layer.as_str()));
        out.line("reach", quote(&never.reach));
        out.line("through-except", names(&never.through_except));
        out.line("why", quote(REASON));
    }
}

fn signal(signal: &SignalPlan, out: &mut Text) {
    let SignalPlan { name, from, to, send, rate, audit } = signal;
    out.table("signal", name.as_str());
    out.line("from", quote(from.as_str()));
    out.line("to", quote(to.as_str()));
    out.line("send", list(send.iter().filter_map(|number| signal_name(*number))));
    if let Some(limit) = *rate {
        out.line("rate", self::rate(limit));
    }
    self::audit(*audit, out);
    out.line("because", quote(REASON));
}

fn queue(queue: &QueuePlan, out: &mut Text) {
    let QueuePlan { name, send, receive, depth, max, priorities, on_full, audit } = queue;
    out.table("queue", name.as_str());
    out.line("send", names(send));
    out.line("receive", names(receive));
    out.line("depth", depth);
    out.line("max", size(*max));
    out.line("priorities", priorities);
    match *on_full {
        OnFull::Block(wait) => {
            out.line("on-full", quote("block"));
            out.line("wait", duration(wait));
        }
        OnFull::Reject => out.line("on-full", quote("reject")),
        OnFull::DropOldest => out.line("on-full", quote("drop-oldest")),
    }
    self::audit(*audit, out);
}

fn pipe(pipe: &PipePlan, out: &mut Text) {
    let PipePlan { name, from, to, raw, capacity, rate, audit } = pipe;
    out.table("pipe", name.as_str());
    out.line("from", quote(from.as_str()));
    out.line("to", quote(to.as_str()));
    out.line("raw", raw);
    out.line("capacity", size(*capacity));
    if let Some(limit) = *rate {
        out.line("rate", self::rate(limit));
    }
    self::audit(*audit, out);
}

fn fifo(fifo: &FifoPlan, out: &mut Text) {
    let FifoPlan { name, path, to, owner, mode, max, rate, audit } = fifo;
    out.table("fifo", name.as_str());
    out.line("path", quote(path));
    out.line("to", quote(to.as_str()));
    if let Some(owner) = owner {
        out.line("owner", owner);
    }
    out.line("mode", quote(&format!("{mode:04o}")));
    out.line("max", size(*max));
    if let Some(limit) = *rate {
        out.line("rate", self::rate(limit));
    }
    self::audit(*audit, out);
}

fn semaphore(semaphore: &SemaphorePlan, out: &mut Text) {
    let SemaphorePlan { name, permits, holders, lease, order, audit } = semaphore;
    out.table("semaphore", name.as_str());
    out.line("permits", permits);
    out.line("holders", names(holders));
    if let Some(lease) = *lease {
        out.line("lease", duration(lease));
    }
    if let Some(order) = order {
        out.line("order", order);
    }
    self::audit(*audit, out);
}

fn region(region: &RegionPlan, out: &mut Text) {
    let RegionPlan { name, size, grant, audit } = region;
    out.table("region", name.as_str());
    out.line("size", self::size(*size));
    out.line("grant", maps(grant));
    self::audit(*audit, out);
}

fn mapped_file(file: &MappedFilePlan, out: &mut Text) {
    let MappedFilePlan { name, path, size, durable, grant, audit } = file;
    out.table("mapped-file", name.as_str());
    out.line("path", quote(path));
    out.line("size", self::size(*size));
    out.line("durable", durable);
    out.line("grant", maps(grant));
    self::audit(*audit, out);
    out.line("because", quote(REASON));
}

fn names(names: &[Name]) -> String {
    list(names.iter().map(Name::as_str))
}

fn maps(grant: &BTreeMap<Name, MapRight>) -> String {
    inline(grant.iter().map(|(layer, right)| (layer.as_str(), quote(right.name()))))
}
