//! A layer that minds its own business: it answers calls, makes some, and says that it lives.

use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{Channel, Event};

use crate::orders::Orders;
use crate::say;

/// Between two signs of life.
const PAUSE: Duration = Duration::from_millis(100);

/// How long an answer may take before the channel counts as silent.
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until the supervisor asks it to stop.
pub(crate) async fn serve(layer: &Layer, orders: &Orders) -> Result<(), String> {
    let own = layer.instance().layer.clone();
    let mut callers = Vec::new();
    for [name, from, to, method] in &orders.channels {
        let open = || layer.channel(name).map_err(|error| error.to_string());
        if own == *to.as_str() {
            tokio::spawn(answer(open()?));
        } else if own == *from.as_str() {
            callers.push((name.clone(), method.clone(), open()?));
        }
    }
    let beats = async {
        loop {
            let mut line = "BEAT".to_owned();
            for (name, method, channel) in &callers {
                if channel.call(method).timeout(PATIENCE).send(&b"ping"[..]).await.is_ok() {
                    line.push(' ');
                    line.push_str(name);
                }
            }
            say(&line);
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = layer.stopping() => Ok(()),
        never = beats => never,
    }
}

/// Gives every call its own bytes back.
async fn answer(channel: Channel) {
    while let Ok(event) = channel.recv().await {
        if let Event::Request { message, reply, .. } = event {
            let _ = reply.reply(message).await;
        }
    }
}
