//! The painter: a process for one tile. It answers one call, and its life ends; the next tile finds
//! another one, which has nothing of this one's memory.

use cofferdam::Layer;
use cofferdam::ipc::message::{Event, Message};

use crate::Outcome;
use crate::picture::paint;
use crate::protocol::Task;

pub(crate) async fn painter(layer: Layer) -> Outcome {
    let channel = layer.channel("paint")?;
    while let Some(event) = channel.next().await? {
        let Event::Request { message, reply, .. } = event else { continue };
        let task: Task = message.decode()?;
        if !task.picture.is_fit() || task.tile >= task.picture.tiles() {
            reply.refuse("there is no such tile").await?;
            continue;
        }
        reply.reply(Message::from(paint(&task.picture, task.tile))).await?;
        return Ok(());
    }
    Ok(())
}
