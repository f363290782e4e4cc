//! Ordinary programs as layers, with pipes at their standard input and output.

use std::path::Path;

use cofferdam::Layer;
use cofferdam::ipc::pipe::{PipeReader, PipeWriter};
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::Daemon;
use crate::{Function, LONG_PATIENCE, Outcome, Runs, Test, how_many_in, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("program::jq_filters_byte_exactly_across_restarts", jq),
    ("program::a_chain_of_programs_ends_in_order", chain),
    ("program::a_program_is_begun_anew_with_its_peer", anew),
    ("program::a_program_that_ends_early_is_told_to_its_writer", early),
    ("program::every_life_of_a_program_is_a_stream", lives),
];

pub(crate) const LAYERS: &[Function] = &[
    ("program-filter", Runs::Async(|layer| Box::pin(filter(layer)))),
    ("program-once", Runs::Async(|layer| Box::pin(once(layer)))),
    ("program-early", Runs::Async(|layer| Box::pin(wants_early_end(layer)))),
    ("program-streams", Runs::Async(|layer| Box::pin(streams(layer)))),
];

/// A layer of our own on both sides of a program.
fn around(function: &str, exec: &str, restart: &str) -> String {
    format!(
        "[layer.own]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\nrestart = {{ max = 100 }}\n\
         [layer.program]\nexec = {exec}\nsyscalls = [\"@core\"]\nstdin = \"pipe.in\"\n\
         stdout = \"pipe.out\"\nrestart = {restart}\n\
         [pipe.in]\nfrom = \"own\"\nto = \"program\"\nraw = true\n\
         [pipe.out]\nfrom = \"program\"\nto = \"own\"\nraw = true\n"
    )
}

const ALWAYS: &str = "{ on = \"always\", max = 100 }";

/// 32 MiB; in the long form 1 GiB.
fn jq() {
    if !Path::new("/usr/bin/jq").exists() {
        return;
    }
    let jq = "[\"/usr/bin/jq\", \"-c\", \".\"]";
    let mut daemon = Daemon::start("-", &around("program-filter", jq, ALWAYS));
    daemon.line_in("own/0.g1: 8 streams are the same", LONG_PATIENCE);
    let program = daemon.confined("program/0.g9");
    daemon.line("own/0.g1: in the middle of the ninth");
    kill_process(program, Signal::KILL).unwrap();
    daemon.line("own/0.g1: the ninth is cut");
    daemon.line_in("own/0.g1: the tenth is the same", LONG_PATIENCE);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("program/0.g1 ended with exit code 0"), 1, "{daemon}");
}

/// Line number `n` of the text, as `jq -c` prints it.
fn line(n: usize) -> String {
    let fill = &"the quick brown fox jumps over the lazy dog"[n % 40..];
    format!("{{\"n\":{n},\"text\":\"{fill}\",\"list\":[1,2,{{\"deep\":null}}]}}\n")
}

async fn filter(layer: Layer) -> Outcome {
    let mut into = layer.pipe_writer("in").map_err(text)?;
    let mut out = layer.pipe_reader("out").map_err(text)?;
    let each = how_many_in(&layer, 32 << 20, 1 << 30) / 8;
    for _ in 0..8 {
        pass(&mut into, &mut out, each).await?;
    }
    say("8 streams are the same");
    let mut stream = into.next().await.map_err(text)?;
    let mut reading = out.next().await;
    let cut = async {
        let mut n = 0;
        loop {
            if let Err(error) = stream.write_all(line(n).as_bytes()).await {
                say(format!("the ninth is cut: {error}"));
                return;
            }
            n += 1;
            if n == 50_000 {
                say("in the middle of the ninth");
            }
        }
    };
    let drain = async {
        let mut some = vec![0; 1 << 16];
        while reading.read(&mut some).await.is_ok_and(|count| count > 0) {}
    };
    tokio::join!(cut, drain);
    drop((stream, reading));
    pass(&mut into, &mut out, each).await?;
    say("the tenth is the same");
    layer.stopping().await;
    Ok(())
}

/// Sends so many bytes through the program and compares what comes back.
async fn pass(into: &mut PipeWriter, out: &mut PipeReader, amount: usize) -> Outcome {
    let send = async {
        let (mut n, mut sent, mut batch) = (0, 0, Vec::new());
        while sent < amount {
            batch.clear();
            while batch.len() < 1 << 16 {
                batch.extend_from_slice(line(n).as_bytes());
                n += 1;
            }
            into.write_all(&batch).await.map_err(text)?;
            sent += batch.len();
        }
        into.shutdown().await.map_err(text)?;
        Ok(n)
    };
    let receive = async {
        let (mut n, mut due, mut some) = (0, Vec::new(), vec![0; 1 << 16]);
        loop {
            let count = out.read(&mut some).await.map_err(text)?;
            if count == 0 {
                return if due.is_empty() { Ok(n) } else { Err("a line is cut".to_owned()) };
            }
            while due.len() < count {
                due.extend_from_slice(line(n).as_bytes());
                n += 1;
            }
            if due[..count] != some[..count] {
                return Err(format!("other bytes about line {n}"));
            }
            due.drain(..count);
        }
    };
    let (written, read): (Result<usize, String>, Result<usize, String>) =
        tokio::join!(send, receive);
    if written? == read? { Ok(()) } else { Err("too few lines".into()) }
}

