//! Printing the facilities beside channels and files, and `[[never]]`.

use std::collections::BTreeMap;

use super::{REASON, Text, audit, duration, inline, list, quote, rate, size};
use crate::ident::Name;
use crate::policy::plan::{MapRight, OnFull, Plan, QueuePlan};
use crate::policy::signal::signal_name;

pub(super) fn print(plan: &Plan, out: &mut Text) {
    let all = &plan.facilities;
    for signal in &all.signals {
        out.table("signal", signal.name.as_str());
        out.line("from", quote(signal.from.as_str()));
        out.line("to", quote(signal.to.as_str()));
        out.line("send", list(signal.send.iter().filter_map(|number| signal_name(*number))));
        if let Some(limit) = signal.rate {
            out.line("rate", rate(limit));
        }
        audit(signal.audit, out);
        out.line("because", quote(REASON));
    }
    for one in &all.queues {
        queue(one, out);
    }
    for pipe in &all.pipes {
        out.table("pipe", pipe.name.as_str());
        out.line("from", quote(pipe.from.as_str()));
        out.line("to", quote(pipe.to.as_str()));
        out.line("raw", pipe.raw);
        out.line("capacity", size(pipe.capacity));
        if let Some(limit) = pipe.rate {
            out.line("rate", rate(limit));
        }
        audit(pipe.audit, out);
    }
    for fifo in &all.fifos {
        out.table("fifo", fifo.name.as_str());
        out.line("path", quote(&fifo.path));
        out.line("to", quote(fifo.to.as_str()));
        if let Some(owner) = fifo.owner {
            out.line("owner", owner);
        }
        out.line("mode", quote(&format!("{:04o}", fifo.mode)));
        out.line("max", size(fifo.max));
        if let Some(limit) = fifo.rate {
            out.line("rate", rate(limit));
        }
        audit(fifo.audit, out);
    }
    for semaphore in &all.semaphores {
        out.table("semaphore", semaphore.name.as_str());
        out.line("permits", semaphore.permits);
        out.line("holders", names(&semaphore.holders));
        if let Some(lease) = semaphore.lease {
            out.line("lease", duration(lease));
        }
        if let Some(order) = semaphore.order {
            out.line("order", order);
        }
        audit(semaphore.audit, out);
    }
    for region in &all.regions {
        out.table("region", region.name.as_str());
        out.line("size", size(region.size));
        out.line("grant", maps(&region.grant));
        audit(region.audit, out);
    }
    for file in &all.mapped_files {
        out.table("mapped-file", file.name.as_str());
        out.line("path", quote(&file.path));
        out.line("size", size(file.size));
        out.line("durable", file.durable);
        out.line("grant", maps(&file.grant));
        audit(file.audit, out);
        out.line("because", quote(REASON));
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

fn queue(queue: &QueuePlan, out: &mut Text) {
    out.table("queue", queue.name.as_str());
    out.line("send", names(&queue.send));
    out.line("receive", names(&queue.receive));
    out.line("depth", queue.depth);
    out.line("max", size(queue.max));
    out.line("priorities", queue.priorities);
    match queue.on_full {
        OnFull::Block(wait) => {
            out.line("on-full", quote("block"));
            out.line("wait", duration(wait));
        }
        OnFull::Reject => out.line("on-full", quote("reject")),
        OnFull::DropOldest => out.line("on-full", quote("drop-oldest")),
    }
    audit(queue.audit, out);
}

fn names(names: &[Name]) -> String {
    list(names.iter().map(Name::as_str))
}

fn maps(grant: &BTreeMap<Name, MapRight>) -> String {
    inline(grant.iter().map(|(layer, right)| (layer.as_str(), quote(right.name()))))
}
