//! Sockets of foreign programs: this very program, run by `exec` in a layer that knows nothing of
//! cofferdam. Real ones are in `foreign_servers`.

#![allow(unsafe_code, reason = "what a foreign program does are raw system calls")]

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

use cofferdam::sys::inherit::inherited;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with, sockopt,
};

use crate::harness::{Daemon, eventually};
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("foreign::a_program_finds_its_sockets_by_number_and_environment", numbers),
    ("foreign::a_program_that_binds_gets_the_declared_socket", binds),
    ("foreign::a_child_may_bind_and_another_accept", children),
    ("foreign::a_program_that_is_killed_refuses_no_connection", restarted),
    ("foreign::a_program_connects_where_the_policy_says", connects),
    ("foreign::a_helper_that_ends_is_asked_again", helper_ends),
    ("foreign::names_are_looked_up_outside_of_the_layer", names),
];

pub(crate) const LAYERS: &[Function] = &[];

/// What this program does in a layer.
pub(crate) type Inside = fn(&[String]);

const INSIDE: [(&str, Inside); 7] = [
    ("numbers", inside_numbers),
    ("binds", inside_binds),
    ("children", inside_children),
    ("serves", inside_serves),
    ("connects", inside_connects),
    ("again", inside_again),
    ("names", inside_names),
];

/// Runs as a layer's program.
pub(crate) fn program(arguments: &[String]) {
    let (name, rest) = arguments.split_first().unwrap();
    let more = crate::foreign_hostile::INSIDE.iter().chain(&crate::refused_acts::INSIDE);
    let mut inside = INSIDE.iter().chain(more);
    let (_, function) = inside.find(|(one, _)| one == name).unwrap();
    function(rest);
}

/// In a policy, a layer that runs this program.
pub(crate) fn layer(name: &str, arguments: &[&str], more: &str) -> String {
    let path = std::env::current_exe().unwrap();
    let (path, directory) = (path.display(), path.parent().unwrap().display());
    let words = [&[name][..], arguments].concat().join("\", \"");
    format!(
        "[layer.a]\nexec = [\"{path}\", \"--foreign\", \"{words}\"]\n\
         syscalls = [\"@core\", \"@net-stream\", \"@file-read\", \"@thread\", \"@process\"]\n{more}\n\
         [file.program]\npath = \"{directory}\"\ngrant = {{ a = [\"read\", \"execute\"] }}\n"
    )
}

/// A port that was free a moment ago.
pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Says a line in the log.
pub(crate) fn say(line: impl AsRef<str>) {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", line.as_ref()).and_then(|()| stdout.flush()).unwrap();
}

/// What an outcome is called in the log.
pub(crate) fn errno<T>(result: Result<T, Errno>) -> String {
    match result {
        Ok(_) => "done".to_owned(),
        Err(errno) => format!("{:?}", std::io::Error::from(errno).kind()),
    }
}

