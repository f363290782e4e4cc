//! Sockets: a server on a TCP port and on a path, a client who fills the places of its source and
//! has names looked up, and another on the path. No client is refused while the daemon lives, what
//! waits stays queued, no place is lost, and no socket stays behind.

#![allow(clippy::needless_pass_by_value)] // As the harness and errors are handed over.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use cofferdam::Layer;
use cofferdam::ipc::socket::{Connection, Stream, blocking};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::lives;
use super::{Facility, Outcome, Runs};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "socket",
    policy: r#"
[layer.server]
RUN server"
syscalls = ["@core", "shutdown"]
because = "one case shuts its listeners down"
listen = { port = { address = "tcp:127.0.0.1:PORT", per-source = 3 }, path = "unix:DIR/door" }
[layer.client.connect]
number = "tcp:127.0.0.1:PORT"
name = "tcp:localhost:PORT"
nobody = "tcp:localhost:1"
[layer.other]
RUN other"
syscalls = ["@core"]
connect = { path = "unix:DIR/door", datagram = "udp:127.0.0.1:PORT" }
"#,
    layers: &[
        ("server", Runs::Async(|layer| Box::pin(server(layer)))),
        ("client", Runs::Async(|layer| Box::pin(client(layer)))),
        ("other", Runs::Blocking(other)),
    ],
    marks: &[
        ("supervisor", "supervisor.start.spawned", 1),
        ("supervisor", "supervisor.start.spawned", 3),
        ("supervisor", "supervisor.admit.confined", 2),
        ("supervisor", "supervisor.admit.confined", 3),
        ("supervisor", "supervisor.hand-over.object", 2),
        ("supervisor", "supervisor.hand-over.done", 3),
        ("supervisor", "supervisor.reap.reaped", 1),
        ("supervisor", "supervisor.reap.announced", 1),
        ("supervisor", "socket.listen.bound", 1),
        ("supervisor", "socket.listen.bound", 2),
        ("supervisor", "socket.listen.handing-over", 1),
        ("supervisor", "socket.listen.handing-over", 2),
        ("supervisor", "socket.listen.revived", 1),
        ("supervisor", "socket.listen.revived", 2),
        ("cofferdam-connector", "socket.connect.asked", 1),
        ("cofferdam-connector", "socket.connect.asked", 2),
        ("cofferdam-connector", "socket.connect.asked", 7),
        ("cofferdam-connector", "socket.connect.trying", 1),
        ("cofferdam-connector", "socket.connect.trying", 3),
        ("cofferdam-connector", "socket.connect.under-way", 1),
        ("cofferdam-connector", "socket.connect.under-way", 2),
        ("cofferdam-connector", "socket.connect.under-way", 4),
        ("cofferdam-connector", "socket.connect.done", 1),
        ("cofferdam-connector", "socket.connect.done", 3),
        ("cofferdam-connector", "socket.connect.told", 1),
        ("cofferdam-connector", "socket.connect.told", 4),
        ("cofferdam-connector", "socket.connect.withdrawn", 1),
        ("cofferdam-connector", "socket.connect.withdrawn", 2),
        ("cofferdam-connector", "socket.connect.forgotten", 1),
        ("cofferdam-connector", "socket.resolve.started", 1),
        ("cofferdam-connector", "socket.resolve.started", 2),
        ("cofferdam-connector", "socket.resolve.answered", 1),
        ("cofferdam-paths", "socket.connect.asked", 2),
        ("cofferdam-paths", "socket.connect.pinned", 1),
        ("cofferdam-paths", "socket.connect.done", 2),
        ("cofferdam-paths", "socket.connect.told", 1),
        ("client", "socket.connect.answered", 1),
        ("client", "socket.connect.answered", 3),
        ("other", "socket.connect.answered", 1),
        ("other", "socket.connect.answered", 2),
        ("server", "socket.accept.woken", 1),
        ("server", "socket.accept.woken", 4),
        ("server", "socket.accept.accepted", 1),
        ("server", "socket.accept.accepted", 4),
        ("server", "socket.accept.counted", 1),
        ("server", "socket.accept.counted", 5),
        ("server", "socket.accept.closed", 1),
        ("server", "socket.accept.closed", 2),
    ],
    check,
};

/// What the policy says.
const PER_SOURCE: usize = 3;

