//! The graph in Mermaid's flowchart language.

use std::fmt::Write;

use super::{Edge, EdgeKind, Graph, Heads, NodeKind};

impl Graph {
    /// The graph as a Mermaid `flowchart` (mermaid.js.org/syntax/flowchart.html), which many
    /// viewers of Markdown draw.
    pub fn mermaid(&self) -> String {
        let mut out = format!("---\ntitle: {} {}\n---\nflowchart LR\n", self.name, self.id);
        for (at, node) in self.nodes.iter().enumerate() {
            let (open, close) = match node.kind {
                NodeKind::Layer(..) => ("[", "]"),
                NodeKind::Listen | NodeKind::Connect => (">", "]"),
                NodeKind::File | NodeKind::MappedFile => ("[/", "/]"),
                NodeKind::Queue | NodeKind::Fifo => ("[(", ")]"),
                NodeKind::Semaphore => ("{{", "}}"),
                NodeKind::Region => ("[[", "]]"),
            };
            let mut label = node.title.clone();
            if let NodeKind::Layer(_, instances) = node.kind
                && instances > 1
            {
                let _ = write!(label, " ×{instances}");
            }
            for line in node.lines.iter().chain(&node.alarms) {
                let _ = write!(label, "\n{line}");
            }
            let class = match node.kind {
                NodeKind::Layer(exposure, _) => format!(":::e{}", super::svg::level(exposure)),
                _ => String::new(),
            };
            let _ = writeln!(out, "  n{at}{open}\"{}\"{close}{class}", escape(&label));
        }
        for edge in &self.edges {
            // Mermaid has no arrow that points back only.
            let (from, to) = match edge.heads {
                Heads::Start => (edge.to, edge.from),
                _ => (edge.from, edge.to),
            };
            let label = edge.label();
            let label = if label.is_empty() { label } else { format!("|\"{}\"|", escape(&label)) };
            let _ = writeln!(out, "  n{from} {}{label} n{to}", arrow(edge));
        }
        let fills = ["#d9f0e3", "#e6f0c9", "#fbeebc", "#fbdcb8", "#f8cdc8"];
        for (level, fill) in fills.iter().enumerate() {
            let _ = writeln!(out, "  classDef e{level} fill:{fill},color:#1c2430");
        }
        out
    }
}

fn arrow(edge: &Edge) -> &'static str {
    match (edge.kind, edge.heads) {
        (EdgeKind::Channel, Heads::Both) => "<==>",
        (EdgeKind::Channel, _) => "==>",
        (EdgeKind::Signal, _) => "-.->",
        (_, Heads::Neither) => "---",
        (_, Heads::Both) => "<-->",
        (EdgeKind::Pipe | EdgeKind::Grant, _) => "-->",
    }
}

/// Mermaid takes HTML entities inside quotes, by number with `#`.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("<br>"),
            '"' | '#' | '<' | '>' | '&' | ';' | '`' | '|' | '\\' => {
                let _ = write!(out, "#{};", c as u32);
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn nothing_leaves_its_quotes() {
        assert_eq!(escape("a\"]<b>\n"), "a#34;]#60;b#62;<br>");
    }
}
