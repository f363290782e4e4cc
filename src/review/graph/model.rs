//! Nodes and edges of a plan.

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
    /// What went over it, if that is shown.
    pub(super) traffic: Option<Traffic>,
}

/// What went over an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// In words, drawn at the edge: `1.2k, 3 MiB`.
    pub line: String,
    /// How much compared with others, from 0, nothing, to [`Traffic::MOST`].
    pub share: u8,
    /// Whether some of it is a reason to look.
    pub alarm: bool,
}

impl Traffic {
    /// The largest share.
    pub const MOST: u8 = 5;
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
    /// Shows what went over the edges. `of` is asked for what each joins, as questions name it:
    /// for `channel.sign`, `pipe.log` and `signal.reload` of their two layers, for all others of
    /// one layer and `file.key`, `listen.front.https` and so on.
    pub fn show_traffic(&mut self, of: &dyn Fn(&str, Option<&str>) -> Option<Traffic>) {
        for edge in &mut self.edges {
            let kind = match edge.kind {
                EdgeKind::Channel => "channel",
                EdgeKind::Pipe => "pipe",
                EdgeKind::Signal => "signal",
                EdgeKind::Grant => "",
            };
            let keys = [edge.from, edge.to].map(|at| self.nodes.get(at).map(|it| it.key.as_str()));
            let layer = keys.iter().flatten().find_map(|key| key.strip_prefix("layer."));
            let thing = keys.iter().flatten().find(|key| !key.starts_with("layer."));
            edge.traffic = match (&edge.title, thing) {
                (Some(title), None) => of(&format!("{kind}.{title}"), None),
                (_, Some(thing)) => of(thing, layer),
                _ => None,
            };
        }
    }
}
