//! Nodes: a shape for each kind.

use std::fmt::Write;

use super::super::layout::{Point, Size};
use super::super::{Node, NodeKind};
use super::level;
use super::text::{escape, mono, sans};

/// Between two lines of text.
const LEADING: f64 = 15.0;
/// The fold of a document, the cut of an octagon.
const FOLD: f64 = 12.0;
/// How far each copy of a layer shows behind the one before it.
const COPY: f64 = 4.0;

/// How much room a node needs.
pub(super) fn size(node: &Node) -> Size {
    let (before, after) = padding(node.kind);
    let badge = if matches!(node.kind, NodeKind::Layer(..)) { 42.0 } else { 0.0 };
    let lines = node.lines.iter().chain(&node.alarms).map(|line| mono(line, 11.0));
    let text = lines.fold(sans(&heading(node), 14.0) + badge, f64::max);
    let least = if matches!(node.kind, NodeKind::Layer(..)) { 130.0 } else { 60.0 };
    let width = (before + text + after).max(least);
    let copies = copies(node.kind);
    Size { width: width + copies, height: 34.0 + LEADING * count(node) + copies }
}

/// How far the copies of a layer reach past its box, to the right and below: lines end at them.
fn copies(kind: NodeKind) -> f64 {
    match kind {
        NodeKind::Layer(_, instances) => COPY * (f64::from(instances.clamp(1, 3)) - 1.0),
        _ => 0.0,
    }
}

fn count(node: &Node) -> f64 {
    u32::try_from(node.lines.len() + node.alarms.len()).map_or(0.0, f64::from)
}

fn heading(node: &Node) -> String {
    match node.kind {
        NodeKind::Layer(_, instances) if instances > 1 => format!("{} ×{instances}", node.title),
        _ => node.title.clone(),
    }
}

/// Room beside the text.
fn padding(kind: NodeKind) -> (f64, f64) {
    match kind {
        NodeKind::Layer(..) => (16.0, 12.0),
        NodeKind::Listen => (14.0, 30.0),
        NodeKind::Connect => (30.0, 14.0),
        NodeKind::File => (12.0, 18.0),
        NodeKind::MappedFile => (20.0, 18.0),
        NodeKind::Queue => (12.0, 36.0),
        NodeKind::Fifo => (18.0, 24.0),
        NodeKind::Semaphore => (18.0, 18.0),
        NodeKind::Region => (20.0, 20.0),
    }
}

pub(super) fn draw(node: &Node, size: Size, place: Point, out: &mut String) {
    let (x, y) = (place.x - size.width / 2.0, place.y - size.height / 2.0);
    let _ = writeln!(
        out,
        "<g transform=\"translate({x:.1} {y:.1})\"><title>{}</title>",
        escape(&node.tip)
    );
    shape(node.kind, size, out);
    let left = padding(node.kind).0;
    let _ =
        write!(out, "<text class=\"name\" x=\"{left}\" y=\"22\">{}</text>", escape(&heading(node)));
    let mut baseline = 22.0 + LEADING + 1.0;
    let lines = node.lines.iter().map(|line| (line, "mono dim"));
    for (line, class) in lines.chain(node.alarms.iter().map(|line| (line, "mono alarm"))) {
        let _ = write!(
            out,
            "<text class=\"{class}\" x=\"{left}\" y=\"{baseline}\">{}</text>",
            escape(line)
        );
        baseline += LEADING;
    }
    out.push_str("</g>\n");
}

