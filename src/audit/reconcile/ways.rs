//! Which facilities have two ends that report, by their kind and by the tables.

use std::collections::HashMap;

use crate::audit::entry::Facility;
use crate::audit::tables::Tables;

/// How the messages of an edge are matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// At most one end reports.
    OneSided,
    /// Sender and receiver report.
    TwoSided,
    /// So does the witness between them.
    Witnessed,
    /// Sender and receiver report, and it may stay between them for any time.
    Queue,
    /// The same, in order, and at most so many bytes.
    Pipe(u64),
}

/// Whether facilities of a kind can have two ends that report. A signal's sender is the broker's
/// record, a FIFO's writers are no layers, and all others are used by one instance alone.
pub(super) fn two_ended(facility: Facility) -> bool {
    matches!(facility, Facility::Channel | Facility::Queue | Facility::Pipe)
}

/// Bytes of frames that the two ends of a pipe hold beside the pipe: one frame that is reported and
/// not yet written, and two that are read and not yet opened.
const AT_THE_ENDS: u64 = 3 * (16 << 10) + 3 * 18;

/// What the tables say of a queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// How many messages it holds; 0 if that isn't known.
    pub(super) depth: u32,
    /// Whether a sender's messages come out in the order in which they went in.
    pub(super) ordered: bool,
    /// Who receives.
    pub(super) receivers: Vec<u16>,
}

/// What the tables say, as far as it matters here. An edge that they don't name has two ends.
#[derive(Debug, Default)]
pub(super) struct Ways {
    special: HashMap<(Facility, u16), Way>,
    pub(super) queues: HashMap<u16, Queue>,
    /// The witness's layer.
    pub(super) witness: Option<u16>,
}

/// What the layer of the built-in witness is called.
const WITNESS: &str = "cofferdam-witness";

impl Ways {
    /// What these tables say.
    pub(super) fn of(tables: &Tables) -> Self {
        let mut ways = Self::default();
        let layer =
            |name: &str| u16::try_from(tables.layers.iter().position(|layer| layer == name)?).ok();
        ways.witness = layer(WITNESS);
        for facility in [Facility::Channel, Facility::Pipe, Facility::Queue] {
            for (number, edge) in (0..).zip(tables.edges(facility)) {
                let holds = facility == Facility::Pipe && edge.depth > 0;
                let way = match () {
                    () if edge.one_sided => Some(Way::OneSided),
                    () if edge.witness => Some(Way::Witnessed),
                    () if holds => Some(Way::Pipe(u64::from(edge.depth) + AT_THE_ENDS)),
                    () => None,
                };
                if let Some(way) = way {
                    ways.special.insert((facility, number), way);
                }
                if facility == Facility::Queue {
                    let receivers = edge.to.iter().filter_map(|name| layer(name)).collect();
                    let queue = Queue { depth: edge.depth, ordered: edge.ordered, receivers };
                    ways.queues.insert(number, queue);
                }
            }
        }
        ways
    }

    /// How an edge's messages are matched.
    pub(super) fn way(&self, facility: Facility, edge: u16) -> Way {
        match self.special.get(&(facility, edge)) {
            Some(way) => *way,
            None if facility == Facility::Queue => Way::Queue,
            None => Way::TwoSided,
        }
    }
}
