//! The graph in Graphviz's language.

use std::fmt::Write;

use super::{EdgeKind, Graph, Heads, NodeKind};

impl Graph {
    /// The graph as a `digraph` for `dot` (graphviz.org/doc/info/lang.html).
    pub fn dot(&self) -> String {
        let mut out = format!(
            "digraph {} {{\n  rankdir=LR;\n  label={};\n  node [fontname=\"sans-serif\"];\n  \
             edge [fontname=\"sans-serif\", fontsize=10];\n",
            quote(&self.name),
            quote(&format!("{} {}", self.name, self.id)),
        );
        for node in &self.nodes {
            let (shape, colour) = match node.kind {
                NodeKind::Layer(exposure, _) => ("box", level_colour(exposure)),
                NodeKind::Listen | NodeKind::Connect => ("cds", "white"),
                NodeKind::File | NodeKind::MappedFile => ("note", "white"),
                NodeKind::Queue | NodeKind::Fifo => ("cylinder", "white"),
                NodeKind::Semaphore => ("octagon", "white"),
                NodeKind::Region => ("component", "white"),
            };
            let times = match node.kind {
                NodeKind::Layer(_, instances) if instances > 1 => format!(" ×{instances}"),
                _ => String::new(),
            };
            let mut label = format!("{}{times}", node.title);
            for line in node.lines.iter().chain(&node.alarms) {
                let _ = write!(label, "\n{line}");
            }
            let _ = writeln!(
                out,
                "  {} [shape={shape}, style=filled, fillcolor={}, label={}];",
                quote(&node.key),
                quote(colour),
                quote(&label),
            );
        }
        for edge in &self.edges {
            let key = |at: usize| self.nodes.get(at).map_or("", |node| node.key.as_str());
            let style = match edge.kind {
                EdgeKind::Channel => "bold",
                EdgeKind::Signal => "dashed",
                EdgeKind::Pipe | EdgeKind::Grant => "solid",
            };
            let colour = if edge.kind == EdgeKind::Pipe { "black:white:black" } else { "black" };
            let heads = match edge.heads {
                Heads::End => "forward",
                Heads::Start => "back",
                Heads::Both => "both",
                Heads::Neither => "none",
            };
            let _ = writeln!(
                out,
                "  {} -> {} [style={style}, color={}, dir={heads}, label={}];",
                quote(key(edge.from)),
                quote(key(edge.to)),
                quote(colour),
                quote(&edge.label()),
            );
        }
        out.push_str("}\n");
        out
    }
}

fn level_colour(exposure: f64) -> &'static str {
    match super::svg::level(exposure) {
        0 => "#d9f0e3",
        1 => "#e6f0c9",
        2 => "#fbeebc",
        3 => "#fbdcb8",
        _ => "#f8cdc8",
    }
}

/// A quoted string; a newline becomes the escape for one.
fn quote(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::quote;

    #[test]
    fn nothing_leaves_its_quotes() {
        assert_eq!(quote("a\"];\\"), r#""a\"];\\""#);
        assert_eq!(quote("a\nb"), r#""a\nb""#);
    }
}
