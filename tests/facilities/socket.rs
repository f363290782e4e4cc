//! Sockets: listening, connecting, and what a layer can't reach.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::socket::Source;
use rustix::process::{Signal, kill_process};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Daemon, eventually};
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("socket::connects_where_the_policy_says_and_tells_why_not", connects),
    ("socket::a_layer_killed_while_it_connects_leaves_nothing", killed),
    ("socket::a_layer_reaches_no_other_address", unreachable),
    ("socket::one_source_has_no_more_connections_than_the_policy_says", per_source),
    ("socket::more_than_the_rate_wait", rate),
    ("socket::curl_is_never_refused_while_the_layer_is_killed", curl),
    ("socket::a_listener_that_was_shut_down_serves_the_next_life", shut_down),
    ("socket::a_service_manager_passes_sockets", passed),
    ("socket::a_service_manager_keeps_sockets_over_a_crash", kept),
    ("socket::a_passed_socket_that_is_not_the_policys_is_refused", passed_wrongly),
];

pub(crate) const LAYERS: &[Function] = &[
    ("socket_connect", Runs::Async(|layer| Box::pin(layer_connect(layer)))),
    ("socket_connect_blocking", Runs::Blocking(layer_connect_blocking)),
    ("socket_stuck", Runs::Async(|layer| Box::pin(layer_stuck(layer)))),
    ("socket_unreachable", Runs::Blocking(layer_unreachable)),
    ("socket_hold", Runs::Async(|layer| Box::pin(layer_hold(layer)))),
    ("socket_hold_blocking", Runs::Blocking(layer_hold_blocking)),
    ("socket_serve", Runs::Async(|layer| Box::pin(layer_serve(layer)))),
    ("socket_shut", Runs::Async(|layer| Box::pin(layer_shut(layer)))),
];

fn layer(function: &str, more: &str) -> String {
    format!("[layer.a]\nrun = \"{function}\"\nsyscalls = [\"@core\"]\n{more}\n")
}

/// A port that was free a moment ago.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Says back what comes, once a connection.
fn echo(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut bytes = [0; 4];
            let mut stream = stream.unwrap();
            if stream.read_exact(&mut bytes).is_ok() {
                let _ = stream.write_all(&bytes);
            }
        }
    });
}

async fn layer_connect(layer: Layer) -> Outcome {
    for name in ["number", "named", "path"] {
        let mut stream = layer.connect(name).await.map_err(text)?;
        stream.write_all(b"ping").await.map_err(text)?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).await.map_err(text)?;
        say(format!("{name}: {}", String::from_utf8_lossy(&bytes)));
    }
    let socket = layer.connect_datagram("datagram").await.map_err(text)?;
    socket.send(b"ping").await.map_err(text)?;
    let mut bytes = [0; 4];
    socket.recv(&mut bytes).await.map_err(text)?;
    say(format!("datagram: {}", String::from_utf8_lossy(&bytes)));
    for name in ["dead", "nobody", "gone", "other", "datagram"] {
        say(format!("refused {name}: {}", layer.connect(name).await.unwrap_err()));
    }
    // One that is given up is withdrawn, and the next works.
    drop(tokio::time::timeout(Duration::ZERO, layer.connect("nobody")).await);
    layer.connect("number").await.map_err(text)?;
    say("all");
    Ok(())
}

fn layer_connect_blocking(layer: Layer) -> Outcome {
    for name in ["number", "named", "path"] {
        let mut stream = layer.target(name).map_err(text)?.blocking_stream().map_err(text)?;
        stream.write_all(b"ping").map_err(text)?;
        let mut bytes = [0; 4];
        stream.read_exact(&mut bytes).map_err(text)?;
        say(format!("{name}: {}", String::from_utf8_lossy(&bytes)));
    }
    let socket = layer.target("datagram").map_err(text)?.blocking_datagram().map_err(text)?;
    socket.send(b"ping").map_err(text)?;
    let mut bytes = [0; 4];
    socket.recv(&mut bytes).map_err(text)?;
    say(format!("datagram: {}", String::from_utf8_lossy(&bytes)));
    for name in ["dead", "nobody", "gone", "datagram"] {
        let target = layer.target(name).map_err(text)?;
        say(format!("refused {name}: {}", target.blocking_stream().unwrap_err()));
    }
    say(format!("refused other: {}", layer.target("other").unwrap_err()));
    say("all");
    Ok(())
}

