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

use model::{Edge, EdgeKind, Heads, Node, NodeKind};
pub use model::{Graph, Traffic};
