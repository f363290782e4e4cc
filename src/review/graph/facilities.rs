//! Making nodes and edges: of files and the other facilities.

use std::collections::BTreeMap;

use super::builder::Builder;
use super::show;
use super::{Edge, EdgeKind, Heads, NodeKind};
use crate::ident::Name;
use crate::policy::plan::{Facilities, MapRight, Plan};

impl Builder {
    pub(super) fn files(&mut self, plan: &Plan) {
        for file in &plan.files {
            let mut lines = vec![show::shorten(&file.path)];
            lines.extend(file.at.iter().map(|at| format!("seen at {}", show::shorten(at))));
            if !file.deny.is_empty() {
                lines.push(show::shorten(&format!("not {}", file.deny.join(" "))));
            }
            let key = format!("file.{}", file.name);
            let node = self.node(key, NodeKind::File, file.name.as_str(), lines);
            for (layer, rights) in &file.grant {
                let reads = rights.iter().any(|right| !right.changes());
                let changes = rights.iter().any(|right| right.changes());
                let heads = heads(changes, reads);
                self.grant(self.at(layer), Some(node), heads, &show::rights(rights));
            }
        }
    }

    pub(super) fn facilities(&mut self, all: &Facilities) {
        // Taken apart, so that the compiler names this when there is one kind more.
        let Facilities { signals, queues, pipes, fifos, semaphores, regions, mapped_files } = all;
        for signal in signals {
            let mut lines = vec![
                signal
                    .send
                    .iter()
                    .map(|&number| show::signal(number))
                    .collect::<Vec<_>>()
                    .join(" "),
            ];
            lines.extend(signal.rate.map(show::rate));
            self.flow(EdgeKind::Signal, "signal", (&signal.name, &signal.from, &signal.to), lines);
        }
        for pipe in pipes {
            let raw = if pipe.raw { "raw, " } else { "" };
            let mut lines = vec![format!("{raw}{}", show::size(pipe.capacity.into()))];
            lines.extend(pipe.rate.map(show::byte_rate));
            self.flow(EdgeKind::Pipe, "pipe", (&pipe.name, &pipe.from, &pipe.to), lines);
        }
        for queue in queues {
            let lines = vec![
                format!("{} × {}", queue.depth, show::size(queue.max.into())),
                show::count(queue.priorities, "priority", "priorities"),
            ];
            let key = format!("queue.{}", queue.name);
            let node = self.node(key, NodeKind::Queue, queue.name.as_str(), lines);
            for layer in &queue.send {
                self.grant(self.at(layer), Some(node), Heads::End, "send");
            }
            for layer in &queue.receive {
                self.grant(Some(node), self.at(layer), Heads::End, "receive");
            }
        }
        for fifo in fifos {
            let mut lines = vec![
                show::shorten(&fifo.path),
                format!("mode {:04o}, ≤{}", fifo.mode, show::size(fifo.max.into())),
            ];
            lines.extend(fifo.rate.map(show::rate));
            let key = format!("fifo.{}", fifo.name);
            let node = self.node(key, NodeKind::Fifo, fifo.name.as_str(), lines);
            self.grant(Some(node), self.at(&fifo.to), Heads::End, "lines");
        }
        for semaphore in semaphores {
            let mut lines = vec![show::count(semaphore.permits, "permit", "permits")];
            lines.extend(semaphore.lease.map(|lease| format!("lease {}", show::duration(lease))));
            lines.extend(semaphore.order.map(|order| format!("order {order}")));
            let key = format!("semaphore.{}", semaphore.name);
            let node = self.node(key, NodeKind::Semaphore, semaphore.name.as_str(), lines);
            for layer in &semaphore.holders {
                self.grant(self.at(layer), Some(node), Heads::Neither, "lease");
            }
        }
        for region in regions {
            let key = format!("region.{}", region.name);
            let lines = vec![show::size(region.size)];
            let node = self.node(key, NodeKind::Region, region.name.as_str(), lines);
            self.maps(node, &region.grant);
        }
        for file in mapped_files {
            let key = format!("mapped-file.{}", file.name);
            let durable = if file.durable { ", durable" } else { "" };
            let lines =
                vec![show::shorten(&file.path), format!("{}{durable}", show::size(file.size))];
            let node = self.node(key, NodeKind::MappedFile, file.name.as_str(), lines);
            self.maps(node, &file.grant);
        }
    }

    /// Who may write stands before what is mapped, who only reads behind it.
    fn maps(&mut self, node: usize, grant: &BTreeMap<Name, MapRight>) {
        for (layer, &right) in grant {
            let layer = self.at(layer);
            match right {
                MapRight::Read => self.grant(Some(node), layer, Heads::End, show::map_right(right)),
                MapRight::ReadWrite => {
                    self.grant(layer, Some(node), Heads::Both, show::map_right(right));
                }
            }
        }
    }

    /// Something that goes from one layer to another one.
    fn flow(
        &mut self,
        kind: EdgeKind,
        word: &str,
        (name, from, to): (&Name, &Name, &Name),
        lines: Vec<String>,
    ) {
        let tip = format!("{word}.{name}: {from} to {to}\n{}", lines.join("\n"));
        let title = Some(name.to_string());
        let edge =
            Edge { from: 0, to: 0, kind, heads: Heads::End, title, lines, tip, traffic: None };
        self.edge(self.at(from), self.at(to), edge);
    }
}

fn heads(to_end: bool, to_start: bool) -> Heads {
    match (to_end, to_start) {
        (true, false) => Heads::End,
        (false, true) => Heads::Start,
        (true, true) => Heads::Both,
        (false, false) => Heads::Neither,
    }
}
