//! Honest layers.

use std::io::Write;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{Event, Message};

use super::Outcome;

/// Calls that a [`talker`] makes.
pub(crate) const CALLS: u64 = 500;

/// A policy of a talker and a listener, with more said of the log and the channel.
pub(crate) fn policy(talker: &str, listener: &str, audit: &str, channel: &str) -> String {
    format!(
        "[audit]\ndirectory = \"DIR/log\"\n{audit}\n\
         [layer.a]\nrun = \"{talker}\"\nsyscalls = [\"@core\"]\nrestart = {{ on = \"failure\", \
         max = 1000 }}\n\
         [layer.b]\nrun = \"{listener}\"\nsyscalls = [\"@core\"]\nrestart = {{ on = \"failure\", \
         max = 1000 }}\n\
         [channel.c]\nfrom = \"a\"\nto = \"b\"\nmax = \"64KiB\"\n{channel}\n"
    )
}

pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Calls with all sizes of messages, then says that it is done, and stays.
pub(crate) fn talker(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    for n in 0..CALLS {
        let size = usize::try_from(n * 37 % 9000).map_err(|e| e.to_string())?;
        let message = Message::from(vec![7; size]);
        let answer = channel.call("").send(message).map_err(|e| e.to_string())?;
        if answer.body != vec![7; size] {
            return Err("another answer".to_owned());
        }
    }
    let many = (0..1000).map(|_| Message::from(b"small".to_vec()));
    channel.send_all("", many, None).map_err(|e| e.to_string())?;
    channel.call("").send(Message::from(b"last".to_vec())).map_err(|e| e.to_string())?;
    say("all said");
    stay(&layer)
}

/// Answers whatever comes.
pub(crate) fn listener(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    while !layer.is_stopping() {
        match channel.recv(None) {
            Ok(Event::Request { message, reply, .. }) => {
                let _ = reply.blocking().reply(message);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Calls for as long as it runs, whoever is killed meanwhile.
pub(crate) fn busy(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    let mut calls = 0_u64;
    while !layer.is_stopping() {
        let message = Message::from(vec![7; 1024]);
        if channel.call("").timeout(Duration::from_secs(1)).send(message).is_ok() {
            calls += 1;
            if calls.is_multiple_of(100) {
                say(&format!("made {calls} calls"));
            }
        }
        layer.attend().map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Does nothing.
pub(crate) fn sleeper(layer: Layer) -> Outcome {
    stay(&layer)
}

pub(crate) fn stay(layer: &Layer) -> Outcome {
    while !layer.is_stopping() {
        layer.attend().map_err(|e| e.to_string())?;
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
