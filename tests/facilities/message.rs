//! Calls that are given up, deadlines, streams and topics between confined layers, and what comes
//! of them when an end is killed.

// A layer's function is given its layer.
#![allow(clippy::needless_pass_by_value)]

use std::time::{Duration, Instant};

use cofferdam::Layer;
use cofferdam::ipc::message::{CallError, Channel, ChannelError, Event, Message, StreamReplier};
use rustix::process::{Signal, kill_process};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("message::a_call_that_is_given_up_reaches_its_handler", given_up),
    ("message::a_deadline_travels_and_is_handed_on", deadlines),
    ("message::a_hundred_thousand_items_for_a_slow_reader_need_little_memory", slow_reader),
    ("message::a_stream_outlives_neither_of_its_ends", killed_ends),
    ("message::subscribers_get_the_last_value_when_they_come_back", published),
    ("message::a_layer_may_do_what_its_lines_say_and_no_more", bounds),
];

pub(crate) const LAYERS: &[Function] = &[
    ("giver", Runs::Async(|layer| Box::pin(giver(layer)))),
    ("sleeper", Runs::Async(|layer| Box::pin(sleeper(layer)))),
    ("hurried", Runs::Blocking(hurried)),
    ("relay", Runs::Async(|layer| Box::pin(relay(layer)))),
    ("deadline_teller", Runs::Blocking(deadline_teller)),
    ("slow_reader", Runs::Blocking(reads_slowly)),
    ("producer", Runs::Async(|layer| Box::pin(producer(layer)))),
    ("endless", Runs::Async(|layer| Box::pin(endless(layer)))),
    ("follower", Runs::Blocking(follower)),
    ("publisher", Runs::Blocking(publisher)),
    ("subscriber", Runs::Async(|layer| Box::pin(subscriber(layer)))),
    ("overreacher", Runs::Blocking(overreacher)),
];

/// No answer takes so long unless something hangs.
const LONG: Duration = Duration::from_secs(50);

fn layers(all: &[(&str, &str)]) -> String {
    let layer = |(name, run): &(&str, &str)| {
        format!(
            "[layer.{name}]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\n\
             limits = {{ memory = \"64MiB\" }}\nrestart = {{ max = 1000 }}\n"
        )
    };
    all.iter().map(layer).collect()
}

fn channel(name: &str, from: &str, to: &str, methods: &str) -> String {
    format!(
        "[channel.{name}]\nfrom = \"{from}\"\nto = \"{to}\"\nmax = \"4KiB\"\n\
         methods = {{ {methods} }}\n"
    )
}

fn given_up() {
    let policy = layers(&[("from", "giver"), ("to", "sleeper")])
        + &channel("talk", "from", "to", "work = {}, begun = { direction = \"back\" }");
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("given up 19");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    for n in 0..20 {
        assert_eq!(daemon.count(&format!("to/0.g1: given up {n}.")), 1, "{daemon}");
    }
}

async fn giver(layer: Layer) -> Outcome {
    let talk = layer.channel("talk").map_err(text)?;
    for n in 0..20_u8 {
        let call = talk.call("work").send(vec![n]);
        // The handler answers nothing, and says when it has begun.
        tokio::select! {
            answer = call => return Err(format!("{answer:?}")),
            begun = talk.recv() => match begun.map_err(text)? {
                Event::Message { message, .. } if message.body == [n] => {}
                other => return Err(format!("{other:?}")),
            },
        }
    }
    layer.stopping().await;
    Ok(())
}

async fn sleeper(layer: Layer) -> Outcome {
    let talk = layer.channel("talk").map_err(text)?;
    loop {
        let event = tokio::select! {
            event = talk.recv() => event.map_err(text)?,
            () = layer.stopping() => return Ok(()),
        };
        if let Event::Request { message, reply, .. } = event {
            let n = message.body[0];
            talk.send("begun", vec![n]).await.map_err(text)?;
            reply.cancelled().await;
            say(format!("given up {n}."));
            reply.reply(vec![n]).await.map_err(text)?;
        }
    }
}

