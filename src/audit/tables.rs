//! What the numbers in records mean: the policy and its names, logged as a record themselves, so
//! that a log is read without the policy file, and every segment without the others.

use serde::{Deserialize, Serialize};

use super::entry::{Entry, Facility, Kind};
use crate::ident::{PolicyId, hex};
use crate::policy::plan::{Audit, Facilities, Plan};

/// The detail of a [`Kind::Policy`] record, as JSON. An edge's, a layer's, a method's and a rule's
/// number is its place here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tables {
    /// The policy's id, in hexadecimal digits.
    pub policy: String,
    /// The daemon's name.
    pub daemon: String,
    /// The canonical text of the policy.
    pub text: String,
    /// The layers.
    pub layers: Vec<String>,
    /// The facilities of each kind.
    pub edges: Vec<Edges>,
    /// The rules that allow or refuse, as places in the policy: `channel.sign.methods.sign`.
    pub rules: Vec<String>,
}

/// All facilities of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edges {
    /// The kind, by [`Facility::name`].
    pub facility: String,
    /// Its facilities.
    pub edges: Vec<Edge>,
}

/// One facility.
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that is special about it")]
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// Its name.
    pub name: String,
    /// The layers that send, call or write.
    pub from: Vec<String>,
    /// The layers that receive, answer or read.
    pub to: Vec<String>,
    /// Its methods.
    pub methods: Vec<String>,
    /// Whether the witness reports its messages too.
    #[serde(default)]
    pub witness: bool,
    /// Whether at most one end reports: what isn't audited, a pipe of programs.
    #[serde(default)]
    pub one_sided: bool,
    /// Of a channel: whether its other end is on another host, whose log has what that reports.
    #[serde(default)]
    pub across: bool,
    /// How many messages a queue holds, how many bytes a pipe. 0 if that isn't known.
    #[serde(default)]
    pub depth: u32,
    /// Of a queue: whether messages come out in the order in which they went in.
    #[serde(default)]
    pub ordered: bool,
}

impl Tables {
    /// The names of `plan`, whose canonical text and id the caller has at hand.
    pub fn of(plan: &Plan, id: PolicyId, text: String, rules: Vec<String>) -> Self {
        fn words<'a>(names: impl IntoIterator<Item = &'a crate::ident::Name>) -> Vec<String> {
            names.into_iter().map(ToString::to_string).collect()
        }
        let edge = |name: &crate::ident::Name, from, to| Edge {
            name: name.to_string(),
            from,
            to,
            ..Edge::default()
        };
        // Taken apart, so that the compiler names this when there is one kind more.
        let Facilities { signals, queues, pipes, fifos, semaphores, regions, mapped_files } =
            &plan.facilities;
        let edges: [(Facility, Vec<Edge>); 9] = [
            (
                Facility::Channel,
                plan.channels
                    .iter()
                    .map(|channel| Edge {
                        methods: words(channel.methods.iter().map(|method| &method.name)),
                        witness: channel.witness,
                        one_sided: channel.audit == Audit::None || channel.across,
                        across: channel.across && channel.audit != Audit::None,
                        ..edge(&channel.name, words([&channel.from]), words([&channel.to]))
                    })
                    .collect(),
            ),
            (
                Facility::Signal,
                signals.iter().map(|s| edge(&s.name, words([&s.from]), words([&s.to]))).collect(),
            ),
            (
                Facility::File,
                plan.files
                    .iter()
                    .map(|f| edge(&f.name, words(f.grant.keys()), Vec::new()))
                    .collect(),
            ),
            (
                Facility::Queue,
                queues
                    .iter()
                    .map(|q| Edge {
                        depth: q.depth.saturating_mul(q.lanes().into()),
                        one_sided: q.audit == Audit::None,
                        ordered: q.priorities == 1,
                        ..edge(&q.name, words(&q.send), words(&q.receive))
                    })
                    .collect(),
            ),
            (
                Facility::Pipe,
                pipes
                    .iter()
                    .map(|p| Edge {
                        one_sided: p.raw || p.audit == Audit::None,
                        depth: p.capacity,
                        ..edge(&p.name, words([&p.from]), words([&p.to]))
                    })
                    .collect(),
            ),
            (
                Facility::Fifo,
                fifos.iter().map(|f| edge(&f.name, Vec::new(), words([&f.to]))).collect(),
            ),
            (
                Facility::Semaphore,
                semaphores.iter().map(|s| edge(&s.name, words(&s.holders), Vec::new())).collect(),
            ),
            (
                Facility::Region,
                regions.iter().map(|r| edge(&r.name, words(r.grant.keys()), Vec::new())).collect(),
            ),
            (
                Facility::MappedFile,
                mapped_files
                    .iter()
                    .map(|m| edge(&m.name, words(m.grant.keys()), Vec::new()))
                    .collect(),
            ),
        ];
        Self {
            policy: hex(&id.0),
            daemon: plan.name.to_string(),
            text,
            layers: words(plan.layers.iter().map(|layer| &layer.name)),
            edges: edges
                .into_iter()
                .map(|(facility, edges)| Edges { facility: facility.name().to_owned(), edges })
                .collect(),
            rules,
        }
    }

    /// The facilities of that kind.
    pub fn edges(&self, facility: Facility) -> &[Edge] {
        self.edges
            .iter()
            .find(|edges| edges.facility == facility.name())
            .map_or(&[], |edges| edges.edges.as_slice())
    }

    /// The record that says all this.
    pub fn entry(&self) -> Entry {
        // Strings and lists always have a JSON form.
        let detail = serde_json::to_vec(self).unwrap_or_default();
        Entry { detail, ..Entry::new(Kind::Policy) }
    }

    /// Reads a policy record's detail.
    pub fn parse(detail: &[u8]) -> Option<Self> {
        serde_json::from_slice(detail).ok()
    }
}
