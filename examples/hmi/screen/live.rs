//! What browsers are shown without asking again: server-sent events.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::{message, queue};
use hyper::Response;
use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};

use super::pages::{Body, events};
use crate::Outcome;
use crate::protocol::{Alarm, Happened, Image, now};

/// How often the picture changes.
const LOOK: Duration = Duration::from_millis(200);

/// What happened last, and is shown.
const LAST: usize = 12;

/// What is shown, all of it each time: it is small, and a browser that comes back has missed
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Picture {
    /// The plant; `None` is no news for too long.
    image: Option<Image>,
    alarms: Vec<Alarm>,
    happened: VecDeque<Happened>,
}

pub(super) struct Live {
    picture: watch::Sender<Picture>,
    /// Gone once the screen ends: then every stream ends too.
    is_open: Mutex<Option<watch::Receiver<Picture>>>,
}

impl Live {
    pub(super) fn new() -> Self {
        let (picture, receiver) = watch::channel(Picture::default());
        Self { picture, is_open: Mutex::new(Some(receiver)) }
    }

    /// Draws the picture again and again.
    pub(super) async fn follow(&self, layer: &Layer) -> Outcome {
        let mut images = layer.region("image")?.subscriber::<Image>();
        let mut lists = layer.region("alarm-list")?.subscriber::<Vec<Alarm>>();
        let (queue, requests) = (layer.queue("alarms")?, layer.channel("requests")?);
        let mut attention = layer.signals()?;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut happened: VecDeque<Happened> = VecDeque::new();
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                // "Look now": an alarm isn't late by a look.
                signal = attention.recv() => drop(signal?),
                event = queue.recv() => match event? {
                    queue::Event::Message(message) => happened.push_front(message.decode()?),
                    queue::Event::Refused(refused) => eprintln!("not authentic: {}", refused.why),
                },
                event = requests.recv() => {
                    if let message::Event::Message { message, .. } = event? {
                        happened.push_front(message.decode()?);
                    }
                }
            }
            happened.truncate(LAST);
            let newest = images.latest().ok().flatten().map(|it| it.value);
            let alarms = lists.latest().ok().flatten().map(|it| it.value).unwrap_or_default();
            let image = newest.filter(|image| image.is_fresh(now()));
            let picture = Picture { image, alarms, happened: happened.clone() };
            self.picture.send_if_modified(|shown| {
                let is_new = *shown != picture;
                *shown = picture;
                is_new
            });
        }
    }

    /// The events for one browser. One that doesn't read them in time misses pictures, and holds
    /// up nobody.
    pub(super) fn stream(&self) -> Response<Body> {
        let (sender, receiver) = mpsc::channel(1);
        let open = self.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut pictures) = open.clone() {
            pictures.mark_changed();
            tokio::spawn(async move {
                while pictures.changed().await.is_ok() {
                    let text = serde_json::to_string(&*pictures.borrow_and_update());
                    let Ok(text) = text else { return };
                    if sender.send(Bytes::from(format!("data: {text}\n\n"))).await.is_err() {
                        return;
                    }
                }
            });
        }
        events(receiver)
    }

    /// Lets no more streams begin. Those that are there end with their connections.
    pub(super) fn end(&self) {
        drop(self.is_open.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
