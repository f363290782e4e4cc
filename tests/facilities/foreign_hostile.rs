//! A foreign program that was given sockets, and tries to do more with them.

#![allow(unsafe_code, reason = "attacks are raw system calls")]

use std::io::Read;
use std::mem::size_of;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::foreign::{Inside, echo, fork, free, layer, rest, say, socket};
use crate::harness::Daemon;
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("foreign_hostile::nothing_but_what_is_declared_is_reached", reaches),
    ("foreign_hostile::what_was_handed_over_opens_no_port", opens),
    ("foreign_hostile::an_address_that_changes_meanwhile_gains_nothing", races),
    ("foreign_hostile::calls_that_make_no_sense_harm_nobody", nonsense),
    ("foreign_hostile::a_flood_of_calls_holds_up_only_its_own", floods),
];

pub(crate) const LAYERS: &[Function] = &[];

pub(crate) const INSIDE: [(&str, Inside); 5] = [
    ("reaches", inside_reaches),
    ("opens", inside_opens),
    ("races", inside_races),
    ("nonsense", inside_nonsense),
    ("floods", inside_floods),
];

const PLAIN: SocketFlags = SocketFlags::empty();
const INET: AddressFamily = AddressFamily::INET;
const INET6: AddressFamily = AddressFamily::INET6;

/// Something of the host's that no layer may reach: how often somebody did.
#[derive(Clone, Default)]
struct Secret(Arc<AtomicUsize>);

