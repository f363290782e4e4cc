//! `per = "connection"`: a process for each connection.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use cofferdam::Layer;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("workers::each_connection_has_a_process_of_its_own", each),
    ("workers::a_worker_has_its_own_connection_and_no_other", own_only),
    ("workers::a_killed_worker_takes_its_own_connection_with_it", killed),
    ("workers::one_source_has_no_more_workers_than_the_policy_says", per_source),
    ("workers::more_than_the_limit_wait_their_turn", limit),
    ("workers::who_waits_is_served_in_turn", in_turn),
    ("workers::who_waits_for_too_long_is_closed", waits),
    ("workers::one_that_outlives_its_connection_is_ended", outlives),
    ("workers::a_stop_ends_those_that_wait", stop),
    ("workers::each_connection_is_in_the_audit_log", audited),
];

pub(crate) const LAYERS: &[Function] = &[
    ("workers_echo", Runs::Async(|layer| Box::pin(layer_echo(layer)))),
    ("workers_echo_blocking", Runs::Blocking(layer_echo_blocking)),
];

fn layer(function: &str, address: SocketAddr, door: &str, more: &str) -> String {
    format!(
        "[layer.w]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\nper = \"connection\"\n\
         listen = {{ door = {{ address = \"tcp:{address}\", {door} }} }}\n\
         limits = {{ memory = \"64MiB\", tasks = 4 }}\n{more}\n"
    )
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Says who it is, then answers each line; some lines are orders.
async fn layer_echo(layer: Layer) -> Outcome {
    let Some(mut connection) = layer.connection().await.map_err(text)? else {
        say("nobody came");
        return Ok(());
    };
    let hello = format!("{}\n", layer.instance());
    connection.write_all(hello.as_bytes()).await.map_err(text)?;
    let mut secret = String::new();
    let mut lines = BufReader::new(connection);
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line).await.map_err(text)? == 0 {
            return Ok(());
        }
        let answer = match line.trim_end() {
            "crash" => std::process::abort(),
            "hang" => loop {
                tokio::time::sleep(Duration::from_hours(1)).await;
            },
            "steal" => steal(&layer).await,
            "tell" => secret.clone(),
            other => {
                secret.push_str(other);
                other.to_owned()
            }
        };
        lines.get_mut().write_all(format!("{answer}\n").as_bytes()).await.map_err(text)?;
    }
}

/// What this process can have of other connections: asked of the library, and of the kernel.
async fn steal(layer: &Layer) -> String {
    let again = layer.connection().await.unwrap_err().to_string();
    let listener = layer.listener_fd("door").unwrap_err().to_string();
    let acceptor = layer.acceptor("door").unwrap_err().to_string();
    // Every socket that it holds, by its number.
    let listening = (0..256).filter(|&fd| is_listening(fd)).count();
    format!("{again}; {listener}; {acceptor}; listening on {listening}")
}

#[expect(unsafe_code, reason = "a descriptor that the library doesn't hand out")]
fn is_listening(fd: i32) -> bool {
    use std::os::fd::BorrowedFd;
    // SAFETY: the call refuses a number that is no descriptor, and one that is stays open.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    rustix::net::sockopt::socket_acceptconn(fd).unwrap_or(false)
}

fn layer_echo_blocking(layer: Layer) -> Outcome {
    let Some(mut connection) = layer.blocking_connection().map_err(text)? else {
        say("nobody came");
        return Ok(());
    };
    let hello = format!("{}\n", layer.instance());
    connection.write_all(hello.as_bytes()).map_err(text)?;
    let mut bytes = [0; 256];
    loop {
        match connection.read(&mut bytes).map_err(text)? {
            0 => return Ok(()),
            length => connection.write_all(&bytes[..length]).map_err(text)?,
        }
    }
}

/// A client, who has been told whom it speaks to.
struct Client {
    stream: TcpStream,
    worker: String,
}

impl Client {
    fn new(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap()).expect("a worker says hello")
    }

    /// `None`: it was closed without a word.
    fn over(mut stream: TcpStream) -> Option<Self> {
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        let worker = line(&mut stream)?;
        Some(Self { stream, worker })
    }

    fn ask(&mut self, what: &str) -> Option<String> {
        self.stream.write_all(format!("{what}\n").as_bytes()).ok()?;
        line(&mut self.stream)
    }

    /// The end comes, and nothing before it.
    fn is_over(&mut self) -> bool {
        line(&mut self.stream).is_none()
    }
}

