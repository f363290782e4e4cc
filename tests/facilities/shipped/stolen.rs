//! What the shipped policies leave to whoever takes their programs over, by any bug: Python in the
//! place of each program, with the same grants.

use std::fs;
use std::os::unix::net::UnixListener;

use super::{Elsewhere, Shipped, needs};
use crate::Test;
use crate::foreign::free;

pub(crate) const TESTS: &[Test] = &[
    ("shipped::whoever_takes_redis_over_reaches_nothing_else", redis),
    ("shipped::whoever_takes_memcached_over_reaches_nothing_else", memcached),
    ("shipped::whoever_takes_nginx_over_reaches_nothing_else", nginx),
    ("shipped::whoever_takes_postgresql_over_reaches_nothing_else", postgresql),
    ("shipped::whoever_takes_a_python_application_over_reaches_nothing_else", python),
    ("shipped::whoever_takes_node_over_reaches_nothing_else", node),
    ("shipped::whoever_takes_java_over_reaches_nothing_else", java),
];

/// One line an attempt, the last one of which isn't answered.
const STRANGER: &str = r#"
import errno, os, socket
def attempt(what, act):
    try:
        act()
        said = "WORKED"
    except OSError as error:
        said = errno.errorcode[error.errno]
    print(what, "->", said, flush=True)
def unix():
    socket.socket(socket.AF_UNIX).connect("DIR/door")
def datagram():
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", PORT))
attempt("the secret", lambda: open("DIR/secret").read())
attempt("the passwords", lambda: open("/etc/shadow").read())
attempt("the daemon", lambda: open("/proc/1/environ").read())
attempt("a disk", lambda: open("/dev/sda").read())
attempt("a trace", lambda: open("DIR/trace", "w"))
attempt("a trace in /etc", lambda: open("/etc/trace", "w"))
attempt("a trace in /usr", lambda: open("/usr/trace", "w"))
attempt("another service", lambda: socket.create_connection(("127.0.0.1", PORT)))
attempt("another service, by IPv6", lambda: socket.create_connection(("::ffff:127.0.0.1", PORT)))
attempt("another service, by datagram", datagram)
attempt("another service, by path", unix)
attempt("another port", lambda: socket.socket().bind(("127.0.0.1", PORT)))
attempt("the packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
attempt("another user", lambda: os.setuid(0))
print("a shell", flush=True)
os.execv("/bin/sh", ["sh", "-c", "echo it WORKED"])
"#;

/// How many of its attempts are answered.
const ATTEMPTS: usize = 14;

/// Runs the stranger in place of a program; `layer` is what its log lines begin with.
fn stolen(policy: Shipped, layer: &str, folders: &[&str]) {
    needs("/usr/bin/python3");
    let elsewhere = Elsewhere::new();
    let script = STRANGER.replace("PORT", &elsewhere.address().port().to_string());
    let policy = policy.exec(&format!("[\"/usr/bin/python3\", \"-I\", \"-c\", '''{script}''']"));
    let mut door = None;
    let mut daemon = policy.start(|directory| {
        for folder in folders {
            fs::create_dir(directory.join(folder)).unwrap();
        }
        fs::write(directory.join("conf"), "").unwrap();
        door = Some(UnixListener::bind(directory.join("door")).unwrap());
    });
    daemon.line(&format!("{layer}/0.g1: a shell"));
    assert_eq!(daemon.count(" -> "), ATTEMPTS, "{daemon}");
    daemon.line(&format!("{layer}/0.g1 was killed by SIG"));
    daemon.stop();
    assert_eq!(daemon.count("WORKED"), 0, "{daemon}");
    elsewhere.is_untouched();
    let door = door.unwrap();
    door.set_nonblocking(true).unwrap();
    assert!(door.accept().is_err(), "{daemon}");
    assert!(!daemon.directory().join("trace").exists(), "{daemon}");
}

fn server(name: &str) -> Shipped {
    Shipped::new(name).var("port", free().port())
}

fn redis() {
    stolen(server("redis").var("data", "DIR/data"), "redis", &[]);
}

fn memcached() {
    stolen(server("memcached"), "memcached", &[]);
}

fn nginx() {
    needs("/etc/nginx/mime.types");
    let policy = server("nginx").var("config", "DIR/conf").var("site", "DIR/site");
    stolen(policy, "nginx", &["site"]);
}

fn postgresql() {
    stolen(server("postgresql").var("data", "DIR/data"), "postgres", &[]);
}

fn python() {
    stolen(server("python-app").var("app", "DIR/app"), "python", &["app"]);
}

fn node() {
    stolen(server("node").var("app", "DIR/app"), "node", &["app"]);
}

fn java() {
    // Any directory of /etc that is always there.
    let policy = server("java").var("app", "DIR/app").var("release", "alternatives");
    stolen(policy, "java", &["app"]);
}