/// What the other end says until it closes.
pub(crate) fn heard(stream: &mut impl Read) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn numbers() {
    let [one, two, three] = [free(), free(), free()];
    let more = format!(
        "listen = {{ admin = {{ address = \"tcp:{one}\", pass = \"listen-fds\" }}, \
         web = {{ address = \"unix:DIR/web\", pass = \"listen-fds\" }}, \
         odd = {{ address = \"tcp:{two}\", fd = 9 }}, \
         last = {{ address = \"udp:{three}\", fd = 14 }} }}\n\
         env = {{ MORE = \"yes\" }}"
    );
    let mut daemon = Daemon::start("-", &layer("numbers", &[], &more));
    daemon.line("environment: LISTEN_FDNAMES=admin:web LISTEN_FDS=2 LISTEN_PID=2 MORE=yes; pid 2");
    daemon.line("open: 0 1 2 3 4 9 14");
    daemon.line("3 waits, 4 waits, 9 waits, 14 waits");
    assert_eq!(heard(&mut TcpStream::connect(one).unwrap()), "hello at 3", "{daemon}");
    let path = daemon.directory().join("web");
    assert_eq!(heard(&mut UnixStream::connect(path).unwrap()), "hello at 4", "{daemon}");
    assert_eq!(heard(&mut TcpStream::connect(two).unwrap()), "hello at 9", "{daemon}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"ping", three).unwrap();
    let mut bytes = [0; 16];
    let (length, _) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"hello at 14", "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn inside_numbers(_: &[String]) {
    let mut variables: Vec<_> =
        std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    variables.sort();
    say(format!("environment: {}; pid {}", variables.join(" "), std::process::id()));
    // SAFETY: a number that isn't open is an error and nothing else.
    let is_open = |number: &i32| unsafe { libc::fcntl(*number, libc::F_GETFD) } >= 0;
    let open: Vec<_> = (0..64).filter(is_open).map(|number| number.to_string()).collect();
    say(format!("open: {}", open.join(" ")));
    let numbers = [3, 4, 9, 14];
    let sockets = numbers.map(|number| inherited(number).unwrap());
    let waits = [0, 1, 2, 3].map(|at| {
        let flags = rustix::fs::fcntl_getfl(&sockets[at]).unwrap();
        let waits = !flags.contains(rustix::fs::OFlags::NONBLOCK);
        format!("{} {}", numbers[at], if waits { "waits" } else { "does not wait" })
    });
    say(waits.join(", "));
    let [admin, web, odd, last] = sockets;
    welcome(&admin, "hello at 3");
    welcome(&web, "hello at 4");
    welcome(&odd, "hello at 9");
    let last = UdpSocket::from(last);
    let (_, from) = last.recv_from(&mut [0; 16]).unwrap();
    last.send_to(b"hello at 14", from).unwrap();
    rest();
}

/// Accepts one connection and says something on it.
fn welcome(socket: &impl AsFd, words: &str) {
    let accepted = rustix::net::accept(socket).unwrap();
    rustix::io::write(&accepted, words.as_bytes()).unwrap();
}

/// Sleeps until the layer is stopped.
pub(crate) fn rest() -> ! {
    loop {
        std::thread::sleep(std::time::Duration::from_hours(1));
    }
}

/// A socket as C programs make one.
pub(crate) fn socket(family: AddressFamily, kind: SocketType, flags: SocketFlags) -> OwnedFd {
    socket_with(family, kind, flags, None).unwrap()
}

const PLAIN: SocketFlags = SocketFlags::empty();

fn binds() {
    let (four, data) = (free(), free());
    let six = TcpListener::bind("[::1]:0").unwrap().local_addr().unwrap();
    let more = format!(
        "listen = {{ four = \"tcp:{four}\", six = \"tcp:{six}\", data = \"udp:{data}\", \
         path = \"unix:DIR/door\", inner = \"unix:DIR/own/inner\" }}\n\
         [file.own]\npath = \"DIR/own\"\ngrant = {{ a = [\"owner\"] }}"
    );
    let ports = [four, six, data].map(|address| address.port().to_string());
    let [one, two, three] = &ports;
    let arguments = [one, two, three, "DIR/door", "DIR/own/door", "DIR/own/inner"];
    let calls = "\"@process\", \"@file-write\"]";
    let policy = layer("binds", &arguments, &more).replace("\"@process\"]", calls);
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        std::fs::create_dir(directory.join("own")).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.join("own"), everybody).unwrap();
    });
    daemon.line("undeclared: PermissionDenied, elsewhere: AddrNotAvailable, again: InvalidInput");
    daemon.line("four: done, done, waits; six: done, done; data: done; path: done, done");
    let set = "done, done; done, done; ReadOnlyFilesystem, ReadOnlyFilesystem; NotFound, NotFound";
    daemon.line(&format!("modes: {set}"));
    daemon.line("cleared: done; a file: done, is there: false");
    daemon.line(&format!("its own name is {four}"));
    // As the supervisor made it: whom it lets connect isn't the program's to say.
    let permissions = |path| {
        use std::os::unix::fs::PermissionsExt;
        let path = daemon.directory().join(path);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(permissions("own/door"), 0o640, "{daemon}");
    assert_ne!(permissions("door"), 0o640, "{daemon}");
    assert_eq!(heard(&mut TcpStream::connect(four).unwrap()), "four", "{daemon}");
    assert_eq!(heard(&mut TcpStream::connect(six).unwrap()), "six", "{daemon}");
    let path = daemon.directory().join("door");
    assert_eq!(heard(&mut UnixStream::connect(path).unwrap()), "path", "{daemon}");
    let own = daemon.directory().join("own/door");
    assert_eq!(heard(&mut UnixStream::connect(own).unwrap()), "own", "{daemon}");
    let inner = daemon.directory().join("own/inner");
    assert_eq!(heard(&mut UnixStream::connect(inner).unwrap()), "inner", "{daemon}");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"ping", data).unwrap();
    let mut bytes = [0; 16];
    let (length, _) = socket.recv_from(&mut bytes).unwrap();
    assert_eq!(&bytes[..length], b"data", "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let told = "`listen = { NAME = \"tcp:127.0.0.1:1\" }` in [layer.a] would allow it";
    assert_eq!(daemon.count(told), 1, "{daemon}");
}

