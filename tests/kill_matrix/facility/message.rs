//! Message passing: a caller with two callees, by every verb. No call is answered twice, and every
//! call comes to an answer or to an error that says whether it may have been executed; a stream is
//! whole or cut, no handler works for nobody, and what is published comes in order and once.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{CallError, Channel, Event, Message, Replier, SendError};

use super::lives::{self, LIFE, numbers};
use super::{Facility, Outcome, Runs};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "message",
    policy: r#"
[channel.one]
from = "caller"
to = "left"
max = "128KiB"
fds = { max = 1, kinds = ["file-read"] }
methods = { add = {}, tail = { stream = true }, hold = {}, news = {} }
[channel.two]
from = "caller"
to = "right"
max = "128KiB"
fds = { max = 1, kinds = ["file-read"] }
methods = { add = {}, tail = { stream = true }, hold = {}, news = {} }
"#,
    layers: &[
        ("caller", Runs::Async(|layer| Box::pin(caller(layer)))),
        ("left", Runs::Async(|layer| Box::pin(callee(layer, "one")))),
        ("right", Runs::Async(|layer| Box::pin(callee(layer, "two")))),
    ],
    marks: &[
        ("supervisor", "supervisor.start.spawned", 1),
        ("supervisor", "supervisor.start.spawned", 3),
        ("supervisor", "supervisor.admit.confined", 2),
        ("supervisor", "supervisor.admit.confined", 3),
        ("supervisor", "supervisor.hand-over.object", 1),
        ("supervisor", "supervisor.hand-over.done", 2),
        ("supervisor", "supervisor.introduce.one-told", 1),
        ("supervisor", "supervisor.introduce.one-told", 2),
        ("supervisor", "supervisor.introduce.both-told", 1),
        ("supervisor", "supervisor.introduce.both-told", 2),
        ("caller", "message.topic.published", 1),
        ("caller", "message.topic.published", 5),
        ("caller", "message.topic.sent", 2),
        ("caller", "message.record.sealed", 2),
        ("caller", "message.record.sent", 9),
        ("caller", "message.call.submitted", 1),
        ("caller", "message.call.submitted", 4),
        ("caller", "message.reply.received", 2),
        ("caller", "message.call.taken", 2),
        ("caller", "message.item.received", 2),
        ("caller", "message.item.taken", 3),
        ("caller", "message.credit.submitted", 2),
        ("caller", "message.end.received", 1),
        ("caller", "message.call.abandoned", 1),
        ("caller", "message.cancel.submitted", 2),
        ("left", "message.record.received", 6),
        ("left", "message.record.opened", 9),
        ("left", "message.piece.received", 1),
        ("left", "message.request.received", 1),
        ("left", "message.request.received", 2),
        ("left", "message.event.taken", 3),
        ("left", "message.reply.submitted", 1),
        ("left", "message.item.submitted", 2),
        ("left", "message.record.gathered", 1),
        ("left", "message.item.starved", 1),
        ("left", "message.credit.received", 1),
        ("left", "message.cancel.received", 1),
        ("left", "message.refusal.submitted", 1),
        ("left", "message.refusal.sent", 1),
    ],
    check,
};

/// Messages of a stream.
const ITEMS: u64 = 6;

