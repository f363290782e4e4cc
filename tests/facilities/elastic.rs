//! `instances = { min, max, idle }`: as many copies as there is to do.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::message::Event;
use cofferdam::ipc::queue;
use cofferdam::wire::control::FromLayer;
use cofferdam::wire::life::Load;
use rustix::process::{Signal, kill_process};
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("elastic::copies_come_and_go_with_connections", connections),
    ("elastic::copies_come_and_go_with_calls", calls),
    ("elastic::copies_come_with_messages_of_a_queue", messages),
    ("elastic::busy_is_what_the_policy_says", many_at_a_time),
    ("elastic::a_copy_that_dies_takes_its_own_connection_with_it", killed),
    ("elastic::bounds_change_without_a_restart", reloaded),
    ("elastic::one_that_lies_has_no_more_than_the_maximum", liar),
    ("elastic::nobody_else_tells_of_its_load", unasked),
];

pub(crate) const LAYERS: &[Function] = &[
    ("elastic_echo", Runs::Async(|layer| Box::pin(layer_echo(layer)))),
    ("elastic_echo_blocking", Runs::Blocking(layer_echo_blocking)),
    ("elastic_echo_spawning", Runs::Async(|layer| Box::pin(layer_echo_spawning(layer)))),
    ("elastic_holder", Runs::Async(|layer| Box::pin(layer_holder(layer)))),
    ("elastic_caller", Runs::Async(|layer| Box::pin(layer_caller(layer)))),
    ("elastic_sender", Runs::Async(|layer| Box::pin(layer_sender(layer)))),
    ("elastic_receiver", Runs::Async(|layer| Box::pin(layer_receiver(layer)))),
    ("elastic_receiver_blocking", Runs::Blocking(layer_receiver_blocking)),
    ("elastic_liar", Runs::Async(|layer| Box::pin(layer_liar(layer)))),
];

fn echo(function: &str, address: SocketAddr, instances: &str) -> String {
    format!(
        "[layer.w]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\n\
         instances = {{ {instances} }}\nlisten = {{ door = \"tcp:{address}\" }}\n"
    )
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Serves one connection after the other: says who it is, and what it hears.
async fn layer_echo(layer: Layer) -> Outcome {
    let refused = layer.listener("door").unwrap_err().to_string();
    assert!(refused.contains("`Layer::acceptor` counts"), "{refused}");
    let door = layer.acceptor("door").map_err(text)?;
    while let Some(connection) = layer.until_stopping(door.accept()).await {
        let connection = connection.map_err(text)?;
        tokio::select! {
            () = layer.stopping() => return Ok(()),
            _ = serve(&layer, connection) => {}
        }
    }
    Ok(())
}

/// Serves all connections at a time.
async fn layer_echo_spawning(layer: Layer) -> Outcome {
    let door = layer.acceptor("door").map_err(text)?;
    while let Some(connection) = layer.until_stopping(door.accept()).await {
        let (layer, connection) = (layer.clone(), connection.map_err(text)?);
        tokio::spawn(async move { serve(&layer, connection).await });
    }
    Ok(())
}

async fn serve(
    layer: &Layer,
    mut connection: cofferdam::ipc::socket::Connection,
) -> std::io::Result<()> {
    connection.write_all(format!("{}\n", layer.instance()).as_bytes()).await?;
    let mut lines = tokio::io::BufReader::new(connection).lines();
    while let Some(line) = lines.next_line().await? {
        lines.get_mut().get_mut().write_all(format!("{line}\n").as_bytes()).await?;
    }
    Ok(())
}

fn layer_echo_blocking(layer: Layer) -> Outcome {
    let door = layer.blocking_acceptor("door").map_err(text)?;
    while let Some(mut connection) = door.accept().map_err(text)? {
        let hello = format!("{}\n", layer.instance());
        if connection.write_all(hello.as_bytes()).is_err() {
            continue;
        }
        let mut lines = BufReader::new(connection);
        let mut line = String::new();
        while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
            let _ = lines.get_mut().write_all(line.as_bytes());
            line.clear();
        }
    }
    Ok(())
}

/// Holds each call until its caller gives it up.
async fn layer_holder(layer: Layer) -> Outcome {
    let channel = layer.channel("work").map_err(text)?;
    while let Some(event) = channel.next().await.map_err(text)? {
        let Event::Request { reply, .. } = event else { continue };
        say(format!("{} holds", layer.instance()));
        reply.cancelled().await;
    }
    Ok(())
}