fn inside_binds(arguments: &[String]) {
    let port = |at: usize| arguments[at].parse::<u16>().unwrap();
    let v4 = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let any = |port: u16| SocketAddr::from(([0, 0, 0, 0], port));
    let (inet, inet6) = (AddressFamily::INET, AddressFamily::INET6);
    let stream = || socket(inet, SocketType::STREAM, PLAIN);
    let undeclared = stream();
    let refused = errno(bind(&undeclared, &v4(1)));
    for _ in 0..3 {
        bind(&undeclared, &v4(1)).unwrap_err();
    }
    let elsewhere = errno(bind(stream(), &SocketAddr::from(([127, 0, 0, 2], port(0)))));
    let four = stream();
    sockopt::set_socket_reuseaddr(&four, true).unwrap();
    let bound = errno(bind(&four, &any(port(0))));
    let again = errno(bind(&four, &any(port(0))));
    say(format!("undeclared: {refused}, elsewhere: {elsewhere}, again: {again}"));
    let listening = errno(listen(&four, 16));
    let flags = rustix::fs::fcntl_getfl(&four).unwrap();
    let waits = if flags.contains(rustix::fs::OFlags::NONBLOCK) { "does not" } else { "waits" };
    let six = socket(inet6, SocketType::STREAM, PLAIN);
    let six_bound = errno(bind(&six, &SocketAddr::from((Ipv6Addr::UNSPECIFIED, port(1)))));
    let six_listens = errno(listen(&six, 16));
    let data = socket(inet, SocketType::DGRAM, PLAIN);
    let data_bound = errno(bind(&data, &v4(port(2))));
    let path = socket(AddressFamily::UNIX, SocketType::STREAM, PLAIN);
    let path_bound = errno(bind(&path, &SocketAddrUnix::new(arguments[3].as_str()).unwrap()));
    let path_listens = errno(listen(&path, 16));
    say(format!(
        "four: {bound}, {listening}, {waits}; six: {six_bound}, {six_listens}; \
         data: {data_bound}; path: {path_bound}, {path_listens}"
    ));
    let name: SocketAddr = rustix::net::getsockname(&four).unwrap().try_into().unwrap();
    // One that nobody declared, in a directory where it may.
    let own = socket(AddressFamily::UNIX, SocketType::STREAM, PLAIN);
    bind(&own, &SocketAddrUnix::new(arguments[4].as_str()).unwrap()).unwrap();
    listen(&own, 16).unwrap();
    // Servers set the mode of the socket that they think they made.
    let mode = |path: &str| {
        let name = std::ffi::CString::new(path).unwrap();
        // SAFETY: the path is terminated.
        let plainly = unsafe { libc::chmod(name.as_ptr(), 0o640) };
        let plainly = if plainly == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) };
        let at = rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(0o640));
        format!(
            "{}, {}",
            errno(plainly.map_err(|it| Errno::from_io_error(&it).unwrap())),
            errno(at)
        )
    };
    let modes = [&arguments[3], &arguments[4], "/etc/passwd", "/none"].map(mode).join("; ");
    say(format!("modes: {modes}"));
    // As they clear away what a former life may have left, and after what is theirs.
    let inner = socket(AddressFamily::UNIX, SocketType::STREAM, PLAIN);
    let cleared = errno(rustix::fs::unlink(&arguments[5]));
    bind(&inner, &SocketAddrUnix::new(arguments[5].as_str()).unwrap()).unwrap();
    listen(&inner, 16).unwrap();
    let file = format!("{}.lock", arguments[5]);
    std::fs::write(&file, "").unwrap();
    let removed = errno(rustix::fs::unlink(&file));
    let is_there = std::fs::exists(&file).unwrap();
    say(format!("cleared: {cleared}; a file: {removed}, is there: {is_there}"));
    say(format!("its own name is {name}"));
    welcome(&four, "four");
    welcome(&six, "six");
    welcome(&path, "path");
    welcome(&own, "own");
    welcome(&inner, "inner");
    let data = UdpSocket::from(data);
    let (_, from) = data.recv_from(&mut [0; 16]).unwrap();
    data.send_to(b"data", from).unwrap();
    rest();
}

