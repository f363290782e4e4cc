//! Edges: a line, its heads, and a label that says what it carries.

use std::fmt::Write;

use super::super::layout::{Point, Route, Size};
use super::super::{Edge, EdgeKind, Heads, Traffic};
use super::text::{escape, mono, sans};

/// Between two lines of a label.
const LEADING: f64 = 13.5;
/// How far a head reaches.
const HEAD: f64 = 9.0;

impl Edge {
    /// Its name and what it carries, one a line.
    pub(in super::super) fn label(&self) -> String {
        let lines: Vec<_> = self.title.iter().chain(&self.lines).map(String::as_str).collect();
        lines.join("\n")
    }
}

/// How much room a label needs.
pub(super) fn label_size(edge: &Edge) -> Size {
    let traffic = edge.traffic.iter().map(|traffic| &traffic.line);
    let lines = edge.lines.iter().chain(traffic);
    let lines = lines.map(|line| mono(line, 11.0)).fold(0.0, f64::max);
    let Some(title) = &edge.title else {
        let rows = count(edge);
        return if rows > 0.0 {
            Size { width: lines + 8.0, height: rows * LEADING + 2.0 }
        } else {
            Size { width: 0.0, height: 6.0 }
        };
    };
    Size { width: lines.max(sans(title, 11.5)) + 20.0, height: (count(edge) + 1.0) * LEADING + 9.0 }
}

fn count(edge: &Edge) -> f64 {
    let lines = edge.lines.len() + usize::from(edge.traffic.is_some());
    u32::try_from(lines).map_or(0.0, f64::from)
}

/// What the style sheet calls a kind.
pub(super) fn class(kind: EdgeKind) -> &'static str {
    match kind {
        EdgeKind::Channel => "channel",
        EdgeKind::Pipe => "pipe",
        EdgeKind::Signal => "signal",
        EdgeKind::Grant => "grant",
    }
}

/// The line and its heads.
pub(super) fn line(edge: &Edge, route: &Route, out: &mut String) {
    let class = class(edge.kind);
    let (Some(first), Some(last)) = (route.stops.first(), route.stops.last()) else { return };
    let (start, end) = (first.0, Point { x: last.1, y: last.0.y });
    // Links go to the right as a whole, or to the left as a whole.
    let way = (end.x - start.x).signum();
    let (at_start, at_end) = match edge.heads {
        Heads::End => (false, true),
        Heads::Start => (true, false),
        Heads::Both => (true, true),
        Heads::Neither => (false, false),
    };
    // The line ends beneath its heads.
    let shorter = |yes: bool| if yes { way * (HEAD - 2.0) } else { 0.0 };
    let path = path(&route.stops, shorter(at_start), shorter(at_end));
    let _ = write!(out, "<g><title>{}</title>", escape(&edge.tip));
    let share = edge.traffic.as_ref().map(|traffic| traffic.share.min(Traffic::MOST));
    if let Some(share) = share.filter(|share| *share > 0) {
        let _ = write!(out, "<path class=\"edge flow w{share} {class}\" d=\"{path}\"/>");
    }
    let idle = if share == Some(0) { " idle" } else { "" };
    let _ = write!(out, "<path class=\"edge {class}{idle}\" d=\"{path}\"/>");
    if edge.kind == EdgeKind::Pipe {
        let _ = write!(out, "<path class=\"bore\" d=\"{path}\"/>");
    }
    if at_start {
        head(class, start, -way, out);
    }
    if at_end {
        head(class, end, way, out);
    }
    out.push_str("</g>\n");
}

/// Level through every stop, and swinging from one to the next; shorter by this much at its ends.
fn path(stops: &[(Point, f64)], shorter_start: f64, shorter_end: f64) -> String {
    let mut path = String::new();
    let mut x = 0.0;
    let mut y = 0.0;
    for (at, &(point, leaves)) in stops.iter().enumerate() {
        if at == 0 {
            let _ = write!(path, "M{:.1} {:.1}", point.x + shorter_start, point.y);
        } else {
            let middle = f64::midpoint(x, point.x);
            let (to_x, to_y) = (point.x, point.y);
            let _ = write!(path, "C{middle:.1} {y:.1} {middle:.1} {to_y:.1} {to_x:.1} {to_y:.1}");
        }
        let last = at + 1 == stops.len();
        let _ = write!(path, "H{:.1}", if last { leaves - shorter_end } else { leaves });
        (x, y) = (leaves, point.y);
    }
    path
}

/// A triangle whose tip is at `tip`; `way` is 1 towards the right, -1 towards the left.
pub(super) fn head(class: &str, tip: Point, way: f64, out: &mut String) {
    let back = tip.x - way * HEAD;
    let _ = write!(
        out,
        "<path class=\"{class}head\" d=\"M{:.1} {:.1}L{back:.1} {:.1}V{:.1}Z\"/>",
        tip.x,
        tip.y,
        tip.y - 4.5,
        tip.y + 4.5
    );
}

/// What stands on the line.
pub(super) fn label(edge: &Edge, route: &Route, out: &mut String) {
    let Size { width, height } = label_size(edge);
    if edge.title.is_none() && edge.lines.is_empty() && edge.traffic.is_none() {
        return;
    }
    let (x, y) = (route.label.x, route.label.y - height / 2.0);
    let _ = write!(out, "<g><title>{}</title>", escape(&edge.tip));
    let (left, frame) = (x - width / 2.0, if edge.title.is_some() { class(edge.kind) } else { "" });
    let pill = if frame.is_empty() { "paper" } else { "pill" };
    let _ = write!(
        out,
        "<rect class=\"{frame}{}{pill}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" \
         height=\"{height:.1}\" rx=\"7\"/>",
        if frame.is_empty() { "" } else { " " }
    );
    let mut baseline = y + if edge.title.is_some() { 15.0 } else { 11.0 };
    if let Some(title) = &edge.title {
        let _ = write!(
            out,
            "<text class=\"small\" x=\"{x:.1}\" y=\"{baseline:.1}\" text-anchor=\"middle\">{}</text>",
            escape(title)
        );
        baseline += LEADING;
    }
    for line in &edge.lines {
        let _ = write!(
            out,
            "<text class=\"mono dim\" x=\"{x:.1}\" y=\"{baseline:.1}\" text-anchor=\"middle\">{}\
             </text>",
            escape(line)
        );
        baseline += LEADING;
    }
    if let Some(traffic) = &edge.traffic {
        let class = match traffic {
            Traffic { alarm: true, .. } => "mono alarm",
            Traffic { share: 0, .. } => "mono dim",
            _ => "mono much",
        };
        let _ = write!(
            out,
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{baseline:.1}\" text-anchor=\"middle\">{}\
             </text>",
            escape(&traffic.line)
        );
    }
    out.push_str("</g>\n");
}
