//! A network of two hosts: one where daemons run, and one that answers as every other host of the
//! world, with a name server, plain and protected web servers, and addresses that nobody may be led
//! to. Only root makes one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use nix::sched::{CloneFlags, setns, unshare};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tempfile::TempDir;

/// Where daemons run.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Every other host.
pub(crate) const THERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Of a private network, and where clouds keep credentials: both lead there too.
pub(crate) const PRIVATE: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);
pub(crate) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// The network.
pub(crate) struct Net {
    near: [std::fs::File; 2],
    directory: TempDir,
    seen: Seen,
    /// Who came to sockets of the daemon's host that nobody may be led to.
    trespassers: Arc<AtomicUsize>,
    // Both namespaces end with what is in them.
    _ends: [mpsc::Sender<()>; 2],
}

/// What servers saw.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Request>>>);

/// A request that a server got.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// At which of its addresses.
    pub(crate) at: IpAddr,
    pub(crate) port: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Net {
    /// Makes it. A directory `www` of `files` is served by the web servers.
    pub(crate) fn make(www: impl FnOnce(&Path)) -> Self {
        if !super::is_root() {
            super::suite::ignore("only root makes networks");
        }
        let directory = super::process::directory();
        let path = directory.path().to_owned();
        std::fs::create_dir(path.join("www")).unwrap();
        www(&path.join("www"));
        let tls = certificates(&path);
        let seen = Seen::default();
        let (far, far_end) = namespace(CloneFlags::CLONE_NEWNET, {
            let (seen, www) = (seen.clone(), path.join("www"));
            move |ready| {
                shell(&format!(
                    "ip link set lo up; ip link add far type veth peer name near; \
                     ip addr add {THERE}/24 dev far; ip addr add {PRIVATE}/32 dev lo; \
                     ip addr add {METADATA}/32 dev lo; ip link set far up"
                ));
                serve_everything(&seen, &tls, &www);
                ready();
            }
        });
        let trespassers = Arc::new(AtomicUsize::new(0));
        let (near, near_end) = namespace(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS, {
            let (far, trespassers) = (far.tid, Arc::clone(&trespassers));
            move |ready| {
                configure(&path);
                shell(&format!(
                    "mount --make-rprivate /; mount --bind {0}/hosts /etc/hosts; \
                     mount --bind {0}/resolv.conf \"$(readlink -f /etc/resolv.conf)\"; \
                     mount --bind {0}/authority.pem /etc/ssl/certs/ca-certificates.crt; \
                     ip link set lo up; \
                     nsenter --net=/proc/{far}/ns/net ip link set near netns {1}; \
                     ip addr add {HERE}/24 dev near; ip link set near up; \
                     ip route add default via {THERE}",
                    path.display(),
                    rustix::thread::gettid().as_raw_nonzero(),
                ));
                for address in ["127.0.0.1:80", "127.0.0.1:443", "203.0.113.1:443"] {
                    let listener = TcpListener::bind(address).unwrap();
                    let trespassers = Arc::clone(&trespassers);
                    std::thread::spawn(move || {
                        listener.incoming().for_each(|_| {
                            trespassers.fetch_add(1, Ordering::Relaxed);
                        });
                    });
                }
                ready();
            }
        });
        let of = |kind: &str| std::fs::File::open(format!("/proc/{}/ns/{kind}", near.tid)).unwrap();
        Self {
            near: [of("net"), of("mnt")],
            directory,
            seen,
            trespassers,
            _ends: [far_end, near_end],
        }
    }

    /// Where its certificates and secrets are.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Does something on the host where daemons run.
    pub(crate) fn here<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                unshare(CloneFlags::CLONE_FS).unwrap();
                setns(self.near[0].as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
                setns(self.near[1].as_fd(), CloneFlags::CLONE_NEWNS).unwrap();
                act()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The requests that servers got.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.seen.0.lock().unwrap().clone()
    }

    /// Asserts that nobody came where nobody may be led.
    pub(crate) fn assert_untouched(&self) {
        assert_eq!(self.trespassers.load(Ordering::Relaxed), 0, "somebody came to this host");
        for request in self.requests() {
            assert_eq!(request.at, IpAddr::V4(THERE), "{request:?}");
        }
    }

    /// How often somebody came to this host's own sockets: the controls do.
    pub(crate) fn trespassers(&self) -> usize {
        self.trespassers.load(Ordering::Relaxed)
    }

    /// Begins anew with what was seen, and says how often somebody came to this host's own sockets.
    pub(crate) fn forget(&self) -> usize {
        self.seen.0.lock().unwrap().clear();
        self.trespassers.swap(0, Ordering::Relaxed)
    }
}