fn deadlines() {
    let policy = layers(&[("from", "hurried"), ("middle", "relay"), ("to", "deadline_teller")])
        + &channel("near", "from", "middle", "work = {}")
        + &channel("far", "middle", "to", "work = {}");
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("answered in time");
    daemon.line("too late: the deadline has passed: the call may have been executed");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn hurried(layer: Layer) -> Outcome {
    let near = layer.channel("near").map_err(text)?.blocking();
    let left = near.call("work").timeout(LONG).send(vec![]).map_err(text)?.body;
    let left = Duration::from_micros(u64::from_le_bytes(left[..8].try_into().map_err(text)?));
    if left.is_zero() || left > LONG + Duration::from_millis(5) {
        return Err(format!("{left:?} were left of {LONG:?}"));
    }
    say("answered in time");
    match near.call("work").timeout(Duration::from_secs(1)).send(vec![1]) {
        Err(error @ CallError::Deadline { .. }) => say(format!("too late: {error}")),
        other => return Err(format!("{other:?}")),
    }
    wait_for_stop(&layer.channel("near").map_err(text)?)
}

async fn relay(layer: Layer) -> Outcome {
    let (near, far) = (layer.channel("near").map_err(text)?, layer.channel("far").map_err(text)?);
    loop {
        let event = tokio::select! {
            event = near.recv() => event.map_err(text)?,
            () = layer.stopping() => return Ok(()),
        };
        if let Event::Request { message, reply, .. } = event {
            match far.call("work").deadline(reply.deadline()).send(message).await {
                Ok(answer) => drop(reply.reply(answer).await.map_err(text)?),
                Err(CallError::Deadline { .. }) => {}
                Err(error) => return Err(text(error)),
            }
        }
    }
}

/// Says how much time is left, or waits till none is.
fn deadline_teller(layer: Layer) -> Outcome {
    let far = layer.channel("far").map_err(text)?.blocking();
    loop {
        match far.recv(None) {
            Ok(Event::Request { message, reply, .. }) => {
                let left = reply.time_left().ok_or("no deadline came along")?;
                while !message.body.is_empty() && !reply.is_cancelled() {}
                let left = u64::try_from(left.as_micros()).map_err(text)?;
                reply.blocking().reply(left.to_le_bytes().to_vec()).map_err(text)?;
            }
            Ok(_) => {}
            Err(ChannelError::Stopping) => return Ok(()),
            Err(error) => return Err(text(error)),
        }
    }
}

fn wait_for_stop(channel: &Channel) -> Outcome {
    loop {
        match channel.blocking().recv(None) {
            Err(ChannelError::Stopping) => return Ok(()),
            Err(error) => return Err(text(error)),
            Ok(_) => {}
        }
    }
}

fn slow_reader() {
    let policy = layers(&[("from", "slow_reader"), ("to", "producer")])
        + &channel("talk", "from", "to", "tail = { stream = true }, echo = {}");
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("100000 items and the end");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Bytes of this process's own memory. A layer sees no `/proc`, but its own accounts.
fn memory() -> u64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF);
    usage.map_or(0, |usage| u64::try_from(usage.max_rss()).unwrap_or(0) << 10)
}

fn reads_slowly(layer: Layer) -> Outcome {
    let talk = layer.channel("talk").map_err(text)?.blocking();
    let mut stream = talk.call("tail").stream(vec![]).map_err(text)?;
    stream.blocking().next(Some(LONG)).ok_or("no items")?.map_err(text)?;
    // Nobody reads for a while, and other calls go on.
    for n in 0..200_u8 {
        let answer = talk.call("echo").timeout(LONG).send(vec![n]).map_err(text)?;
        if answer.body != [n] {
            return Err("another answer".into());
        }
    }
    let before = memory();
    let mut count = 1_u32;
    while let Some(item) = stream.blocking().next(Some(LONG)) {
        let body = item.map_err(text)?.body;
        if body[..4] != count.to_le_bytes() {
            return Err(format!("item {count} has {:?}", &body[..4]));
        }
        count += 1;
    }
    let grown = memory() - before;
    if grown > 8 << 20 {
        return Err(format!("{grown} bytes more than before"));
    }
    say(format!("{count} items and the end"));
    wait_for_stop(&layer.channel("talk").map_err(text)?)
}

async fn producer(layer: Layer) -> Outcome {
    let talk = layer.channel("talk").map_err(text)?;
    loop {
        let event = tokio::select! {
            event = talk.recv() => event.map_err(text)?,
            () = layer.stopping() => return Ok(()),
        };
        match event {
            Event::Request { method, message, reply, .. } if method == "echo" => {
                reply.reply(message).await.map_err(text)?;
            }
            Event::Request { reply, .. } => {
                let replier = reply.stream().map_err(text)?;
                tokio::spawn(async { produce(replier).await.unwrap_or_else(say) });
            }
            _ => {}
        }
    }
}

async fn produce(mut replier: StreamReplier) -> Outcome {
    let before = memory();
    for n in 0..100_000_u32 {
        let mut body = vec![0; 200];
        body[..4].copy_from_slice(&n.to_le_bytes());
        if replier.send(body).await.map_err(text)?.is_break() {
            return Err("nobody reads any more".to_owned());
        }
    }
    let grown = memory() - before;
    if grown > 8 << 20 {
        return Err(format!("{grown} bytes more than before"));
    }
    replier.end().await.map(drop).map_err(text)
}

