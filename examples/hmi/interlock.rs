//! The interlock: judges what operators ask for, and switches off what becomes dangerous.
//!
//! It is small, and has no input but requests, the process image and the list of operators. Of the
//! screen it believes nothing but what a token proves.

use std::io::Read;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::mapped_file::MappedFile;
use cofferdam::ipc::message::{Channel, Event, Message};
use cofferdam::ipc::queue::{Queue, QueueError};
use cofferdam::ipc::region::Subscriber;
use cofferdam::ipc::semaphore::Semaphore;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::Outcome;
use crate::operators::Operators;
use crate::protocol::{
    Acknowledgement, Actuator, Ask, Decision, Happened, Image, LogIn, Seen, SetPoint, Token, now,
    percent,
};
use crate::rules::{judge, trips};

/// How often the plant is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// How long the gateway, or a lease, is waited for.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long an answer may find no room.
const ANSWERING: Duration = Duration::from_millis(20);

/// How many looks there are between two words to the gateway.
const GUARDING: u64 = 4;

pub(crate) async fn interlock(layer: Layer) -> Outcome {
    let mut text = String::new();
    layer.file("operators")?.read_to_string(&mut text)?;
    let mut interlock = Interlock {
        operators: Operators::parse(&text)?,
        images: layer.region("image")?.subscriber(),
        actuators: layer.semaphore("actuator")?,
        setpoints: layer.channel("setpoints")?,
        acknowledgements: layer.channel("acknowledgements")?,
        historian: layer.queue("events")?,
        requests: layer.channel("requests")?,
        kept: layer.mapped_file("setpoints")?,
        last: [0; 3],
        changed: [None; 3],
    };
    // What isn't there yet, or was written by another version, is nothing to go on with.
    if let Ok(last) = postcard::from_bytes(&interlock.kept.read()?) {
        interlock.last = last;
    }
    let requests = interlock.requests.clone();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut look = 0_u64;
    loop {
        // The plant comes first, however much is asked.
        tokio::select! {
            biased;
            () = layer.stopping() => return Ok(()),
            _ = looks.tick() => {
                interlock.guard(look).await;
                // Requests are no looks: whoever asks often keeps no word from the gateway.
                look += 1;
            }
            event = requests.recv() => match event? {
                Event::Request { method, message, reply, .. } => {
                    let answer = match method.as_str() {
                        "log-in" => interlock.log_in(&message),
                        "set" => interlock.set(&message).await,
                        _ => interlock.acknowledge(&message).await,
                    };
                    let answered = async {
                        match answer {
                            Ok(answer) => reply.reply(answer).await,
                            Err(error) => reply.refuse(&error.to_string()).await,
                        }
                    };
                    // A screen that takes no answers holds up nobody.
                    let _ = timeout(ANSWERING, answered).await;
                }
                // It is taken as lost to somebody else, and has no way to this layer any more.
                Event::PeerBroke { peer, why } => {
                    eprintln!("{peer}: {why}");
                    interlock.tell("interlock", format!("{peer}: {why}"), 3);
                }
                _ => {}
            }
        }
    }
}

struct Interlock {
    operators: Operators,
    images: Subscriber<Image>,
    actuators: Semaphore,
    setpoints: Channel,
    acknowledgements: Channel,
    historian: Queue,
    requests: Channel,
    /// The last set points, on the disk.
    kept: MappedFile,
    last: [u16; 3],
    /// When each actuator was set last.
    changed: [Option<u64>; 3],
}

impl Interlock {
    /// The plant as it is, if that is known.
    fn image(&mut self) -> Option<Image> {
        let newest = self.images.latest().ok().flatten()?.value;
        newest.is_fresh(now()).then_some(newest)
    }