/// Calls both callees in every way in turn, and says what became of it.
async fn caller(layer: Layer) -> Outcome {
    let work = async {
        let channels = [layer.channel("one").map_err(text)?, layer.channel("two").map_err(text)?];
        let names = &["one", "two"];
        let news = layer.topic(names, "news", 64).map_err(text)?.retaining();
        // What is large takes its time, so only where a case is about it.
        let case = String::from_utf8_lossy(layer.settings());
        let size = if case.contains("piece") { 70 << 10 } else { 8 };
        for round in 1.. {
            for (place, channel) in (0..).zip(&channels) {
                let number = layer.instance().generation * LIFE + round * 10 + place;
                news.publish(&number.to_le_bytes()).map_err(text)?;
                let file = layer.file("gate").map_err(text)?;
                add(channel, number, file, size).await?;
                follow(channel, number).await?;
                give_up(channel, number).await?;
            }
            say(format!("on {round}"));
            if channels.iter().all(|channel| channel.peers().len() == 1) {
                lives::tell_descriptors();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    };
    tokio::select! {
        result = work => result,
        () = layer.stopping() => Ok(()),
    }
}

/// A call with one answer, and a descriptor that goes there and back.
async fn add(channel: &Channel, number: u64, file: File, size: usize) -> Outcome {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(size, 7);
    say(format!("call {number}"));
    match channel.call("add").send(Message { body: body.clone(), fds: vec![file.into()] }).await {
        Ok(reply) if reply.body == body && reply.fds.len() == 1 => say(format!("done {number}")),
        Ok(_) => say(format!("wrong {number}")),
        Err(CallError::NotDelivered(_)) => say(format!("lost {number}")),
        Err(CallError::MayHaveExecuted(_)) => say(format!("maybe {number}")),
        Err(error) => return Err(text(error)),
    }
    Ok(())
}

/// A call that is answered by a stream.
async fn follow(channel: &Channel, number: u64) -> Outcome {
    say(format!("call {number}"));
    let mut stream = match channel.call("tail").stream(number.to_le_bytes().to_vec()).await {
        Ok(stream) => stream,
        Err(CallError::NotDelivered(_)) => {
            say(format!("cut {number}"));
            return Ok(());
        }
        Err(error) => return Err(text(error)),
    };
    let mut count = 0;
    loop {
        match stream.next().await {
            Some(Ok(item)) if item.body == [number, count].map(u64::to_le_bytes).concat() => {
                count += 1;
            }
            Some(Ok(_)) => say(format!("wrong {number}")),
            None if count == ITEMS => break say(format!("whole {number}")),
            None => break say(format!("wrong {number}")),
            Some(Err(CallError::NotDelivered(_) | CallError::MayHaveExecuted(_))) => {
                break say(format!("cut {number}"));
            }
            Some(Err(error)) => return Err(text(error)),
        }
    }
    Ok(())
}

/// A call that its handler never answers.
async fn give_up(channel: &Channel, number: u64) -> Outcome {
    say(format!("call {number}"));
    let answer = channel.call("hold").send(number.to_le_bytes().to_vec());
    match tokio::time::timeout(Duration::from_millis(1), answer).await {
        Err(_) => say(format!("gave {number}")),
        Ok(Err(CallError::NotDelivered(_) | CallError::MayHaveExecuted(_))) => {
            say(format!("cut {number}"));
        }
        Ok(answer) => return Err(format!("{answer:?}")),
    }
    Ok(())
}

/// Does what it is called for. When it is asked to finish, it lets the caller go first.
async fn callee(layer: Layer, channel: &str) -> Outcome {
    let channel = layer.channel(channel).map_err(text)?;
    let mut on = 0;
    loop {
        let patience = async {
            layer.stopping().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        let event = tokio::select! {
            event = channel.recv() => event.map_err(text)?,
            () = patience => return Ok(()),
        };
        match event {
            Event::Request { method, message, reply, .. } => {
                let number = number(&message.body);
                if method == "add" {
                    say(format!("did {number}"));
                    let _ = reply.reply(message).await;
                    on += 1;
                    say(format!("on {on}"));
                    if channel.peers().len() == 1 {
                        lives::tell_descriptors();
                    }
                } else if method == "tail" {
                    tokio::spawn(serve(number, reply));
                } else {
                    tokio::spawn(hold(number, reply));
                }
            }
            Event::Message { method, message, .. } if method == "news" => {
                let (numbered, told) = message.body.split_at(8);
                let life = number(told) / LIFE;
                say(format!("news {}", life * LIFE + number(numbered)));
            }
            Event::PeerGone(_) if layer.is_stopping() => return Ok(()),
            Event::PeerBroke { why, .. } => return Err(text(why)),
            _ => {}
        }
    }
}

async fn serve(number: u64, reply: Replier) {
    say(format!("begun {number}"));
    let served = async {
        let mut stream = reply.stream().map_err(SendError::Policy)?;
        for item in 0..ITEMS {
            let item = [number, item].map(u64::to_le_bytes).concat();
            if stream.send(item).await?.is_break() {
                break;
            }
        }
        stream.end().await
    };
    let _ = served.await;
    say(format!("over {number}"));
}

async fn hold(number: u64, reply: Replier) {
    say(format!("begun {number}"));
    reply.cancelled().await;
    drop(reply);
    say(format!("over {number}"));
}

fn number(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

#[allow(clippy::needless_pass_by_value)]
fn text(error: impl ToString) -> String {
    error.to_string()
}

fn check(story: &Story) -> Result<(), String> {
    lives::check_descriptors(story, &["caller", "left", "right"])?;
    check_calls(story)?;
    for callee in ["left", "right"] {
        for (life, lines) in lives::of(story, callee) {
            check_news(&lines).map_err(|why| format!("life {life} of {callee}: {why}"))?;
            // Everything that a handler begins comes to an end, but at the end of its life.
            let killed = story.victim == callee && life == 1;
            if !killed && story.victim != "supervisor" {
                let mut open = numbers(&lines, "begun");
                for over in numbers(&lines, "over") {
                    open.iter().position(|begun| *begun == over).map(|place| open.remove(place));
                }
                let last = numbers(&lines, "begun").last().copied();
                if let Some(left) = open.iter().find(|&&begun| Some(begun) != last) {
                    return Err(format!("life {life} of {callee} still works on {left}"));
                }
            }
        }
    }
    Ok(())
}

fn check_calls(story: &Story) -> Result<(), String> {
    let mut did = BTreeSet::new();
    for callee in ["left", "right"] {
        for number in story.numbers(callee, "did") {
            if !did.insert(number) {
                return Err(format!("call {number} was executed twice"));
            }
        }
    }
    if let Some(number) = story.numbers("caller", "wrong").first() {
        return Err(format!("call {number} got another call's answer"));
    }
    for number in story.numbers("caller", "lost") {
        if did.contains(&number) {
            return Err(format!("call {number} was not delivered, and executed"));
        }
    }
    // A callee's line comes before its answer; but a supervisor that is killed takes lines along.
    if story.victim != "supervisor" {
        for number in story.numbers("caller", "done") {
            if !did.contains(&number) {
                return Err(format!("call {number} was answered, and not executed"));
            }
        }
    }
    // One call is under way when a callee dies; of nobody else's does any fail.
    let failed = ["lost", "maybe", "cut"].map(|word| story.numbers("caller", word)).concat();
    let callee = |number: &u64| if number.is_multiple_of(10) { "left" } else { "right" };
    if let Some(number) = failed.iter().find(|number| callee(number) != story.victim) {
        return Err(format!("call {number} failed, and nobody had killed its callee"));
    }
    if failed.len() > 1 {
        return Err(format!("more than one call failed: {failed:?}"));
    }
    for (life, lines) in lives::of(story, "caller") {
        let calls = numbers(&lines, "call").len();
        let ends = ["done", "lost", "maybe", "whole", "cut", "gave"];
        let ended: usize = ends.iter().map(|word| numbers(&lines, word).len()).sum();
        if calls > ended + 1 {
            return Err(format!(
                "life {life} of the caller: {calls} calls, {ended} came to an end"
            ));
        }
    }
    Ok(())
}

/// What was published comes in order and once, without a gap after the first.
fn check_news(lines: &[&str]) -> Result<(), String> {
    for pair in numbers(lines, "news").windows(2) {
        let [before, news] = [pair[0], pair[1]];
        if news / LIFE < before / LIFE || (news / LIFE == before / LIFE && news != before + 1) {
            return Err(format!("after news {before} came {news}"));
        }
    }
    Ok(())
}
