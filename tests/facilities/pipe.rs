//! Pipes between two layers of this library.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use cofferdam::Layer;
use cofferdam::ipc::pipe::PipeError;
use rustix::fs::FileType;
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("pipe::bytes_come_over_as_they_were_written", whole),
    ("pipe::a_killed_writer_loses_nothing_that_it_wrote_wholly", writer_killed),
    ("pipe::a_killed_reader_is_told_at_once", reader_killed),
    ("pipe::every_pair_of_copies_has_its_own_stream", copies),
    ("pipe::ends_are_only_for_what_they_were_granted_for", rights),
    ("pipe::the_wrong_end_is_refused_with_the_line_that_would_grant_it", wrong_end),
];

pub(crate) const LAYERS: &[Function] = &[
    ("pipe-wholesale", Runs::Async(|layer| Box::pin(wholesale(layer)))),
    ("pipe-retail", Runs::Blocking(retail)),
    ("pipe-check", Runs::Async(|layer| Box::pin(check(layer)))),
    ("pipe-check-blocking", Runs::Blocking(check_blocking)),
    ("pipe-endless", Runs::Async(|layer| Box::pin(endless(layer)))),
    ("pipe-name", Runs::Async(|layer| Box::pin(name(layer)))),
    ("pipe-names", Runs::Async(|layer| Box::pin(names(layer)))),
    ("pipe-thief", Runs::Async(|layer| Box::pin(thief(layer)))),
];

const AMOUNT: usize = 3 << 20;

/// Byte number `n` of every stream.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn byte(n: usize) -> u8 {
    (n % 251) as u8 ^ (n >> 12) as u8
}

pub(crate) fn bytes(from: usize, count: usize) -> Vec<u8> {
    (from..from + count).map(byte).collect()
}

fn policy(from: &str, to: &str, more: &str) -> String {
    format!(
        "[layer.from]\nrun = \"{from}\"\nsyscalls = [\"@core\"]\nrestart = {{ max = 100 }}\n\
         [layer.to]\nrun = \"{to}\"\nsyscalls = [\"@core\"]\nrestart = {{ max = 100 }}\n\
         [pipe.p]\nfrom = \"from\"\nto = \"to\"\n{more}\n"
    )
}

fn whole() {
    for (from, to) in [
        ("pipe-wholesale", "pipe-check"),
        ("pipe-retail", "pipe-check-blocking"),
        ("pipe-wholesale", "pipe-check-blocking"),
    ] {
        for more in ["", "raw = true", "capacity = \"4KiB\"", "rate = \"64MiB/s\""] {
            let mut daemon = Daemon::start("-", &policy(from, to, more));
            daemon.line(&format!("to/0.g1: read {AMOUNT} of from/0.g1, then the end"));
            assert_eq!(daemon.end(), Some(0), "{from} {to} {more}: {daemon}");
        }
    }
}

async fn wholesale(layer: Layer) -> Outcome {
    let mut pipe = layer.pipe_writer("p").map_err(text)?;
    pipe.write_all(&bytes(0, AMOUNT)).await.map_err(text)?;
    pipe.shutdown().await.map_err(text)
}

fn retail(layer: Layer) -> Outcome {
    let mut pipe = layer.pipe_writer("p").map_err(text)?.blocking();
    let all = bytes(0, AMOUNT);
    let (mut at, mut size) = (0, 1);
    while at < AMOUNT {
        let end = (at + size).min(AMOUNT);
        pipe.write_all(&all[at..end]).map_err(text)?;
        (at, size) = (end, size % 70_000 * 2 + 1);
    }
    pipe.close().map_err(text)
}

async fn check(layer: Layer) -> Outcome {
    let mut pipe = layer.pipe_reader("p").map_err(text)?;
    let (mut at, mut some) = (0, vec![0; 50_000]);
    loop {
        let count = pipe.read(&mut some).await.map_err(text)?;
        if count == 0 {
            break;
        }
        if some[..count] != bytes(at, count) {
            return Err(format!("other bytes at {at}"));
        }
        at += count;
    }
    say(format!("read {at} of from/0.g1, then the end"));
    Ok(())
}

fn check_blocking(layer: Layer) -> Outcome {
    let mut stream = layer.pipe_reader("p").map_err(text)?.blocking().next().map_err(text)?;
    let mut got = Vec::new();
    stream.read_to_end(&mut got).map_err(text)?;
    if got != bytes(0, got.len()) {
        return Err("other bytes".into());
    }
    say(format!("read {} of {}, then the end", got.len(), stream.peer()));
    Ok(())
}

