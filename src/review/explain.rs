//! In plain sentences: what a layer may do if it is wholly compromised.

use super::calls::{Verdict, verdict};
use super::recorded::recorded;
use super::score::{self, Exposure, exposure, may};
use super::settings;
use crate::ident::Name;
use crate::policy::plan::{
    ChannelPlan, DescriptorPlan, Direction, Elastic, LayerPlan, MethodPlan, Plan, Program,
};
use crate::policy::syscall::meaning::implies;
use crate::policy::syscall::{Group, all, groups, is_dangerous, name_of, parse_item};
use crate::policy::value::show_size;
use crate::policy::ways::act::Act;
use crate::policy::ways::facts::{Bound, Fact};
use crate::policy::ways::reach::{Step, Ways};
use crate::text::counted;

/// All that is to be said of one layer.
#[derive(Clone, Debug)]
pub struct Account {
    /// The layer.
    pub layer: Name,
    /// What runs, and how often: `the function parser, 2 copies`.
    pub program: String,
    /// How exposed it is.
    pub exposure: Exposure,
    /// Sentences by subject, each without a full stop. No subject is empty.
    pub subjects: Vec<(&'static str, Vec<String>)>,
    /// What it may have done, or get to know, through others: object by object.
    pub through: Vec<Through>,
}

/// Something that a layer reaches through others.
#[derive(Clone, Debug)]
pub struct Through {
    /// The object: `file.key`.
    pub object: String,
    /// What the object is, such as its path; may be empty.
    pub what: String,
    /// The shortest way.
    pub way: Vec<Step>,
}

/// Explains one layer.
pub fn explain(plan: &Plan, layer: &LayerPlan, ways: &Ways) -> Account {
    let facts = ways.facts.of(layer.name.as_str());
    let subjects = vec![
        ("system calls", calls(layer)),
        ("files", files(layer, facts)),
        ("network", network(layer, facts)),
        ("talks to", talk(plan, layer)),
        ("shares", shares(facts)),
        ("recorded", recorded(plan, &layer.name)),
        ("privileges", privileges(layer, facts)),
        ("limits", vec![settings::limits(layer)]),
        ("may be missing", missing(layer)),
    ];
    let copies = match (layer.instances, layer.elastic) {
        (most, Some(Elastic { min, .. })) => format!(", {min} to {most} copies"),
        (1, None) => String::new(),
        (copies, None) => format!(", {copies} copies"),
    };
    Account {
        layer: layer.name.clone(),
        program: format!("{}{copies}{}", settings::program(&layer.program).1, on_hosts(layer)),
        exposure: exposure(layer, ways),
        subjects: subjects.into_iter().filter(|(_, lines)| !lines.is_empty()).collect(),
        through: through(layer, ways),
    }
}

/// Where it runs, as the end of a sentence.
fn on_hosts(layer: &LayerPlan) -> String {
    let hosts: Vec<&str> = layer.hosts.iter().map(Name::as_str).collect();
    match hosts.as_slice() {
        [] => String::new(),
        [host] => format!(", on the host {host}"),
        hosts => format!(", on each of the hosts {}", and(hosts)),
    }
}

fn calls(layer: &LayerPlan) -> Vec<String> {
    let (mut always, mut conditional) = (0, 0);
    for (number, _) in all() {
        match verdict(layer, number) {
            Verdict::Allow => always += 1,
            Verdict::Conditional(_) => conditional += 1,
            Verdict::Refused(_) => {}
        }
    }
    if always + conditional == 0 {
        return vec!["none at all".to_owned()];
    }
    let held: Vec<&Group> = groups().iter().filter(|group| holds(layer, group)).collect();
    let names: Vec<String> = held.iter().map(|group| format!("@{}", group.name)).collect();
    let mut lines = vec![format!("{always} always, {conditional} under conditions")];
    if !names.is_empty() {
        lines.push(format!("the whole of {}", names.join(", ")));
    }
    let in_group = |number: u32| {
        held.iter().flat_map(|group| &group.members).any(|member| member.call.number == number)
    };
    let besides: Vec<&str> = layer
        .syscalls
        .iter()
        .filter(|entry| !entry.allow.is_empty() && !in_group(entry.number))
        .filter_map(|entry| name_of(entry.number))
        .collect();
    if !besides.is_empty() {
        lines.push(format!("besides, some form of {}", besides.join(", ")));
    }
    lines.extend(dangers(layer));
    lines
}

/// The dangerous calls, a line for each reason.
fn dangers(layer: &LayerPlan) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for call in score::strange(layer) {
        let why = parse_item(call).ok().as_ref().and_then(is_dangerous);
        let why = why.unwrap_or("no ordinary group has it").trim_end_matches('.');
        match reasons.iter_mut().find(|(known, _)| *known == why) {
            Some((_, calls)) => calls.push(call),
            None => reasons.push((why, vec![call])),
        }
    }
    let line = |(why, calls): &(&str, Vec<&str>)| {
        let each = if calls.len() > 1 { "each " } else { "" };
        format!("dangerous: {}, {each}because {}", and(calls), lower(why))
    };
    reasons.iter().map(line).collect()
}