/// Calls as long as there is another copy that takes it, then gives up all of it.
async fn layer_caller(layer: Layer) -> Outcome {
    let channel = layer.channel("work").map_err(text)?;
    let mut held = Vec::new();
    for copies in 1..=3 {
        while channel.peers().len() < copies {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        held.push(channel.call("hold").begin(b"").await.map_err(text)?);
    }
    layer.until_stopping(tokio::time::sleep(Duration::from_millis(200))).await;
    say("gives up");
    drop(held);
    layer.stopping().await;
    Ok(())
}

async fn layer_sender(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    for _ in 0..3 {
        jobs.send(b"job", 0).await.map_err(text)?;
    }
    layer.stopping().await;
    Ok(())
}

/// What is taken from the queue keeps it busy until it asks for more.
async fn layer_receiver(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?;
    while let Some(event) = layer.until_stopping(jobs.recv()).await {
        if let queue::Event::Message(_) = event.map_err(text)? {
            say(format!("{} has a job", layer.instance()));
            layer.until_stopping(tokio::time::sleep(Duration::from_secs(2))).await;
        }
    }
    Ok(())
}

fn layer_receiver_blocking(layer: Layer) -> Outcome {
    let jobs = layer.queue("jobs").map_err(text)?.blocking();
    loop {
        match jobs.recv(None) {
            Ok(queue::Event::Message(_)) => {
                say(format!("{} has a job", layer.instance()));
                std::thread::sleep(Duration::from_secs(2));
            }
            Ok(_) => {}
            Err(queue::QueueError::Stopping) => return Ok(()),
            Err(error) => return Err(error.to_string()),
        }
    }
}

async fn layer_liar(layer: Layer) -> Outcome {
    layer.say(&FromLayer::Load(Load::Busy)).map_err(text)?;
    layer.stopping().await;
    Ok(())
}

/// A client, who has been told whom it speaks to.
struct Client {
    lines: BufReader<TcpStream>,
    server: String,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let mut client = Self { lines: BufReader::new(stream), server: String::new() };
        client.server = client.line();
        client
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn ask(&mut self, what: &str) -> String {
        self.lines.get_mut().write_all(format!("{what}\n").as_bytes()).unwrap();
        self.line()
    }
}

fn connections() {
    for function in ["elastic_echo", "elastic_echo_blocking"] {
        let address = free();
        let policy = echo(function, address, "min = 1, max = 3, idle = \"1s\"");
        let mut daemon = Daemon::start("-", &policy);
        daemon.confined("w/0.g1");
        let first = Client::new(address);
        daemon.confined("w/1.g1");
        let second = Client::new(address);
        daemon.confined("w/2.g1");
        let mut third = Client::new(address);
        let mut servers: Vec<_> = [&first, &second, &third].map(|it| &*it.server).into();
        servers.sort_unstable();
        assert_eq!(servers, ["w/0.g1", "w/1.g1", "w/2.g1"]);
        // There may be no more of them, and the log says by which key.
        daemon.line("[layer.w] all 3 instances are busy");
        assert!(daemon.seen.last().unwrap().contains("`instances.max`"), "{daemon}");
        let fourth = std::thread::spawn(move || Client::new(address).ask("fourth"));
        assert_eq!(third.ask("third"), "third");
        assert!(!fourth.is_finished());
        drop(first);
        assert_eq!(fourth.join().unwrap(), "fourth", "{daemon}");
        drop((second, third));
        // Two of them go again, and one stays.
        for _ in 0..2 {
            daemon.line("ended with exit code 0");
        }
        assert_eq!(daemon.count("has nothing to do, and is to finish"), 2, "{daemon}");
        assert_eq!(daemon.count("w/0.g1 has nothing to do"), 0, "{daemon}");
        assert_eq!(Client::new(address).ask("fifth"), "fifth");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("failed"), 0, "{daemon}");
    }
}

