//! Making nodes and edges: of layers, their sockets and channels.

use std::collections::BTreeMap;

use super::show;
use super::{Edge, EdgeKind, Graph, Heads, Node, NodeKind};
use crate::ident::Name;
use crate::policy::plan::{
    ChannelPlan, Direction, LayerPlan, MethodPlan, Plan, Program, Transport,
};
use crate::policy::syscall;
use crate::text::neutralise;

#[derive(Default)]
pub(super) struct Builder {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    layers: BTreeMap<Name, usize>,
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

impl Builder {
    pub(super) fn node(
        &mut self,
        key: String,
        kind: NodeKind,
        title: &str,
        lines: Vec<String>,
    ) -> usize {
        let tip = format!("{key}\n{}", lines.join("\n"));
        let alarms = Vec::new();
        self.nodes.push(Node { key, kind, title: title.to_owned(), lines, alarms, tip });
        self.nodes.len() - 1
    }

    /// A line between two nodes; none where one is missing, or they are the same.
    pub(super) fn edge(&mut self, from: Option<usize>, to: Option<usize>, edge: Edge) {
        if let (Some(from), Some(to)) = (from, to)
            && from != to
        {
            self.edges.push(Edge { from, to, ..edge });
        }
    }

    pub(super) fn grant(
        &mut self,
        from: Option<usize>,
        to: Option<usize>,
        heads: Heads,
        line: &str,
    ) {
        let lines = if line.is_empty() { Vec::new() } else { vec![line.to_owned()] };
        let key = |at: Option<usize>| at.map_or("", |at| self.nodes[at].key.as_str());
        let tip = format!("{} – {}\n{line}", key(from), key(to));
        let edge = Edge {
            from: 0,
            to: 0,
            kind: EdgeKind::Grant,
            heads,
            title: None,
            lines,
            tip,
            traffic: None,
        };
        self.edge(from, to, edge);
    }

    pub(super) fn at(&self, layer: &Name) -> Option<usize> {
        self.layers.get(layer).copied()
    }

    pub(super) fn layer(&mut self, layer: &LayerPlan, exposure: f64) {
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
        let mut lines = vec![show::shorten(&program), format!("{} calls, {memory}", names.len())];
        if !layer.hosts.is_empty() {
            let hosts: Vec<_> = layer.hosts.iter().map(Name::as_str).collect();
            lines.push(show::shorten(&format!("on {}", hosts.join(", "))));
        }
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
        let seen: Vec<_> = layer.view.parts().iter().map(|part| part.meaning()).collect();
        let view = match seen.as_slice() {
            [] => "sees nothing of the file system but its grants".to_owned(),
            parts => format!("sees {}", parts.join(", ")),
        };
        let owned: Vec<_> =
            layer.directories.iter().map(|it| neutralise(it.path.as_bytes())).collect();
        let owned = if owned.is_empty() { "nothing".to_owned() } else { owned.join(" ") };
        let optional: Vec<_> = layer.optional.iter().map(|item| item.name()).collect();
        node.tip = format!(
            "layer.{}, exposure {exposure:.1} of 10\n{program}, {} at once\n{view}\nowns {owned}\n\
             at most {memory} of memory, {} descriptors, {} tasks\nmay run without: {}\n\
             system calls: {}",
            layer.name,
            layer.elastic.map_or(layer.instances.to_string(), |it| format!(
                "{} to {}",
                it.min, layer.instances
            )),
            layer.limits.files,
            layer.limits.tasks,
            if optional.is_empty() { "nothing".to_owned() } else { optional.join(" ") },
            names.join(" "),
        );
        node.alarms = alarms;
    }

    pub(super) fn sockets(&mut self, layer: &LayerPlan) {
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
            let mut lines = vec![show::shorten(&socket.address.to_string())];
            let inject = socket.inject.as_ref();
            lines.extend(inject.map(|it| format!("with {}", show::shorten(&it.header))));
            let key = format!("connect.{}.{}", layer.name, socket.name);
            let plug = self.node(key, NodeKind::Connect, socket.name.as_str(), lines);
            self.grant(own, Some(plug), Heads::Both, "");
        }
    }

    pub(super) fn channel(&mut self, channel: &ChannelPlan) {
        let mut lines: Vec<_> = channel.methods.iter().map(method).collect();
        if channel.methods.is_empty() {
            lines.push(format!("any ≤{}", show::size(channel.max.into())));
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
        if channel.across {
            extra.push("host to host");
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
        self.edge(from, to, Edge { from: 0, to: 0, kind, heads, title, lines, tip, traffic: None });
    }
}

/// `sign ≤4KiB, 500/s, once`; one-way messages back are marked.
fn method(method: &MethodPlan) -> String {
    let back = if method.direction == Direction::Back { "← " } else { "" };
    let mut text = format!("{back}{} ≤{}", method.name, show::size(method.max.into()));
    if let Some(rate) = method.rate {
        text += ", ";
        text += &show::rate(rate);
    }
    if method.once {
        text += ", once";
    }
    if method.stream {
        text += ", stream";
    }
    if let Some(fds) = &method.fds {
        let carried = show::descriptors(fds);
        text += ", fds: ";
        text += if carried.is_empty() { "none" } else { &carried };
    }
    text
}