fn lower(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// Whether a layer may make every call of a group in every form that the group has.
fn holds(layer: &LayerPlan, group: &Group) -> bool {
    group.members.iter().all(|member| {
        super::calls::entry(layer, member.call.number).is_some_and(|entry| {
            let has = |rule| entry.allow.iter().any(|wide| implies(rule, wide));
            // clone3 is answered for all layers alike.
            member.call.name == "clone3" || member.call.rules.iter().all(has)
        })
    })
}

/// What a layer may make of a power that is noted, with the note.
pub fn powers(layer: &LayerPlan) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for member in groups().iter().flat_map(|group| &group.members) {
        let Some(note) = member.note.as_deref() else { continue };
        let entry = super::calls::entry(layer, member.call.number);
        let held = entry.is_some_and(|entry| {
            let has = |rule| entry.allow.iter().any(|wide| implies(rule, wide));
            member.call.rules.iter().all(has)
        });
        if held && !found.iter().any(|(text, _)| *text == member.text) {
            found.push((member.text.as_str(), note));
        }
    }
    found
}

fn files(layer: &LayerPlan, facts: &[Fact]) -> Vec<String> {
    let mut lines = of_kind(facts, "file.");
    lines.extend(of_kind(facts, "mapped-file."));
    for it in &layer.directories {
        let kept = if it.kind.is_kept() { "kept" } else { "gone with it" };
        let (kind, path) = (it.kind.name(), settings::directory(it));
        lines.push(format!("owns its {kind} ({path}; {kept})"));
    }
    for part in layer.view.parts() {
        let verb = if part.size().is_some() { "writes" } else { "reads" };
        let most = part.size().map(|size| format!(" (at most {})", show_size(size)));
        lines.push(format!("{verb} {}{}", part.meaning(), most.unwrap_or_default()));
    }
    if lines.is_empty() {
        lines.push("none".to_owned());
    }
    lines
}

/// A line for each object of one kind: `reads and lists file.site (path /srv)`.
fn of_kind(facts: &[Fact], kind: &str) -> Vec<String> {
    let facts = facts.iter().filter(|fact| fact.object.starts_with(kind));
    let facts: Vec<&Fact> = facts.collect();
    facts
        .chunk_by(|a, b| a.object == b.object)
        .map(|same| {
            let verbs: Vec<&str> = same.iter().map(|fact| fact.act.verb()).collect();
            format!("{} {}{}", and(&verbs), same[0].object, words(&same[0].bounds))
        })
        .collect()
}

fn and(words: &[&str]) -> String {
    match words {
        [most @ .., last] if !most.is_empty() => format!("{} and {last}", most.join(", ")),
        words => words.concat(),
    }
}

/// Bounds in parentheses, without those that bound nothing.
pub(crate) fn words(bounds: &[Bound]) -> String {
    let shown: Vec<String> = bounds
        .iter()
        .filter(|bound| bound.is_worth_saying())
        .map(|bound| match bound.name {
            "path" | "address" | "to" => bound.text.clone(),
            name => format!("{name} {}", bound.text),
        })
        .collect();
    if shown.is_empty() { String::new() } else { format!(" ({})", shown.join(", ")) }
}

fn network(layer: &LayerPlan, facts: &[Fact]) -> Vec<String> {
    let mut lines = of_kind(facts, "listen.");
    lines.extend(of_kind(facts, "connect."));
    let is_answered = matches!(layer.program, Program::Exec(_)) && !lines.is_empty();
    let makes = match (may(layer, "socket"), is_answered) {
        (true, true) => {
            "makes sockets of its own, which its init binds and connects to these alone"
        }
        (true, false) => "makes sockets of its own",
        (false, _) => "makes no socket",
    };
    lines.push(makes.to_owned());
    lines
}

