//! What would have to change for a yes.

use std::fmt::{Display, Write};

use crate::ident::Name;
use crate::policy::judge::act::Act;
use crate::policy::judge::names;
use crate::policy::plan::{FileRight, LayerPlan, MapRight, Plan};
use crate::policy::syscall::{by_name, is_dangerous, offering, parse_item};

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

/// The change that lets a layer do one of these acts. `None` where no change does.
pub(super) fn for_yes(
    plan: &Plan,
    layer: &LayerPlan,
    acts: &[Act],
    object: &str,
) -> Option<Change> {
    let mut parts = object.split('.');
    let (kind, name, sub) = (parts.next()?, parts.next()?, parts.next());
    let table = format!("{kind}.{name}");
    let change = |key, line| Change { table, key, line, replaces: true, note: String::new() };
    let me = &layer.name;
    let facilities = &plan.facilities;
    match kind {
        "file" => file(plan, me, acts, name).map(|line| change("grant", line)),
        "region" => {
            let region = facilities.regions.iter().find(|it| it.name == name)?;
            Some(change("grant", mapped(&region.grant, me, acts)))
        }
        "mapped-file" => {
            let file = facilities.mapped_files.iter().find(|it| it.name == name)?;
            Some(change("grant", mapped(&file.grant, me, acts)))
        }
        "queue" => {
            let queue = facilities.queues.iter().find(|it| it.name == name)?;
            let (key, held) = match acts.first()? {
                Act::Receive => ("receive", &queue.receive),
                _ => ("send", &queue.send),
            };
            Some(change(key, format!("{key} = {}", list(held.iter().chain([me])))))
        }
        "semaphore" => {
            let semaphore = facilities.semaphores.iter().find(|it| it.name == name)?;
            let line = format!("holders = {}", list(semaphore.holders.iter().chain([me])));
            Some(change("holders", line))
        }
        "fifo" => Some(change("to", format!("to = \"{me}\""))),
        "signal" | "pipe" => Some(match acts.first()? {
            Act::Receive => change("to", format!("to = \"{me}\"")),
            _ => change("from", format!("from = \"{me}\"")),
        }),
        "channel" => channel(plan, me, acts, name, sub),
        "syscall" => syscall(layer, name),
        "capability" => Some(capability(layer, name)),
        "listen" => {
            let server = plan.layer(name)?;
            let socket = server.listen.iter().find(|it| Some(it.name.as_str()) == sub)?;
            let note = format!("and take it from layer.{name}");
            Some(socket_of(me, "listen", &socket.name, &socket.address, note))
        }
        "connect" => {
            let client = plan.layer(name)?;
            let socket = client.connect.iter().find(|it| Some(it.name.as_str()) == sub)?;
            Some(socket_of(me, "connect", &socket.name, &socket.address, String::new()))
        }
        _ => None,
    }
}

fn socket_of(
    me: &Name,
    key: &'static str,
    socket: &Name,
    address: &impl Display,
    note: String,
) -> Change {
    let line = format!("{key} = {{ {socket} = \"{address}\" }}");
    Change { table: format!("layer.{me}"), key, line, replaces: false, note }
}

fn file(plan: &Plan, me: &Name, acts: &[Act], name: &str) -> Option<String> {
    let file = plan.files.iter().find(|it| it.name == name)?;
    let right = [
        FileRight::Read,
        FileRight::List,
        FileRight::Append,
        FileRight::Write,
        FileRight::Create,
        FileRight::Truncate,
        FileRight::Remove,
        FileRight::Execute,
    ]
    .into_iter()
    .find(|right| acts.contains(&Act::from(*right)))?;
    let mut grant = file.grant.clone();
    grant.entry(me.clone()).or_default().push(right);
    let rights = |rights: &Vec<FileRight>| list(rights.iter().map(|right| right.name()));
    Some(table("grant", grant.iter().map(|(layer, held)| (layer, rights(held)))))
}

fn mapped(grant: &std::collections::BTreeMap<Name, MapRight>, me: &Name, acts: &[Act]) -> String {
    let mut grant = grant.clone();
    let reads = acts.contains(&Act::Read);
    grant.insert(me.clone(), if reads { MapRight::Read } else { MapRight::ReadWrite });
    let word = |right: &MapRight| match right {
        MapRight::Read => "\"r\"".to_owned(),
        MapRight::ReadWrite => "\"rw\"".to_owned(),
    };
    table("grant", grant.iter().map(|(layer, right)| (layer, word(right))))
}

fn channel(plan: &Plan, me: &Name, acts: &[Act], name: &str, sub: Option<&str>) -> Option<Change> {
    let (_, channel) = plan.channel(name)?;
    let table = format!("channel.{name}");
    let change = |key, line| Change { table, key, line, replaces: true, note: String::new() };
    let ends = [&channel.from, &channel.to];
    if acts.contains(&Act::Pass) && ends.contains(&me) {
        let kinds = list(channel.fds.kinds.iter().map(|kind| kind.name()));
        return Some(change("fds", format!("fds = {{ max = 1, kinds = {kinds} }}")));
    }
    let speaks = acts.iter().any(|act| matches!(act, Act::Call | Act::Receive | Act::Pass));
    if !ends.contains(&me) {
        let key = if speaks { "from" } else { "to" };
        let mut change = change(key, format!("{key} = \"{me}\""));
        let other = if speaks { &channel.to } else { &channel.from };
        change.note = format!("or make a channel of its own between {me} and {other}");
        return Some(change);
    }
    // It is an end already, and the wrong one.
    let back = acts.contains(&Act::Send) != (channel.from == *me);
    let direction = if back { "back" } else { "forth" };
    let method = sub.unwrap_or("message");
    let mut change =
        change("methods", format!("methods = {{ {method} = {{ direction = \"{direction}\" }} }}"));
    change.replaces = false;
    change.note = format!("or make a channel from {} to {}", channel.to, channel.from);
    Some(change)
}

fn syscall(layer: &LayerPlan, name: &str) -> Option<Change> {
    // It answers ENOSYS whatever is granted.
    if name == "clone3" {
        return None;
    }
    let group = offering(by_name(name)?).into_iter().next();
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
    let mut note = String::new();
    if let Some(why) = parse_item(&item).ok().as_ref().and_then(is_dangerous) {
        let _ = write!(note, "it needs `because = \"...\"`: {}", why.trim_end_matches('.'));
    } else if let Some(group) = ordinary {
        let _ = write!(note, "or the group \"@{}\"", group.name);
    }
    Some(Change {
        table: format!("layer.{}", layer.name),
        key: "syscalls",
        line: format!("\"{item}\""),
        replaces: false,
        note,
    })
}

fn capability(layer: &LayerPlan, name: &str) -> Change {
    let held = layer.capabilities.iter().map(|number| names::capability(*number));
    Change {
        table: format!("layer.{}", layer.name),
        key: "capabilities",
        line: format!("capabilities = {}", list(held.chain([name.to_owned()]))),
        replaces: !layer.capabilities.is_empty(),
        note: "it needs `because = \"...\"`".to_owned(),
    }
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