/// All of it under `cofferdam run`, without a line of Rust.
fn chain() {
    let program = |name: &str, exec: &str, more: &str| {
        format!("[layer.{name}]\nexec = {exec}\nsyscalls = [\"@core\"]\n{more}\n")
    };
    let pipe = |name: &str, from: &str, to: &str| {
        format!("[pipe.{name}]\nfrom = \"{from}\"\nto = \"{to}\"\nraw = true\n")
    };
    let policy = [
        program("seq", "[\"/usr/bin/seq\", \"1\", \"300000\"]", "stdout = \"pipe.a\""),
        program("zip", "[\"/usr/bin/gzip\", \"-c\"]", "stdin = \"pipe.a\"\nstdout = \"pipe.b\""),
        program("unzip", "[\"/usr/bin/gzip\", \"-dc\"]", "stdin = \"pipe.b\"\nstdout = \"pipe.c\""),
        program("sum", "[\"/usr/bin/md5sum\"]", "stdin = \"pipe.c\""),
        pipe("a", "seq", "zip"),
        pipe("b", "zip", "unzip"),
        pipe("c", "unzip", "sum"),
    ]
    .concat();
    let mut daemon = Daemon::command_line(&policy);
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    // `seq 1 300000 | md5sum`
    assert_eq!(daemon.count("sum/0.g1: daef482d6c698625ab13d987d14e8781  -"), 1, "{daemon}");
    assert_eq!(daemon.count(".g2"), 0, "{daemon}");
}

fn anew() {
    // It would not be restarted for an end of its own.
    let restart = "{ on = \"failure\", max = 1 }";
    let policy = around("program-once", "[\"/bin/cat\"]", restart);
    let mut daemon = Daemon::start("-", &policy);
    for generation in 1..=6 {
        let own = daemon.confined(&format!("own/0.g{generation}"));
        daemon.line(&format!("own/0.g{generation}: echo of program/0.g{generation}: hello"));
        kill_process(own, Signal::KILL).unwrap();
    }
    daemon.line("own/0.g7: echo of program/0.g7: hello");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Sends a word, reads it, and stays with the pipe open.
async fn once(layer: Layer) -> Outcome {
    let mut into = layer.pipe_writer("in").map_err(text)?;
    let mut out = layer.pipe_reader("out").map_err(text)?;
    into.write_all(b"hello").await.map_err(text)?;
    let mut word = [0; 5];
    out.read_exact(&mut word).await.map_err(text)?;
    let peer = out.peer().map(ToString::to_string).unwrap_or_default();
    say(format!("echo of {peer}: {}", String::from_utf8_lossy(&word)));
    layer.stopping().await;
    Ok(())
}

fn early() {
    let policy =
        around("program-early", "[\"/usr/bin/head\", \"-c\", \"5\"]", "{ on = \"failure\" }");
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("own/0.g1: nobody reads any more");
    daemon.line("own/0.g1: it said hello");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("program/0.g2"), 0, "{daemon}");
}

async fn wants_early_end(layer: Layer) -> Outcome {
    let mut into = layer.pipe_writer("in").map_err(text)?;
    let mut out = layer.pipe_reader("out").map_err(text)?;
    let mut stream = into.next().await.map_err(text)?;
    loop {
        if let Err(error) = stream.write_all(b"hello, program").await {
            say(format!("nobody reads any more: {error}"));
            break;
        }
    }
    let mut said = String::new();
    out.read_to_string(&mut said).await.map_err(text)?;
    say(format!("it said {said}"));
    layer.stopping().await;
    Ok(())
}

fn lives() {
    let policy = around("program-streams", "[\"/bin/cat\"]", ALWAYS);
    let mut daemon = Daemon::start("-", &policy);
    for generation in 1..=5 {
        daemon.line(&format!("stream of program/0.g{generation}: {generation}"));
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

async fn streams(layer: Layer) -> Outcome {
    let mut into = layer.pipe_writer("in").map_err(text)?;
    let mut out = layer.pipe_reader("out").map_err(text)?;
    for n in 1..=5 {
        into.write_all(n.to_string().as_bytes()).await.map_err(text)?;
        into.shutdown().await.map_err(text)?;
        let mut stream = out.next().await;
        let mut said = String::new();
        stream.read_to_string(&mut said).await.map_err(text)?;
        say(format!("stream of {}: {said}", stream.peer()));
    }
    layer.stopping().await;
    Ok(())
}
