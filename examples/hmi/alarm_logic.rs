//! The alarm logic: compares the process image with limits, and keeps the list of alarms.

use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{Event, Message};
use cofferdam::ipc::queue::Queue;
use tokio::time::{MissedTickBehavior, interval};

use crate::Outcome;
use crate::alarms::Alarms;
use crate::protocol::{Acknowledgement, Alarm, Happened, Image, now};

/// How often the plant is looked at.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) async fn alarm_logic(layer: Layer) -> Outcome {
    let mut images = layer.region("image")?.subscriber::<Image>();
    let mut list = layer.region("alarm-list")?.publisher::<Vec<Alarm>>()?;
    let (screen, historian) = (layer.queue("alarms")?, layer.queue("events")?);
    let acknowledgements = layer.channel("acknowledgements")?;
    let attention = layer.signal("attention")?;
    let mut alarms = Alarms::new();
    list.publish(&alarms.list())?;
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let happened = tokio::select! {
            () = layer.stopping() => return Ok(()),
            _ = looks.tick() => {
                let newest = images.latest().ok().flatten().map(|it| it.value);
                alarms.look(newest.filter(|it| it.is_fresh(now())).as_ref())
            }
            event = acknowledgements.recv() => {
                let Event::Request { message, reply, .. } = event? else { continue };
                let seen = acknowledged(&message, &mut alarms);
                match &seen {
                    Some(_) => drop(reply.reply(Vec::new()).await),
                    None => drop(reply.refuse("there is no such alarm that nobody has seen").await),
                }
                Vec::from_iter(seen)
            }
        };
        if happened.is_empty() {
            continue;
        }
        list.publish(&alarms.list())?;
        for one in happened {
            tell(&one, &[&screen, &historian]);
        }
        // It looks anyway, a little later.
        let _ = attention.send("USR1").await;
    }
}

fn acknowledged(message: &Message, alarms: &mut Alarms) -> Option<Happened> {
    let Acknowledgement { alarm, who } = message.decode().ok()?;
    alarms.acknowledge(alarm, &who)
}

/// Puts it into queues. What a queue has no room for is lost there as the policy says, and nobody
/// waits here.
fn tell(happened: &Happened, queues: &[&Queue]) {
    let Ok(bytes) = postcard::to_stdvec(happened) else { return };
    for queue in queues {
        let _ = queue.try_send(&bytes, happened.urgency);
    }
}