fn calls() {
    let policy = "[layer.a]\nrun = \"elastic_caller\"\nsyscalls = [\"@core\"]\n\
         [layer.b]\nrun = \"elastic_holder\"\nsyscalls = [\"@core\"]\n\
         instances = { min = 1, max = 3, idle = \"1s\" }\n\
         [channel.work]\nfrom = \"a\"\nto = \"b\"\nmethods = { hold = {} }\n";
    let mut daemon = Daemon::start("-", policy);
    daemon.line("gives up");
    for copy in ["b/0.g1", "b/1.g1", "b/2.g1"] {
        assert!(daemon.count(&format!("{copy} holds")) == 1, "{daemon}");
    }
    for _ in 0..2 {
        daemon.line("has nothing to do, and is to finish");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("b/0.g1 has nothing to do"), 0, "{daemon}");
}

fn messages() {
    for function in ["elastic_receiver", "elastic_receiver_blocking"] {
        let policy = format!(
            "[layer.a]\nrun = \"elastic_sender\"\nsyscalls = [\"@core\"]\n\
             [layer.b]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\n\
             instances = {{ max = 3 }}\n\
             [queue.jobs]\nsend = [\"a\"]\nreceive = [\"b\"]\n"
        );
        let mut daemon = Daemon::start("-", &policy);
        for _ in 0..3 {
            daemon.line("has a job");
        }
        // All of them at a time: none had taken a second one.
        for copy in ["b/0.g1", "b/1.g1", "b/2.g1"] {
            assert_eq!(daemon.count(&format!("{copy} has a job")), 1, "{daemon}");
        }
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
}

fn many_at_a_time() {
    let address = free();
    let policy = echo("elastic_echo_spawning", address, "min = 1, max = 2, busy = 3");
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("w/0.g1");
    let two = [Client::new(address), Client::new(address)];
    assert!(two.iter().all(|client| client.server == "w/0.g1"));
    assert!(daemon.line_within("w/1.g1 is confined", Duration::from_millis(300)).is_none());
    let third = Client::new(address);
    daemon.confined("w/1.g1");
    drop((two, third));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn killed() {
    let address = free();
    let mut daemon = Daemon::start("-", &echo("elastic_echo", address, "max = 3"));
    daemon.confined("w/0.g1");
    let mut first = Client::new(address);
    let victim = daemon.confined("w/1.g1");
    let mut second = Client::new(address);
    assert_eq!(second.server, "w/1.g1");
    daemon.confined("w/2.g1");
    kill_process(victim, Signal::KILL).unwrap();
    daemon.line("w/1.g1 was killed by SIGKILL");
    assert_eq!(second.line(), "");
    assert_eq!(first.ask("still there"), "still there");
    // It is a failure as any other, so the next life follows.
    daemon.confined("w/1.g2");
    drop(first);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn reloaded() {
    let address = free();
    let policy = |bounds| echo("elastic_echo", address, bounds);
    let mut daemon = Daemon::start("-", &policy("max = 1"));
    daemon.confined("w/0.g1");
    let mut first = Client::new(address);
    daemon.line("[layer.w] all 1 instances are busy");
    let write = |daemon: &Daemon, bounds| {
        let file = daemon.directory().join("policy.toml");
        let name = std::fs::read_to_string(&file).unwrap();
        let (head, _) = name.split_once("[layer.w]").unwrap();
        std::fs::write(&file, format!("{head}{}", policy(bounds))).unwrap();
        daemon.signal(Signal::HUP);
    };
    write(&daemon, "min = 2, max = 3, idle = \"1s\"");
    daemon.confined("w/1.g1");
    let second = Client::new(address);
    daemon.confined("w/2.g1");
    let third = Client::new(address);
    drop((second, third));
    daemon.line("w/2.g1 has nothing to do");
    daemon.line("w/2.g1 ended with exit code 0");
    write(&daemon, "max = 1");
    daemon.line("w/1.g1 ended");
    assert_eq!(first.ask("still there"), "still there");
    drop(first);
    assert_eq!(Client::new(address).server, "w/0.g1");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn liar() {
    let policy = echo("elastic_liar", free(), "min = 2, max = 4");
    let mut daemon = Daemon::start("-", &policy);
    for _ in 0..5 {
        daemon.line(" is confined");
    }
    daemon.line("[layer.w] all 4 instances are busy");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("is confined"), 5, "{daemon}");
}

fn unasked() {
    let policy = "[layer.w]\nrun = \"elastic_liar\"\nsyscalls = [\"@core\"]\n\
                  restart = { on = \"never\" }\n";
    let mut daemon = Daemon::start("-", policy);
    daemon.line("w/0.g1 is killed: it broke the control protocol");
    assert_eq!(daemon.end(), Some(1), "{daemon}");
}
