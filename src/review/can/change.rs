//! What would have to change for a yes.
//!
//! Every change is made to a copy of the plan too, and the copy is checked and asked again: what is
//! told makes the answer yes, or its note says what refuses it.

mod channel;

use std::fmt::{Display, Write};

use crate::ident::Name;
use crate::policy::plan::{FileRight, LayerPlan, MapRight, Plan, SyscallPlan};
use crate::policy::syscall::{Item, by_name, is_dangerous, offering, parse_item};
use crate::policy::ways::act::Act;
use crate::policy::ways::names;

/// The nearest change that makes an answer yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path of the table that changes: `file.key`.
    pub table: String,
    /// The key that changes: `grant`.
    pub key: &'static str,
    /// How, as TOML.
    pub line: String,
    /// Whether the line takes the place of one of that key; else the key is added or extended.
    pub replaces: bool,
    /// What else is to be known; may be empty.
    pub note: String,
}

/// What is to be said to who wants a yes.
pub(super) enum Advice {
    /// A change, and the plan with it.
    Change(Change, Box<Plan>),
    /// No change of one line does; what to do instead.
    Words(String),
    /// Nothing.
    None,
}

impl Change {
    fn of(table: impl Into<String>, key: &'static str, line: String) -> Self {
        Self { table: table.into(), key, line, replaces: true, note: String::new() }
    }

