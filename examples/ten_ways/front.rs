//! The layer `front`: it uses each way as far as it may, and once further.
//!
//! The other end does its half when it is asked to over the channel `talk`: `take` has it receive
//! on a way, `misuse` has it try what it isn't granted there.

use std::io::{Read, Write};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::file::Options;
use cofferdam::ipc::message::Channel;
use tokio::io::AsyncWriteExt;

use crate::Outcome;
use crate::table::{self, Row, on, refusal};

/// How long a step of the other end may take, and a bound for a daemon that hangs.
const PATIENCE: Duration = Duration::from_secs(20);

/// Goes through the ten ways in the order of the classic table, and prints what came of each.
pub(crate) async fn front(layer: Layer) -> Outcome<()> {
    let back = Back(layer.channel("talk")?);
    // A signal goes to nobody who isn't there yet.
    back.take("message passing").await?;
    let rows = [
        file(&layer).map_err(on("file"))?,
        signal(&layer, &back).await.map_err(on("signal"))?,
        socket(&layer, &back).await.map_err(on("socket"))?,
        queue(&layer, &back).await.map_err(on("message queue"))?,
        pipe(&layer, &back).await.map_err(on("pipe"))?,
        fifo(&layer, &back).await.map_err(on("named pipe"))?,
        semaphore(&layer, &back).await.map_err(on("semaphore"))?,
        region(&layer, &back).await.map_err(on("shared memory"))?,
        message(&back).await.map_err(on("message passing"))?,
        mapped_file(&layer, &back).await.map_err(on("memory-mapped file"))?,
    ];
    table::print(&rows);
    Ok(())
}

/// The other layer, over the channel.
struct Back(Channel);

impl Back {
    /// Has it receive on a way. Comes back with what it got, in its own words.
    async fn take(&self, way: &str) -> Outcome<String> {
        self.ask("take", way).await
    }

    /// Has it try what it may not. Comes back with the error that it met.
    async fn misuse(&self, way: &str) -> Outcome<String> {
        self.ask("misuse", way).await
    }

    async fn ask(&self, method: &str, way: &str) -> Outcome<String> {
        let answer = self.0.call(method).timeout(PATIENCE).send(way.as_bytes()).await?;
        Ok(String::from_utf8(answer.body)?)
    }
}

/// The supervisor opens each file for us and passes the descriptor: we have no system call for it.
fn file(layer: &Layer) -> Outcome<Row> {
    let notes = layer.directory("notes")?;
    notes.open("today", Options::new().write().create())?.write_all(b"sow")?;
    // Whoever reads it meanwhile finds the old content or the new one, whole.
    notes.replace("today", b"sow and reap")?;
    let mut text = String::new();
    notes.open_read("today")?.0.read_to_string(&mut text)?;

    let refused = refusal(notes.open_read("private.key"))?;
    Ok(Row::new("file", format!("written, replaced, and read again: {text:?}"), refused))
}

/// The supervisor sends it, to the very process that is meant.
async fn signal(layer: &Layer, back: &Back) -> Outcome<Row> {
    let wake = layer.signal("wake")?;
    wake.send("USR1").await?;
    let allowed = back.take("signal").await?;
    Ok(Row::new("signal", allowed, refusal(wake.send("TERM").await)?))
}

/// The supervisor connects; we get the connected descriptor.
async fn socket(layer: &Layer, back: &Back) -> Outcome<Row> {
    let mut desk = layer.connect("desk").await?;
    desk.write_all(b"good morning").await?;
    desk.shutdown().await?;
    let allowed = back.take("socket").await?;
    Ok(Row::new("socket", allowed, refusal(layer.connect("elsewhere").await)?))
}

/// What is urgent comes first; what there is no room for is refused, as `on-full` says.
async fn queue(layer: &Layer, back: &Back) -> Outcome<Row> {
    let jobs = layer.queue("jobs")?;
    jobs.send("mend the roof", 0).await?;
    jobs.send("put out the fire", 1).await?;
    let refused = refusal(jobs.send("buy bread", 0).await)?;
    Ok(Row::new("message queue", back.take("message queue").await?, refused))
}

/// The end that we don't have isn't there to be asked for.
async fn pipe(layer: &Layer, back: &Back) -> Outcome<Row> {
    let mut words = layer.pipe_writer("words")?;
    words.write_all(b"all that was to be said").await?;
    // Only a writer can say that this was all: one that dies is an error at the reader.
    words.shutdown().await?;
    let allowed = back.take("pipe").await?;
    Ok(Row::new("pipe", allowed, refusal(layer.pipe_reader("words"))?))
}

/// A shell outside of the daemon writes into it; only `back` reads.
async fn fifo(layer: &Layer, back: &Back) -> Outcome<Row> {
    let allowed = back.take("named pipe").await?;
    Ok(Row::new("named pipe", allowed, refusal(layer.fifo("commands"))?))
}

/// There is one permit. While we hold it the other layer waits in vain.
async fn semaphore(layer: &Layer, back: &Back) -> Outcome<Row> {
    let lease = layer.semaphore("turn")?.acquire().await?;
    let refused = back.misuse("semaphore").await?;
    let ours = lease.fence();
    drop(lease);
    let theirs = back.take("semaphore").await?;
    Ok(Row::new("semaphore", format!("front had lease {ours}, then {theirs}"), refused))
}

/// Readers always find the newest whole object, and can't write one.
async fn region(layer: &Layer, back: &Back) -> Outcome<Row> {
    let mut weather = layer.region("weather")?.publisher::<[u8]>()?;
    weather.publish(b"rain")?;
    weather.publish(b"sunshine")?;
    let allowed = back.take("shared memory").await?;
    Ok(Row::new("shared memory", allowed, back.misuse("shared memory").await?))
}

/// A call has one answer, or an error that says whether it may have been executed.
async fn message(back: &Back) -> Outcome<Row> {
    let answer = back.take("message passing").await?;
    let brief = Duration::from_millis(50);
    let late = refusal(back.0.call("doze").timeout(brief).send(vec![]).await)?;
    let refused = refusal(back.0.call("shout").send(vec![]).await)?;
    Ok(Row::new("message passing", format!("{answer}; when it dozes, {late}"), refused))
}

/// What was committed is whole, whoever is killed at whatever instant.
async fn mapped_file(layer: &Layer, back: &Back) -> Outcome<Row> {
    let count = layer.mapped_file("count")?;
    count.commit(b"41")?;
    count.update(|bytes| *bytes = b"42".to_vec())?;
    let allowed = back.take("memory-mapped file").await?;
    Ok(Row::new("memory-mapped file", allowed, back.misuse("memory-mapped file").await?))
}
