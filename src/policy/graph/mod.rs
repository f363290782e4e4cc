//! Pictures of a plan: layers, what joins them, and what they may touch.
//!
//! [`Graph::new`] makes nodes and edges of a plan; [`svg`](Graph::svg) draws them without any
//! outside program, [`dot`](Graph::dot) and [`mermaid`](Graph::mermaid) write them for others.
//! Names and paths are escaped for each format, whatever is in them.

mod builder;
mod dot;
mod facilities;
mod layout;
mod mermaid;
mod model;
mod show;
mod svg;

pub use model::Graph;
use model::{Edge, EdgeKind, Heads, Node, NodeKind};

use super::plan::LayerPlan;
use super::syscall;

/// A rough measure of how much a layer could do to others if it were taken over, 0 to 10.
///
/// At most 2.5 for the number of its system calls, 1 each for network calls, starting programs,
/// outgoing connections and executable memory, 1.5 for root, 2 each for listening and for
/// capabilities. It looks at the layer alone, not at what it reaches through others.
pub fn exposure(layer: &LayerPlan) -> f64 {
    let calls = layer.syscalls.iter().filter(|call| !call.allow.is_empty()).count();
    let calls = u32::try_from(calls).map_or(400.0, f64::from);
    let has = |name| {
        let number = syscall::by_name(name);
        layer.syscalls.iter().any(|call| Some(call.number) == number && !call.allow.is_empty())
    };
    let mut score = (calls / 60.0).min(2.5);
    score += if layer.listen.is_empty() { 0.0 } else { 2.0 };
    score += if layer.connect.is_empty() { 0.0 } else { 1.0 };
    score += if has("accept4") || has("connect") || has("socket") { 1.0 } else { 0.0 };
    score += if has("execve") { 1.0 } else { 0.0 };
    score += if layer.capabilities.is_empty() { 0.0 } else { 2.0 };
    score += if layer.execmem { 1.0 } else { 0.0 };
    score += if layer.uid == Some(0) { 1.5 } else { 0.0 };
    score.min(10.0)
}