    fn noted(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// The change, and the plan with it.
    fn made(self, plan: Plan) -> Advice {
        Advice::Change(self, Box::new(plan))
    }
}

/// What lets a layer do one of these acts.
pub(super) fn for_yes(plan: &Plan, layer: &LayerPlan, acts: &[Act], object: &str) -> Advice {
    let parts: Vec<&str> = object.split('.').collect();
    let (kind, name) = match parts.as_slice() {
        [kind, name, ..] => (*kind, *name),
        _ => return Advice::None,
    };
    let me = &layer.name;
    match kind {
        "channel" => channel::advice(plan, me, acts, name, &parts[2..]),
        "listen" | "connect" => socket(me, kind, name, object),
        "state" | "cache" | "logs" | "runtime-directory" => Advice::Words(format!(
            "{object} is the layer's alone: have it hand over what {me} needs, by a channel or a \
             pipe, or have both use a directory of `[file.NAME]`"
        )),
        "syscall" => syscall(plan, layer, name),
        "capability" => capability(plan, layer, name),
        _ => facility(plan, me, acts, kind, name).unwrap_or(Advice::None),
    }
}

fn facility(plan: &Plan, me: &Name, acts: &[Act], kind: &str, name: &str) -> Option<Advice> {
    let mut new = plan.clone();
    let all = &mut new.facilities;
    let mut note = "";
    let (key, line) = match kind {
        "file" => {
            let file = new.files.iter_mut().find(|it| it.name == name)?;
            let held = file.grant.entry(me.clone()).or_default();
            held.push(right(acts)?);
            let holds = |right| held.contains(&right);
            if holds(FileRight::Execute) && (holds(FileRight::Write) || holds(FileRight::Create)) {
                note = "it needs `because = \"...\"`: the layer could run what it wrote";
            }
            let rights = |rights: &Vec<FileRight>| list(rights.iter().map(|right| right.name()));
            ("grant", table("grant", file.grant.iter().map(|(layer, it)| (layer, rights(it)))))
        }
        "region" => {
            let region = all.regions.iter_mut().find(|it| it.name == name)?;
            ("grant", mapped(&mut region.grant, me, acts))
        }
        "mapped-file" => {
            let file = all.mapped_files.iter_mut().find(|it| it.name == name)?;
            ("grant", mapped(&mut file.grant, me, acts))
        }
        "queue" => {
            let queue = all.queues.iter_mut().find(|it| it.name == name)?;
            let (key, held) = match acts.first()? {
                Act::Receive => ("receive", &mut queue.receive),
                _ => ("send", &mut queue.send),
            };
            held.push(me.clone());
            (key, format!("{key} = {}", list(held.iter())))
        }
        "semaphore" => {
            let semaphore = all.semaphores.iter_mut().find(|it| it.name == name)?;
            semaphore.holders.push(me.clone());
            ("holders", format!("holders = {}", list(semaphore.holders.iter())))
        }
        "fifo" => {
            all.fifos.iter_mut().find(|it| it.name == name)?.to = me.clone();
            ("to", end("to", me))
        }
        "signal" => {
            let signal = all.signals.iter_mut().find(|it| it.name == name)?;
            if signal.to == *me {
                return Some(other_way(kind, name, &signal.from, &signal.to));
            }
            signal.from = me.clone();
            ("from", end("from", me))
        }
        "pipe" => {
            let pipe = all.pipes.iter_mut().find(|it| it.name == name)?;
            if pipe.from == *me || pipe.to == *me {
                return Some(other_way(kind, name, &pipe.from, &pipe.to));
            }
            let (key, side) = match acts.first()? {
                Act::Receive => ("to", &mut pipe.to),
                _ => ("from", &mut pipe.from),
            };
            *side = me.clone();
            (key, end(key, me))
        }
        _ => return None,
    };
    Some(Change::of(format!("{kind}.{name}"), key, line).noted(note).made(new))
}

/// `from = "listener"`.
fn end(key: &str, me: &Name) -> String {
    format!("{key} = \"{me}\"")
}

fn other_way(kind: &str, name: &str, from: &Name, to: &Name) -> Advice {
    Advice::Words(format!(
        "{kind}.{name} leads from {from} to {to}; make another {kind}, from {to} to {from}"
    ))
}

/// A socket belongs to its layer, and is another object in another one.
fn socket(me: &Name, kind: &str, owner: &str, object: &str) -> Advice {
    let name = object.rsplit('.').next().unwrap_or_default();
    Advice::Words(format!(
        "a socket belongs to one layer: take `{name}` out of `{kind}` of [layer.{owner}] and write \
         it in [layer.{me}]; then it is {kind}.{me}.{name}"
    ))
}

/// The mildest right that does one of these acts.
fn right(acts: &[Act]) -> Option<FileRight> {
    [
        FileRight::Read,
        FileRight::List,
        FileRight::Append,
        FileRight::Write,
        FileRight::Create,
        FileRight::Truncate,
        FileRight::Remove,
        FileRight::Mkdir,
        FileRight::Rmdir,
        FileRight::Fifo,
        FileRight::Socket,
        FileRight::Move,
        FileRight::Symlink,
        FileRight::Execute,
    ]
    .into_iter()
    .find(|right| acts.contains(&Act::from(*right)))
}

fn mapped(
    grant: &mut std::collections::BTreeMap<Name, MapRight>,
    me: &Name,
    acts: &[Act],
) -> String {
    let reads = acts.contains(&Act::Read);
    grant.insert(me.clone(), if reads { MapRight::Read } else { MapRight::ReadWrite });
    let word = |right: &MapRight| match right {
        MapRight::Read => "\"r\"".to_owned(),
        MapRight::ReadWrite => "\"rw\"".to_owned(),
    };
    table("grant", grant.iter().map(|(layer, right)| (layer, word(right))))
}

fn syscall(plan: &Plan, layer: &LayerPlan, name: &str) -> Advice {
    let Some(number) = by_name(name) else { return Advice::None };
    // It answers ENOSYS whatever is granted.
    if name == "clone3" {
        return Advice::None;
    }
    let group = offering(number).into_iter().next();
    // A whole group is more than was asked for, but what is in none needs a reason each time.
    let ordinary = group.filter(|group| group.dangerous.is_none());
    let item = match ordinary {
        Some(group) => group
            .members
            .iter()
            .find(|member| member.call.name == name)
            .map_or_else(|| name.to_owned(), |member| member.text.clone()),
        None => name.to_owned(),
    };
    let Ok(parsed) = parse_item(&item) else { return Advice::None };
    let mut note = String::new();
    if let Some(why) = is_dangerous(&parsed) {
        let _ = write!(note, "it needs `because = \"...\"`: {}", why.trim_end_matches('.'));
    } else if let Some(group) = ordinary {
        let _ = write!(note, "or the group \"@{}\"", group.name);
    }
    let mut new = plan.clone();
    let changed = new.layers.iter_mut().find(|it| it.name == layer.name);
    if let (Some(changed), Item::Call(call)) = (changed, parsed) {
        match changed.syscalls.binary_search_by_key(&number, |entry| entry.number) {
            Ok(at) => changed.syscalls[at].allow.extend(call.rules),
            Err(at) => {
                let entry = SyscallPlan { number, allow: call.rules, otherwise: None };
                changed.syscalls.insert(at, entry);
            }
        }
    }
    let mut change =
        Change::of(format!("layer.{}", layer.name), "syscalls", format!("\"{item}\"")).noted(note);
    change.replaces = false;
    change.made(new)
}

fn capability(plan: &Plan, layer: &LayerPlan, name: &str) -> Advice {
    let held = layer.capabilities.iter().map(|number| names::capability(*number));
    let line = format!("capabilities = {}", list(held.chain([name.to_owned()])));
    let mut change = Change::of(format!("layer.{}", layer.name), "capabilities", line)
        .noted("it needs `because = \"...\"`");
    change.replaces = !layer.capabilities.is_empty();
    let mut new = plan.clone();
    let changed = new.layers.iter_mut().find(|it| it.name == layer.name);
    if let (Some(changed), Some(number)) = (changed, names::capability_number(name)) {
        changed.capabilities.push(number);
        changed.capabilities.sort_unstable();
    }
    change.made(new)
}

/// `["a", "b"]`.
fn list(items: impl Iterator<Item = impl Display>) -> String {
    let items: Vec<String> = items.map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

/// `grant = { a = x, b = y }`.
fn table<'a>(key: &str, items: impl Iterator<Item = (&'a Name, String)>) -> String {
    let items: Vec<String> = items.map(|(name, value)| format!("{name} = {value}")).collect();
    format!("{key} = {{ {} }}", items.join(", "))
}
