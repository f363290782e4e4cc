//! Pipes: a writer and a reader joined by three sealed pipes, and by two foreign programs in a row.
//!
//! Of every pair of lives a pipe has one stream. On `closed` the writer writes a little and closes
//! it, `dropped` it lets go without closing, `open` and `in` go on as long as both live. What the
//! reader gets of a stream is whole records from the first on, in order; it reads the end of a
//! sealed one only if that was closed, and everything that the writer had given to it before.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::pipe::{PipeError, WriteStream};
use tokio::io::AsyncWriteExt;

use super::lives::{self, numbers};
use super::{Facility, Outcome, Runs};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "pipe",
    policy: r#"
[layer.one]
exec = ["/bin/cat"]
syscalls = ["@core"]
stdin = "pipe.in"
stdout = "pipe.between"
restart = { on = "always", max = 1000 }
[layer.two]
exec = ["/bin/cat"]
syscalls = ["@core"]
stdin = "pipe.between"
stdout = "pipe.out"
restart = { on = "always", max = 1000 }
[layer.reader]
RUN reader"
syscalls = ["@core", "@thread"]
[pipe.open]
from = "writer"
to = "reader"
capacity = "4KiB"
[pipe.closed]
from = "writer"
to = "reader"
[pipe.dropped]
from = "writer"
to = "reader"
[pipe.in]
from = "writer"
to = "one"
raw = true
capacity = "4KiB"
[pipe.between]
from = "one"
to = "two"
raw = true
capacity = "4KiB"
[pipe.out]
from = "two"
to = "reader"
raw = true
capacity = "4KiB"
"#,
    layers: &[
        ("writer", Runs::Async(|layer| Box::pin(writer(layer)))),
        ("one", Runs::Exec),
        ("two", Runs::Exec),
        ("reader", Runs::Blocking(reader)),
    ],
    marks: &[
        ("supervisor", "pipe.start.made", 1),
        ("supervisor", "pipe.start.made", 3),
        ("supervisor", "pipe.start.taken", 1),
        ("supervisor", "supervisor.start.spawned", 2),
        ("supervisor", "supervisor.start.spawned", 4),
        ("supervisor", "supervisor.admit.confined", 1),
        ("supervisor", "supervisor.admit.confined", 4),
        ("supervisor", "supervisor.hand-over.done", 3),
        ("supervisor", "pipe.join.made", 1),
        ("supervisor", "pipe.join.half", 1),
        ("supervisor", "pipe.join.half", 2),
        ("supervisor", "pipe.join.told", 3),
        ("supervisor", "pipe.deliver.before", 1),
        ("supervisor", "pipe.deliver.before", 2),
        ("supervisor", "pipe.deliver.told", 1),
        ("supervisor", "pipe.deliver.told", 2),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("supervisor", "pipe.part.begin", 1),
        ("supervisor", "pipe.part.begin", 2),
        ("supervisor", "pipe.part.end", 1),
        ("writer", "pipe.write.hello", 1),
        ("writer", "pipe.write.hello", 3),
        ("writer", "pipe.write.before", 1),
        ("writer", "pipe.write.before", 5),
        ("writer", "pipe.write.sealed", 2),
        ("writer", "pipe.write.sealed", 9),
        ("writer", "pipe.write.given", 1),
        ("writer", "pipe.write.given", 8),
        ("writer", "pipe.write.full", 1),
        ("writer", "pipe.write.full", 4),
        ("writer", "pipe.write.raw", 1),
        ("writer", "pipe.write.raw", 5),
        ("writer", "pipe.close.before", 1),
        ("writer", "pipe.close.sealed", 1),
        ("writer", "pipe.close.given", 1),
        ("reader", "pipe.read.hello", 1),
        ("reader", "pipe.read.hello", 3),
        ("reader", "pipe.read.before", 1),
        ("reader", "pipe.read.empty", 2),
        ("reader", "pipe.read.taken", 1),
        ("reader", "pipe.read.taken", 7),
        ("reader", "pipe.read.opened", 2),
        ("reader", "pipe.read.raw", 1),
        ("reader", "pipe.read.raw", 4),
        ("reader", "pipe.read.end", 1),
        ("reader", "pipe.read.cut", 1),
        ("reader", "pipe.read.over", 1),
        ("reader", "pipe.read.over", 2),
    ],
    check,
};

/// Each pipe of this library's two layers, and the bytes of its records: on `open` more than it
/// holds.
const SIZES: [(&str, usize); 4] = [("open", 6000), ("closed", 100), ("dropped", 100), ("in", 3000)];

/// What a record begins with: its writer's life, its reader's, and its number in the stream.
const HEAD: usize = 24;

const PAUSE: Duration = Duration::from_millis(1);