/// As nginx and others do it: a master binds, workers accept; here the master is itself a child.
fn children() {
    let address = free();
    let more = format!("listen = {{ door = \"tcp:{address}\" }}");
    let policy = layer("children", &[&address.port().to_string()], &more);
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("the workers are there");
    for _ in 0..20 {
        let said = heard(&mut TcpStream::connect(address).unwrap());
        assert!(said.starts_with("worker "), "{said}: {daemon}");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn inside_children(arguments: &[String]) {
    let port: u16 = arguments[0].parse().unwrap();
    if fork() {
        rest();
    }
    let door = socket(AddressFamily::INET, SocketType::STREAM, PLAIN);
    // By another thread than the first one of its process, too.
    let door = std::thread::spawn(move || {
        bind(&door, &SocketAddr::from(([127, 0, 0, 1], port))).unwrap();
        listen(&door, 16).unwrap();
        door
    })
    .join()
    .unwrap();
    for worker in 0..3 {
        if !fork() {
            loop {
                welcome(&door, &format!("worker {worker}"));
            }
        }
    }
    say("the workers are there");
    rest();
}

/// Whether this is the parent.
pub(crate) fn fork() -> bool {
    // SAFETY: the child only makes system calls, and allocates what no other thread's lock is for:
    // there is one.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    pid > 0
}

fn restarted() {
    let address = free();
    let more = format!("listen = {{ door = \"tcp:{address}\" }}\nrestart = {{ max = 100 }}");
    let policy = layer("serves", &[&address.port().to_string()], &more);
    let mut daemon = Daemon::start("-", &policy);
    for generation in 1..=5 {
        let pid = daemon.confined(&format!("a/0.g{generation}"));
        assert_eq!(heard(&mut TcpStream::connect(address).unwrap()), "served", "{daemon}");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        daemon.line(&format!("a/0.g{generation} was killed by SIGKILL"));
        // It waits for the next life.
        assert_eq!(heard(&mut TcpStream::connect(address).unwrap()), "served", "{daemon}");
    }
    assert_eq!(heard(&mut TcpStream::connect(address).unwrap()), "served", "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn inside_serves(arguments: &[String]) {
    let port: u16 = arguments[0].parse().unwrap();
    let door = TcpListener::bind(("0.0.0.0", port)).unwrap();
    for stream in door.incoming() {
        stream.unwrap().write_all(b"served").unwrap();
    }
}

/// Says back what comes, once a connection.
pub(crate) fn echo<S: Read + Write>(connections: impl Iterator<Item = std::io::Result<S>>) {
    for stream in connections {
        let mut bytes = [0; 4];
        let mut stream = stream.unwrap();
        if stream.read_exact(&mut bytes).is_ok() {
            let _ = stream.write_all(&bytes);
        }
    }
}

fn connects() {
    let (open, closed) = (free(), free());
    let listener = TcpListener::bind(open).unwrap();
    std::thread::spawn(move || echo(listener.incoming()));
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let data = datagrams.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut bytes = [0; 16];
        while let Ok((length, from)) = datagrams.recv_from(&mut bytes) {
            let _ = datagrams.send_to(&bytes[..length], from);
        }
    });
    let more = format!(
        "connect = {{ open = \"tcp:{open}\", closed = \"tcp:{closed}\", data = \"udp:{data}\", \
         path = \"unix:DIR/other\", none = \"unix:DIR/none\" }}"
    );
    let ports = [open, closed, data].map(|address| address.port().to_string());
    let mut arguments: Vec<&str> = ports.iter().map(String::as_str).collect();
    arguments.extend(["DIR/other", "DIR/none"]);
    let mut daemon = Daemon::start_with("-", &layer("connects", &arguments, &more), |directory| {
        let listener = UnixListener::bind(directory.join("other")).unwrap();
        let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.join("other"), everybody).unwrap();
        std::thread::spawn(move || echo(listener.incoming()));
    });
    daemon.line("open: ping, mapped: ping, without waiting: ping, path: ping");
    daemon.line("data: ping");
    daemon.line("closed: ConnectionRefused, none: NotFound");
    daemon.line("undeclared: PermissionDenied, PermissionDenied, PermissionDenied");
    daemon.line("again: Other(\"IsConnected\")");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let told = "`connect = { NAME = \"tcp:127.0.0.1:1\" }` in [layer.a] would allow it";
    assert_eq!(daemon.count(told), 1, "{daemon}");
}