/// Whether this life is the first of a case about `word`.
fn is_about(layer: &Layer, word: &str) -> bool {
    layer.instance().generation == 1 && String::from_utf8_lossy(layer.settings()).contains(word)
}

/// Says back what comes, on every connection until its client goes.
async fn server(layer: Layer) -> Outcome {
    if is_about(&layer, "revived") {
        for name in ["port", "path"] {
            let fd = layer.listener_fd(name).map_err(text)?;
            rustix::net::shutdown(&fd, rustix::net::Shutdown::Both).map_err(text)?;
        }
        return Ok(());
    }
    let port = layer.acceptor("port").map_err(text)?;
    let path = layer.acceptor("path").map_err(text)?;
    let active = Arc::new(AtomicU32::new(0));
    let mut on = 0;
    loop {
        let (word, accepted) = tokio::select! {
            () = layer.stopping() => return Ok(()),
            accepted = port.accept() => ("port", accepted),
            accepted = path.accept() => ("path", accepted),
        };
        say(format!("took-{word} {}", port.closed()));
        active.fetch_add(1, Ordering::Relaxed);
        on += 1;
        let active = Arc::clone(&active);
        let connection = accepted.map_err(text)?;
        tokio::task::spawn(async move {
            serve(connection).await;
            say(format!("on {on}"));
            if active.fetch_sub(1, Ordering::Relaxed) == 1 {
                lives::tell_descriptors();
            }
        });
    }
}