/// A thread in namespaces of its own.
struct Namespace {
    tid: i32,
}

/// Starts one, and waits until it is ready; it lasts as long as the sender.
fn namespace(
    flags: CloneFlags,
    act: impl FnOnce(&dyn Fn()) + Send + 'static,
) -> (Namespace, mpsc::Sender<()>) {
    let (said, hears) = mpsc::channel();
    let (end, ends) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        unshare(flags).unwrap();
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        act(&|| said.send(tid).unwrap());
        let _ = ends.recv();
    });
    let tid = hears.recv().expect("a network");
    (Namespace { tid }, end)
}

fn shell(script: &str) {
    let status = Command::new("/bin/sh").args(["-e", "-c", script]).status().unwrap();
    assert!(status.success(), "{script}");
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o644)).unwrap();
}

/// What the daemons' host looks up names by. What isn't there would be looked for in another domain.
fn configure(directory: &Path) {
    write(&directory.join("hosts"), "127.0.0.1 localhost\n127.0.0.1 hosts.example.test\n");
    let resolver = format!("nameserver {THERE}\nsearch trap.test\noptions timeout:2 attempts:2\n");
    write(&directory.join("resolv.conf"), &resolver);
}

/// An authority, and a server's certificate by it; and one by nobody.
fn certificates(directory: &Path) -> Arc<ServerConfig> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = params.self_signed(&key).unwrap();
    write(&directory.join("authority.pem"), &authority.pem());
    let issuer = Issuer::new(params, key);
    let names = ["*.example.test", "*.other.test"].map(str::to_owned);
    let own = KeyPair::generate().unwrap();
    let mut leaf = CertificateParams::new(names).unwrap();
    leaf.distinguished_name.push(DnType::CommonName, "every host");
    let leaf = leaf.signed_by(&own, &issuer).unwrap();
    let chain = vec![CertificateDer::from_pem_slice(leaf.pem().as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(own.serialize_pem().as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap())
}

fn serve_everything(seen: &Seen, tls: &Arc<ServerConfig>, www: &Path) {
    let names = UdpSocket::bind("0.0.0.0:53").unwrap();
    std::thread::spawn(move || name_server(&names));
    for port in [80, 443, 8080] {
        let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
        let (seen, tls, www) = (seen.clone(), Arc::clone(tls), www.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, tls, www) = (seen.clone(), Arc::clone(&tls), www.clone());
                std::thread::spawn(move || {
                    let at = stream.local_addr().unwrap();
                    let place = (at.ip(), at.port());
                    if port == 443 {
                        let connection = ServerConnection::new(tls).unwrap();
                        serve(StreamOwned::new(connection, stream), place, &seen, &www);
                    } else {
                        serve(stream, place, &seen, &www);
                    }
                });
            }
        });
    }
}

/// Serves one connection: files, and otherwise what it got itself.
fn serve(stream: impl Read + Write, (at, port): (IpAddr, u16), seen: &Seen, www: &Path) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match stream.read_line(&mut head) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
        }
        let body = body(&mut stream, &head.to_ascii_lowercase());
        seen.0.lock().unwrap().push(Request { at, port, head: head.clone(), body: body.clone() });
        let path = head.split(' ').nth(1).unwrap_or_default();
        let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
        let file = www.join(path);
        let (status, content) = match std::fs::read(&file) {
            Ok(content) => ("200 OK", content),
            Err(_) if path.contains(".git/") => ("404 Not Found", Vec::new()),
            Err(_) => ("200 OK", format!("{head}{body}").into_bytes()),
        };
        let closes = head.to_ascii_lowercase().contains("connection: close");
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", content.len());
        let sent = stream.get_mut().write_all(&[answer.as_bytes(), &content].concat());
        if sent.and_then(|()| stream.get_mut().flush()).is_err() || closes {
            return;
        }
    }
}