fn ping(mut stream: impl Read + Write) -> String {
    stream.write_all(b"ping").unwrap();
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn kind<T: Debug>(result: std::io::Result<T>) -> String {
    format!("{:?}", result.unwrap_err().kind())
}

fn inside_connects(arguments: &[String]) {
    let port = |at: usize| arguments[at].parse::<u16>().unwrap();
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let open = TcpStream::connect(local(port(0))).unwrap();
    let mapped: Ipv6Addr = "::ffff:127.0.0.1".parse().unwrap();
    let mapped = TcpStream::connect((mapped, port(0))).unwrap();
    let eager = socket(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK);
    rustix::net::connect(&eager, &local(port(0))).unwrap();
    let flags = rustix::fs::fcntl_getfl(&eager).unwrap();
    assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
    rustix::io::ioctl_fionbio(&eager, false).unwrap();
    let path = UnixStream::connect(&arguments[3]).unwrap();
    let (open, mapped) = (ping(open), ping(mapped));
    let (eager, path) = (ping(TcpStream::from(eager)), ping(path));
    say(format!("open: {open}, mapped: {mapped}, without waiting: {eager}, path: {path}"));
    let data = socket(AddressFamily::INET, SocketType::DGRAM, PLAIN);
    rustix::net::connect(&data, &local(port(2))).unwrap();
    let data = UdpSocket::from(data);
    data.send(b"ping").unwrap();
    let mut bytes = [0; 4];
    data.recv(&mut bytes).unwrap();
    say(format!("data: {}", String::from_utf8_lossy(&bytes)));
    let closed = kind(TcpStream::connect(local(port(1))));
    let none = kind(UnixStream::connect(&arguments[4]));
    say(format!("closed: {closed}, none: {none}"));
    let undeclared = [
        kind(TcpStream::connect(local(1))),
        kind(TcpStream::connect(("192.0.2.1", port(0)))),
        kind(UnixStream::connect("/run/none")),
    ];
    say(format!("undeclared: {}", undeclared.join(", ")));
    let twice = TcpStream::connect(local(port(0))).unwrap();
    let again = rustix::net::connect(&twice, &local(port(0))).unwrap_err();
    assert_eq!(again, Errno::ISCONN);
    say("again: Other(\"IsConnected\")");
    rest();
}

/// What is asked while the helper is killed is answered by its next life.
fn helper_ends() {
    let address = free();
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || echo(listener.incoming()));
    let more = format!("connect = {{ open = \"tcp:{address}\" }}");
    let policy = layer("again", &[&address.port().to_string()], &more);
    let mut daemon = Daemon::start("-", &policy);
    let mut generation = 0;
    eventually("three lives of the helper", || {
        generation += 1;
        let helper = daemon.confined(&format!("cofferdam-connector/0.g{generation}"));
        daemon.line("connected");
        rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
        generation == 3
    });
    daemon.line("connected");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn inside_again(arguments: &[String]) {
    let port: u16 = arguments[0].parse().unwrap();
    loop {
        assert_eq!(ping(TcpStream::connect(("127.0.0.1", port)).unwrap()), "ping");
        say("connected");
    }
}

fn names() {
    let address = free();
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || echo(listener.incoming()));
    let port = address.port();
    let more = format!(
        "connect = {{ here = \"tcp:localhost:{port}\", nowhere = \"tcp:nobody.invalid:{port}\" }}"
    );
    let mut daemon = Daemon::start("-", &layer("names", &[&port.to_string()], &more));
    daemon.line("here: ping");
    daemon.line("nowhere: HostUnreachable at 198.18.0.2");
    daemon.line("undeclared: no address");
    daemon.line("another port: PermissionDenied");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn inside_names(arguments: &[String]) {
    use std::net::ToSocketAddrs;
    let port: u16 = arguments[0].parse().unwrap();
    say(format!("here: {}", ping(TcpStream::connect(("localhost", port)).unwrap())));
    let nowhere = ("nobody.invalid", port).to_socket_addrs().unwrap().next().unwrap();
    say(format!("nowhere: {} at {}", kind(TcpStream::connect(nowhere)), nowhere.ip()));
    let undeclared = ("example.org", port).to_socket_addrs();
    say(format!("undeclared: {}", if undeclared.is_err() { "no address" } else { "an address" }));
    let other = TcpStream::connect(("nobody.invalid", port.wrapping_add(1)));
    say(format!("another port: {}", kind(other)));
    rest();
}