/// A line, or `None` at the end.
fn line(stream: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match stream.read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => return String::from_utf8(line).ok(),
            Ok(1) => line.push(byte[0]),
            Ok(_) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("nothing comes: {error}"),
        }
    }
}

fn each() {
    for function in ["workers_echo", "workers_echo_blocking"] {
        let address = free();
        let policy = layer(function, address, "", "instances = 12\nwarm = 2");
        let mut daemon = Daemon::start("-", &policy);
        daemon.confined("w/0.g1");
        let client = |from: usize| {
            std::thread::spawn(move || {
                let talk = |number: usize| {
                    let mut client = Client::new(address);
                    let said = format!("connection {from}.{number}");
                    assert_eq!(client.ask(&said), Some(said));
                    client.stream.shutdown(Shutdown::Write).unwrap();
                    assert!(client.is_over());
                    client.worker
                };
                (0..25).map(talk).collect::<Vec<_>>()
            })
        };
        let clients: Vec<_> = (0..8).map(client).collect();
        let workers = clients.into_iter().flat_map(|it| it.join().unwrap());
        // No life served two.
        assert_eq!(workers.collect::<BTreeSet<_>>().len(), 200, "{daemon}");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("failed"), 0, "{daemon}");
    }
}

fn own_only() {
    let address = free();
    let mut daemon = Daemon::start("-", &layer("workers_echo", address, "", "instances = 4"));
    daemon.confined("w/0.g1");
    let mut first = Client::new(address);
    assert_eq!(first.ask("a secret").unwrap(), "a secret");
    let mut second = Client::new(address);
    assert_ne!(first.worker, second.worker);
    assert_eq!(second.ask("tell").unwrap(), "");
    let stolen = second.ask("steal").unwrap();
    assert!(stolen.contains("this life has had its connection"), "{stolen}");
    assert_eq!(stolen.matches("by `Layer::connection`").count(), 2, "{stolen}");
    assert!(stolen.ends_with("listening on 0"), "{stolen}");
    assert_eq!(first.ask("tell").unwrap(), "a secret");
    drop((first, second));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn killed() {
    let address = free();
    let more = "instances = 16\nwarm = 2\nrestart = { max = 1 }";
    let mut daemon = Daemon::start("-", &layer("workers_echo", address, "", more));
    daemon.confined("w/0.g1");
    let mut others: Vec<_> = (0..4).map(|_| Client::new(address)).collect();
    // More often than `max` allows failures, and none of them counts.
    for round in 0..6 {
        let mut client = Client::new(address);
        if round % 2 == 0 {
            let pid = daemon.confined(&client.worker);
            kill_process(pid, Signal::KILL).unwrap();
        } else {
            client.stream.write_all(b"crash\n").unwrap();
        }
        assert!(client.is_over());
        daemon.line(&format!("{} was killed by SIG", client.worker));
        for other in &mut others {
            assert_eq!(other.ask("still there").as_deref(), Some("still there"), "{daemon}");
        }
    }
    drop(others);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn per_source() {
    let (address, other) = (free(), "127.0.0.2:0".parse::<SocketAddr>().unwrap());
    let policy = layer("workers_echo", address, "per-source = 2", "instances = 8\nwarm = 2");
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("w/0.g1");
    let mut first = Client::new(address);
    let second = Client::new(address);
    // A flood of one stranger: each is closed, and no process ends with it.
    for _ in 0..50 {
        assert!(Client::over(TcpStream::connect(address).unwrap()).is_none(), "{daemon}");
    }
    let from_elsewhere = || {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &other).unwrap();
        connect(&socket, &address).unwrap();
        Client::over(TcpStream::from(socket))
    };
    let mut elsewhere = from_elsewhere().expect("another source is served");
    assert_eq!(elsewhere.ask("hello").as_deref(), Some("hello"));
    assert_eq!(first.ask("hello").as_deref(), Some("hello"));
    assert!(daemon.count("is confined") < 20, "{daemon}");
    // Once one has gone there is room for another.
    let gone = second.worker.clone();
    drop(second);
    daemon.line(&format!("{gone} ended with exit code 0"));
    let again = Client::new(address);
    drop((first, again, elsewhere));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn limit() {
    let address = free();
    let mut daemon = Daemon::start("-", &layer("workers_echo", address, "", "instances = 2"));
    daemon.confined("w/0.g1");
    let first = Client::new(address);
    let mut second = Client::new(address);
    daemon.line("all 2 processes serve connections");
    let third = std::thread::spawn(move || Client::new(address).ask("third"));
    assert_eq!(second.ask("second").as_deref(), Some("second"));
    assert!(!third.is_finished());
    drop(first);
    assert_eq!(third.join().unwrap().as_deref(), Some("third"), "{daemon}");
    drop(second);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn in_turn() {
    for function in ["workers_echo", "workers_echo_blocking"] {
        let address = free();
        let more = "instances = 1\nwait = \"1h\"";
        let mut daemon = Daemon::start("-", &layer(function, address, "per-source = 9", more));
        daemon.confined("w/0.g1");
        let first = Client::new(address);
        daemon.line("all 1 processes serve connections");
        let waiting: Vec<_> = (0..5).map(|_| TcpStream::connect(address).unwrap()).collect();
        drop(first);
        let mut workers = Vec::new();
        for stream in waiting {
            let mut client = Client::over(stream).expect("each has its turn");
            assert_eq!(client.ask("hello").as_deref(), Some("hello"), "{daemon}");
            workers.push(client.worker.clone());
        }
        assert_eq!(workers, ["w/0.g2", "w/0.g3", "w/0.g4", "w/0.g5", "w/0.g6"], "{daemon}");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("closed"), 0, "{daemon}");
    }
}

fn waits() {
    let address = free();
    let more = "instances = 1\nwait = \"200ms\"";
    let mut daemon = Daemon::start("-", &layer("workers_echo", address, "", more));
    daemon.confined("w/0.g1");
    let mut first = Client::new(address);
    // More than are kept at a time: those behind them have their turn to wait, and to be closed.
    let waiting: Vec<_> = (0..80).map(|_| TcpStream::connect(address).unwrap()).collect();
    // One that goes by itself is no trouble.
    drop(TcpStream::connect(address).unwrap());
    daemon.line("closed, having waited 200 ms for a process");
    for stream in waiting {
        assert!(Client::over(stream).is_none(), "{daemon}");
    }
    assert_eq!(first.ask("still there").as_deref(), Some("still there"));
    drop(first);
    let mut next = Client::new(address);
    assert_eq!(next.ask("next").as_deref(), Some("next"), "{daemon}");
    drop(next);
    // A flood is told of once.
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("closed, having waited"), 1, "{daemon}");
}

fn outlives() {
    let address = free();
    let more = "instances = 3\nlifetime = \"300ms\"\ngrace = \"100ms\"";
    let mut daemon = Daemon::start("-", &layer("workers_echo", address, "", more));
    daemon.confined("w/0.g1");
    let mut client = Client::new(address);
    client.stream.write_all(b"hang\n").unwrap();
    let worker = client.worker.clone();
    daemon.line(&format!("{worker} has served its connection for as long as `lifetime` allows"));
    daemon.line(&format!("{worker} did not finish in time and is killed"));
    assert!(client.is_over());
    assert_eq!(Client::new(address).ask("next").as_deref(), Some("next"), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn stop() {
    for function in ["workers_echo", "workers_echo_blocking"] {
        let policy = layer(function, free(), "", "instances = 5\nwarm = 3");
        let mut daemon = Daemon::start("-", &policy);
        for copy in 0..3 {
            daemon.confined(&format!("w/{copy}.g1"));
        }
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("nobody came"), 3, "{daemon}");
    }
}

fn audited() {
    let address = free();
    let policy = layer("workers_echo", address, "per-source = 1", "instances = 3")
        + "[audit]\ndirectory = \"DIR/log\"\n";
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("w/0.g1");
    let client = Client::new(address);
    assert!(Client::over(TcpStream::connect(address).unwrap()).is_none(), "{daemon}");
    drop(client);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    let query = |word: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        let out = command.args(["audit", "query"]).arg(&log).output().unwrap();
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        out.lines().filter(|line| line.contains("127.0.0.1") && line.contains(word)).count()
    };
    assert_eq!((query(""), query("refused")), (2, 1), "{daemon}");
}