impl Secret {
    /// Counts who comes.
    fn watch<T>(&self, comes: impl Iterator<Item = T> + Send + 'static) {
        let count = Arc::clone(&self.0);
        std::thread::spawn(move || {
            comes.for_each(|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        });
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn reaches() {
    let (door, target) = (free(), TcpListener::bind("127.0.0.1:0").unwrap());
    let open = target.local_addr().unwrap();
    std::thread::spawn(move || echo(target.incoming()));
    let secret = Secret::default();
    let four = TcpListener::bind("127.0.0.1:0").unwrap();
    let six = TcpListener::bind("[::1]:0").unwrap();
    let data = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ports = [
        open.port(),
        door.port(),
        four.local_addr().unwrap().port(),
        six.local_addr().unwrap().port(),
        data.local_addr().unwrap().port(),
    ];
    let address = data.local_addr().unwrap();
    let (watched, watched_six) = (four.local_addr().unwrap(), six.local_addr().unwrap());
    secret.watch(std::iter::repeat_with(move || four.accept()));
    secret.watch(std::iter::repeat_with(move || six.accept()));
    secret.watch(std::iter::repeat_with(move || data.recv(&mut [0; 16])));
    let name = format!("cofferdam-secret-{}", std::process::id());
    let hidden = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let hidden = UnixListener::bind_addr(&hidden).unwrap();
    secret.watch(std::iter::repeat_with(move || hidden.accept()));
    let more = format!(
        "because = \"it attacks\"\n\
         listen = {{ door = \"tcp:{door}\" }}\nconnect = {{ open = \"tcp:{open}\" }}\n\
         [file.shared]\npath = \"DIR/shared\"\ngrant = {{ a = [\"read\", \"write\"] }}"
    );
    let ports = ports.map(|port| port.to_string());
    let mut arguments: Vec<&str> = ports.iter().map(String::as_str).collect();
    arguments.extend([name.as_str(), "DIR/shared/socket"]);
    let paths = secret.clone();
    // One that may send to whatever address it likes.
    let policy = layer("reaches", &arguments, &more).replace(
        "\"@process\"]",
        "\"@process\", \"@net-connect\", \"@net-datagram\", \"socket(AF_UNIX)\"]",
    );
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        std::fs::create_dir(directory.join("shared")).unwrap();
        let everybody = || std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.join("shared"), everybody()).unwrap();
        let path = directory.join("shared/socket");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(path, everybody()).unwrap();
        paths.watch(std::iter::repeat_with(move || listener.accept()));
    });
    daemon.line("declared: reached");
    daemon.line("that is all");
    for line in daemon.seen.iter().filter(|line| line.contains("attack ")) {
        assert!(line.contains(": Err("), "{line}: {daemon}");
    }
    assert_eq!(daemon.count("attack "), 10, "{daemon}");
    assert_eq!(secret.count(), 0, "{daemon}");
    // Who isn't confined reaches them.
    TcpStream::connect(watched).unwrap();
    TcpStream::connect(watched_six).unwrap();
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address).unwrap();
    crate::harness::eventually("everybody else is seen", || secret.count() == 3);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn inside_reaches(arguments: &[String]) {
    let port = |at: usize| arguments[at].parse::<u16>().unwrap();
    let (four, six, data) = (port(2), port(3), port(4));
    let reached = TcpStream::connect(local(port(0))).map(drop);
    say(format!("declared: {}", if reached.is_ok() { "reached" } else { "not reached" }));
    let mapped: std::net::Ipv6Addr = "::ffff:127.0.0.1".parse().unwrap();
    let send = |flags| {
        let sender = socket(INET, SocketType::DGRAM, PLAIN);
        rustix::net::sendto(&sender, b"x", flags, &local(data)).map(drop).map_err(Into::into)
    };
    let path = |path: &str| rustix::net::connect(unix(), &SocketAddrUnix::new(path).unwrap());
    let hidden = SocketAddrUnix::new_abstract_name(arguments[5].as_bytes()).unwrap();
    let raw = |family: i32, kind: i32, protocol: i32| {
        // SAFETY: takes numbers.
        let fd = unsafe { libc::socket(family, kind, protocol) };
        if fd >= 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    let attacks: [(&str, std::io::Result<()>); 10] = [
        ("another port", TcpStream::connect(local(four)).map(drop)),
        ("a mapped address", TcpStream::connect((mapped, four)).map(drop)),
        ("IPv6", TcpStream::connect(("::1", six)).map(drop)),
        ("any address", TcpStream::connect(("0.0.0.0", four)).map(drop)),
        ("a datagram", send(rustix::net::SendFlags::empty())),
        ("an abstract name", rustix::net::connect(unix(), &hidden).map_err(Into::into)),
        ("a path that it sees", path(&arguments[6]).map_err(Into::into)),
        ("netlink", raw(libc::AF_NETLINK, libc::SOCK_RAW, 0)),
        ("raw packets", raw(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)),
        ("virtual sockets", raw(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    ];
    for (name, outcome) in attacks {
        say(format!("attack {name}: {outcome:?}"));
    }
    say("that is all");
    rest();
}

fn unix() -> OwnedFd {
    socket(AddressFamily::UNIX, SocketType::STREAM, PLAIN)
}

/// `connect` with `AF_UNSPEC`, which ends what a socket is connected to.
fn disconnect(socket: &impl AsFd) -> std::io::Result<()> {
    let address = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let length = libc::socklen_t::try_from(size_of::<libc::sockaddr>()).unwrap();
    // SAFETY: the kernel reads one `sockaddr`.
    let done = unsafe { libc::connect(socket.as_fd().as_raw_fd(), &raw const address, length) };
    if done == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn opens() {
    let (door, target) = (free(), TcpListener::bind("127.0.0.1:0").unwrap());
    let open = target.local_addr().unwrap();
    std::thread::spawn(move || echo(target.incoming()));
    let more =
        format!("listen = {{ door = \"tcp:{door}\" }}\nconnect = {{ open = \"tcp:{open}\" }}");
    let ports = [open.port(), door.port()].map(|port| port.to_string());
    let mut daemon = Daemon::start("-", &layer("opens", &[&ports[0], &ports[1]], &more));
    daemon.line("connected: Err, Err, Err");
    daemon.line("accepting");
    let mut stream = TcpStream::connect(door).unwrap();
    // It is closed without having been read, and so reset: a port that it had is free again.
    rustix::net::sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    let _ = stream.read(&mut [0; 1]);
    drop(stream);
    daemon.line("accepted: Err, Err, Err");
    daemon.line("door: Err, Err, Ok");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Tries all that could make a host's socket listen somewhere.
fn open_a_port(socket: &impl AsFd) -> String {
    let disconnected = disconnect(socket);
    let bound = rustix::net::bind(socket, &local(0));
    let listens = rustix::net::listen(socket, 1);
    let word = |is_ok| if is_ok { "Ok" } else { "Err" };
    [disconnected.is_ok(), bound.is_ok(), listens.is_ok()].map(word).join(", ")
}

fn inside_opens(arguments: &[String]) {
    let port = |at: usize| arguments[at].parse::<u16>().unwrap();
    let connected = TcpStream::connect(local(port(0))).unwrap();
    say(format!("connected: {}", open_a_port(&connected)));
    let door = TcpListener::bind(local(port(1))).unwrap();
    say("accepting");
    let (mut accepted, _) = door.accept().unwrap();
    std::io::Write::write_all(&mut accepted, b"x").unwrap();
    // Until it is reset.
    let _ = accepted.read(&mut [0; 1]);
    say(format!("accepted: {}", open_a_port(&accepted)));
    // It listens where it listened, and nowhere else.
    say(format!("door: {}", open_a_port(&door)));
    rest();
}

fn races() {
    let (door, target) = (free(), TcpListener::bind("127.0.0.1:0").unwrap());
    let open = target.local_addr().unwrap();
    std::thread::spawn(move || target.incoming().for_each(drop));
    let secret = Secret::default();
    let hidden = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = hidden.local_addr().unwrap().port();
    secret.watch(std::iter::repeat_with(move || hidden.accept()));
    let more = format!(
        "listen = {{ door = \"tcp:{door}\" }}\nconnect = {{ open = \"tcp:{open}\" }}\n\
         limits = {{ tasks = 32 }}"
    );
    let ports = [open.port(), door.port(), port].map(|port| port.to_string());
    let arguments: Vec<&str> = ports.iter().map(String::as_str).collect();
    let mut daemon = Daemon::start("-", &layer("races", &arguments, &more));
    daemon.line("connected to the declared port alone");
    daemon.line("bound to the declared port alone");
    assert_eq!(secret.count(), 0, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// An address whose port another thread changes all the time.
struct Flipping {
    address: Box<[AtomicU16; 8]>,
}

impl Flipping {
    fn between(one: u16, other: u16) -> Arc<Self> {
        let address: Box<[AtomicU16; 8]> = Box::default();
        address[0].store(u16::try_from(libc::AF_INET).unwrap(), Ordering::Relaxed);
        address[2].store(u16::from_be_bytes([127, 0]).to_be(), Ordering::Relaxed);
        address[3].store(u16::from_be_bytes([0, 1]).to_be(), Ordering::Relaxed);
        let flipping = Arc::new(Self { address });
        let shared = Arc::clone(&flipping);
        std::thread::spawn(move || {
            loop {
                for port in [one, other] {
                    shared.address[1].store(port.to_be(), Ordering::Relaxed);
                }
            }
        });
        flipping
    }

    fn call(&self, call: libc::c_long, socket: &impl AsFd) -> bool {
        // SAFETY: the kernel reads 16 bytes of memory that lives as long as `self`.
        unsafe { libc::syscall(call, socket.as_fd().as_raw_fd(), self.address.as_ptr(), 16) == 0 }
    }
}

fn inside_races(arguments: &[String]) {
    let port = |at: usize| arguments[at].parse::<u16>().unwrap();
    let (open, door, hidden) = (port(0), port(1), port(2));
    let flipping = Flipping::between(open, hidden);
    let mut connected = 0;
    // Enough of both: the thread that flips runs all the while.
    while connected < 500 {
        let one = socket(INET, SocketType::STREAM, PLAIN);
        if flipping.call(libc::SYS_connect, &one) {
            let peer: SocketAddr =
                rustix::net::getpeername(&one).unwrap().unwrap().try_into().unwrap();
            assert_eq!(peer.port(), open);
            connected += 1;
        }
    }
    say("connected to the declared port alone");
    let flipping = Flipping::between(door, hidden.wrapping_add(1));
    let mut bound = 0;
    while bound < 500 {
        let one = socket(INET, SocketType::STREAM, PLAIN);
        if flipping.call(libc::SYS_bind, &one) {
            let name: SocketAddr = rustix::net::getsockname(&one).unwrap().try_into().unwrap();
            assert_eq!(name.port(), door);
            bound += 1;
        }
    }
    say("bound to the declared port alone");
    rest();
}

fn nonsense() {
    let door = free();
    let more = format!(
        "because = \"it attacks its init\"\nlisten = {{ door = \"tcp:{door}\" }}\n\
         limits = {{ tasks = 32 }}"
    );
    let policy = layer("nonsense", &[&door.port().to_string()], &more)
        .replace("\"@process\"]", "\"@process\", \"@signal\", \"connect\"]");
    let mut daemon = Daemon::start("-", &policy);
    daemon.line("each was refused");
    daemon.line("init lives");
    daemon.line("replaced while it was answered");
    let mut text = String::new();
    TcpStream::connect(door).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "still here", "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn inside_nonsense(arguments: &[String]) {
    let port: u16 = arguments[0].parse().unwrap();
    let socket_four = || socket(INET, SocketType::STREAM, PLAIN);
    let one = socket_four();
    let raw = |call: libc::c_long, fd: i32, address: usize, length: i64| {
        // SAFETY: the kernel reads what is there, or says that nothing is.
        let done = unsafe { libc::syscall(call, fd, address, length) };
        assert_eq!(done, -1, "{call} {fd} {address:#x} {length}");
        Errno::from_io_error(&std::io::Error::last_os_error()).unwrap()
    };
    let bytes = [0_u8; 256];
    let somewhere = bytes.as_ptr() as usize;
    let fd = one.as_raw_fd();
    for call in [libc::SYS_bind, libc::SYS_connect] {
        assert_eq!(raw(call, fd, 0, 16), Errno::FAULT);
        assert_eq!(raw(call, fd, usize::MAX - 8, 16), Errno::FAULT);
        assert_eq!(raw(call, fd, somewhere, -1), Errno::INVAL);
        assert_eq!(raw(call, fd, somewhere, 200), Errno::INVAL);
        assert_eq!(raw(call, fd, somewhere, 0), Errno::INVAL);
        assert_eq!(raw(call, fd, somewhere, 1), Errno::INVAL);
        raw(call, fd, somewhere, 16);
        assert_eq!(raw(call, -1, somewhere, 16), Errno::BADF);
        assert_eq!(raw(call, 1000, somewhere, 16), Errno::BADF);
        assert_eq!(raw(call, 1, somewhere, 16), Errno::NOTSOCK);
        let six = socket(INET6, SocketType::STREAM, PLAIN);
        raw(call, six.as_raw_fd(), somewhere, 28);
    }
    assert_eq!(raw(libc::SYS_listen, 1, 1, 0), Errno::NOTSOCK);
    assert_eq!(raw(libc::SYS_listen, -1, 1, 0), Errno::BADF);
    say("each was refused");
    for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGSYS] {
        // SAFETY: takes numbers. Of an init the kernel takes only what it has a handler for.
        unsafe { libc::kill(1, signal) };
    }
    say("init lives");
    // The number is another socket, or none, by the time that the answer comes.
    let stop = Arc::new(AtomicBool::new(false));
    let (spare, number) = (socket_four(), socket_four());
    let at = number.as_raw_fd();
    let stops = Arc::clone(&stop);
    let other = std::thread::spawn(move || {
        while !stops.load(Ordering::Relaxed) {
            // SAFETY: takes numbers; the one at `at` is nobody else's.
            unsafe {
                libc::dup2(spare.as_raw_fd(), at);
                libc::close(at);
            }
        }
    });
    for _ in 0..2000 {
        // SAFETY: what is at the number may be anything; the kernel says so.
        unsafe { libc::listen(at, 1) };
        let address: [u16; 8] =
            [2, port.to_be(), u16::from_ne_bytes([127, 0]), u16::from_ne_bytes([0, 1]), 0, 0, 0, 0];
        // SAFETY: the kernel reads 16 bytes.
        unsafe { libc::bind(at, address.as_ptr().cast(), 16) };
    }
    stop.store(true, Ordering::Relaxed);
    other.join().unwrap();
    std::mem::forget(number);
    say("replaced while it was answered");
    let door = TcpListener::bind(local(port)).unwrap();
    let (mut stream, _) = door.accept().unwrap();
    std::io::Write::write_all(&mut stream, b"still here").unwrap();
    drop(stream);
    rest();
}

fn floods() {
    let door = free();
    let more = format!(
        "listen = {{ door = \"tcp:{door}\" }}\nlimits = {{ tasks = 32 }}\n\
         connect = {{ nowhere = \"tcp:127.0.0.1:1\" }}"
    );
    let mut daemon = Daemon::start("-", &layer("floods", &[&door.port().to_string()], &more));
    daemon.line("flooding");
    for _ in 0..20 {
        let mut text = String::new();
        TcpStream::connect(door).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "served", "{daemon}");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    // What is said of it is said at each power of ten.
    assert!(daemon.count("would allow it") <= 8, "{daemon}");
}

fn inside_floods(arguments: &[String]) {
    let port: u16 = arguments[0].parse().unwrap();
    let door = TcpListener::bind(local(port)).unwrap();
    for number in 0..8 {
        if !fork() {
            let one = socket(INET, SocketType::STREAM, PLAIN);
            loop {
                let to = if number < 4 { 2 } else { 1 };
                let _ = rustix::net::connect(&one, &local(to));
            }
        }
    }
    say("flooding");
    for stream in door.incoming() {
        std::io::Write::write_all(&mut stream.unwrap(), b"served").unwrap();
    }
}
