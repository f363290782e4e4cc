//! Facts that the facilities' tables state.

use super::{Bound, Fact, fact, time};
use crate::ident::Name;
use crate::policy::plan::{
    ChannelPlan, DescriptorKind, Direction, Facilities, FifoPlan, FilePlan, MapRight,
    MappedFilePlan, MethodPlan, OnFull, PipePlan, Plan, QueuePlan, RegionPlan, SemaphorePlan,
    SignalPlan, Transport,
};
use crate::policy::ways::act::Act;
use crate::policy::ways::names;

/// Adds what the facilities' tables state.
pub(super) fn all(plan: &Plan, out: &mut Vec<Fact>) {
    plan.channels.iter().for_each(|channel| self::channel(channel, out));
    plan.files.iter().for_each(|file| self::file(file, out));
    // Everything is taken apart, so that the compiler names this when there is more.
    let Facilities { signals, queues, pipes, fifos, semaphores, regions, mapped_files } =
        &plan.facilities;
    for signal in signals {
        self::signal(signal, out);
    }
    for queue in queues {
        self::queue(queue, out);
    }
    for PipePlan { name, from, to, raw: _, capacity, rate, audit } in pipes {
        let object = format!("pipe.{name}");
        let audit = Bound::audit(*audit);
        let bounds =
            [Bound::size("capacity", (*capacity).into()), Bound::rate(*rate), audit.clone()];
        let rule = object.clone();
        out.push(fact(from, Act::Send, object.clone(), rule.clone(), bounds));
        out.push(fact(to, Act::Receive, object, rule, [audit]));
    }
    for FifoPlan { name, path, to, owner, mode, max, rate, audit } in fifos {
        let object = format!("fifo.{name}");
        let owner = owner.map_or("the supervisor's user".to_owned(), |uid| uid.to_string());
        let text = format!("{mode:04o}");
        let bounds = [
            Bound::flag("path", true, path),
            Bound { name: "mode", amount: (mode & 0o222).count_ones().into(), text },
            Bound::flag("owner", true, owner),
            Bound::size("max", (*max).into()),
            Bound::rate(*rate),
            Bound::audit(*audit),
        ];
        out.push(fact(to, Act::Receive, object.clone(), object, bounds));
    }
    for SemaphorePlan { name, permits, holders, lease, order: _, audit } in semaphores {
        let object = format!("semaphore.{name}");
        let lease = match *lease {
            Some(most) => Bound { name: "lease", amount: most.as_millis(), text: time(most) },
            None => Bound {
                name: "lease",
                amount: u128::MAX,
                text: "until it is given back".to_owned(),
            },
        };
        for layer in holders {
            let bounds = [Bound::count("permits", *permits), lease.clone(), Bound::audit(*audit)];
            let rule = format!("{object}.holders");
            out.push(fact(layer, Act::Lease, object.clone(), rule, bounds));
        }
    }
    for RegionPlan { name, size, grant, audit } in regions {
        let object = format!("region.{name}");
        for (layer, right) in grant {
            let bounds = [Bound::size("size", *size), Bound::audit(*audit)];
            mapped(layer, *right, &object, &bounds, out);
        }
    }
    for MappedFilePlan { name, path, size, durable: _, grant, audit } in mapped_files {
        let object = format!("mapped-file.{name}");
        let bounds =
            [Bound::size("size", *size), Bound::flag("path", true, path), Bound::audit(*audit)];
        for (layer, right) in grant {
            mapped(layer, *right, &object, &bounds, out);
        }
    }
}

fn channel(channel: &ChannelPlan, out: &mut Vec<Fact>) {
    let object = format!("channel.{}", channel.name);
    let bounds = || {
        vec![
            Bound::size("max", channel.max.into()),
            Bound::flag("witness", !channel.witness, yes_no(channel.witness)),
            Bound::flag(
                "transport",
                true,
                match channel.transport {
                    Transport::Socket => "socket",
                    Transport::Ring => "ring",
                },
            ),
            Bound::audit(channel.audit),
            Bound::payloads(channel.audit),
        ]
    };
    let both = [(&channel.from, Act::Call), (&channel.to, Act::Answer)];
    let back = [(&channel.to, Act::Send), (&channel.from, Act::Receive)];
    if has(channel, Direction::Forth) {
        for (layer, act) in both {
            out.push(fact(layer, act, object.clone(), object.clone(), bounds()));
        }
    }
    // A channel without methods carries messages both ways.
    if has(channel, Direction::Back) || channel.methods.is_empty() {
        for (layer, act) in back {
            out.push(fact(layer, act, object.clone(), object.clone(), bounds()));
        }
    }
    for method in &channel.methods {
        let rule = format!("{object}.methods.{}", method.name);
        let acts = if method.direction == Direction::Forth { both } else { back };
        for (layer, act) in acts {
            let object = format!("{object}.{}", method.name);
            out.push(fact(layer, act, object, rule.clone(), limits(channel, method)));
        }
    }
    passing(channel, &object, out);
}