fn killed_ends() {
    let policy = layers(&[("from", "follower"), ("to", "endless")])
        + &channel("talk", "from", "to", "tail = { stream = true }");
    let mut daemon = Daemon::start("-", &policy);
    let mut from = daemon.confined("from/0.g1");
    let mut to = daemon.confined("to/0.g1");
    daemon.line("follows to/0.g1");
    for generation in 2..=5 {
        kill_process(to, Signal::KILL).unwrap();
        daemon.line("may have executed the call");
        to = daemon.confined(&format!("to/0.g{generation}"));
        daemon.line(&format!("follows to/0.g{generation}"));
        kill_process(from, Signal::KILL).unwrap();
        // The producer learns it, and serves the next one.
        daemon.line("nobody reads any more");
        from = daemon.confined(&format!("from/0.g{generation}"));
        daemon.line(&format!("follows to/0.g{generation}"));
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn follower(layer: Layer) -> Outcome {
    let channel = layer.channel("talk").map_err(text)?;
    let talk = channel.blocking();
    while !layer.is_stopping() {
        let mut stream =
            match talk.call("tail").deadline(Some(Instant::now() + LONG)).stream(vec![]) {
                Ok(stream) => stream,
                Err(CallError::Deadline { .. }) => continue,
                Err(error) => return Err(text(error)),
            };
        let mut count = 0_u64;
        loop {
            match stream.blocking().next(Some(Duration::from_millis(100))) {
                Some(Ok(item)) => {
                    if count == 100 {
                        say(format!("follows {}", String::from_utf8_lossy(&item.body)));
                    }
                    count += 1;
                }
                Some(Err(CallError::Timeout)) => {}
                Some(Err(error)) => {
                    say(error);
                    break;
                }
                None => break,
            }
            if layer.is_stopping() {
                return Ok(());
            }
            layer.attend().map_err(text)?;
        }
    }
    Ok(())
}

async fn endless(layer: Layer) -> Outcome {
    let talk = layer.channel("talk").map_err(text)?;
    let name = layer.instance().to_string();
    loop {
        let event = tokio::select! {
            event = talk.recv() => event.map_err(text)?,
            () = layer.stopping() => return Ok(()),
        };
        if let Event::Request { reply, .. } = event {
            let mut replier = reply.stream().map_err(text)?;
            let name = name.clone();
            tokio::spawn(async move {
                while replier.send(name.as_bytes()).await.is_ok_and(|flow| flow.is_continue()) {
                    tokio::task::yield_now().await;
                }
                say("nobody reads any more");
            });
        }
    }
}

fn published() {
    let policy = layers(&[("source", "publisher"), ("one", "subscriber"), ("two", "subscriber")])
        + &channel("to-one", "source", "one", "news = {}")
        + &channel("to-two", "source", "two", "news = {}");
    let mut daemon = Daemon::start("-", &policy);
    let mut one = daemon.confined("one/0.g1");
    for name in ["one/0.g1: got the last", "two/0.g1: got the last"] {
        if daemon.count(name) == 0 {
            daemon.line("got the last");
        }
    }
    for generation in 2..=4 {
        kill_process(one, Signal::KILL).unwrap();
        one = daemon.confined(&format!("one/0.g{generation}"));
        daemon.line(&format!("one/0.g{generation}: got the last"));
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("two/0.g1: got the last"), 1, "{daemon}");
}

const LAST: u64 = 50;

fn publisher(layer: Layer) -> Outcome {
    let topic = layer.topic(&["to-one", "to-two"], "news", 16).map_err(text)?.retaining();
    for n in 0..=LAST {
        topic.publish(&n.to_le_bytes()).map_err(text)?;
    }
    let (one, two) =
        (layer.channel("to-one").map_err(text)?, layer.channel("to-two").map_err(text)?);
    while !layer.is_stopping() {
        for channel in [&one, &two] {
            match channel.blocking().recv(Some(Duration::from_millis(5))) {
                Ok(_) | Err(ChannelError::Timeout | ChannelError::Stopping) => {}
                Err(error) => return Err(text(error)),
            }
        }
    }
    Ok(())
}

async fn subscriber(layer: Layer) -> Outcome {
    let name = format!("to-{}", layer.instance().layer);
    let mut topic = layer.subscribe(&name, "news").map_err(text)?;
    loop {
        tokio::select! {
            got = topic.next() => {
                let got = got.map_err(text)?;
                if got.body != got.number.to_le_bytes() {
                    return Err(format!("{got:?}"));
                }
                if got.number == LAST {
                    say("got the last");
                }
            }
            () = layer.stopping() => return Ok(()),
        }
    }
}

fn bounds() {
    let policy = layers(&[("from", "overreacher"), ("to", "endless")])
        + &channel("talk", "from", "to", "tail = { stream = true }, note = {}");
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("asked for all");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    for line in [
        "`[channel.talk] methods.tail.stream = true`",
        "`[channel.talk] methods.note.stream = false`",
        "`[channel.talk] methods.note.max`",
        "the policy would need `[channel.other] from = \"from\"`",
    ] {
        assert_eq!(daemon.count(line), 1, "{line}: {daemon}");
    }
}

fn overreacher(layer: Layer) -> Outcome {
    let channel = layer.channel("talk").map_err(text)?;
    let talk = channel.blocking();
    let told = |result: Result<Message, CallError>| result.err().map(say).ok_or("it may");
    told(talk.call("tail").timeout(LONG).send(vec![]))?;
    told(talk.call("note").stream(vec![]).map(|_| Message::default()))?;
    let topic = layer.topic(&["talk"], "note", 1).map_err(text)?;
    say(topic.publish(&[0; 4096]).err().ok_or("it may")?);
    say(layer.topic(&["other"], "note", 1).err().ok_or("it may")?);
    say("asked for all");
    wait_for_stop(&channel)
}
