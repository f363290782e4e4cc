//! The worker of a host: takes tiles from the dispatcher, and has each painted in a process of its own.
//!
//! It reads nothing of a tile. A painter that dies on one is followed by another, three times in all;
//! then the dispatcher is told.

use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{Event, Message};

use crate::Outcome;

/// How long one tile may take.
const TIME: Duration = Duration::from_secs(60);

pub(crate) async fn worker(layer: Layer) -> Outcome {
    let (tasks, painters) = (layer.channel("task")?, layer.channel("paint")?);
    while let Some(event) = tasks.next().await? {
        let Event::Request { message, reply, .. } = event else { continue };
        let painters = painters.clone();
        tokio::spawn(async move {
            let call = painters.call("paint").timeout(TIME).idempotent();
            let painted = tokio::select! {
                // Nobody waits for it any more.
                () = reply.cancelled() => return,
                painted = call.send(message) => painted,
            };
            let answered = match painted {
                Ok(points) => reply.reply(Message::from(points.body)).await,
                Err(error) => reply.refuse(&error.to_string()).await,
            };
            if let Err(error) = answered {
                eprintln!("a tile wasn't answered: {error}");
            }
        });
    }
    Ok(())
}
