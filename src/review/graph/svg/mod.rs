//! The graph as a picture of its own: SVG 1.1 with a style sheet for light and dark.
//!
//! Every node and edge has a `<title>` that viewers show on pointing and read aloud. No script, no
//! link, no outside font: the file may be mailed, printed and put into a page.

mod edge;
mod legend;
mod node;
mod style;
mod text;

use std::fmt::Write;

use super::layout::{Link, Point, Size, layout};
use super::{EdgeKind, Graph, NodeKind};
use text::{escape, mono, sans};

/// Around everything.
const MARGIN: f64 = 32.0;
/// Height of the title.
const HEADER: f64 = 64.0;
/// Height of a box for each line that meets one side of it: four fifths of it come between the
/// lines, so that their heads don't touch.
const PORT: f64 = 12.5;
/// The narrowest picture: its legend must fit.
const NARROWEST: f64 = 620.0;

/// The colour step of an exposure from 0 to 10: 0 is green, 4 is red.
pub(super) fn level(exposure: f64) -> usize {
    [2.0, 4.0, 6.0, 8.0].iter().filter(|&&bound| exposure >= bound).count()
}

impl Graph {
    /// Draws the graph. The answer is a whole document.
    pub fn svg(&self) -> String {
        let boxes = self.boxes();
        let links: Vec<_> = self
            .edges
            .iter()
            .map(|edge| Link {
                from: edge.from,
                to: edge.to,
                weight: match edge.kind {
                    EdgeKind::Channel | EdgeKind::Pipe => 4,
                    EdgeKind::Grant => 2,
                    EdgeKind::Signal => 1,
                },
                label: edge::label_size(edge),
            })
            .collect();
        let layout = layout(&boxes, &links);
        let title = sans(&self.name, 22.0) + 24.0 + mono(&self.id, 12.0);
        let width = layout.size.width.max(NARROWEST).max(title);
        let shift = Point { x: MARGIN + (width - layout.size.width) / 2.0, y: MARGIN + HEADER };
        let (legend, legend_height) = legend::draw(self, width);
        let legend_top = shift.y + layout.size.height + 40.0;
        let (whole, tall) = (width + 2.0 * MARGIN, legend_top + legend_height + MARGIN);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole:.0} {tall:.0}\" \
             width=\"{whole:.0}\" height=\"{tall:.0}\" role=\"img\" aria-labelledby=\"t d\">\n\
             <title id=\"t\">Policy {name}</title>\n\
             <desc id=\"d\">{description}</desc>\n<style>{style}</style>\n\
             <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n",
            name = escape(&self.name),
            description = escape(&self.description()),
            style = style::SHEET,
        );
        self.header(&mut out);
        let _ = writeln!(out, "<g transform=\"translate({:.1} {:.1})\">", shift.x, shift.y);
        for (edge, route) in self.edges.iter().zip(&layout.routes) {
            edge::line(edge, route, &mut out);
        }
        for (node, (&size, &place)) in self.nodes.iter().zip(boxes.iter().zip(&layout.places)) {
            node::draw(node, size, place, &mut out);
        }
        for (edge, route) in self.edges.iter().zip(&layout.routes) {
            edge::label(edge, route, &mut out);
        }
        out.push_str("</g>\n");
        let _ = writeln!(out, "<g transform=\"translate({MARGIN:.1} {legend_top:.1})\">");
        out.push_str(&legend);
        out.push_str("</g>\n</svg>\n");
        out
    }

    /// How much room each node needs, for its text and for the heads of its lines.
    fn boxes(&self) -> Vec<Size> {
        let mut met = vec![(0.0, 0.0); self.nodes.len()];
        for edge in &self.edges {
            met[edge.from].0 += PORT;
            met[edge.to].1 += PORT;
        }
        let needed = |(node, (from, to)): (_, &(f64, f64))| {
            let size = node::size(node);
            Size { height: size.height.max(from.max(*to)), ..size }
        };
        self.nodes.iter().zip(&met).map(needed).collect()
    }

    fn header(&self, out: &mut String) {
        let layers = self.layers();
        let channels = self.edges.iter().filter(|edge| edge.kind == EdgeKind::Channel).count();
        let plural = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        let _ = writeln!(
            out,
            "<text class=\"title\" x=\"{MARGIN:.0}\" y=\"{:.0}\">{}</text>\n\
             <text class=\"mono dim\" x=\"{MARGIN:.0}\" y=\"{:.0}\">{}, {}, id {}</text>",
            MARGIN + 18.0,
            escape(&self.name),
            MARGIN + 38.0,
            plural(layers, "layer"),
            plural(channels, "channel"),
            escape(&self.id),
        );
    }

    fn layers(&self) -> usize {
        self.nodes.iter().filter(|node| matches!(node.kind, NodeKind::Layer(..))).count()
    }

    /// What the picture shows, for who can't see it: every line of it.
    fn description(&self) -> String {
        let mut text = format!("{} layers.", self.layers());
        for edge in &self.edges {
            if let (Some(from), Some(to)) = (self.nodes.get(edge.from), self.nodes.get(edge.to)) {
                let _ = write!(text, " {} to {}", from.key, to.key);
                let label = edge.label().replace('\n', ", ");
                text.push_str(if label.is_empty() { "" } else { ": " });
                text.push_str(&label);
                text.push('.');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::level;

    #[test]
    fn five_levels() {
        assert_eq!([0.0, 1.9, 2.0, 5.0, 7.9, 8.0, 10.0].map(level), [0, 0, 1, 2, 3, 4, 4]);
    }
}
