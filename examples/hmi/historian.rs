//! The historian: writes down what happened, and now and then how the plant was. Nobody waits for it.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::file::Options;
use cofferdam::ipc::queue::Event;
use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::Outcome;
use crate::protocol::{Happened, Image};

/// How often a line about the plant is written.
const SAMPLE: Duration = Duration::from_secs(1);

pub(crate) async fn historian(layer: Layer) -> Outcome {
    let archive = layer.directory("archive")?;
    let open = |name| {
        let opened = archive.open(name, Options::new().append().create())?;
        Outcome::Ok(File::from(OwnedFd::from(opened)))
    };
    let (mut events, mut trend) = (open("events.jsonl")?, open("trend.jsonl")?);
    let queue = layer.queue("events")?;
    let mut images = layer.region("image")?.subscriber::<Image>();
    let mut written = 0;
    let mut samples = interval(SAMPLE);
    samples.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = layer.stopping() => break,
            event = queue.recv() => match event? {
                Event::Message(message) => line(&mut events, &message.decode::<Happened>()?)?,
                Event::Refused(refused) => eprintln!("an event was not authentic: {}", refused.why),
            },
            _ = samples.tick() => {
                if let Ok(Some(newest)) = images.latest()
                    && newest.number != written
                {
                    written = newest.number;
                    line(&mut trend, &newest.value)?;
                }
            }
        }
    }
    // What came before the end is kept.
    while let Some(event) = queue.try_recv()? {
        if let Event::Message(message) = event {
            line(&mut events, &message.decode::<Happened>()?)?;
        }
    }
    Ok(())
}

/// One line of JSON, in one write.
fn line(file: &mut File, value: &impl Serialize) -> Outcome {
    let mut text = serde_json::to_vec(value)?;
    text.push(b'\n');
    Ok(file.write_all(&text)?)
}
