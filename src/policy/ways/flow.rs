//! Flow: which layer's bytes reach which other layer.
//!
//! One question decides every edge: may the first layer, wholly compromised, put bytes of its
//! choice in front of the second? Whoever gets hostile bytes may act on them, as asked or by a
//! fault in reading them; so this is what moves one layer to act for another.
//!
//! | object | bytes flow |
//! |---|---|
//! | channel | from caller to answerer by its calls, and back by its answers: a caller reads them, so a hostile answerer moves it too. Methods of direction `back` flow from `to` to `from` only |
//! | signal | from sender to receiver; what a signal carries is no data |
//! | queue, pipe | from every sender to every receiver; nothing flows back |
//! | region, mapped file | from who may write to all who map it |
//! | file | from who may change it to who may read, list or execute it, also where one grant lies beneath the other |
//! | FIFO | from who may write a file grant on or above its path |
//! | connect | both ways, where the address is one on which a layer listens |
//!
//! Not flow: semaphores (they only make wait), limits, timing, and what the supervisor does for a
//! layer.

mod spots;

use std::collections::{BTreeMap, HashMap};

use spots::{ancestors, spots};

use super::act::Act;
use super::facts::has;
use crate::ident::Name;
use crate::policy::plan::{ChannelPlan, ConnectAddress, Direction, ListenAddress, MapRight, Plan};

/// That one layer's bytes reach another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Who sends, by its place in the plan.
    pub from: usize,
    /// Whom it reaches, by its place in the plan.
    pub to: usize,
    /// What the sender does.
    pub act: Act,
    /// With what: `channel.sign`.
    pub object: String,
    /// The path of the rule that lets it.
    pub rule: String,
    /// Whether what flows is data, and so can hold what the sender knows.
    pub data: bool,
    /// The whole as a sentence: `parser calls sign on channel.sign`.
    pub sentence: String,
}

/// Every flow of a plan.
#[derive(Debug)]
pub struct Flows {
    names: Vec<Name>,
    places: HashMap<Name, usize>,
    /// By sender.
    out: Vec<Vec<Flow>>,
    /// The senders to each receiver of data, and the place among theirs.
    back: Vec<Vec<(usize, usize)>>,
}

impl Flows {
    /// Finds every flow of a plan. Of several from one layer to another, the first is kept.
    pub fn of(plan: &Plan) -> Self {
        let names: Vec<Name> = plan.layers.iter().map(|layer| layer.name.clone()).collect();
        let places = names.iter().cloned().enumerate().map(|(at, name)| (name, at)).collect();
        let out = vec![Vec::new(); names.len()];
        let mut flows = Self { names, places, out, back: Vec::new() };
        flows.talk(plan);
        flows.memory(plan);
        flows.files(plan);
        flows.sockets(plan);
        flows.back = vec![Vec::new(); flows.names.len()];
        for (from, list) in flows.out.iter().enumerate() {
            for (at, flow) in list.iter().enumerate().filter(|(_, flow)| flow.data) {
                flows.back[flow.to].push((from, at));
            }
        }
        flows
    }

    /// The place of a layer.
    pub fn place(&self, layer: &str) -> Option<usize> {
        self.places.get(layer).copied()
    }

    /// The layer at a place.
    pub fn name(&self, place: usize) -> &Name {
        &self.names[place]
    }

    /// Every layer, by its place.
    pub fn names(&self) -> &[Name] {
        &self.names
    }

    /// What flows from a layer.
    pub fn from(&self, place: usize) -> &[Flow] {
        &self.out[place]
    }

    /// The data that flows to a layer.
    pub fn into(&self, place: usize) -> impl Iterator<Item = &Flow> {
        self.back[place].iter().map(|&(from, at)| &self.out[from][at])
    }

    fn add(
        &mut self,
        (from, act, to): (&Name, Act, &Name),
        object: &str,
        rule: &str,
        data: bool,
        words: impl FnOnce() -> String,
    ) {
        let (Some(from_at), Some(to_at)) = (self.place(from.as_str()), self.place(to.as_str()))
        else {
            return;
        };
        if from_at == to_at {
            return;
        }
        let known = self.out[from_at].iter_mut().find(|flow| flow.to == to_at);
        if known.as_ref().is_some_and(|flow| flow.data || !data) {
            return;
        }
        let flow = Flow {
            from: from_at,
            to: to_at,
            act,
            object: object.to_owned(),
            rule: rule.to_owned(),
            data,
            sentence: format!("{from} {}", words()),
        };
        match known {
            Some(known) => *known = flow,
            None => self.out[from_at].push(flow),
        }
    }

    fn talk(&mut self, plan: &Plan) {
        for channel in &plan.channels {
            let object = format!("channel.{}", channel.name);
            let (from, to) = (&channel.from, &channel.to);
            let calls = || format!("calls {}{object}", methods(channel, Direction::Forth));
            let sends = || format!("sends {}{object}", methods(channel, Direction::Back));
            if has(channel, Direction::Forth) {
                self.add((from, Act::Call, to), &object, &object, true, calls);
                let answers = || format!("answers {from} on {object}");
                self.add((to, Act::Answer, from), &object, &object, true, answers);
            }
            if has(channel, Direction::Back) {
                self.add((to, Act::Send, from), &object, &object, true, sends);
            }
        }
        for signal in &plan.facilities.signals {
            let object = format!("signal.{}", signal.name);
            let (from, to) = (&signal.from, &signal.to);
            let words = || format!("signals {to} by {object}");
            self.add((from, Act::Signal, to), &object, &object, false, words);
        }
        for pipe in &plan.facilities.pipes {
            let object = format!("pipe.{}", pipe.name);
            let (from, to) = (&pipe.from, &pipe.to);
            let words = || format!("sends to {to} through {object}");
            self.add((from, Act::Send, to), &object, &object, true, words);
        }
        for queue in &plan.facilities.queues {
            let object = format!("queue.{}", queue.name);
            for from in &queue.send {
                for to in &queue.receive {
                    let words = || format!("sends to {to} through {object}");
                    self.add(
                        (from, Act::Send, to),
                        &object,
                        &format!("{object}.send"),
                        true,
                        words,
                    );
                }
            }
        }
    }

