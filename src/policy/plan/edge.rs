//! What two layers must have been told alike before they talk.

use blake2::{Blake2s256, Digest};
use serde::Serialize;

use super::{ChannelPlan, PipePlan, QueuePlan};
use crate::ident::{EdgeId, Name};

impl ChannelPlan {
    /// The digest of this channel in `daemon`. It fails as [`Plan::id`](super::Plan::id) does.
    pub fn edge(&self, daemon: &Name) -> Result<EdgeId, postcard::Error> {
        digest("channel", daemon, self)
    }
}

impl PipePlan {
    /// The digest of this pipe in `daemon`. It fails as [`Plan::id`](super::Plan::id) does.
    pub fn edge(&self, daemon: &Name) -> Result<EdgeId, postcard::Error> {
        digest("pipe", daemon, self)
    }
}

impl QueuePlan {
    /// The digest of this queue in `daemon`. It fails as [`Plan::id`](super::Plan::id) does.
    pub fn edge(&self, daemon: &Name) -> Result<EdgeId, postcard::Error> {
        digest("queue", daemon, self)
    }
}

/// Postcard says how long each part is, so no two edges give the same bytes.
fn digest(kind: &str, daemon: &Name, plan: &impl Serialize) -> Result<EdgeId, postcard::Error> {
    let bytes = postcard::to_stdvec(&(kind, daemon, plan))?;
    let mut hash = Blake2s256::new();
    hash.update(b"cofferdam edge 1\0");
    hash.update(&bytes);
    Ok(EdgeId(hash.finalize().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::check;
    use crate::policy::plan::Plan;

    /// A daemon with one edge of each kind, and what a test writes elsewhere.
    fn plan(daemon: &str, channel: &str, rest: &str) -> Plan {
        let layer = |name: &str| format!("[layer.{name}]\nrun = \"x\"\nsyscalls = [\"@core\"]\n");
        let text = format!(
            "cofferdam = 1\nname = \"{daemon}\"\n{}{}\
             [channel.c]\nfrom = \"a\"\nto = \"b\"\n{channel}\n\
             [pipe.p]\nfrom = \"a\"\nto = \"b\"\n\
             [queue.q]\nsend = [\"a\"]\nreceive = [\"b\"]\n{rest}",
            layer("a"),
            layer("b"),
        );
        let checked = check("edge.toml", text.as_bytes());
        checked.plan.unwrap_or_else(|| panic!("{text}\n{:?}", checked.diagnostics))
    }

    fn edges(plan: &Plan) -> [EdgeId; 3] {
        let (queue, pipe) = (&plan.facilities.queues[0], &plan.facilities.pipes[0]);
        let edges =
            [plan.channels[0].edge(&plan.name), pipe.edge(&plan.name), queue.edge(&plan.name)];
        edges.map(Result::unwrap)
    }

    #[test]
    fn an_edge_is_the_same_whatever_changes_elsewhere() {
        let one = plan("d", "", "");
        let layer = "[layer.c]\nrun = \"x\"\nsyscalls = [\"@core\"]\n\
                     [channel.d]\nfrom = \"c\"\nto = \"b\"\n";
        let other = plan("d", "", layer);
        assert_ne!(one.id(), other.id());
        assert_eq!(edges(&one), edges(&other));
    }

    #[test]
    fn an_edge_is_another_with_any_change_of_its_own() {
        let [channel, pipe, queue] = edges(&plan("d", "", ""));
        let methods = ["max = \"1KiB\"", "methods = [\"x\"]", "audit = \"none\"", "witness = true"];
        for text in methods {
            let other = edges(&plan("d", text, ""));
            assert_ne!(other[0], channel, "{text}");
            assert_eq!(other[1..], [pipe, queue], "{text}");
        }
        let foreign = edges(&plan("e", "", ""));
        assert!([channel, pipe, queue].iter().zip(&foreign).all(|(one, other)| one != other));
    }

    #[test]
    fn kinds_are_apart() {
        let daemon = Name::new("d").unwrap();
        let of = |kind| digest(kind, &daemon, &()).unwrap();
        assert_ne!(of("channel"), of("pipe"));
    }
}