fn talk(plan: &Plan, layer: &LayerPlan) -> Vec<String> {
    let me = &layer.name;
    let mut lines = Vec::new();
    for channel in plan.channels.iter().filter(|it| it.from == *me || it.to == *me) {
        lines.extend(on_channel(channel, me));
    }
    let facilities = &plan.facilities;
    for signal in &facilities.signals {
        if signal.from == *me {
            lines.push(format!("signals {} (signal.{})", signal.to, signal.name));
        } else if signal.to == *me {
            lines.push(format!("is signalled by {} (signal.{})", signal.from, signal.name));
        }
    }
    for pipe in &facilities.pipes {
        if pipe.from == *me {
            lines.push(format!("sends bytes to {} (pipe.{})", pipe.to, pipe.name));
        } else if pipe.to == *me {
            lines.push(format!("receives bytes from {} (pipe.{})", pipe.from, pipe.name));
        }
    }
    for queue in &facilities.queues {
        let names = |list: &[Name]| and(&list.iter().map(Name::as_str).collect::<Vec<_>>());
        if queue.send.contains(me) {
            lines.push(format!("sends to {} (queue.{})", names(&queue.receive), queue.name));
        }
        if queue.receive.contains(me) {
            lines.push(format!("receives from {} (queue.{})", names(&queue.send), queue.name));
        }
    }
    for fifo in facilities.fifos.iter().filter(|fifo| fifo.to == *me) {
        lines.push(format!("reads what outsiders write to {} (fifo.{})", fifo.path, fifo.name));
    }
    lines
}

/// What a layer does on a channel of which it is an end: a line for each direction.
fn on_channel(channel: &ChannelPlan, me: &Name) -> Vec<String> {
    let (other, forth, back) = if channel.from == *me {
        (&channel.to, "calls", "receives from")
    } else {
        (&channel.from, "answers", "sends to")
    };
    let passes = |fds: &DescriptorPlan| {
        let kinds: Vec<&str> = fds.kinds.iter().map(|kind| kind.name()).collect();
        let most = counted(fds.max.into(), &format!("{} descriptor", kinds.join("/")));
        if fds.max == 0 { String::new() } else { format!("with at most {most}") }
    };
    let common = passes(&channel.fds);
    let mut common = if common.is_empty() { common } else { format!(", {common}") };
    if channel.across {
        // Who carries it can hold it up, and no more.
        common.push_str(", from host to host");
    }
    let name = &channel.name;
    if channel.methods.is_empty() {
        return vec![format!("talks both ways with {other} on channel.{name}: anything{common}")];
    }
    let own = |method: &MethodPlan| match method.fds.as_ref().map(passes) {
        None => method.name.to_string(),
        Some(none) if none.is_empty() => format!("{} (no descriptor)", method.name),
        Some(passes) => format!("{} ({passes})", method.name),
    };
    let mut lines = Vec::new();
    for (does, direction) in [(forth, Direction::Forth), (back, Direction::Back)] {
        let methods = channel.methods.iter().filter(|it| it.direction == direction);
        let methods: Vec<String> = methods.map(own).collect();
        let methods: Vec<&str> = methods.iter().map(String::as_str).collect();
        if !methods.is_empty() {
            lines.push(format!("{does} {other} on channel.{name}: {}{common}", and(&methods)));
        }
    }
    lines
}

fn shares(facts: &[Fact]) -> Vec<String> {
    let mut lines = of_kind(facts, "region.");
    lines.extend(of_kind(facts, "semaphore."));
    lines
}

fn privileges(layer: &LayerPlan, facts: &[Fact]) -> Vec<String> {
    let mut lines = of_kind(facts, "capability.");
    if layer.execmem {
        lines.push("makes written memory executable".to_owned());
    }
    match layer.uid {
        // Capabilities are told one by one. This is what the number alone still means.
        Some(0) => lines.push(
            "runs as root: files of root's that it sees obey it as their owner, other processes \
             of root's are its equals, and the kernel holds it to no limit by user"
                .to_owned(),
        ),
        Some(uid) => lines.push(format!("runs as user {uid}")),
        None => {}
    }
    lines
}

fn missing(layer: &LayerPlan) -> Vec<String> {
    let names: Vec<&str> = layer.optional.iter().map(|it| it.name()).collect();
    if names.is_empty() { Vec::new() } else { vec![names.join(", ")] }
}

/// What lies outside of the daemon, or is kept, and is reached through others.
fn through(layer: &LayerPlan, ways: &Ways) -> Vec<Through> {
    let me = layer.name.as_str();
    let mut objects: Vec<&Fact> = ways.facts.all().filter(|fact| is_goal(&fact.object)).collect();
    objects.sort_by(|a, b| a.object.cmp(&b.object));
    objects.dedup_by(|a, b| a.object == b.object);
    let own = ways.facts.of(me);
    objects
        .into_iter()
        .filter(|fact| !own.iter().any(|mine| mine.object == fact.object))
        .filter_map(|fact| {
            let way = ways.reach(me, &fact.object, &Act::ALL, &[])?;
            Some(Through { object: fact.object.to_string(), what: words(&fact.bounds), way })
        })
        .collect()
}

/// Whether an object is worth reaching: what is outside of the daemon, or kept.
pub(super) fn is_goal(object: &str) -> bool {
    let kind = object.split('.').next().unwrap_or_default();
    ["file", "mapped-file", "region", "listen", "connect", "fifo", "capability"].contains(&kind)
}