    fn memory(&mut self, plan: &Plan) {
        let regions = plan.facilities.regions.iter().map(|it| ("region", &it.name, &it.grant));
        let files =
            plan.facilities.mapped_files.iter().map(|it| ("mapped-file", &it.name, &it.grant));
        for (kind, name, grant) in regions.chain(files) {
            let object = format!("{kind}.{name}");
            for (from, _) in grant.iter().filter(|(_, right)| **right == MapRight::ReadWrite) {
                let rule = format!("{object}.grant.{from}");
                for to in grant.keys() {
                    let words = || format!("writes {object}, which {to} maps");
                    self.add((from, Act::Write, to), &object, &rule, true, words);
                }
            }
        }
    }

    /// What is written at one path and read there, or beneath it, or above it.
    fn files(&mut self, plan: &Plan) {
        let spots = spots(plan);
        let mut at_path: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, spot) in spots.iter().enumerate() {
            at_path.entry(spot.path).or_default().push(at);
        }
        let mut pairs = Vec::new();
        for (at, spot) in spots.iter().enumerate() {
            for above in ancestors(spot.path) {
                for &other in at_path.get(above).into_iter().flatten() {
                    pairs.push((at, other));
                    if above != spot.path {
                        pairs.push((other, at));
                    }
                }
            }
        }
        pairs.sort_unstable();
        for (writers, readers) in pairs {
            let (written, read) = (&spots[writers], &spots[readers]);
            for &(from, act) in &written.writers {
                let grant = || format!("{}.grant.{from}", written.object);
                let rule = written.rule.clone().unwrap_or_else(grant);
                for &to in &read.readers {
                    let words = || {
                        let does = format!("{} {}", act.verb(), written.object);
                        if written.object == read.object {
                            format!("{does}, which {to} reads")
                        } else {
                            format!("{does}, where {} lies, which {to} reads", read.object)
                        }
                    };
                    self.add((from, act, to), &written.object, &rule, true, words);
                }
            }
        }
    }

    /// Connections from one layer to another's listening socket.
    fn sockets(&mut self, plan: &Plan) {
        for caller in plan.layers.iter().filter(|layer| !layer.connect.is_empty()) {
            for connect in &caller.connect {
                for server in &plan.layers {
                    for listen in &server.listen {
                        if !meets(&connect.address, &listen.address) {
                            continue;
                        }
                        let object = format!("connect.{}.{}", caller.name, connect.name);
                        let rule = format!("layer.{}.connect.{}", caller.name, connect.name);
                        let target = connect.address.to_string();
                        let words = || format!("connects to {} at {target}", server.name);
                        let way = (&caller.name, Act::Connect, &server.name);
                        self.add(way, &object, &rule, true, words);
                        let object = format!("listen.{}.{}", server.name, listen.name);
                        let rule = format!("layer.{}.listen.{}", server.name, listen.name);
                        let words = || format!("answers {} on {object}", caller.name);
                        let way = (&server.name, Act::Accept, &caller.name);
                        self.add(way, &object, &rule, true, words);
                    }
                }
            }
        }
    }
}

/// The methods of one direction, for a sentence: `hello and sign on `.
fn methods(channel: &ChannelPlan, direction: Direction) -> String {
    let names: Vec<&str> = channel
        .methods
        .iter()
        .filter(|method| method.direction == direction)
        .map(|method| method.name.as_str())
        .collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!("{one} on "),
        [first, second] => format!("{first} and {second} on "),
        [first, rest @ ..] => format!("{first} and {} others on ", rest.len()),
    }
}

/// Whether a connection to the one address may arrive at the other. A host name may be this host.
fn meets(to: &ConnectAddress, at: &ListenAddress) -> bool {
    let reaches = |host: &str, port: u16, at: &std::net::SocketAddr| {
        port == at.port()
            && match host.parse::<std::net::IpAddr>() {
                Ok(ip) => ip == at.ip() || at.ip().is_unspecified() || ip.is_unspecified(),
                Err(_) => true,
            }
    };
    match (to, at) {
        (ConnectAddress::Tcp { host, port }, ListenAddress::Tcp(at))
        | (ConnectAddress::Udp { host, port }, ListenAddress::Udp(at)) => reaches(host, *port, at),
        (ConnectAddress::Unix(path), ListenAddress::Unix(at)) => path == at,
        (ConnectAddress::Wild { port, .. }, ListenAddress::Tcp(at)) => *port == at.port(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_meet_where_a_connection_may_arrive() {
        let tcp = |host: &str, port| ConnectAddress::Tcp { host: host.to_owned(), port };
        let at = ListenAddress::Tcp("127.0.0.1:53".parse().unwrap());
        assert!(meets(&tcp("127.0.0.1", 53), &at));
        assert!(meets(&tcp("localhost", 53), &at));
        assert!(!meets(&tcp("127.0.0.1", 54), &at));
        assert!(!meets(&tcp("192.0.2.1", 53), &at));
        assert!(meets(&tcp("::1", 53), &ListenAddress::Tcp("[::]:53".parse().unwrap())));
    }
}
