//! The gateway: speaks Modbus TCP with the controller, for everybody else.
//!
//! It publishes what it reads, and writes what the interlock says. It knows no operators and no
//! limits; but it turns away whatever isn't from the interlock's newest lease, and it lets the
//! controller shut everything off if the interlock falls silent.

use std::convert::Infallible;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{Event, Message};
use cofferdam::ipc::region::Publisher;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_modbus::client::{Context, Reader, Writer, tcp};

use crate::Outcome;
use crate::field::{FULL, HEARTBEAT, HOLDING, INPUTS, image};
use crate::protocol::{Image, SetPoint, now};

/// How often the controller is asked.
const POLL: Duration = Duration::from_millis(100);

/// How long it may take to answer one request.
const ANSWER: Duration = Duration::from_millis(500);

/// The interlock says that it is there twice a second. Without it the controller gets no heartbeat.
const GUARDED: Duration = Duration::from_secs(1);

/// Until the controller is tried again.
const AGAIN: Duration = Duration::from_millis(500);

pub(crate) async fn gateway(layer: Layer) -> Outcome {
    let mut images = layer.region("image")?.publisher::<Image>()?;
    let mut orders = Orders { fence: 0, guarded: None };
    let mut was_told = false;
    loop {
        // A controller that is away is no failure of this layer's.
        let lost = match layer.until_stopping(layer.connect("controller")).await {
            None => return Ok(()),
            Some(Ok(stream)) => {
                let mut controller = tcp::attach(stream);
                match layer
                    .until_stopping(work(&layer, &mut controller, &mut images, &mut orders))
                    .await
                {
                    None => return shut_off(&mut controller).await,
                    Some(Ok(never)) => match never {},
                    Some(Err(error)) => {
                        was_told = false;
                        error.to_string()
                    }
                }
            }
            Some(Err(error)) => error.to_string(),
        };
        if !was_told {
            eprintln!("the controller is lost: {lost}");
            was_told = true;
        }
        if layer.until_stopping(sleep(AGAIN)).await.is_none() {
            return Ok(());
        }
    }
}

/// What the interlock has said.
struct Orders {
    /// Of the newest lease that was seen.
    fence: u64,
    /// When the interlock was last heard.
    guarded: Option<Instant>,
}

/// Serves one connection, until something is wrong with it.
async fn work(
    layer: &Layer,
    controller: &mut Context,
    images: &mut Publisher<Image>,
    orders: &mut Orders,
) -> Outcome<Infallible> {
    let setpoints = layer.channel("setpoints")?;
    let mut heartbeat = 0_u16;
    let mut polls = interval(POLL);
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = polls.tick() => {
                let inputs = answered(controller.read_input_registers(0, INPUTS)).await?;
                let holding = answered(controller.read_holding_registers(0, HOLDING)).await?;
                images.publish(&image(now(), &inputs, &holding).ok_or("it talks nonsense")?)?;
                if orders.guarded.is_some_and(|at| at.elapsed() < GUARDED) {
                    heartbeat = heartbeat.wrapping_add(1);
                    answered(controller.write_single_register(HEARTBEAT, heartbeat)).await?;
                }
            }
            event = setpoints.recv() => {
                let Event::Request { method, message, reply, .. } = event? else { continue };
                orders.guarded = Some(Instant::now());
                if method.as_str() == "guarding" {
                    drop(reply.reply(Vec::new()).await);
                    continue;
                }
                match order(&message, orders) {
                    Err(why) => drop(reply.refuse(&why).await),
                    Ok(set) => {
                        let register = u16::try_from(set.actuator.place())?;
                        answered(controller.write_single_register(register, set.value)).await?;
                        drop(reply.reply(Vec::new()).await);
                    }
                }
            }
        }
    }
}

/// The set point of a message, if it may be one.
fn order(message: &Message, orders: &mut Orders) -> Result<SetPoint, String> {
    let set: SetPoint = message.decode().map_err(|error| error.to_string())?;
    if set.fence < orders.fence {
        return Err("a newer lease has been seen".to_owned());
    }
    orders.fence = set.fence;
    if set.value > FULL { Err("there is no such set point".to_owned()) } else { Ok(set) }
}

/// Everything off, before this layer ends in order. Where it ends otherwise, the controller does
/// it, once the heartbeat stands still.
async fn shut_off(controller: &mut Context) -> Outcome {
    answered(controller.write_multiple_registers(0, &[0; 3])).await?;
    Ok(())
}

/// What the controller answers, in time. After any error the connection is given up: an answer
/// that comes late would be taken for the next one's.
async fn answered<T>(answer: impl Future<Output = tokio_modbus::Result<T>>) -> Outcome<T> {
    let answer = timeout(ANSWER, answer).await.map_err(|_| "it doesn't answer")?;
    Ok(answer??)
}
