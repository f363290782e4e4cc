//! What would have to change in a channel.
//!
//! | act | who may | by a method of direction |
//! |---|---|---|
//! | call | `from` | forth |
//! | answer | `to` | forth |
//! | send | `to` | back |
//! | receive | `from` | back |

use super::{Advice, Change, end};
use crate::ident::Name;
use crate::policy::plan::{ChannelPlan, DescriptorKind, Direction, MethodPlan, Plan};
use crate::policy::print::{descriptors, methods};
use crate::policy::ways::act::Act;
use crate::policy::ways::facts::has;

/// What lets a layer do one of these acts on a channel, on one of its methods, or with a kind of
/// descriptor: `sub` is what follows the channel's name.
pub(super) fn advice(plan: &Plan, me: &Name, acts: &[Act], name: &str, sub: &[&str]) -> Advice {
    let Some((at, channel)) = plan.channel(name) else { return Advice::None };
    let made = |key, line, new: ChannelPlan, replaces| {
        let mut changed = plan.clone();
        changed.channels[usize::from(at)] = new;
        let mut change = Change::of(format!("channel.{name}"), key, line);
        change.replaces = replaces;
        (change, changed)
    };
    let is_end = [&channel.from, &channel.to].contains(&me);
    if acts == [Act::Pass] {
        return match pass(channel, me, is_end, sub) {
            Ok((key, line, new)) => {
                let (change, changed) = made(key, line, new, !is_end || channel.most_fds() > 0);
                change.made(changed)
            }
            Err(words) => Advice::Words(words),
        };
    }
    let method = sub.first().and_then(|sub| channel.methods.iter().position(|it| it.name == **sub));
    let goes = |direction| match method {
        Some(method) => channel.methods[method].direction == direction,
        None => has(channel, direction),
    };
    let roles = || acts.iter().filter_map(|act| role(*act));
    let mut new = channel.clone();
    if !is_end {
        let Some((side, _)) = roles().find(|(_, direction)| goes(*direction)) else {
            return Advice::Words(no_way(channel, me));
        };
        let (key, other) = match side {
            Side::From => ("from", &channel.to),
            Side::To => ("to", &channel.from),
        };
        *side.of_mut(&mut new) = me.clone();
        let (mut change, changed) = made(key, end(key, me), new, true);
        change.note = format!("or make a channel of its own between {me} and {other}");
        return change.made(changed);
    }
    // It is an end: a method of the other direction may be what it lacks.
    let Some((_, direction)) = roles().find(|(side, _)| side.of(channel) == me) else {
        return Advice::Words(no_way(channel, me));
    };
    match method {
        Some(method) => new.methods[method].direction = direction,
        None => add_method(&mut new, direction),
    }
    let line = format!("methods = {}", methods(&new));
    let (change, changed) = made("methods", line, new, true);
    change.made(changed)
}

/// Where an end stands.
#[derive(Clone, Copy)]
enum Side {
    From,
    To,
}

impl Side {
    fn of(self, channel: &ChannelPlan) -> &Name {
        match self {
            Self::From => &channel.from,
            Self::To => &channel.to,
        }
    }

    fn of_mut(self, channel: &mut ChannelPlan) -> &mut Name {
        match self {
            Self::From => &mut channel.from,
            Self::To => &mut channel.to,
        }
    }
}

/// Who does an act, and by methods of which direction.
fn role(act: Act) -> Option<(Side, Direction)> {
    match act {
        Act::Call => Some((Side::From, Direction::Forth)),
        Act::Answer => Some((Side::To, Direction::Forth)),
        Act::Send => Some((Side::To, Direction::Back)),
        Act::Receive => Some((Side::From, Direction::Back)),
        _ => None,
    }
}

/// A method of a name that is free, at its place in the order of names.
fn add_method(channel: &mut ChannelPlan, direction: Direction) {
    let names = (1..=channel.methods.len() + 1).map(|number| match number {
        1 => "message".to_owned(),
        more => format!("message{more}"),
    });
    let free = |name: &String| !channel.methods.iter().any(|it| it.name == **name);
    let Some(name) = names.into_iter().find(free).and_then(|name| Name::new(&name).ok()) else {
        return;
    };
    let at = channel.methods.partition_point(|it| it.name < name);
    for method in &mut channel.methods {
        // Later methods move by one, and so do those that name them.
        method.after = method.after.map(|after| after + u16::from(usize::from(after) >= at));
    }
    let method = MethodPlan {
        name,
        max: channel.max,
        direction,
        rate: None,
        once: false,
        after: None,
        stream: false,
        fds: None,
    };
    channel.methods.insert(at, method);
}

type Edit = (&'static str, String, ChannelPlan);

/// What lets a layer pass descriptors, or in words that no one line does.
fn pass(channel: &ChannelPlan, me: &Name, is_end: bool, sub: &[&str]) -> Result<Edit, String> {
    let asked =
        sub.get(1).and_then(|word| DescriptorKind::ALL.iter().find(|it| it.name() == *word));
    let mut new = channel.clone();
    let carries = match asked {
        Some(kind) => !channel.carriers(*kind).is_empty(),
        None => channel.most_fds() > 0,
    };
    match (is_end, carries) {
        (false, true) => {
            new.from = me.clone();
            Ok(("from", end("from", me), new))
        }
        (false, false) => Err(format!(
            "{me} is no end of channel.{0}, which carries no such descriptor: make a channel from \
             {me} to {1} with `fds`",
            channel.name, channel.to
        )),
        (true, _) => {
            new.fds.kinds.push(*asked.unwrap_or(&DescriptorKind::Stream));
            new.fds.kinds.sort_unstable();
            new.fds.max = new.fds.max.max(1);
            Ok(("fds", format!("fds = {}", descriptors(&new.fds)), new))
        }
    }
}

/// Why no line of this channel does, and what to do.
fn no_way(channel: &ChannelPlan, me: &Name) -> String {
    let ChannelPlan { name, from, to, .. } = channel;
    let ends = format!("channel.{name} leads from {from} to {to}");
    if me != from && me != to {
        format!("{ends}, and nothing on it goes that way: {me} needs a channel of its own")
    } else if me == to {
        format!(
            "{ends}, and calls start where it starts: make a channel from {to} to {from}, or a \
             method of direction \"back\" in this one, by which {me} may send"
        )
    } else {
        format!(
            "{ends}, and calls are answered where it ends: make a channel from {to} to {from}, or \
             a method of direction \"back\" in this one, which {me} may receive"
        )
    }
}
