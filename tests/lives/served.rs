//! `[metrics] listen`: numbers by HTTP, for who scrapes them, and for strangers who do anything else.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Signal, kill_process};

use crate::Test;
use crate::harness::{Daemon, eventually};
use crate::support::suite::ignore;

pub(crate) const TESTS: &[Test] = &[
    ("served::numbers_are_scraped_by_curl", curl),
    ("served::numbers_are_scraped_by_prometheus", prometheus),
    ("served::nothing_else_is_answered", refused),
    ("served::slow_clients_hold_up_nobody", slow),
    ("served::garbage_harms_nobody", garbage),
    ("served::a_killed_helper_is_followed_by_another", killed),
    ("served::a_reload_begins_and_ends_it", reloaded),
];

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

const LAYERS: &str = "[layer.a]\nrun = \"caller\"\nsyscalls = [\"@core\"]\n[layer.b]\nrun = \"callee\"\n\
     syscalls = [\"@core\"]\n[channel.talk]\nfrom = \"a\"\nto = \"b\"\nmethods = { echo = {} }\n";

fn policy(address: SocketAddr) -> String {
    format!("[metrics]\nlisten = \"tcp:{address}\"\n{LAYERS}")
}

/// A daemon, and where its numbers are.
fn served() -> (Daemon, SocketAddr) {
    let address = free();
    let mut daemon = Daemon::start("talk", &policy(address));
    daemon.confined("cofferdam-metrics/0.g1");
    (daemon, address)
}

/// What a plain client gets, whatever it says.
fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
    // It may have been refused already.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => String::from_utf8(answer).unwrap(),
    }
}

fn numbers(address: SocketAddr) -> String {
    ask(address, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
}

fn curl() {
    let (mut daemon, address) = served();
    let pid = daemon.confined("a/0.g1");
    let url = format!("http://{address}/metrics");
    let fetch = |more: &[&str]| {
        let out = Command::new("curl").args(["-sSi", &url]).args(more).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap()
    };
    let running = "cofferdam_instance_running{daemon=\"test\",layer=\"a\",instance=\"0\"} 1\n";
    eventually("both run", || fetch(&[]).contains(running));
    let text = fetch(&[]);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("\r\nContent-Type: text/plain; version=0.0.4;"), "{text}");
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("cofferdam_up{daemon=\"test\"} 1\n"), "{text}");
    assert!(body.contains("layer=\"cofferdam-metrics\""), "{text}");
    assert!(body.ends_with("\n# EOF\n"), "{text}");
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).unwrap();
    if groups.lines().any(|line| line.ends_with("/a-0.g1") && line.contains("memory")) {
        let memory = "cofferdam_instance_memory_bytes{daemon=\"test\",layer=\"a\",instance=\"0\"} ";
        assert!(body.contains(memory), "{text}");
    }
    crate::metrics::accepted(body);
    let open = fetch(&["-H", "Accept: application/openmetrics-text; version=1.0.0"]);
    assert!(open.contains("\r\nContent-Type: application/openmetrics-text;"), "{open}");
    let head = fetch(&["--head"]);
    assert!(head.contains("Content-Length: ") && !head.contains("cofferdam_up"), "{head}");
    // An end is counted.
    kill_process(pid, Signal::KILL).unwrap();
    let ends = "cofferdam_layer_ends_total{daemon=\"test\",layer=\"a\",reason=\"SIGKILL\"} 1\n";
    eventually("its end is counted", || fetch(&[]).contains(ends));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// A process that ends with the test.
struct Scraper(Child);

