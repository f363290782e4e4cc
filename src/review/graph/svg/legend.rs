//! What the shapes and colours mean: only those that the picture has. And what must never be.

use std::fmt::Write;

use super::super::layout::{Point, Size};
use super::super::{EdgeKind, Graph, NodeKind};
use super::text::{escape, mono};
use super::{edge, node};

/// Height of a row.
const ROW: f64 = 30.0;
/// Room of a sample.
const SAMPLE: f64 = 44.0;

const EDGES: [(EdgeKind, &str); 4] = [
    (EdgeKind::Channel, "sealed channel"),
    (EdgeKind::Pipe, "pipe"),
    (EdgeKind::Signal, "signal"),
    (EdgeKind::Grant, "grant"),
];

const NODES: [(NodeKind, &str); 8] = [
    (NodeKind::Listen, "listens"),
    (NodeKind::Connect, "connects to"),
    (NodeKind::File, "file"),
    (NodeKind::MappedFile, "mapped file"),
    (NodeKind::Queue, "queue"),
    (NodeKind::Fifo, "named pipe"),
    (NodeKind::Semaphore, "semaphore"),
    (NodeKind::Region, "shared memory"),
];

/// The legend, its upper left corner at 0, 0, and its height.
pub(super) fn draw(graph: &Graph, width: f64) -> (String, f64) {
    let mut out = format!("<path class=\"rule\" d=\"M0 0H{width:.1}\"/>\n");
    let mut pen = Point { x: 0.0, y: 26.0 };
    let mut room = |words: &str, sample: f64| {
        let needed = sample + mono(words, 11.0) + 30.0;
        if pen.x > 0.0 && pen.x + needed - 30.0 > width {
            pen = Point { x: 0.0, y: pen.y + ROW };
        }
        let at = pen;
        pen.x += needed;
        at
    };
    let words = "exposure: low to high";
    let at = room(words, 5.0 * 22.0 + 8.0);
    let mut x = at.x;
    for step in 0..5 {
        let _ = write!(
            out,
            "<rect class=\"box e{step}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"18\" height=\"16\" rx=\"4\"/>",
            at.y - 8.0
        );
        x += 22.0;
    }
    text(words, x + 8.0, at.y, "mono dim", &mut out);
    for (kind, words) in EDGES {
        if graph.edges.iter().any(|edge| edge.kind == kind) {
            let at = room(words, SAMPLE);
            let class = edge::class(kind);
            let line = format!("M{:.1} {:.1}h{:.1}", at.x, at.y, SAMPLE - 16.0);
            let _ = write!(out, "<path class=\"edge {class}\" d=\"{line}\"/>");
            if kind == EdgeKind::Pipe {
                let _ = write!(out, "<path class=\"bore\" d=\"{line}\"/>");
            }
            edge::head(class, Point { x: at.x + SAMPLE - 8.0, y: at.y }, 1.0, &mut out);
            text(words, at.x + SAMPLE, at.y, "mono dim", &mut out);
        }
    }
    for (kind, words) in NODES {
        if graph.nodes.iter().any(|node| node.kind == kind) {
            let at = room(words, SAMPLE);
            let (w, h) = (SAMPLE - 10.0, 22.0);
            let _ = write!(out, "<g transform=\"translate({:.1} {:.1})\">", at.x, at.y - h / 2.0);
            node::shape(kind, Size { width: w, height: h }, &mut out);
            out.push_str("</g>");
            text(words, at.x + SAMPLE, at.y, "mono dim", &mut out);
        }
    }
    let mut y = pen.y + ROW;
    for line in &graph.never {
        text(&format!("never: {line}"), 0.0, y, "mono", &mut out);
        y += 18.0;
    }
    (out, y - ROW / 2.0)
}

fn text(words: &str, x: f64, y: f64, class: &str, out: &mut String) {
    let _ = writeln!(
        out,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
        y + 4.0,
        escape(words)
    );
}
