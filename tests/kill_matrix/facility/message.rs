//! Message passing: a caller with two callees. No call is answered twice, and every call comes to
//! an answer or to an error that says whether it may have been executed.

use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{CallError, Event, Message};

use super::{Facility, Outcome, Runs};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "message",
    policy: r#"
[layer.caller]
RUN caller"
syscalls = ["@core"]
[layer.left]
RUN left"
syscalls = ["@core"]
[layer.right]
RUN right"
syscalls = ["@core"]
[channel.one]
from = "caller"
to = "left"
methods = ["add"]
[channel.two]
from = "caller"
to = "right"
methods = ["add"]
"#,
    layers: &[
        ("caller", Runs::Async(|layer| Box::pin(caller(layer)))),
        ("left", Runs::Async(|layer| Box::pin(callee(layer, "one")))),
        ("right", Runs::Async(|layer| Box::pin(callee(layer, "two")))),
    ],
    marks: &[
        ("supervisor", "supervisor.hand-over.object", 1),
        ("supervisor", "supervisor.hand-over.done", 1),
        ("supervisor", "supervisor.hand-over.done", 2),
        ("supervisor", "supervisor.start.spawned", 1),
        ("supervisor", "supervisor.start.spawned", 2),
        ("supervisor", "supervisor.start.spawned", 3),
        ("supervisor", "supervisor.admit.confined", 1),
        ("supervisor", "supervisor.admit.confined", 2),
        ("supervisor", "supervisor.admit.confined", 3),
        ("supervisor", "supervisor.introduce.one-told", 1),
        ("supervisor", "supervisor.introduce.one-told", 2),
        ("supervisor", "supervisor.introduce.both-told", 1),
        ("supervisor", "supervisor.introduce.both-told", 2),
    ],
    check,
};

/// Calls both callees in turn, and says what became of each call.
async fn caller(layer: Layer) -> Outcome {
    let channels = [layer.channel("one"), layer.channel("two")];
    let mut number = u64::from(layer.instance().generation) * 1_000_000;
    let mut on = 0;
    while !layer.is_stopping() {
        for channel in &channels {
            let channel = channel.as_ref().map_err(ToString::to_string)?;
            number += 1;
            let message = Message::from(number.to_le_bytes().to_vec());
            let called = tokio::select! {
                called = channel.call("add", message) => called,
                () = layer.stopping() => return Ok(()),
            };
            match called {
                Ok(reply) if reply.body == number.to_le_bytes() => say(format!("done {number}")),
                Ok(_) => say(format!("wrong {number}")),
                Err(CallError::NotDelivered(_)) => say(format!("lost {number}")),
                Err(CallError::MayHaveExecuted(_)) => say(format!("maybe {number}")),
                Err(error) => return Err(error.to_string()),
            }
        }
        on += 1;
        say(format!("on {on}"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Answers every call with its own bytes.
async fn callee(layer: Layer, channel: &str) -> Outcome {
    let channel = layer.channel(channel).map_err(|error| error.to_string())?;
    let mut on = 0;
    loop {
        let event = tokio::select! {
            event = channel.recv() => event.map_err(|error| error.to_string())?,
            () = layer.stopping() => return Ok(()),
        };
        if let Event::Request { message, reply, .. } = event {
            let number = message.body.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            say(format!("did {number}"));
            let _ = reply.reply(message).await;
            on += 1;
            say(format!("on {on}"));
        }
    }
}

fn check(story: &Story) -> Result<(), String> {
    let mut did = [story.numbers("left", "did"), story.numbers("right", "did")].concat();
    let count = did.len();
    did.sort_unstable();
    did.dedup();
    if did.len() != count {
        return Err("a call was executed twice".into());
    }
    if let Some(number) = story.numbers("caller", "wrong").first() {
        return Err(format!("call {number} got another call's answer"));
    }
    for number in story.numbers("caller", "lost") {
        if did.contains(&number) {
            return Err(format!("call {number} was not delivered, and executed"));
        }
    }
    // A callee that is killed may not have got its line out.
    if story.victim == "caller" {
        for number in story.numbers("caller", "done") {
            if !did.contains(&number) {
                return Err(format!("call {number} was answered, and not executed"));
            }
        }
    }
    Ok(())
}
