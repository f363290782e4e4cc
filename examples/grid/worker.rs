//! The worker of a host: takes tiles from the dispatcher, and gives each to a painter that asks for one.
//!
//! It reads nothing of a tile. A painter that dies on one is followed by another, three times in all; then
//! the dispatcher is told.

use std::collections::{BTreeMap, VecDeque};

use cofferdam::Layer;
use cofferdam::ident::Instance;
use cofferdam::ipc::message::{Delivery, Event, Message, Replier};

use crate::Outcome;

/// How often a tile is begun.
const TRIES: u32 = 3;

/// A tile that somebody waits for.
struct Tile {
    task: Vec<u8>,
    tries: u32,
    to: Replier,
}

#[derive(Default)]
struct Worker {
    tiles: VecDeque<Tile>,
    /// Painters that have none.
    idle: VecDeque<(Instance, Replier)>,
    /// Painters that have one.
    busy: BTreeMap<Instance, Tile>,
}

pub(crate) async fn worker(layer: Layer) -> Outcome {
    let (tasks, painters) = (layer.channel("task")?, layer.channel("paint")?);
    let mut worker = Worker::default();
    loop {
        tokio::select! {
            () = layer.stopping() => return Ok(()),
            event = tasks.recv() => {
                if let Event::Request { message, reply, .. } = event? {
                    worker.tiles.push_back(Tile { task: message.body, tries: 0, to: reply });
                }
            }
            event = painters.recv() => match event? {
                Event::Request { from, reply, .. } => worker.idle.push_back((from, reply)),
                Event::Message { from, message, .. } => worker.painted(&from, message).await,
                Event::PeerGone(painter) | Event::PeerRestarted { old: painter, .. } => {
                    worker.lost(&painter).await;
                }
                Event::PeerBroke { peer, why } => {
                    eprintln!("{peer} broke the rules: {why}");
                    worker.lost(&peer).await;
                }
                Event::PeerDown => {}
            },
        }
        worker.give_out(layer.instance()).await?;
    }
}

impl Worker {
    /// Gives tiles to painters, as long as there are both.
    async fn give_out(&mut self, me: &Instance) -> Outcome {
        while let Some((painter, reply)) = self.idle.pop_front() {
            let tile = loop {
                match self.tiles.pop_front() {
                    // Nobody waits for it any more.
                    Some(tile) if tile.to.is_cancelled() => {}
                    tile => break tile,
                }
            };
            let Some(mut tile) = tile else {
                self.idle.push_front((painter, reply));
                return Ok(());
            };
            // The painter gives what it has painted to whom it has it from.
            match reply.reply_typed(&(me, &tile.task)).await {
                Ok(Delivery::Sent) => {
                    tile.tries += 1;
                    self.busy.insert(painter, tile);
                }
                _ => self.tiles.push_front(tile),
            }
        }
        Ok(())
    }

    /// A painter has painted its tile, and is done.
    async fn painted(&mut self, painter: &Instance, points: Message) {
        if let Some(tile) = self.busy.remove(painter) {
            drop(tile.to.reply(Message::from(points.body)).await);
        }
    }

    /// A painter is gone. Another one paints its tile, if it had one.
    async fn lost(&mut self, painter: &Instance) {
        self.idle.retain(|(it, _)| it != painter);
        match self.busy.remove(painter) {
            Some(tile) if tile.tries < TRIES => self.tiles.push_front(tile),
            Some(tile) => drop(tile.to.refuse("whoever paints this tile dies of it").await),
            None => {}
        }
    }
}