/// What is passed on a channel, by any of its methods. By which, their own facts say.
fn passing(channel: &ChannelPlan, object: &str, out: &mut Vec<Fact>) {
    let rule = |method: Option<&MethodPlan>| match method {
        Some(method) => format!("{object}.methods.{}.fds", method.name),
        None => format!("{object}.fds"),
    };
    let mut first = None;
    for kind in DescriptorKind::ALL.iter().copied() {
        let carriers = channel.carriers(kind);
        let Some(&(by, _)) = carriers.first() else { continue };
        let most = carriers.iter().map(|(_, max)| *max).max().unwrap_or(0);
        first.get_or_insert_with(|| rule(by));
        for layer in [&channel.from, &channel.to] {
            let name = format!("{object}.fds.{}", kind.name());
            out.push(fact(layer, Act::Pass, name, rule(by), [Bound::count("max", most)]));
        }
    }
    for layer in [&channel.from, &channel.to] {
        out.extend(first.clone().map(|rule| fact(layer, Act::Pass, object, rule, [])));
    }
}

/// Whether a channel has a method of this direction, or no methods, which is both.
pub(crate) fn has(channel: &ChannelPlan, direction: Direction) -> bool {
    channel.methods.is_empty() || channel.methods.iter().any(|it| it.direction == direction)
}

fn limits(channel: &ChannelPlan, method: &MethodPlan) -> Vec<Bound> {
    let after = method.after.and_then(|at| channel.methods.get(usize::from(at)));
    let fds = method.fds.as_ref().unwrap_or(&channel.fds);
    let mut bounds = vec![
        Bound::size("max", method.max.into()),
        Bound::rate(method.rate),
        Bound::flag("once", !method.once, yes_no(method.once)),
        match after {
            Some(first) => Bound::flag("after", false, first.name.as_str()),
            None => Bound::flag("after", true, "at any time"),
        },
        Bound::flag("stream", method.stream, yes_no(method.stream)),
    ];
    bounds.extend(DescriptorKind::ALL.iter().map(|kind| {
        let most = if fds.kinds.contains(kind) { fds.max } else { 0 };
        Bound::count(descriptors(*kind), most)
    }));
    bounds
}

/// What the bound of a method on one kind of descriptors is called.
const fn descriptors(kind: DescriptorKind) -> &'static str {
    match kind {
        DescriptorKind::FileRead => "fds.file-read",
        DescriptorKind::FileWrite => "fds.file-write",
        DescriptorKind::Stream => "fds.stream",
        DescriptorKind::Datagram => "fds.datagram",
        DescriptorKind::PipeRead => "fds.pipe-read",
        DescriptorKind::PipeWrite => "fds.pipe-write",
        DescriptorKind::SealedMemory => "fds.sealed-memory",
    }
}

fn file(file: &FilePlan, out: &mut Vec<Fact>) {
    let object = format!("file.{}", file.name);
    let most = file.max_open.map_or(u128::MAX, u128::from);
    let text = file.max_open.map_or("any number".to_owned(), |most| most.to_string());
    for (layer, rights) in &file.grant {
        for &right in rights {
            let mut bounds = vec![
                Bound::flag("path", true, &file.path),
                Bound::flag("at", file.at.is_some(), file.seen_at()),
                Bound { name: "max-open", amount: most, text: text.clone() },
            ];
            // Named, not counted: a fact about each pattern would be one about its absence.
            let denied = file.deny.join(", ");
            let hides = !file.deny.is_empty();
            bounds.push(Bound::flag("deny", !hides, if hides { denied } else { "none".into() }));
            for (name, yes) in [("follow", file.follow), ("optional", file.optional)] {
                bounds.push(Bound::flag(name, yes, if yes { "yes" } else { "no" }));
            }
            bounds.push(Bound::audit(file.audit));
            let rule = format!("{object}.grant.{layer}");
            out.push(fact(layer, right.into(), object.clone(), rule, bounds));
        }
    }
}

fn signal(signal: &SignalPlan, out: &mut Vec<Fact>) {
    let SignalPlan { name, from, to, send, rate, audit } = signal;
    let object = format!("signal.{name}");
    let bounds =
        || [Bound::rate(*rate), Bound::flag("to", true, to.as_str()), Bound::audit(*audit)];
    out.push(fact(from, Act::Signal, object.clone(), object.clone(), bounds()));
    for &number in send {
        let name = format!("{object}.{}", names::signal(number));
        let rule = format!("{object}.send");
        out.push(fact(from, Act::Signal, name, rule, bounds()));
    }
}

fn queue(queue: &QueuePlan, out: &mut Vec<Fact>) {
    let QueuePlan { name, send, receive, depth, max, priorities, on_full, audit } = queue;
    let object = format!("queue.{name}");
    let bounds = || {
        vec![
            Bound::count("depth", *depth),
            Bound::size("max", (*max).into()),
            Bound::count("priorities", *priorities),
            Bound::flag(
                "on-full",
                *on_full == OnFull::DropOldest,
                match *on_full {
                    OnFull::Block(most) => format!("block for {}", time(most)),
                    OnFull::Reject => "reject".to_owned(),
                    OnFull::DropOldest => "drop-oldest".to_owned(),
                },
            ),
            Bound::audit(*audit),
        ]
    };
    for layer in send {
        out.push(fact(layer, Act::Send, object.clone(), format!("{object}.send"), bounds()));
    }
    for layer in receive {
        out.push(fact(layer, Act::Receive, object.clone(), format!("{object}.receive"), bounds()));
    }
}

fn mapped(layer: &Name, right: MapRight, object: &str, bounds: &[Bound], out: &mut Vec<Fact>) {
    let rule = format!("{object}.grant.{layer}");
    let mut add = |act| {
        out.push(fact(layer, act, object.to_owned(), rule.clone(), bounds.to_vec()));
    };
    add(Act::Read);
    if right == MapRight::ReadWrite {
        add(Act::Write);
    }
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}
