//! Nodes and edges of a plan.

use std::collections::BTreeMap;

use super::show;
use crate::ident::Name;
use crate::policy::plan::{
    ChannelPlan, Direction, Facilities, FileRight, LayerPlan, MapRight, MethodPlan, Plan, Program,
    Transport, View,
};
use crate::policy::syscall;
use crate::text::neutralise;

/// The most methods that an edge's label names.
const METHODS: usize = 4;

/// What a picture shows.
#[derive(Clone, Debug)]
pub struct Graph {
    /// The daemon's name.
    pub(super) name: String,
    /// The first digits of the policy's id; empty if it has none.
    pub(super) id: String,
    /// Layers, outside ends and facilities that are things of their own.
    pub(super) nodes: Vec<Node>,
    /// What joins them.
    pub(super) edges: Vec<Edge>,
    /// What must never be possible, in words.
    pub(super) never: Vec<String>,
}

/// A box, or another shape.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Its name in questions: `layer.parser`, `file.key`, `listen.front.https`.
    pub(super) key: String,
    /// What it is.
    pub(super) kind: NodeKind,
    /// Its name.
    pub(super) title: String,
    /// What else is drawn in it.
    pub(super) lines: Vec<String>,
    /// What is dangerous about it.
    pub(super) alarms: Vec<String>,
    /// All there is to say, for who points at it.
    pub(super) tip: String,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum NodeKind {
    /// A layer, with its exposure from 0 to 10 and its number of instances.
    Layer(f64, u16),
    /// A listening socket, towards the outside.
    Listen,
    /// An outside address that the daemon connects to.
    Connect,
    /// A file or directory.
    File,
    /// A file that is mapped.
    MappedFile,
    /// A message queue.
    Queue,
    /// A FIFO that the outside writes.
    Fifo,
    /// Permits.
    Semaphore,
    /// Shared memory.
    Region,
}

/// A line between two nodes.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    /// Index of the node where it begins.
    pub(super) from: usize,
    /// Index of the node where it ends.
    pub(super) to: usize,
    /// What it is.
    pub(super) kind: EdgeKind,
    /// Its arrow heads.
    pub(super) heads: Heads,
    /// Its name, if it has one of its own.
    pub(super) title: Option<String>,
    /// What it carries.
    pub(super) lines: Vec<String>,
    /// All there is to say.
    pub(super) tip: String,
}

/// What an edge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EdgeKind {
    /// A sealed channel.
    Channel,
    /// A pipe.
    Pipe,
    /// Signals.
    Signal,
    /// A grant on a facility.
    Grant,
}

/// Where an edge has arrow heads: in which way something flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heads {
    /// Where it ends.
    End,
    /// Where it begins.
    Start,
    /// On both ends.
    Both,
    /// Nowhere: nothing flows.
    Neither,
}

impl Graph {
    /// The graph of a plan; `exposure` gives each layer a number from 0 to 10.
    pub fn new(plan: &Plan, exposure: &dyn Fn(&LayerPlan) -> f64) -> Self {
        let mut graph = Builder::default();
        for layer in &plan.layers {
            graph.layer(layer, exposure(layer));
        }
        for layer in &plan.layers {
            graph.sockets(layer);
        }
        plan.channels.iter().for_each(|channel| graph.channel(channel));
        graph.files(plan);
        graph.facilities(&plan.facilities);
        let never = plan.never.iter().map(|never| {
            let mut text = format!("{} never reaches {}", never.layer, never.reach);
            for (at, name) in never.through_except.iter().enumerate() {
                text += if at == 0 { ", except through " } else { " or " };
                text += name.as_str();
            }
            text
        });
        Self {
            name: plan.name.to_string(),
            id: plan.id().map(|id| id.short()).unwrap_or_default(),
            never: never.collect(),
            nodes: graph.nodes,
            edges: graph.edges,
        }
    }
}

#[derive(Default)]
struct Builder {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    layers: BTreeMap<Name, usize>,
}