async fn serve(mut connection: Connection) {
    let mut bytes = [0; 8];
    while connection.read_exact(&mut bytes).await.is_ok() {
        if connection.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

/// Takes all places of its source, by number and by name, and finds that there is no other.
async fn client(layer: Layer) -> Outcome {
    let work = async {
        for round in 1_u64.. {
            // A name is looked up by a thread of the helper, which takes its time.
            let by_name = round % 8 == 1;
            if by_name {
                let given_up = layer.connect("nobody");
                drop(tokio::time::timeout(Duration::ZERO, given_up).await);
            }
            if is_about(&layer, "reap") || is_about(&layer, "forgotten") && round == 2 {
                std::process::exit(0);
            }
            let names = ["number", "number", if by_name { "name" } else { "number" }];
            let mut held = Vec::new();
            for name in names {
                held.push(served(&layer, name).await);
            }
            // One more is closed at once, as long as the others are served.
            let mut more = connect(&layer, "number").await;
            if echoes(&mut more).await {
                let mut alive = 0;
                for stream in &mut held {
                    alive += usize::from(echoes(stream).await);
                }
                if alive == PER_SOURCE {
                    say("too many");
                }
            }
            drop(more);
            // It is gone for the server too before the next one comes.
            for mut stream in held {
                let _ = stream.shutdown().await;
                let _ = stream.read(&mut [0; 1]).await;
            }
            say(format!("on {round}"));
            lives::tell_descriptors_beside_helpers(&layer);
        }
    };
    tokio::select! {
        () = work => Ok(()),
        () = layer.stopping() => Ok(()),
    }
}

/// A connection by which the server answers. One is cut off when its server is killed, or when
/// the places of a former life of this client are still being cleared.
async fn served(layer: &Layer, name: &str) -> Stream {
    loop {
        let mut stream = connect(layer, name).await;
        if echoes(&mut stream).await {
            say("served");
            return stream;
        }
        say("cut");
    }
}

/// A connection, which nothing refuses.
async fn connect(layer: &Layer, name: &str) -> Stream {
    loop {
        match layer.connect(name).await {
            Ok(stream) => return stream,
            Err(error) => say(format!("refused: {error}")),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn echoes(stream: &mut Stream) -> bool {
    let mut bytes = [0; 8];
    stream.write_all(b"whatever").await.is_ok() && stream.read_exact(&mut bytes).await.is_ok()
}

/// One connection after the other on the path, by a thread, and datagrams.
fn other(layer: Layer) -> Outcome {
    let (path, datagram) = (layer.target("path"), layer.target("datagram"));
    let (path, datagram) = (path.map_err(text)?, datagram.map_err(text)?);
    for round in 1.. {
        layer.attend().map_err(text)?;
        if layer.is_stopping() {
            break;
        }
        match path.blocking_stream() {
            Ok(blocking::Stream::Unix(stream)) => match hears_back(&layer, stream) {
                Some(true) => say(format!("served {round}")),
                Some(false) => say(format!("cut {round}")),
                None => break,
            },
            Ok(blocking::Stream::Tcp(_)) => return Err("that is no path".into()),
            Err(error) => say(format!("refused: {error}")),
        }
        let socket = datagram.blocking_datagram().map_err(text)?;
        // Nobody listens, which the socket may have been told already.
        let _ = socket.send(b"whatever");
        drop(socket);
        say(format!("on {round}"));
        lives::tell_descriptors_beside_helpers(&layer);
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}

/// Whether the server answers; nothing if the layer is to finish before.
fn hears_back(layer: &Layer, mut stream: UnixStream) -> Option<bool> {
    if stream.write_all(b"whatever").is_err() {
        return Some(false);
    }
    let tick = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
    loop {
        let mut fds = [PollFd::new(&stream, PollFlags::IN)];
        if poll(&mut fds, Some(&tick)).is_ok_and(|ready| ready > 0) {
            return Some(stream.read_exact(&mut [0; 8]).is_ok());
        }
        layer.attend().ok()?;
        if layer.is_stopping() {
            return None;
        }
    }
}

fn check(story: &Story) -> Result<(), String> {
    lives::check_descriptors(story, &["server", "client", "other"])?;
    super::check_supervisor(story)?;
    // Who stops first cuts off the others.
    let lines = &story.lines[..story.before_stop];
    // A layer that shuts its own listener down refuses who comes, until its next life.
    let shut_down = story.lines.iter().any(|line| line.ends_with("mark socket.listen.revived"));
    let bad = |line: &&String| {
        let said = line.split_once(": ").map_or("", |(_, said)| said);
        // Who is told of it as long as there is time has lost its daemon, and wasn't refused.
        let orphaned = story.victim == "supervisor" && said.ends_with("the supervisor is gone");
        said.starts_with("refused") && !shut_down && !orphaned
            || said == "too many"
            || said.contains("exit code 1")
    };
    if let Some(line) = lines.iter().find(bad) {
        return Err(line.clone());
    }
    let count = |begin: &str, word: &str| {
        let is_it = |line: &&String| {
            let said = line.strip_prefix(begin).and_then(|rest| rest.split_once(": "));
            said.is_some_and(|(_, said)| said.split(' ').next() == Some(word))
        };
        lines.iter().filter(is_it).count()
    };
    // With the supervisor all die, and the others' last words are still written.
    let server_died = ["server", "supervisor"].contains(&story.victim)
        || lines
            .iter()
            .any(|line| line.starts_with("cofferdam: server/") && line.contains(" ended "));
    // Who waits at the door is served by the next life: only what was accepted is cut off. The
    // server may have said so after its client did: these two lines come by different pipes.
    let cut = count("other/", "cut");
    let took = |line: &&String| line.starts_with("server/") && line.contains(": took-path ");
    let accepted = story.lines.iter().filter(took).count() + usize::from(story.victim == "server");
    if cut + count("other/", "served") > accepted && story.victim != "supervisor" && !shut_down {
        return Err(format!("{cut} were cut off, and not all of them had been accepted"));
    }
    if !server_died {
        if cut > 0 {
            return Err("the server lives, and has cut somebody off".into());
        }
        if count("client/0.g1", "cut") > 0 {
            return Err("the server lives, and has not given a place back".into());
        }
    }
    nothing_is_left(story)
}

/// Nobody takes so long to let go of a descriptor unless it holds on to it.
const LETTING_GO: Duration = Duration::from_secs(5);

/// Nobody listens any more.
fn nothing_is_left(story: &Story) -> Result<(), String> {
    let policy = std::fs::read_to_string(story.directory.join("policy.toml")).map_err(text)?;
    let listens = policy.split_once("\"tcp:").and_then(|(_, rest)| rest.split('"').next());
    let listens = listens.ok_or("no listener")?;
    // A layer that was being started when the supervisor died lets go when it is executed.
    let end = Instant::now() + LETTING_GO;
    while TcpStream::connect(listens).is_ok() {
        if Instant::now() > end {
            return Err("somebody still listens on the port".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    while UnixStream::connect(story.directory.join("door")).is_ok() {
        if Instant::now() > end {
            return Err("somebody still listens on the path".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}