/// A record's name in the log, from the lives of who writes and who reads, and its number.
fn name(writer: u64, reader: u64, number: u64) -> u64 {
    (writer * 100 + reader) * 1_000_000 + number
}

fn record(size: usize, writer: u64, reader: u64, number: u64) -> Vec<u8> {
    let mut bytes = [writer, reader, number].map(u64::to_le_bytes).concat();
    let mut next = number.to_le_bytes()[0];
    bytes.resize_with(size, || {
        next = next.wrapping_mul(5).wrapping_add(1);
        next
    });
    bytes
}

fn size(pipe: &str) -> usize {
    SIZES.iter().find(|(name, _)| *name == pipe).map_or(0, |(_, size)| *size)
}

/// What a writer or a reader has got done.
#[derive(Default)]
struct Done {
    open: Cell<u64>,
    input: Cell<u64>,
    /// Streams of `open` begun, and of `closed` and `dropped` over.
    streams: Cell<[u64; 3]>,
    on: Cell<u64>,
}

async fn writer(layer: Layer) -> Outcome {
    let done = Done::default();
    let work = async {
        let all = ["open", "closed", "dropped", "in"].map(|pipe| write(&layer, pipe, &done));
        let [open, closed, dropped, input] = all;
        tokio::try_join!(open, closed, dropped, input).map(|_| ())
    };
    tokio::select! {
        result = work => result,
        () = layer.stopping() => Ok(()),
    }
}

/// Writes one stream after the other, to each of the reader's lives.
async fn write(layer: &Layer, pipe: &str, done: &Done) -> Outcome {
    let own = layer.instance().generation;
    let case = String::from_utf8_lossy(layer.settings());
    // The first programs end by themselves, where a case is about it.
    let mut short = pipe == "in" && own == 1 && (case.contains("reap") || case.contains("part"));
    let mut end = layer.pipe_writer(pipe).map_err(text)?;
    loop {
        let mut stream = end.next().await.map_err(text)?;
        let peer = stream.peer().generation;
        let most = match pipe {
            "closed" => 4,
            "dropped" => 2,
            _ if short => 3,
            _ => u64::MAX,
        };
        if pipe == "open" {
            count(&done.streams, 0);
        }
        if let Err(error) = write_one(&mut stream, pipe, [own, peer], most, done).await {
            match PipeError::of(&error) {
                Some(PipeError::PeerDied { .. }) => say(format!("cut {pipe} {own} {peer}")),
                _ => return Err(text(error)),
            }
        }
        drop(stream);
        match pipe {
            "closed" => count(&done.streams, 1),
            "dropped" => count(&done.streams, 2),
            _ => short = false,
        }
    }
}