impl Builder {
    fn node(&mut self, key: String, kind: NodeKind, title: &str, lines: Vec<String>) -> usize {
        let tip = format!("{key}\n{}", lines.join("\n"));
        let alarms = Vec::new();
        self.nodes.push(Node { key, kind, title: title.to_owned(), lines, alarms, tip });
        self.nodes.len() - 1
    }

    /// A line between two nodes; none where one is missing, or they are the same.
    fn edge(&mut self, from: Option<usize>, to: Option<usize>, edge: Edge) {
        if let (Some(from), Some(to)) = (from, to)
            && from != to
        {
            self.edges.push(Edge { from, to, ..edge });
        }
    }

    fn grant(&mut self, from: Option<usize>, to: Option<usize>, heads: Heads, line: &str) {
        let lines = if line.is_empty() { Vec::new() } else { vec![line.to_owned()] };
        let key = |at: Option<usize>| at.map_or("", |at| self.nodes[at].key.as_str());
        let tip = format!("{} – {}\n{line}", key(from), key(to));
        let edge = Edge { from: 0, to: 0, kind: EdgeKind::Grant, heads, title: None, lines, tip };
        self.edge(from, to, edge);
    }

    fn at(&self, layer: &Name) -> Option<usize> {
        self.layers.get(layer).copied()
    }

    fn layer(&mut self, layer: &LayerPlan, exposure: f64) {
        let allowed = layer.syscalls.iter().filter(|call| !call.allow.is_empty());
        let names: Vec<_> = allowed.filter_map(|call| syscall::name_of(call.number)).collect();
        let program = match &layer.program {
            Program::Run(name) => format!("run {name}"),
            Program::Exec(words) => {
                let path = words.first().map_or("", String::as_str);
                format!("exec {}", path.rsplit('/').next().unwrap_or(path))
            }
        };
        let memory = show::size(layer.limits.memory);
        let lines = vec![show::shorten(&program), format!("{} calls, {memory}", names.len())];
        let exposure = if exposure.is_nan() { 10.0 } else { exposure.clamp(0.0, 10.0) };
        let kind = NodeKind::Layer(exposure, layer.instances);
        let at = self.node(format!("layer.{}", layer.name), kind, layer.name.as_str(), lines);
        self.layers.insert(layer.name.clone(), at);
        let mut alarms = Vec::new();
        if layer.uid == Some(0) {
            alarms.push("root".to_owned());
        }
        if layer.execmem {
            alarms.push("execmem".to_owned());
        }
        if !layer.capabilities.is_empty() {
            let count = layer.capabilities.len();
            alarms.push(format!("{count} capabilit{}", if count == 1 { "y" } else { "ies" }));
        }
        let node = &mut self.nodes[at];
        let program = match &layer.program {
            Program::Run(name) => format!("runs the function {name}"),
            Program::Exec(words) => format!("runs {}", neutralise(words.join(" ").as_bytes())),
        };
        let view = match layer.view {
            View::Empty => "sees nothing of the file system but its grants",
            View::System => "sees the system's programs and libraries",
        };
        let optional: Vec<_> = layer.optional.iter().map(|item| item.name()).collect();
        node.tip = format!(
            "layer.{}, exposure {exposure:.1} of 10\n{program}, {} at once\n{view}\n\
             at most {memory} of memory, {} descriptors, {} tasks\nmay run without: {}\n\
             system calls: {}",
            layer.name,
            layer.instances,
            layer.limits.files,
            layer.limits.tasks,
            if optional.is_empty() { "nothing".to_owned() } else { optional.join(" ") },
            names.join(" "),
        );
        node.alarms = alarms;
    }

