//! The door: reads what clients say, a line of JSON for each connection, and passes it on.
//!
//! It is the layer that strangers reach. Whoever takes it over can submit, watch and cancel jobs, as
//! every client can, and no more.

use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::{CallError, Channel};
use cofferdam::ipc::socket::Connection;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use tokio::time::timeout;

use crate::Outcome;
use crate::protocol::{LINE, Part, Told, Wish};

/// How long a client may take to say what it wants.
const TIME: Duration = Duration::from_secs(10);

pub(crate) async fn door(layer: Layer) -> Outcome {
    let clients = layer.acceptor("clients")?;
    let jobs = layer.channel("jobs")?;
    loop {
        let client = tokio::select! {
            () = layer.stopping() => return Ok(()),
            client = clients.accept() => client?,
        };
        let jobs = jobs.clone();
        tokio::spawn(async move {
            // Who goes away in the middle is nobody's failure.
            drop(serve(client, &jobs).await);
        });
    }
}

async fn serve(client: Connection, jobs: &Channel) -> std::io::Result<()> {
    let (read, mut write) = tokio::io::split(client);
    let mut line = Vec::new();
    let mut reader = BufReader::new(read.take(LINE as u64));
    let length = timeout(TIME, reader.read_until(b'\n', &mut line)).await??;
    let wish = serde_json::from_slice::<Wish>(&line[..length]);
    let why = match wish {
        Err(error) => error.to_string(),
        Ok(Wish::Watch { job }) => match watch(jobs, job, &mut write).await? {
            Ok(()) => return Ok(()),
            Err(error) => in_words(error),
        },
        Ok(wish) => {
            let method = match wish {
                Wish::Render { .. } => "render",
                Wish::Cancel { .. } => "cancel",
                Wish::Watch { .. } | Wish::Status => "status",
            };
            match jobs.call(method).timeout(TIME).send_typed::<_, Told>(&wish).await {
                Ok(told) => return say(&mut write, &told).await,
                Err(error) => in_words(error),
            }
        }
    };
    say(&mut write, &Told::Refused { why }).await
}

/// Passes a job's tiles on to a client.
async fn watch(
    jobs: &Channel,
    job: u64,
    write: &mut (impl AsyncWriteExt + Unpin),
) -> std::io::Result<Result<(), CallError>> {
    let wish = cofferdam::ipc::message::Message::encode(&Wish::Watch { job });
    let wish = wish.map_err(std::io::Error::other)?;
    let mut parts = match jobs.call("watch").stream(wish).await {
        Ok(parts) => parts,
        Err(error) => return Ok(Err(error)),
    };
    while let Some(part) = parts.next().await {
        let part = match part {
            Ok(part) => part,
            Err(error) => return Ok(Err(error)),
        };
        match part.decode().map_err(std::io::Error::other)? {
            Part::Picture(picture) => say(write, &Told::Watched { picture }).await?,
            Part::Tile(tile, points) => {
                let bytes = u32::try_from(points.len()).map_err(std::io::Error::other)?;
                say(write, &Told::Tile { tile, bytes }).await?;
                write.write_all(&points).await?;
            }
        }
    }
    say(write, &Told::Done).await.map(Ok)
}

async fn say(write: &mut (impl AsyncWriteExt + Unpin), told: &Told) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    write.write_all(&line).await
}

/// Why something wasn't done, as a client is told.
fn in_words(error: CallError) -> String {
    match error {
        CallError::Refused { reason, .. } => reason,
        other => other.to_string(),
    }
}