fn connects() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    echo(listener);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagram = datagrams.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 16];
        while let Ok((length, from)) = datagrams.recv_from(&mut bytes) {
            let _ = datagrams.send_to(&bytes[..length], from);
        }
    });
    for function in ["socket_connect", "socket_connect_blocking"] {
        let policy = layer(
            function,
            &format!(
                "restart = {{ on = \"never\" }}\n\
                 connect = {{ number = \"tcp:{address}\", named = \"tcp:localhost:{}\", path = \
                 \"unix:DIR/path\", datagram = \"udp:{datagram}\", dead = \"tcp:{}\", nobody = \
                 \"tcp:nobody.invalid:80\", gone = \"unix:DIR/gone\" }}",
                address.port(),
                free()
            ),
        );
        let mut daemon = Daemon::start_with("-", &policy, |directory| {
            let listener = UnixListener::bind(directory.join("path")).unwrap();
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (mut stream, mut bytes) = (stream.unwrap(), [0; 4]);
                    stream.read_exact(&mut bytes).unwrap();
                    stream.write_all(&bytes).unwrap();
                }
            });
        });
        daemon.line("a/0.g1: all");
        assert_eq!(daemon.end(), Some(0), "{daemon}");
        for line in [
            "number: ping",
            "named: ping",
            "path: ping",
            "datagram: ping",
            "nobody answers there: connection refused",
            "`[layer.a] connect = { nobody = \"tcp:nobody.invalid:80\" }`: the name leads to no",
            "refused other: layer 'a' has no address 'other': the policy would need `[layer.a]",
            "refused datagram: ",
        ] {
            assert!(daemon.count(line) >= 1, "{line}{daemon}");
        }
        assert_eq!(daemon.count("refused gone: "), 1, "{daemon}");
        assert_eq!(daemon.count("connection refused"), 2, "{daemon}");
    }
}

/// A listener whose queue is full: who connects waits.
fn stuffed() -> (TcpListener, Vec<TcpStream>) {
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let kind = rustix::net::SocketType::STREAM;
    let socket =
        rustix::net::socket_with(rustix::net::AddressFamily::INET, kind, flags, None).unwrap();
    rustix::net::bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        held.push(stream);
    }
    (listener, held)
}

async fn layer_stuck(layer: Layer) -> Outcome {
    let waiting: Vec<_> = (0..17).map(|_| layer.connect("stuck")).collect();
    let mut all = tokio::task::JoinSet::new();
    let local = tokio::task::LocalSet::new();
    drop(waiting);
    local
        .run_until(async {
            for _ in 0..17 {
                let layer = layer.clone();
                all.spawn_local(
                    async move { layer.connect("stuck").await.map(drop).map_err(text) },
                );
            }
            // Sixteen wait, and the one that is too many is told.
            while let Some(done) = all.join_next().await {
                say(format!("stuck: {:?}", done.map_err(text)?));
            }
            Ok(())
        })
        .await
}

fn killed() {
    let (listener, held) = stuffed();
    let address = listener.local_addr().unwrap();
    let policy = layer("socket_stuck", &format!("connect = {{ stuck = \"tcp:{address}\" }}"))
        .replace("run", "restart = { max = 100 }\nrun");
    let mut daemon = Daemon::start("-", &policy);
    let descriptors =
        |pid: rustix::process::Pid| std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero()));
    let mut counts = Vec::new();
    for life in 1..=4 {
        let pid = daemon.confined(&format!("a/0.g{life}"));
        let line = daemon.line("stuck: ");
        assert!(line.contains("too many requests of this layer are under way"), "{line}");
        kill_process(pid, Signal::KILL).unwrap();
        daemon.line("was killed by SIGKILL");
        daemon.line("is confined");
        // As an ordinary user its descriptors can't be counted.
        counts.extend(descriptors(daemon.pid()).map(std::iter::Iterator::count));
    }
    assert!(counts.iter().all(|count| count.abs_diff(counts[0]) <= 17), "{counts:?}");
    drop((listener, held));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn layer_unreachable(layer: Layer) -> Outcome {
    use rustix::net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
    };
    let settings = layer.file("address").map_err(text)?;
    let mut address = String::new();
    (&settings).read_to_string(&mut address).map_err(text)?;
    let (address, path) = address.split_once(' ').ok_or("no address")?;
    let address: SocketAddr = address.parse().map_err(text)?;
    let socket = |family, kind| socket_with(family, kind, SocketFlags::CLOEXEC, None);
    let unix = socket(AddressFamily::UNIX, SocketType::STREAM).map_err(text)?;
    let to = SocketAddrUnix::new(path).map_err(text)?;
    say(format!("path: {:?}", connect(&unix, &to).is_err()));
    let tcp = socket(AddressFamily::INET, SocketType::STREAM).map_err(text)?;
    say(format!("port: {:?}", connect(&tcp, &address).is_err()));
    let udp = socket(AddressFamily::INET, SocketType::DGRAM).map_err(text)?;
    say(format!("datagram: {:?}", connect(&udp, &address).is_err()));
    for (name, family) in [
        ("netlink", AddressFamily::NETLINK),
        ("packet", AddressFamily::PACKET),
        ("vsock", AddressFamily::VSOCK),
        ("ipv6", AddressFamily::INET6),
    ] {
        say(format!("{name}: {:?}", socket(family, SocketType::STREAM).is_err()));
    }
    // A connected stream goes nowhere else.
    let mut stream = layer.target("fine").map_err(text)?.blocking_stream().map_err(text)?;
    let cofferdam::ipc::socket::blocking::Stream::Tcp(tcp) = &stream else {
        return Err("no TCP".into());
    };
    say(format!(
        "elsewhere: {:?}",
        connect(tcp, &"127.0.0.1:9".parse::<SocketAddr>().unwrap()).is_err()
    ));
    stream.write_all(b"ping").map_err(text)?;
    stream.read_exact(&mut [0; 4]).map_err(text)?;
    say("fine");
    Ok(())
}