    fn sockets(&mut self, layer: &LayerPlan) {
        let own = self.at(&layer.name);
        for socket in &layer.listen {
            let mut lines = vec![show::shorten(&socket.address.to_string())];
            lines.extend(socket.rate.map(show::rate));
            lines.extend(socket.per_source.map(|most| format!("{most} per source")));
            let key = format!("listen.{}.{}", layer.name, socket.name);
            let plug = self.node(key, NodeKind::Listen, socket.name.as_str(), lines);
            self.grant(Some(plug), own, Heads::End, "");
        }
        for socket in &layer.connect {
            let lines = vec![show::shorten(&show::connect(&socket.address))];
            let key = format!("connect.{}.{}", layer.name, socket.name);
            let plug = self.node(key, NodeKind::Connect, socket.name.as_str(), lines);
            self.grant(own, Some(plug), Heads::Both, "");
        }
    }

    fn channel(&mut self, channel: &ChannelPlan) {
        let mut lines: Vec<_> = channel.methods.iter().take(METHODS).map(method).collect();
        if channel.methods.is_empty() {
            lines.push(format!("any ≤{}", show::size(channel.max.into())));
        }
        if channel.methods.len() > METHODS {
            lines.push(format!("and {} more", channel.methods.len() - METHODS));
        }
        let carried = show::descriptors(&channel.fds);
        if !carried.is_empty() {
            lines.push(format!("fds: {}", show::shorten(&carried)));
        }
        let mut extra = Vec::new();
        if channel.witness {
            extra.push("witness");
        }
        if channel.transport == Transport::Ring {
            extra.push("ring");
        }
        if !extra.is_empty() {
            lines.push(extra.join(", "));
        }
        let back = channel.methods.iter().any(|method| method.direction == Direction::Back);
        let forth = channel.methods.iter().any(|method| method.direction == Direction::Forth);
        let heads = match (forth, back) {
            (true, false) => Heads::End,
            (false, true) => Heads::Start,
            _ => Heads::Both,
        };
        let all: Vec<_> = channel.methods.iter().map(method).collect();
        let tip = format!(
            "channel.{}: {} to {}, sealed\n{}\ndescriptors: {}",
            channel.name,
            channel.from,
            channel.to,
            if all.is_empty() { "one method without a name".to_owned() } else { all.join("\n") },
            if carried.is_empty() { "none" } else { &carried },
        );
        let title = Some(channel.name.to_string());
        let (from, to) = (self.at(&channel.from), self.at(&channel.to));
        let kind = EdgeKind::Channel;
        self.edge(from, to, Edge { from: 0, to: 0, kind, heads, title, lines, tip });
    }

    fn files(&mut self, plan: &Plan) {
        for file in &plan.files {
            let mut lines = vec![show::shorten(&file.path)];
            if !file.deny.is_empty() {
                lines.push(show::shorten(&format!("not {}", file.deny.join(" "))));
            }
            let key = format!("file.{}", file.name);
            let node = self.node(key, NodeKind::File, file.name.as_str(), lines);
            for (layer, rights) in &file.grant {
                let reads = rights.iter().any(|right| {
                    matches!(right, FileRight::Read | FileRight::List | FileRight::Execute)
                });
                let changes = rights.iter().any(|right| {
                    !matches!(right, FileRight::Read | FileRight::List | FileRight::Execute)
                });
                let heads = heads(changes, reads);
                self.grant(self.at(layer), Some(node), heads, &show::rights(rights));
            }
        }
    }

