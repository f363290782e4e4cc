//! The painter: a process for one tile. It asks for one, paints it, and its life ends; the next tile
//! finds another one, which has nothing of this one's memory.

use cofferdam::Layer;
use cofferdam::ident::Instance;
use cofferdam::ipc::message::Message;

use crate::Outcome;
use crate::picture::paint;
use crate::protocol::Task;

pub(crate) async fn painter(layer: Layer) -> Outcome {
    let channel = layer.channel("paint")?;
    let task = tokio::select! {
        () = layer.stopping() => return Ok(()),
        task = channel.call("next").send(Message::default()) => task?,
    };
    let (worker, task): (Instance, Vec<u8>) = task.decode()?;
    let Task { picture, tile } = Message::from(task).decode()?;
    if !picture.is_fit() || tile >= picture.tiles() {
        return Err("there is no such tile".into());
    }
    channel.send_to(&worker, "done", paint(&picture, tile)).await?;
    Ok(())
}