async fn write_one(
    stream: &mut WriteStream,
    pipe: &str,
    [own, peer]: [u64; 2],
    most: u64,
    done: &Done,
) -> std::io::Result<()> {
    for number in 0..most {
        say(format!("tries-{pipe} {}", name(own, peer, number)));
        stream.write_all(&record(size(pipe), own, peer, number)).await?;
        stream.flush().await?;
        say(format!("gave-{pipe} {}", name(own, peer, number)));
        match pipe {
            "open" => done.open.set(done.open.get() + 1),
            "in" => done.input.set(done.input.get() + 1),
            _ => {}
        }
        if done.open.get() > 0 && done.input.get() > 0 {
            done.open.set(0);
            done.input.set(0);
            done.on.set(done.on.get() + 1);
            say(format!("on {}", done.on.get()));
            let [open, closed, dropped] = done.streams.get();
            if open == closed && open == dropped {
                lives::tell_descriptors();
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    if pipe != "dropped" {
        say(format!("closes {pipe} {own} {peer}"));
        stream.shutdown().await?;
        say(format!("finished {pipe} {own} {peer}"));
    }
    Ok(())
}

fn count(streams: &Cell<[u64; 3]>, which: usize) {
    let mut counts = streams.get();
    counts[which] += 1;
    streams.set(counts);
}

/// What the reader's threads have got done, as [`Done`].
#[derive(Default)]
struct Progress {
    open: AtomicU64,
    out: AtomicU64,
    streams: [AtomicU64; 3],
    on: AtomicU64,
}

#[allow(clippy::needless_pass_by_value)] // as layers are
fn reader(layer: Layer) -> Outcome {
    let progress = Progress::default();
    let (layer, progress) = (&layer, &progress);
    std::thread::scope(|scope| {
        let others = ["closed", "dropped", "out"]
            .map(|pipe| scope.spawn(move || read_all(layer, pipe, progress)));
        let result = read_all(layer, "open", progress);
        others.into_iter().try_fold((), |(), other| other.join().unwrap_or(Ok(()))).and(result)
    })
}

/// Reads one stream after the other.
fn read_all(layer: &Layer, pipe: &str, progress: &Progress) -> Outcome {
    let mut end = layer.pipe_reader(pipe).map_err(text)?.blocking();
    loop {
        let mut stream = match end.next() {
            Ok(stream) => stream,
            Err(error) if is_stopping(&error) => return Ok(()),
            Err(error) => return Err(text(error)),
        };
        let (peer, own) = (stream.peer().generation, layer.instance().generation);
        if pipe == "open" {
            progress.streams[0].fetch_add(1, Ordering::SeqCst);
        }
        let lives = [peer, own];
        let Some(how) = read_one(&mut stream, pipe, lives, progress)? else { return Ok(()) };
        drop(stream);
        say(format!("end {pipe} {peer} {own} {how}"));
        match pipe {
            "closed" => drop(progress.streams[1].fetch_add(1, Ordering::SeqCst)),
            "dropped" => drop(progress.streams[2].fetch_add(1, Ordering::SeqCst)),
            _ => {}
        }
    }
}

/// How the stream ends; nothing if the layer is to.
fn read_one(
    stream: &mut impl Read,
    pipe: &str,
    [peer, own]: [u64; 2],
    progress: &Progress,
) -> Result<Option<&'static str>, String> {
    let mut bytes = vec![0; size(if pipe == "out" { "in" } else { pipe })];
    let mut filled = 0;
    loop {
        let how = match stream.read(&mut bytes[filled..]) {
            Ok(0) => "closed",
            Ok(read) => {
                filled += read;
                if filled == bytes.len() {
                    filled = 0;
                    take(&bytes, pipe, [peer, own]);
                    progress.got_on(pipe);
                }
                continue;
            }
            Err(error) if is_stopping(&error) => return Ok(None),
            Err(error) => match PipeError::of(&error) {
                Some(PipeError::PeerDied { .. }) => "died",
                Some(PipeError::Torn { .. }) => "torn",
                _ => return Err(text(error)),
            },
        };
        if filled > 0 && pipe != "out" {
            say(format!("wrong: {filled} bytes of a record on {pipe}"));
        }
        return Ok(Some(how));
    }
}

/// Says which record this is, if it is what its writer wrote on this stream.
fn take(bytes: &[u8], pipe: &str, [peer, own]: [u64; 2]) {
    let word = |at: usize| bytes[at..].first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
    let [writer, reader, number] = [word(0), word(8), word(HEAD - 8)];
    // Through the programs, it is the first one's life that the writer wrote for.
    let mine = pipe == "out" || (writer, reader) == (peer, own);
    if mine && bytes == record(bytes.len(), writer, reader, number) {
        say(format!("got-{pipe} {}", name(writer, reader, number)));
    } else {
        say(format!("wrong: record {writer} {reader} {number} on {pipe} from {peer} to {own}"));
    }
}

impl Progress {
    fn got_on(&self, pipe: &str) {
        match pipe {
            "open" => self.open.fetch_add(1, Ordering::SeqCst),
            "out" => self.out.fetch_add(1, Ordering::SeqCst),
            _ => return,
        };
        if pipe == "open"
            && self.open.load(Ordering::SeqCst) > 0
            && self.out.load(Ordering::SeqCst) > 0
        {
            self.open.store(0, Ordering::SeqCst);
            self.out.store(0, Ordering::SeqCst);
            say(format!("on {}", self.on.fetch_add(1, Ordering::SeqCst)));
            let [open, closed, dropped] = &self.streams;
            let counts = [open, closed, dropped].map(|count| count.load(Ordering::SeqCst));
            if counts[0] == counts[1] && counts[0] == counts[2] {
                lives::tell_descriptors();
            }
        }
    }
}

fn is_stopping(error: &std::io::Error) -> bool {
    matches!(PipeError::of(error), Some(PipeError::Stopping))
}

#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn text(error: impl ToString) -> String {
    error.to_string()
}

fn check(story: &Story) -> Result<(), String> {
    if let Some(wrong) = story.of("reader").find(|line| line.starts_with("wrong")) {
        return Err(wrong.to_owned());
    }
    for layer in ["writer", "reader"] {
        let failed = format!("cofferdam: {layer}/");
        let failed = |line: &&String| line.starts_with(&failed) && line.contains("exit code 1");
        if let Some(line) = story.lines.iter().find(failed) {
            return Err(line.clone());
        }
    }
    check_descriptors(story)?;
    for pipe in ["open", "closed", "dropped"] {
        let (got, tried) =
            (records(story, "reader", "got", pipe), records(story, "writer", "tries", pipe));
        check_order(pipe, &got)?;
        // Who takes the supervisor takes the lines of the last moments too.
        if story.victim != "supervisor" {
            check_streams(story, pipe, &got, &tried)?;
        }
    }
    let out = records(story, "reader", "got", "out");
    check_order("out", &out)?;
    // Programs that outlive their writer pass on everything that it had given, and the reader
    // that outlives them reads it.
    if story.victim == "writer" && story.was_there {
        let given = records(story, "writer", "gave", "in");
        let first = given.iter().filter(|(stream, _)| *stream / 100 == 1);
        for (stream, given) in first {
            let got = out.get(stream).map_or(0, Vec::len);
            if got < given.len() {
                return Err(format!("{} given to the programs, {got} came out", given.len()));
            }
        }
    }
    Ok(())
}

/// The numbers of records by stream.
fn records(story: &Story, layer: &str, word: &str, pipe: &str) -> BTreeMap<u64, Vec<u64>> {
    let lines: Vec<_> = story.of(layer).collect();
    let mut streams = BTreeMap::<u64, Vec<u64>>::new();
    for number in numbers(&lines, &format!("{word}-{pipe}")) {
        streams.entry(number / 1_000_000).or_default().push(number % 1_000_000);
    }
    streams
}

/// What comes of a stream is its beginning, in order and once.
fn check_order(pipe: &str, got: &BTreeMap<u64, Vec<u64>>) -> Result<(), String> {
    for (stream, got) in got {
        if !got.iter().copied().eq((0..).take(got.len())) {
            return Err(format!("{pipe}, stream {stream}: {got:?}"));
        }
    }
    Ok(())
}

/// Marks at which the record that a writer has in its hands has not gone wholly.
const HELD: &[&str] = &["hello", "before", "sealed", "full", "raw"];

fn check_streams(
    story: &Story,
    pipe: &str,
    got: &BTreeMap<u64, Vec<u64>>,
    tried: &BTreeMap<u64, Vec<u64>>,
) -> Result<(), String> {
    let gave = records(story, "writer", "gave", pipe);
    let count = |of: &BTreeMap<u64, Vec<u64>>, stream| of.get(&stream).map_or(0, Vec::len);
    let stopped = "writer/0.g1: mark ";
    let mark = story.lines.iter().find_map(|line| line.strip_prefix(stopped)).unwrap_or("");
    let killed_at = if story.victim == "writer" && story.was_there { mark } else { "" };
    let said = |words: String| story.of("writer").any(|line| line == words);
    let prefix = format!("end {pipe} ");
    for end in story.of("reader").filter_map(|line| line.strip_prefix(&prefix)) {
        let [writer, reader, how] = end.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("what is {end}?"));
        };
        let at = |life: &str| life.parse::<u64>().map_err(text);
        let stream = at(writer)? * 100 + at(reader)?;
        let [tried, gave, got] = [tried, &gave, got].map(|of| count(of, stream));
        let of = format!("{pipe}, stream {stream}: {tried} tried, {gave} given, {got} read, {how}");
        if got < gave || got > tried {
            return Err(of);
        }
        let word = killed_at.rsplit('.').next().unwrap_or_default();
        let held = killed_at.starts_with("pipe.write.") && HELD.contains(&word)
            || killed_at.starts_with("pipe.close.");
        if held && writer == "1" && got != gave {
            return Err(format!("{of}: it had not gone wholly"));
        }
        // The end of it is read if it was written, and by nobody else's doing.
        let closes = said(format!("closes {pipe} {writer} {reader}"));
        let finished = said(format!("finished {pipe} {writer} {reader}"))
            || (closes && writer == "1" && killed_at == "pipe.close.given");
        let cut_short = writer == "1"
            && matches!(killed_at, "pipe.close.before" | "pipe.close.sealed")
            && !finished;
        let at_end = how == "closed";
        if (at_end && (!closes || cut_short)) || (finished && !at_end) {
            return Err(format!("{of}: closes {closes}, finished {finished}"));
        }
    }
    // A killed reader's streams have finished for the writer, if it had anything to write.
    if story.victim == "reader" && story.was_there && pipe == "open" && count(&gave, 101) > 0 {
        if !said("cut open 1 1".into()) {
            return Err("the writer was not told that its reader is gone".into());
        }
        let lives = lives::of(story, "reader");
        let got_on =
            lives.get(&2).is_some_and(|lines| lines.iter().any(|line| line.starts_with("on ")));
        if got_on && count(tried, 102) == 0 {
            return Err("the reader's next life got no stream".into());
        }
    }
    Ok(())
}

/// A life has no more descriptors in the end than when all streams had begun. In the moment between
/// two streams it has one more or less.
fn check_descriptors(story: &Story) -> Result<(), String> {
    const MOMENT: usize = 4;
    for layer in ["writer", "reader"] {
        for (life, lines) in lives::of(story, layer) {
            let held = numbers(&lines, "holds");
            let early = held.iter().take(MOMENT).max();
            let late = held.iter().rev().take(MOMENT).min();
            if late > early {
                return Err(format!("life {life} of {layer}: descriptors {held:?}"));
            }
        }
    }
    Ok(())
}