    fn facilities(&mut self, all: &Facilities) {
        for signal in &all.signals {
            let mut lines = vec![
                signal
                    .send
                    .iter()
                    .map(|&number| show::signal(number))
                    .collect::<Vec<_>>()
                    .join(" "),
            ];
            lines.extend(signal.rate.map(show::rate));
            self.flow(EdgeKind::Signal, "signal", (&signal.name, &signal.from, &signal.to), lines);
        }
        for pipe in &all.pipes {
            let raw = if pipe.raw { "raw, " } else { "" };
            let mut lines = vec![format!("{raw}{}", show::size(pipe.capacity.into()))];
            lines.extend(pipe.rate.map(show::rate));
            self.flow(EdgeKind::Pipe, "pipe", (&pipe.name, &pipe.from, &pipe.to), lines);
        }
        for queue in &all.queues {
            let lines = vec![
                format!("{} × {}", queue.depth, show::size(queue.max.into())),
                format!("{} priorities", queue.priorities),
            ];
            let key = format!("queue.{}", queue.name);
            let node = self.node(key, NodeKind::Queue, queue.name.as_str(), lines);
            for layer in &queue.send {
                self.grant(self.at(layer), Some(node), Heads::End, "send");
            }
            for layer in &queue.receive {
                self.grant(Some(node), self.at(layer), Heads::End, "receive");
            }
        }
        for fifo in &all.fifos {
            let mut lines = vec![
                show::shorten(&fifo.path),
                format!("mode {:04o}, ≤{}", fifo.mode, show::size(fifo.max.into())),
            ];
            lines.extend(fifo.rate.map(show::rate));
            let key = format!("fifo.{}", fifo.name);
            let node = self.node(key, NodeKind::Fifo, fifo.name.as_str(), lines);
            self.grant(Some(node), self.at(&fifo.to), Heads::End, "lines");
        }
        for semaphore in &all.semaphores {
            let mut lines = vec![format!("{} permits", semaphore.permits)];
            lines.extend(semaphore.lease.map(|lease| format!("lease {}", show::duration(lease))));
            lines.extend(semaphore.order.map(|order| format!("order {order}")));
            let key = format!("semaphore.{}", semaphore.name);
            let node = self.node(key, NodeKind::Semaphore, semaphore.name.as_str(), lines);
            for layer in &semaphore.holders {
                self.grant(self.at(layer), Some(node), Heads::Neither, "lease");
            }
        }
        for region in &all.regions {
            let key = format!("region.{}", region.name);
            let lines = vec![show::size(region.size)];
            let node = self.node(key, NodeKind::Region, region.name.as_str(), lines);
            self.maps(node, &region.grant);
        }
        for file in &all.mapped_files {
            let key = format!("mapped-file.{}", file.name);
            let durable = if file.durable { ", durable" } else { "" };
            let lines =
                vec![show::shorten(&file.path), format!("{}{durable}", show::size(file.size))];
            let node = self.node(key, NodeKind::MappedFile, file.name.as_str(), lines);
            self.maps(node, &file.grant);
        }
    }

    /// Who may write stands before what is mapped, who only reads behind it.
    fn maps(&mut self, node: usize, grant: &BTreeMap<Name, MapRight>) {
        for (layer, &right) in grant {
            let layer = self.at(layer);
            match right {
                MapRight::Read => self.grant(Some(node), layer, Heads::End, show::map_right(right)),
                MapRight::ReadWrite => {
                    self.grant(layer, Some(node), Heads::Both, show::map_right(right));
                }
            }
        }
    }

    /// Something that goes from one layer to another one.
    fn flow(
        &mut self,
        kind: EdgeKind,
        word: &str,
        (name, from, to): (&Name, &Name, &Name),
        lines: Vec<String>,
    ) {
        let tip = format!("{word}.{name}: {from} to {to}\n{}", lines.join("\n"));
        let title = Some(name.to_string());
        let edge = Edge { from: 0, to: 0, kind, heads: Heads::End, title, lines, tip };
        self.edge(self.at(from), self.at(to), edge);
    }
}

fn heads(to_end: bool, to_start: bool) -> Heads {
    match (to_end, to_start) {
        (true, false) => Heads::End,
        (false, true) => Heads::Start,
        (true, true) => Heads::Both,
        (false, false) => Heads::Neither,
    }
}

/// `sign ≤4KiB, 500/s, once`; one-way messages back are marked.
fn method(method: &MethodPlan) -> String {
    let back = if method.direction == Direction::Back { "← " } else { "" };
    let mut text = format!("{back}{} ≤{}", method.name, show::size(method.max.into()));
    if let Some(rate) = method.rate {
        text += &format!(", {}", show::rate(rate));
    }
    if method.once {
        text += ", once";
    }
    text
}