    /// Switches off what has become dangerous, and tells the gateway that somebody watches.
    async fn guard(&mut self, look: u64) {
        // While nothing is seen nothing can be guarded, and the controller gets no heartbeat.
        let Some(image) = self.image() else { return };
        for (actuator, why) in trips(&image) {
            let done = self.apply(actuator, 0).await;
            let how = if done.is_ok() { "switched off" } else { "could not switch off" };
            self.tell("interlock", format!("{how} {actuator}: {why}"), 3);
        }
        if look.is_multiple_of(GUARDING) {
            // One that is being restarted hears the next one.
            let _ = self.setpoints.call("guarding").timeout(PATIENCE).send(Vec::new()).await;
        }
    }

    fn log_in(&mut self, message: &Message) -> Outcome<Message> {
        let LogIn { name, code } = message.decode()?;
        let mut token = [0; 16];
        rustix::rand::getrandom(&mut token, rustix::rand::GetRandomFlags::empty())?;
        let welcome = self.operators.log_in(&name, &code, Token(token), self.last, now());
        let how = if welcome.is_ok() { "has logged in" } else { "was not let in" };
        self.tell(&name, how.to_owned(), u8::from(welcome.is_err()));
        Ok(Message::encode(&welcome?)?)
    }

    async fn set(&mut self, message: &Message) -> Outcome<Message> {
        let Ask { token, number, actuator, value } = message.decode()?;
        let who = self.operators.who(&token, number, now())?.to_owned();
        let refused = self.judged(&who, actuator, value).await.err();
        let what = format!("set {actuator} to {}", percent(value));
        let text = match &refused {
            None => what.clone(),
            Some(why) => format!("was refused to {what}: {why}"),
        };
        self.tell(&who, text, u8::from(refused.is_some()));
        Ok(Message::encode(&Decision { who, what, refused })?)
    }

    /// Judges it, and does it.
    async fn judged(&mut self, who: &str, actuator: Actuator, value: u16) -> Result<(), String> {
        if !self.operators.may_set(who) {
            return Err(format!("{who} may look, and set nothing"));
        }
        let image = self.image();
        let changed = self.changed[actuator.place()];
        judge(actuator, value, image.as_ref(), changed, now()).map_err(|why| why.to_string())?;
        self.apply(actuator, value)
            .await
            .map_err(|error| format!("it could not be done: {error}"))?;
        self.last[actuator.place()] = value;
        let last = postcard::to_stdvec(&self.last).map_err(|error| error.to_string())?;
        self.kept.commit(&last).map_err(|error| format!("done, and not kept: {error}"))?;
        Ok(())
    }

    /// Has the gateway set an actuator, under a lease: what an interlock of a former life still
    /// has on its way is older, and is turned away.
    async fn apply(&mut self, actuator: Actuator, value: u16) -> Outcome {
        let lease = self.actuators.acquire_timeout(PATIENCE).await?;
        let set = Message::encode(&SetPoint { actuator, value, fence: lease.fence() })?;
        // Also if the answer is lost: it may have been done.
        self.changed[actuator.place()] = Some(now());
        self.setpoints.call("set").timeout(PATIENCE).send(set).await?;
        Ok(())
    }

    async fn acknowledge(&mut self, message: &Message) -> Outcome<Message> {
        let Seen { token, number, alarm } = message.decode()?;
        let who = self.operators.who(&token, number, now())?.to_owned();
        let seen = Message::encode(&Acknowledgement { alarm, who: who.clone() })?;
        let seen = self.acknowledgements.call("acknowledge").timeout(PATIENCE).send(seen).await;
        let refused = seen.err().map(|error| error.to_string());
        let what = format!("acknowledge alarm {alarm}");
        Ok(Message::encode(&Decision { who, what, refused })?)
    }

    /// For the historian and the screen, if there is room: nobody waits for a disk or a browser here.
    fn tell(&self, who: &str, text: String, urgency: u8) {
        let Ok(bytes) = postcard::to_stdvec(&Happened::now(who, text, urgency)) else { return };
        match self.historian.try_send(&bytes, urgency) {
            Ok(_) | Err(QueueError::Full { .. }) => {}
            Err(error) => eprintln!("not told: {error}"),
        }
        let _ = self.requests.try_send("decided", bytes.into());
    }
}