/// The outline of a kind, its upper left corner at 0, 0.
pub(super) fn shape(kind: NodeKind, Size { width: w, height: h }: Size, out: &mut String) {
    let _ = match kind {
        NodeKind::Layer(exposure, instances) => layer(exposure, instances, w, h, out),
        NodeKind::Listen | NodeKind::Connect => outside(kind == NodeKind::Listen, w, h, out),
        NodeKind::File => document(w, h, out),
        NodeKind::MappedFile => document(w, h, out).and_then(|()| pages(h, out)),
        NodeKind::Queue => write!(
            out,
            "<rect class=\"thing\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"4\"/>\
             <path class=\"mark\" d=\"M{:.1} 5V{b:.1}M{:.1} 5V{b:.1}M{:.1} 5V{b:.1}\"/>",
            w - 8.0,
            w - 16.0,
            w - 24.0,
            b = h - 5.0
        ),
        NodeKind::Fifo => write!(
            out,
            "<path class=\"thing\" d=\"M8 0H{r:.1}A8 {m:.1} 0 0 1 {r:.1} {h:.1}H8A8 {m:.1} 0 0 1 8 0Z\"/>\
             <path class=\"mark\" d=\"M{r:.1} 0A8 {m:.1} 0 0 0 {r:.1} {h:.1}\"/>",
            r = w - 8.0,
            m = h / 2.0
        ),
        NodeKind::Semaphore => write!(
            out,
            "<path class=\"thing\" d=\"M{FOLD} 0H{r:.1}L{w:.1} {FOLD}V{b:.1}L{r:.1} {h:.1}H{FOLD}L0 {b:.1}V{FOLD}Z\"/>",
            r = w - FOLD,
            b = h - FOLD
        ),
        NodeKind::Region => write!(
            out,
            "<rect class=\"thing\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"2\"/>\
             <path class=\"mark\" d=\"M9 0V{h:.1}M{:.1} 0V{h:.1}\"/>",
            w - 9.0
        ),
    };
}

fn layer(exposure: f64, instances: u16, w: f64, h: f64, out: &mut String) -> std::fmt::Result {
    let step = level(exposure);
    let behind = copies(NodeKind::Layer(exposure, instances));
    let (w, h) = (w - behind, h - behind);
    for at in [2.0 * COPY, COPY] {
        if at <= behind {
            write!(
                out,
                "<rect class=\"box e{step}\" x=\"{at}\" y=\"{at}\" width=\"{w:.1}\" \
                 height=\"{h:.1}\" rx=\"9\"/>"
            )?;
        }
    }
    write!(
        out,
        "<rect class=\"box e{step}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"9\"/>\
         <path class=\"s{step}\" d=\"M6 .5A9 9 0 0 0 0 9V{b:.1}A9 9 0 0 0 6 {l:.1}Z\"/>\
         <rect class=\"s{step}\" x=\"{x:.1}\" y=\"9\" width=\"32\" height=\"17\" rx=\"8.5\"/>\
         <text class=\"badge\" x=\"{m:.1}\" y=\"21.5\" text-anchor=\"middle\">{exposure:.1}</text>",
        b = h - 9.0,
        l = h - 0.5,
        x = w - 41.0,
        m = w - 25.0,
    )
}

/// A plug on the side where the daemon is.
fn outside(daemon_right: bool, w: f64, h: f64, out: &mut String) -> std::fmt::Result {
    let x = if daemon_right { w - 13.0 } else { 13.0 };
    let m = h / 2.0;
    write!(
        out,
        "<rect class=\"outside\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"{:.1}\"/>\
         <circle class=\"mark\" cx=\"{x:.1}\" cy=\"{m:.1}\" r=\"8.5\"/>\
         <circle class=\"dot\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"1.7\"/>\
         <circle class=\"dot\" cx=\"{x:.1}\" cy=\"{:.1}\" r=\"1.7\"/>",
        m.min(14.0),
        m - 3.2,
        m + 3.2
    )
}

/// The pages of what is mapped, along its side.
fn pages(h: f64, out: &mut String) -> std::fmt::Result {
    let (one, two) = (h / 3.0, h * 2.0 / 3.0);
    write!(out, "<path class=\"mark\" d=\"M10 0V{h:.1}M0 {one:.1}H10M0 {two:.1}H10\"/>")
}

fn document(w: f64, h: f64, out: &mut String) -> std::fmt::Result {
    let r = w - FOLD;
    write!(
        out,
        "<path class=\"thing\" d=\"M0 0H{r:.1}L{w:.1} {FOLD}V{h:.1}H0Z\"/>\
         <path class=\"mark\" d=\"M{r:.1} 0V{FOLD}H{w:.1}\"/>"
    )
}
