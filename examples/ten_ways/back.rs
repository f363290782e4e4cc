//! The layer `back`: the other end of everything.

use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{Event, Message};
use cofferdam::ipc::{fifo, queue};
use tokio::io::AsyncReadExt;

use crate::Outcome;
use crate::table::refusal;

/// Does what the front asks for, until that one has ended.
pub(crate) async fn back(layer: Layer) -> Outcome<()> {
    let talk = layer.channel("talk")?;
    loop {
        let (method, message, reply) = match talk.recv().await? {
            Event::Request { method, message, reply, .. } => (method, message, reply),
            Event::PeerGone(_) => return Ok(()),
            _ => continue,
        };
        let done = answer(&layer, method.as_str(), &message);
        tokio::select! {
            // The front has given up: its deadline has passed, or it has ended.
            () = reply.cancelled() => {}
            // One that ends only now is told by what these return, and is no failure of ours.
            done = done => drop(match done {
                Ok(text) => reply.reply(text).await?,
                Err(error) => reply.refuse(&error.to_string()).await?,
            }),
        }
    }
}

async fn answer(layer: &Layer, method: &str, message: &Message) -> Outcome<String> {
    // What a peer says is checked, even if it is one of our own.
    let way = std::str::from_utf8(&message.body)?;
    match method {
        "take" => take(layer, way).await,
        "misuse" => misuse(layer, way).await,
        // Sleeps until nobody waits any more.
        _ => std::future::pending().await,
    }
}

/// Receives what the front, or the shell outside, has sent on a way.
async fn take(layer: &Layer, way: &str) -> Outcome<String> {
    match way {
        "signal" => {
            let signal = layer.signals()?.recv().await?;
            Ok(format!("back got {} from {}, {} of it", signal.name, signal.from, signal.count))
        }
        "socket" => {
            let mut connection = layer.acceptor("desk")?.accept().await?;
            let mut text = String::new();
            connection.read_to_string(&mut text).await?;
            Ok(format!("back accepted, and read {text:?}"))
        }
        "message queue" => {
            let jobs = layer.queue("jobs")?;
            let (first, second) = (job(&jobs).await?, job(&jobs).await?);
            Ok(format!("back got {first:?}, then {second:?}"))
        }
        "pipe" => {
            let mut text = String::new();
            layer.pipe_reader("words")?.read_to_string(&mut text).await?;
            Ok(format!("back read {text:?}, to its end"))
        }
        "named pipe" => commands(layer).await,
        "semaphore" => {
            let lease = layer.semaphore("turn")?.acquire().await?;
            Ok(format!("back had lease {}", lease.fence()))
        }
        "shared memory" => {
            let mut weather = layer.region("weather")?.subscriber::<[u8]>();
            let newest = weather.latest().ok_or("nothing was published")?;
            let text = String::from_utf8_lossy(newest.value);
            Ok(format!("back found object {}, the newest: {text:?}", newest.number))
        }
        "message passing" => Ok("back answered in time".to_owned()),
        "memory-mapped file" => {
            let count = layer.mapped_file("count")?;
            let (text, commits) = (String::from_utf8(count.read()?)?, count.generation()?);
            Ok(format!("back read {text:?}, the content of commit {commits}"))
        }
        _ => Err(format!("there is no way '{way}'").into()),
    }
}

/// Tries what this end isn't granted, and says how it was refused.
async fn misuse(layer: &Layer, way: &str) -> Outcome<String> {
    match way {
        "semaphore" => {
            let brief = Duration::from_millis(50);
            refusal(layer.semaphore("turn")?.acquire_timeout(brief).await)
        }
        "shared memory" => refusal(layer.region("weather")?.publisher::<[u8]>()),
        "memory-mapped file" => refusal(layer.mapped_file("count")?.commit(b"0")),
        _ => Err(format!("nothing to misuse on '{way}'").into()),
    }
}

/// The next message of the queue; the most urgent comes first.
async fn job(jobs: &queue::Queue) -> Outcome<String> {
    match jobs.recv().await? {
        queue::Event::Message(job) => Ok(String::from_utf8(job.body)?),
        queue::Event::Refused(refused) => Err(format!("not authentic: {}", refused.why).into()),
    }
}

/// The two lines of the shell: one is taken, the other is longer than the policy's `max`.
async fn commands(layer: &Layer) -> Outcome<String> {
    let mut commands = layer.fifo("commands")?;
    let line = match commands.next().await? {
        fifo::Event::Line(line) => line.text()?.to_owned(),
        fifo::Event::TooLong => return Err("the first line is too long".into()),
    };
    match commands.next().await? {
        fifo::Event::TooLong => {
            Ok(format!("sh wrote {line:?}; its next line, too long, was dropped"))
        }
        fifo::Event::Line(_) => Err("a line is longer than `max`, and came".into()),
    }
}