fn writer_killed() {
    for more in ["", "raw = true"] {
        let mut daemon = Daemon::start("-", &policy("pipe-endless", "pipe-names", more));
        for generation in 1..=5 {
            let writer = daemon.confined(&format!("from/0.g{generation}"));
            daemon.line(&format!("to/0.g1: much from from/0.g{generation}"));
            kill_process(writer, Signal::KILL).unwrap();
            let line = daemon.line(&format!("to/0.g1: the stream of from/0.g{generation} ends"));
            // A raw pipe has no sign of it.
            let closed = line.contains("closed");
            assert_eq!(closed, !more.is_empty(), "{line}: {daemon}");
        }
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("other bytes"), 0, "{daemon}");
    }
}

fn reader_killed() {
    let mut daemon = Daemon::start("-", &policy("pipe-endless", "pipe-names", ""));
    for generation in 1..=5 {
        let reader = daemon.confined(&format!("to/0.g{generation}"));
        daemon.line(&format!("to/0.g{generation}: much from from/0.g1"));
        kill_process(reader, Signal::KILL).unwrap();
        daemon.line(&format!(
            "from/0.g1: to/0.g{generation} is gone, and had not closed its stream on `[pipe.p]`"
        ));
    }
    daemon.line("to/0.g6: much from from/0.g1");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Writes the same stream to every life of the reader until it is asked to stop.
async fn endless(layer: Layer) -> Outcome {
    let mut pipe = layer.pipe_writer("p").map_err(text)?;
    let work = async {
        loop {
            let mut stream = pipe.next().await.map_err(text)?;
            let mut at = 0;
            let error = loop {
                match stream.write_all(&bytes(at, 10_000)).await {
                    Ok(()) => at += 10_000,
                    Err(error) => break error,
                }
            };
            match PipeError::of(&error) {
                Some(PipeError::PeerDied { .. }) => say(error),
                _ => return Err::<(), _>(format!("unexpected: {error:?}")),
            }
        }
    };
    tokio::select! {
        result = work => result,
        () = layer.stopping() => Ok(()),
    }
}

/// Reads stream after stream.
async fn names(layer: Layer) -> Outcome {
    let mut pipe = layer.pipe_reader("p").map_err(text)?;
    let work = async {
        let mut readers = tokio::task::JoinSet::new();
        loop {
            let stream = pipe.next().await;
            readers.spawn(read_one(stream));
        }
    };
    tokio::select! {
        () = work => Ok(()),
        () = layer.stopping() => Ok(()),
    }
}

async fn read_one(mut stream: cofferdam::ipc::pipe::ReadStream) {
    let peer = stream.peer().clone();
    let (mut at, mut some, mut much) = (0, vec![0; 40_000], false);
    let end = loop {
        match stream.read(&mut some).await {
            Ok(0) => break "closed".to_owned(),
            Ok(count) if some[..count] != bytes(at, count) => break "other bytes".to_owned(),
            Ok(count) => at += count,
            Err(error) => {
                break match PipeError::of(&error) {
                    Some(PipeError::PeerDied { .. }) => "died".to_owned(),
                    Some(PipeError::Torn { .. }) => "torn".to_owned(),
                    other => format!("unexpected: {other:?}"),
                };
            }
        }
        if at > 1 << 20 && !std::mem::replace(&mut much, true) {
            say(format!("much from {peer}"));
        }
    };
    say(format!("the stream of {peer} ends after {at}: {end}"));
}

fn copies() {
    let policy = "[layer.from]\nrun = \"pipe-name\"\ninstances = 3\nsyscalls = [\"@core\"]\n\
         [layer.to]\nrun = \"pipe-names\"\ninstances = 2\nsyscalls = [\"@core\"]\n\
         [pipe.p]\nfrom = \"from\"\nto = \"to\"\n";
    let mut daemon = Daemon::start("-", policy);
    let mut left: Vec<String> = (0..2)
        .flat_map(|to| (0..3).map(move |from| format!("to/{to}.g1: the stream of from/{from}.g1")))
        .collect();
    while !left.is_empty() {
        let line = daemon.line("the stream of");
        assert!(line.ends_with("ends after 100: closed"), "{line}: {daemon}");
        left.retain(|start| !line.contains(start));
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("the stream of"), 6, "{daemon}");
}

/// Writes a little to every reader, closes, and stays.
async fn name(layer: Layer) -> Outcome {
    let mut pipe = layer.pipe_writer("p").map_err(text)?;
    for _ in 0..2 {
        let mut stream = pipe.next().await.map_err(text)?;
        stream.write_all(&bytes(0, 100)).await.map_err(text)?;
        stream.shutdown().await.map_err(text)?;
    }
    layer.stopping().await;
    Ok(())
}

fn wrong_end() {
    let mut daemon = Daemon::start("-", &policy("pipe-names", "pipe-check", ""));
    daemon.line(
        "from/0.g1: layer 'from' has no pipe 'p': the policy would need `[pipe.p] to = \"from\"`",
    );
    let mut daemon = Daemon::start("-", &policy("pipe-wholesale", "pipe-wholesale", ""));
    daemon.line(
        "to/0.g1: layer 'to' has no pipe 'p': the policy would need `[pipe.p] from = \"to\"`",
    );
}

fn rights() {
    let rich = "syscalls = [\"@core\", \"@file-read\", \"@file-write\", \"fcntl\", \
                \"ftruncate\", \"splice\", \"vmsplice\", \"tee\"]\nbecause = \"a test\"";
    let policy = policy("pipe-endless", "pipe-thief", "capacity = \"16KiB\"").replace(
        "[layer.to]\nrun = \"pipe-thief\"\nsyscalls = [\"@core\"]",
        &format!("[layer.to]\nrun = \"pipe-thief\"\n{rich}"),
    );
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("to/0.g1: all refused");
    // The writer goes on, though the reader changed the flags of its own end.
    daemon.line("to/0.g1: much from from/0.g1");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Tries to get more out of a reading end than reading.
async fn thief(layer: Layer) -> Outcome {
    let mut pipe = layer.pipe_reader("p").map_err(text)?;
    let stream = pipe.next().await;
    let fds = pipes();
    if fds.is_empty() {
        return Err("where is the pipe?".into());
    }
    for fd in fds {
        let raw = fd.as_raw_fd();
        // By every name that it could be opened again.
        for path in [
            format!("/proc/self/fd/{raw}"),
            format!("/dev/fd/{raw}"),
            format!("/proc/{}/fd/{raw}", std::process::id()),
        ] {
            if std::fs::OpenOptions::new().write(true).open(&path).is_ok() {
                return Err(format!("{path} opens"));
            }
        }
        if rustix::io::write(fd, b"x").is_ok() {
            return Err("it can be written".into());
        }
        if rustix::fs::seek(fd, rustix::fs::SeekFrom::Start(0)).is_ok() {
            return Err("it has a position".into());
        }
        if rustix::fs::ftruncate(fd, 0).is_ok() {
            return Err("it can be cut".into());
        }
        if layer.pipe_writer("p").is_ok() {
            return Err("there is a writing end".into());
        }
        if rustix::pipe::fcntl_getpipe_size(fd).map_err(text)? != 16 << 10 {
            return Err("its capacity is another".into());
        }
        // Its own flags are its own affair.
        let flags = rustix::fs::fcntl_getfl(fd).map_err(text)?;
        rustix::fs::fcntl_setfl(fd, flags | rustix::fs::OFlags::APPEND).map_err(text)?;
        if rustix::fs::fstat(fd).map_err(text)?.st_mode & 0o777 != 0 {
            return Err("somebody may open it".into());
        }
    }
    say("all refused");
    tokio::select! {
        () = read_one(stream) => Err("the stream ended".into()),
        () = layer.stopping() => Ok(()),
    }
}

/// The pipes that this process holds, besides those of its log.
pub(crate) fn pipes() -> Vec<BorrowedFd<'static>> {
    let is_pipe = |fd: &BorrowedFd<'_>| {
        let mode = rustix::fs::fstat(fd).map(|stat| stat.st_mode);
        mode.is_ok_and(|mode| FileType::from_raw_mode(mode) == FileType::Fifo)
    };
    // SAFETY: where a number isn't open, the first call on it says so; nothing here closes one.
    #[allow(unsafe_code)]
    let borrow = |fd: RawFd| unsafe { BorrowedFd::borrow_raw(fd) };
    (3..64).map(borrow).filter(is_pipe).collect()
}