fn unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    echo(listener);
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let policy = layer(
        "socket_unreachable",
        &format!("connect = {{ fine = \"tcp:{address}\" }}\nrestart = {{ on = \"never\" }}"),
    )
    .replace(
        "[\"@core\"]",
        "[\"@core\", \"connect\", \"socket(in {AF_UNIX, AF_INET})\"]\nbecause = \"it tries\"\n\
         refuse = { socket = \"EACCES\" }",
    ) + "[file.address]\npath = \"DIR/address\"\ngrant = { a = [\"read\"] }\n";
    let mut kept = None;
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        let path = directory.join("s");
        kept = Some(UnixListener::bind(&path).unwrap());
        let address = other.local_addr().unwrap();
        std::fs::write(directory.join("address"), format!("{address} {}", path.display())).unwrap();
    });
    assert_eq!(daemon.end(), Some(0), "{daemon}");
    for what in ["path", "port", "datagram", "netlink", "packet", "vsock", "ipv6", "elsewhere"] {
        assert_eq!(daemon.count(&format!("{what}: true")), 1, "{what}{daemon}");
    }
    assert_eq!(daemon.count("a/0.g1: fine"), 1, "{daemon}");
}

/// Holds every connection until its client goes, and says hello.
async fn layer_hold(layer: Layer) -> Outcome {
    let acceptor = layer.acceptor("door").map_err(text)?;
    say(format!("refused: {}", layer.listener("door").unwrap_err()));
    say("accepting");
    loop {
        let accepted = tokio::select! {
            () = layer.stopping() => return Ok(()),
            accepted = acceptor.accept() => accepted,
        };
        let mut connection = accepted.map_err(text)?;
        let known = matches!(connection.source(), Source::V4([127, 0, 0, 1]) | Source::User(_));
        if !known {
            return Err("from elsewhere".into());
        }
        tokio::spawn(async move {
            let _ = connection.write_all(b"hello").await;
            let _ = connection.read(&mut [0; 1]).await;
        });
    }
}

fn layer_hold_blocking(layer: Layer) -> Outcome {
    let acceptor = layer.blocking_acceptor("door").map_err(text)?;
    say("accepting");
    let mut held = Vec::new();
    while let Some(mut connection) = acceptor.accept().map_err(text)? {
        connection.write_all(b"hello").map_err(text)?;
        held.push(connection);
        // One thread looks after all: who has gone is let go of.
        held.retain(|connection| {
            use cofferdam::ipc::socket::blocking::Stream;
            let left = match connection.stream() {
                Stream::Tcp(stream) => rustix::net::recv(
                    stream,
                    &mut [0; 1],
                    rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::PEEK,
                ),
                Stream::Unix(stream) => rustix::net::recv(
                    stream,
                    &mut [0; 1],
                    rustix::net::RecvFlags::DONTWAIT | rustix::net::RecvFlags::PEEK,
                ),
            };
            !matches!(left, Ok((_, 0)))
        });
    }
    Ok(())
}

/// Whether a connection is welcomed and not closed.
fn is_welcome(mut stream: impl Read) -> bool {
    stream.read_exact(&mut [0; 5]).is_ok()
}

