//! What facilities keep over a reload: messages, pipes, the connections of workers.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::queue;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("reloaded::a_queue_keeps_its_messages", messages),
    ("reloaded::a_pipe_goes_on_where_nothing_touches_it", pipe),
    ("reloaded::workers_keep_their_connections", workers),
    ("reloaded::an_upgrade_keeps_who_waits_for_a_worker", upgraded),
    ("reloaded::workers_of_another_policy_come_after_all_of_before", other_workers),
];

pub(crate) const LAYERS: &[Function] = &[
    ("reloaded_sender", Runs::Async(|layer| Box::pin(layer_sender(layer)))),
    ("reloaded_receiver", Runs::Async(|layer| Box::pin(layer_receiver(layer)))),
    ("reloaded_writer", Runs::Async(|layer| Box::pin(layer_writer(layer)))),
    ("reloaded_reader", Runs::Async(|layer| Box::pin(layer_reader(layer)))),
    ("reloaded_waiter", Runs::Async(|layer| Box::pin(layer_waiter(layer)))),
];

/// Puts another policy in the place of the one that a daemon has, and has it reloaded.
fn reload(daemon: &mut Daemon, policy: &str) {
    let file = daemon.directory().join("policy.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let (head, _) = before.split_once("[layer.").unwrap();
    std::fs::write(&file, format!("{head}{policy}")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.line("cofferdam: reloaded");
}

/// Waits for a line, unless it has come already.
fn saw(daemon: &mut Daemon, line: &str) {
    if daemon.count(line) == 0 {
        daemon.line(line);
    }
}

fn layer(name: &str, function: &str, more: &str) -> String {
    format!("[layer.{name}]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\n{more}\n")
}

async fn layer_sender(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    for number in 0..5 {
        let body = format!("{} sends {number}", layer.instance());
        jobs.send(body, number).await.map_err(text)?;
    }
    say("sent");
    layer.stopping().await;
    Ok(())
}

/// Takes nothing in its first life.
async fn layer_receiver(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    if layer.instance().generation > 1 {
        while let Some(event) = layer.until_stopping(jobs.recv()).await {
            match event.map_err(text)? {
                queue::Event::Message(it) => say(String::from_utf8(it.body).unwrap()),
                queue::Event::Refused(why) => say(format!("refused: {why:?}")),
            }
        }
    }
    layer.stopping().await;
    Ok(())
}

async fn layer_waiter(layer: Layer) -> Outcome {
    layer.stopping().await;
    Ok(())
}

fn messages() {
    let queue = "[queue.jobs]\nsend = [\"a\"]\nreceive = [\"b\"]\ndepth = 10\npriorities = 8\n";
    let policy = |sender: &str, receiver: &str| {
        let sender = layer("a", "reloaded_sender", sender);
        sender + &layer("b", "reloaded_receiver", receiver) + queue
    };
    let mut daemon = Daemon::start("-", &policy("", ""));
    daemon.line("a/0.g1: sent");
    // The sender begins anew, and then the receiver: what waits was sealed with keys of before both.
    reload(&mut daemon, &policy("grace = \"9s\"", ""));
    saw(&mut daemon, "a/0.g2: sent");
    assert_eq!(daemon.count("b/0.g2"), 0, "{daemon}");
    reload(&mut daemon, &policy("grace = \"9s\"", "grace = \"8s\""));
    for number in 0..5 {
        for sender in ["a/0.g1", "a/0.g2"] {
            let line = format!("b/0.g2: {sender} sends {number}");
            saw(&mut daemon, &line);
        }
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("refused"), 0, "{daemon}");
}

/// Writes a line each time, to whoever reads.
async fn layer_writer(layer: Layer) -> Outcome {
    let mut out = layer.pipe_writer("lines").map_err(text)?;
    let work = async {
        for number in 0.. {
            // A reader that is gone is followed by another.
            let _ = out.write_all(format!("{} {number}\n", layer.instance()).as_bytes()).await;
            let _ = out.flush().await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    layer.until_stopping(work).await;
    Ok(())
}

/// Says which was the last line at each hundredth, and whether one was missing in between.
async fn layer_reader(layer: Layer) -> Outcome {
    let lines = layer.pipe_reader("lines").map_err(text)?;
    let mut lines = tokio::io::BufReader::new(lines).lines();
    let mut last: Option<(String, u64)> = None;
    while let Some(line) = layer.until_stopping(lines.next_line()).await {
        let Some(line) = line.map_err(text)? else { continue };
        let (who, number) = line.split_once(' ').ok_or("half a line")?;
        let number: u64 = number.parse().map_err(text)?;
        if last.as_ref().is_some_and(|(from, last)| from == who && last + 1 != number) {
            return Err(format!("{last:?} is followed by {line}"));
        }
        if number.is_multiple_of(20) {
            say(format!("{} reads {line}", layer.instance()));
        }
        last = Some((who.to_owned(), number));
    }
    Ok(())
}

fn pipe() {
    let policy = |reader: &str, other: &str| {
        layer("a", "reloaded_writer", "")
            + &layer("b", "reloaded_reader", reader)
            + &layer("c", "reloaded_waiter", other)
            + "[pipe.lines]\nfrom = \"a\"\nto = \"b\"\n"
    };
    let mut daemon = Daemon::start("-", &policy("", ""));
    daemon.line("b/0.g1 reads a/0.g1 20");
    reload(&mut daemon, &policy("", "grace = \"9s\""));
    assert_eq!(daemon.count("c/0.g2 is confined"), 1, "{daemon}");
    // The same two, and no line is missing.
    daemon.line("b/0.g1 reads a/0.g1 ");
    daemon.line("b/0.g1 reads a/0.g1 ");
    // Another reader gets what is written from then on, of the same writer.
    reload(&mut daemon, &policy("grace = \"9s\"", "grace = \"9s\""));
    daemon.line("b/0.g2 reads a/0.g1 ");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    for never in ["a/0.g2", "failed", "is followed by"] {
        assert_eq!(daemon.count(never), 0, "{daemon}");
    }
}

/// A client of a worker that says who it is, and echoes.
struct Client(BufReader<TcpStream>, String);

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut client = Self(BufReader::new(stream), String::new());
        client.1 = client.line();
        client
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, what: &str) -> String {
        self.0.get_mut().write_all(format!("{what}\n").as_bytes()).unwrap();
        self.line()
    }
}

fn worker(address: SocketAddr, more: &str) -> String {
    let door = format!("per = \"connection\"\nlisten = {{ door = \"tcp:{address}\" }}\n{more}");
    layer("w", "workers_echo", &door)
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn workers() {
    let address = free();
    let other = layer("c", "reloaded_waiter", "");
    let mut daemon = Daemon::start("-", &(worker(address, "instances = 2") + &other));
    daemon.line("w/0.g1 is confined");
    let mut client = Client::new(address);
    daemon.confined("w/1.g1");
    // How many there are, how many wait, and for how long, is no matter of those that are there.
    let more = "instances = 4\nwarm = 2\nlifetime = \"1h\"\nwait = \"1h\"";
    reload(&mut daemon, &(worker(address, more) + &other));
    saw(&mut daemon, "w/2.g1 is confined");
    assert_eq!(client.ask("still there"), "still there");
    let mut second = Client::new(address);
    let other = layer("c", "reloaded_waiter", "grace = \"9s\"");
    reload(&mut daemon, &(worker(address, "instances = 4") + &other));
    assert_eq!(daemon.count("c/0.g2 is confined"), 1, "{daemon}");
    assert_eq!(second.ask("still there"), "still there");
    assert_eq!(client.ask("still there"), "still there");
    drop((client, second));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("w/1.g2") + daemon.count("failed"), 0, "{daemon}");
}

fn upgraded() {
    let (address, numbers) = (free(), free());
    let more = "instances = 1\nwait = \"1h\"\ngrace = \"200ms\"";
    let policy = format!("[metrics]\nlisten = \"tcp:{numbers}\"\n{}", worker(address, more));
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("w/0.g1");
    let mut first = Client::new(address);
    daemon.line("all 1 processes serve connections");
    let waiting: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let scrape = || {
        let mut stream = TcpStream::connect(numbers).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        std::io::read_to_string(stream).unwrap()
    };
    assert!(scrape().contains("layer=\"w\",instance=\"0\"} 1\n"));
    daemon.signal(Signal::USR2);
    daemon.line("the program has taken over");
    // The one that is served ends with the process of before, and the others have their turns.
    assert_eq!(first.line(), "");
    let mut lives = Vec::new();
    for stream in waiting {
        let mut client = Client::over(stream);
        assert_eq!(client.ask("hello"), "hello", "{daemon}");
        lives.push(client.1.clone());
    }
    assert_eq!(lives, ["w/0.g2", "w/0.g3", "w/0.g4"], "{daemon}");
    assert!(scrape().ends_with("# EOF\n"));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn other_workers() {
    let address = free();
    let mut daemon = Daemon::start("-", &worker(address, "instances = 3\nwarm = 2"));
    daemon.confined("w/0.g1");
    let mut client = Client::new(address);
    // One that holds something else now ends, after its grace with the connection that it has.
    let other = "instances = 3\nwarm = 2\ngrace = \"300ms\"";
    let file = daemon.directory().join("policy.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let (head, _) = before.split_once("[layer.").unwrap();
    std::fs::write(&file, format!("{head}{}", worker(address, other))).unwrap();
    daemon.signal(Signal::HUP);
    daemon.line(&format!("{} did not finish in time and is killed", client.1));
    assert_eq!(client.line(), "");
    // Nobody who came meanwhile was refused.
    let mut next = Client::new(address);
    assert_eq!(next.ask("next"), "next");
    assert!(!["w/0.g1", "w/1.g1", "w/2.g1"].contains(&&*next.1), "{}", next.1);
    daemon.line("cofferdam: reloaded");
    drop(next);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}