impl Drop for Scraper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn prometheus() {
    if !Command::new("prometheus").arg("--version").output().is_ok_and(|out| out.status.success()) {
        ignore("without prometheus nothing scrapes");
    }
    let (mut daemon, address) = served();
    let (folder, own) = (tempfile::tempdir().unwrap(), free());
    let config = folder.path().join("prometheus.yml");
    let text = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: cofferdam\n    \
         static_configs:\n      - targets: [\"{address}\"]\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new("prometheus");
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
    command.arg(format!("--web.listen-address={own}"));
    let scraper = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let _scraper = Scraper(scraper);
    let query = |what: &str| {
        let url = format!("http://{own}/api/v1/query?query={what}");
        let out = Command::new("curl").args(["-sS", &url]).output().unwrap();
        String::from_utf8(out.stdout).unwrap()
    };
    eventually("it has scraped", || {
        query("cofferdam_instance_running").contains("\"layer\":\"a\"")
    });
    assert!(query("up").contains(",\"1\"]"), "{}", query("up"));
    assert!(query("cofferdam_up").contains("\"daemon\":\"test\""), "{}", query("cofferdam_up"));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn refused() {
    let (mut daemon, address) = served();
    for (said, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404"),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", "404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405"),
        (b"GET /metrics HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        (b"GET http://elsewhere/ HTTP/1.1\r\n\r\n", "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "400"),
    ] {
        let answer = ask(address, said);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(!answer.contains("cofferdam_"), "{answer}");
    }
    // One request a connection: what is said behind it is dropped.
    let two = ask(address, &b"GET /metrics HTTP/1.1\r\n\r\n".repeat(2));
    assert_eq!(two.matches("HTTP/1.1 200 OK").count(), 1, "{two}");
    assert!(two.ends_with("# EOF\n"), "{two}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// More than may be served at a time, none of which says anything, or reads what it is sent.
fn slow() {
    let (mut daemon, address) = served();
    let connect = |said: &'static [u8]| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(said).unwrap();
        stream
    };
    let silent: Vec<_> = (0..300).map(|_| connect(b"")).collect();
    assert!(numbers(address).ends_with("# EOF\n"));
    let begun: Vec<_> = (0..300).map(|_| connect(b"GET /metrics HT")).collect();
    assert!(numbers(address).ends_with("# EOF\n"));
    let deaf: Vec<_> = (0..300).map(|_| connect(b"GET /metrics HTTP/1.1\r\n\r\n")).collect();
    assert!(numbers(address).ends_with("# EOF\n"));
    drop((silent, begun, deaf));
    for _ in 0..1000 {
        drop(TcpStream::connect(address).unwrap());
    }
    assert!(numbers(address).ends_with("# EOF\n"));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("cofferdam-metrics/0.g2"), 0, "{daemon}");
}

fn garbage() {
    let (mut daemon, address) = served();
    let mut state = 7_u64;
    let mut byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    for length in [1, 2, 100, 4095, 4096, 4097, 65_536, 1 << 20] {
        let noise: Vec<u8> = (0..length).map(|_| byte()).collect();
        for said in [noise.clone(), vec![b'a'; length], b"GET /metrics HTTP/1.1\r\na: ".to_vec()] {
            let mut stream = TcpStream::connect(address).unwrap();
            let _ = stream.write_all(&said);
            let _ = stream.write_all(&noise);
            drop(stream);
        }
        let long = [&b"GET /metrics HTTP/1.1\r\na: "[..], &vec![b'x'; 4096], b"\r\n\r\n"].concat();
        let answer = ask(address, &long);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    assert!(numbers(address).ends_with("# EOF\n"));
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("cofferdam-metrics/0.g2"), 0, "{daemon}");
}

fn killed() {
    let address = free();
    let mut daemon = Daemon::start("talk", &policy(address));
    let pid = daemon.confined("cofferdam-metrics/0.g1");
    assert!(numbers(address).ends_with("# EOF\n"));
    kill_process(pid, Signal::KILL).unwrap();
    // Its socket stays, so nobody is refused meanwhile.
    let text = numbers(address);
    assert!(text.contains("layer=\"b\",instance=\"0\"} 1\n"), "{text}");
    daemon.confined("cofferdam-metrics/0.g2");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn reloaded() {
    let address = free();
    let mut daemon = Daemon::start("talk", LAYERS);
    daemon.line("b/0.g1 is confined");
    let file = daemon.directory().join("policy.toml");
    let without = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{without}\n[metrics]\nlisten = \"tcp:{address}\"\n")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.line("+ the daemon: metrics.listen from nowhere to at tcp:");
    daemon.confined("cofferdam-metrics/0.g1");
    let text = numbers(address);
    assert!(text.contains("layer=\"b\",instance=\"0\"} 1\n"), "{text}");
    std::fs::write(&file, without).unwrap();
    daemon.signal(Signal::HUP);
    daemon.line("cofferdam-metrics/0.g1 ended with exit code 0");
    eventually("nobody listens", || TcpStream::connect(address).is_err());
    assert_eq!(daemon.count("b/0.g2"), 0, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}