fn per_source() {
    let address = free();
    for limited in ["tcp", "unix"] {
        let to =
            if limited == "tcp" { format!("tcp:{address}") } else { "unix:DIR/door".to_owned() };
        let listen = format!("listen = {{ door = {{ address = \"{to}\", per-source = 2 }} }}");
        let mut kept = None;
        let mut daemon = Daemon::start_with("-", &layer("socket_hold", &listen), |directory| {
            // The layer's user must get at the path, and so must we.
            kept = Some(directory.join("door"));
        });
        daemon.line("accepting");
        let refused = "`[layer.a] listen.door`: it ";
        assert_eq!(daemon.count(refused), 1, "{daemon}");
        let path = kept.unwrap();
        let connect = || -> Box<dyn Read> {
            if limited == "tcp" {
                Box::new(TcpStream::connect(address).unwrap())
            } else {
                Box::new(UnixStream::connect(&path).unwrap())
            }
        };
        let mut first = connect();
        assert!(is_welcome(&mut first), "{daemon}");
        let mut second = connect();
        assert!(is_welcome(&mut second), "{daemon}");
        assert!(!is_welcome(connect()), "{daemon}");
        drop(first);
        // Its place is free as soon as the layer has noticed.
        eventually("a place is free", || is_welcome(connect()));
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
}

fn rate() {
    for function in ["socket_hold", "socket_hold_blocking"] {
        let address = free();
        let listen =
            format!("listen = {{ door = {{ address = \"tcp:{address}\", rate = \"2/s\" }} }}");
        let mut daemon = Daemon::start("-", &layer(function, &listen));
        daemon.line("accepting");
        let start = std::time::Instant::now();
        for _ in 0..4 {
            assert!(is_welcome(TcpStream::connect(address).unwrap()), "{daemon}");
        }
        // Two at once, and two more half a second apart: less would be no limit.
        assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
}

/// Answers like a web server.
async fn layer_serve(layer: Layer) -> Outcome {
    let acceptor = layer.acceptor("door").map_err(text)?;
    say("accepting");
    loop {
        let accepted = tokio::select! {
            () = layer.stopping() => return Ok(()),
            accepted = acceptor.accept() => accepted,
        };
        let mut connection = accepted.map_err(text)?;
        let _ = connection.read(&mut [0; 1024]).await;
        let body = layer.instance().to_string();
        let head = format!("HTTP/1.0 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = connection.write_all(head.as_bytes()).await;
        let _ = connection.shutdown().await;
    }
}

fn curl() {
    let address = free();
    let more = format!("listen = {{ door = \"tcp:{address}\" }}\nrestart = {{ max = 1000 }}");
    let mut daemon = Daemon::start("-", &layer("socket_serve", &more));
    daemon.line("accepting");
    let mut asked = 0;
    for life in 1..=8 {
        let pid = daemon.confined(&format!("a/0.g{life}"));
        for _ in 0..3 {
            asked += 1;
            let output = Command::new("curl")
                .args(["-s", "-m", "30", &format!("http://{address}/")])
                .output()
                .unwrap();
            // 7 is "failed to connect"; one that is cut by the kill is another matter.
            assert_ne!(output.status.code(), Some(7), "{asked}{daemon}");
            assert_eq!(output.status.code(), Some(0), "{asked}{daemon}");
        }
        kill_process(pid, Signal::KILL).unwrap();
        // At once, while nobody is there.
        let mut stream = TcpStream::connect(address).unwrap();
        let mut answer = String::new();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        // It came to the dying one, which took it, or waits for the next.
        let _ = stream.read_to_string(&mut answer);
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Ends the listening, and itself; the next life serves.
async fn layer_shut(layer: Layer) -> Outcome {
    if layer.instance().generation.is_multiple_of(2) {
        return layer_serve(layer).await;
    }
    let fd = layer.listener_fd("door").map_err(text)?;
    rustix::io::ioctl_fionbio(&fd, false).map_err(text)?;
    rustix::net::shutdown(&fd, rustix::net::Shutdown::Both).map_err(text)?;
    Err("shut".into())
}

fn free_below_1024() -> Option<SocketAddr> {
    let mut addresses = (600..1024).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    addresses.find(|address| TcpListener::bind(address).is_ok())
}

fn shut_down() {
    let address = free();
    let mut doors =
        vec![(format!("tcp:{address}"), address), ("unix:DIR/door".to_owned(), address)];
    // One that takes a capability, which the supervisor no longer has by then.
    if let Some(low) = free_below_1024() {
        doors.push((format!("tcp:{low}"), low));
    }
    for (door, address) in doors {
        let more = format!("listen = {{ door = \"{door}\" }}\nrestart = {{ max = 1000 }}");
        let policy = layer("socket_shut", &more)
            .replace("[\"@core\"]", "[\"@core\", \"shutdown\"]\nbecause = \"it attacks\"");
        let mut kept = None;
        let mut daemon = Daemon::start_with("-", &policy, |directory| {
            kept = Some(directory.join("door"));
        });
        daemon.line("a/0.g1: shut");
        daemon.line("a/0.g2: accepting");
        let mut answer = String::new();
        if door.starts_with("tcp") {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            stream.read_to_string(&mut answer).unwrap();
        } else {
            let mut stream = UnixStream::connect(kept.unwrap()).unwrap();
            // Who has called listen(2): a child that did nothing else, and is gone.
            let listener = rustix::net::sockopt::socket_peercred(&stream).unwrap().pid;
            assert_ne!(listener, daemon.pid(), "{daemon}");
            assert!(!crate::support::process::is_alive(listener), "{daemon}");
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
            stream.read_to_string(&mut answer).unwrap();
        }
        assert!(answer.ends_with("a/0.g2"), "{answer}{daemon}");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
}

/// Starts the daemon as a service manager does, with `socket` as descriptor 3.
fn manage(socket: &TcpListener, name: &str, policy: &str) -> Daemon {
    use std::os::fd::AsRawFd;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("policy.toml");
    std::fs::write(&path, format!("cofferdam = 1\nname = \"test\"\n{policy}")).unwrap();
    rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
    let number = socket.as_raw_fd();
    // And no other descriptor of it.
    let other = if number == 3 { String::new() } else { format!("{number}<&-") };
    let script = format!(
        "LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES={name} exec \"$0\" --daemon - \"$1\" \
         3<&{number} {other}",
    );
    let mut command = Command::new("bash");
    command.args(["-c", &script]).arg(std::env::current_exe().unwrap()).arg(path);
    Daemon::run(command, directory)
}

/// A manager that keeps sockets: a supervisor that is killed takes none with it.
fn kept() {
    use std::os::unix::net::UnixDatagram;
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
    let policy = layer("socket_serve", "listen = { door = \"tcp:127.0.0.1:0\" }");
    let mut daemon = Daemon::start_by(
        "-",
        &policy,
        |_| {},
        |command| {
            command.env("NOTIFY_SOCKET", &path);
        },
    );
    let mut text = [0; 512];
    let flags = rustix::net::RecvFlags::empty();
    let got = cofferdam::sys::passing::receive(&manager, &mut text, flags).unwrap();
    let said = String::from_utf8_lossy(&text[..got.length]).into_owned();
    assert_eq!(said, "FDSTORE=1\nFDNAME=listen.a.door");
    let socket = TcpListener::from(got.fd.expect("a descriptor"));
    let address = socket.local_addr().unwrap();
    daemon.line("accepting");
    // So that nobody accepts who comes now.
    let serves = daemon.confined("a/0.g1");
    kill_process(serves, Signal::STOP).unwrap();
    let mut waits = TcpStream::connect(address).unwrap();
    waits.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    daemon.signal(Signal::KILL);
    daemon.end();
    let mut again = manage(&socket, "listen.a.door", &policy);
    drop(socket);
    let mut answer = String::new();
    waits.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("a/0.g1"), "{answer}{again}");
    assert_eq!(again.stop(), Some(0), "{again}");
    // One that the policy doesn't have any more is let go of.
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut other = manage(&socket, "listen.a.window", &policy);
    drop(socket);
    other.line("accepting");
    TcpStream::connect(address).unwrap_err();
    assert_eq!(other.stop(), Some(0), "{other}");
}

fn passed() {
    for name in ["door", "unknown", "''"] {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let policy = layer("socket_serve", &format!("listen = {{ door = \"tcp:{address}\" }}"));
        let mut daemon = manage(&socket, name, &policy);
        daemon.line("accepting");
        drop(socket);
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("a/0.g1"), "{answer}{daemon}");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
}

fn passed_wrongly() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let policy = layer("socket_serve", &format!("listen = {{ door = \"tcp:{}\" }}", free()));
    let mut daemon = manage(&socket, "door", &policy);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    let line = format!("is called door and bound to tcp:{address}, and [layer.a] listen.door is");
    assert_eq!(daemon.count(&line), 1, "{daemon}");
    let mut daemon = manage(&socket, "window", &policy);
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("which no `listen` of the policy says"), 1, "{daemon}");
}