fn body(stream: &mut impl BufRead, head: &str) -> String {
    let mut body = Vec::new();
    if let Some(length) = head.split("content-length: ").nth(1) {
        let length = length.split("\r\n").next().unwrap().parse().unwrap();
        let _ = stream.take(length).read_to_end(&mut body);
    } else if head.contains("transfer-encoding: chunked") {
        let mut line = String::new();
        while stream.read_line(&mut line).is_ok_and(|read| read > 0) {
            let length = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
            if length == 0 {
                let _ = stream.read_line(&mut line);
                break;
            }
            let _ = stream.take(length).read_to_end(&mut body);
            line.clear();
            let _ = stream.read_line(&mut line);
            line.clear();
        }
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// A name server, whose answers are made up, and change.
fn name_server(socket: &UdpSocket) {
    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    let mut bytes = [0; 512];
    while let Ok((length, from)) = socket.recv_from(&mut bytes) {
        let Some((name, kind, end)) = question(&bytes[..length]) else { continue };
        let times = asked.entry(format!("{name} {kind}")).or_default();
        let answers = answers(&name, kind, *times);
        *times += 1;
        let mut reply = bytes[..end].to_vec();
        let code = if answers.is_none() { 3 } else { 0 };
        reply[2..4].copy_from_slice(&[0x81, 0x80 | code]);
        let answers = answers.unwrap_or_default();
        reply[6..12].copy_from_slice(&[0, u8::try_from(answers.len()).unwrap(), 0, 0, 0, 0]);
        for ip in answers {
            let (kind, data) = match ip {
                IpAddr::V4(four) => (1, four.octets().to_vec()),
                IpAddr::V6(six) => (28, six.octets().to_vec()),
            };
            // The name asked for, of the Internet, for no time at all.
            reply.extend([
                0xc0,
                12,
                0,
                kind,
                0,
                1,
                0,
                0,
                0,
                0,
                0,
                u8::try_from(data.len()).unwrap(),
            ]);
            reply.extend(data);
        }
        let _ = socket.send_to(&reply, from);
    }
}

/// The name and kind that are asked for, and where the question ends.
fn question(bytes: &[u8]) -> Option<(String, u8, usize)> {
    let (mut name, mut at) = (String::new(), 12);
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length == 0 {
            break;
        }
        let part = bytes.get(at + 1..=at + length)?;
        let _ = write!(name, "{}.", String::from_utf8_lossy(part));
        at += length + 1;
    }
    Some((name.to_ascii_lowercase(), *bytes.get(at + 2)?, at + 5))
}

/// The addresses of a name; `None`: there is no such name.
fn answers(name: &str, kind: u8, times: usize) -> Option<Vec<IpAddr>> {
    let first = name.split('.').next().unwrap_or_default();
    if !(name.ends_with(".test.") && first != "missing") {
        return None;
    }
    // What is behind a name that is missing, in the domain that the host would try.
    if name.ends_with(".trap.test.") {
        return Some(vec![THERE.into()]).filter(|_| kind == 1);
    }
    let four = |four: Ipv4Addr| if kind == 1 { vec![four.into()] } else { Vec::new() };
    let six = |text: &str| if kind == 28 { vec![text.parse().unwrap()] } else { Vec::new() };
    let changing = if times.is_multiple_of(2) { THERE } else { Ipv4Addr::LOCALHOST };
    Some(match first {
        "loopback" => four(Ipv4Addr::LOCALHOST),
        "unspecified" => four(Ipv4Addr::UNSPECIFIED),
        "own" => four(HERE),
        "private" => four(PRIVATE),
        "metadata" => four(METADATA),
        "mapped" => six("::ffff:127.0.0.1"),
        "six" => six("::1"),
        "translated" => six("64:ff9b::7f00:1"),
        "sixtofour" => six("2002:7f00:1::1"),
        // Only the last of many is of another host.
        "many" if kind == 1 => {
            let own = (1..26).map(|last| Ipv4Addr::new(127, 0, 0, last));
            own.chain([THERE]).map(IpAddr::from).collect()
        }
        "crowd" if kind == 1 => (1..26).map(|it| Ipv4Addr::new(127, 0, 0, it).into()).collect(),
        "changing" => four(changing),
        "empty" | "many" | "crowd" => Vec::new(),
        _ => four(THERE),
    })
}
