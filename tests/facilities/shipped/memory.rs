//! Redis and memcached.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use super::{Elsewhere, Shipped, needs, outcome, output};
use crate::Test;
use crate::foreign::free;

pub(crate) const TESTS: &[Test] = &[
    ("shipped::redis_keeps_its_data", redis),
    ("shipped::redis_that_obeys_a_stranger_reaches_nothing_else", redis_obeys),
    ("shipped::memcached_caches", memcached),
];

/// redis-cli's answer.
fn ask(port: u16, words: &[&str]) -> String {
    let (_, said) = outcome(Command::new("redis-cli").args(["-p", &port.to_string()]).args(words));
    said
}

fn redis() {
    needs("/usr/bin/redis-server");
    let port = free().port();
    let shipped = Shipped::new("redis").var("port", port).var("data", "DIR/data");
    let mut daemon = shipped.start(|_| {});
    daemon.line("Ready to accept connections");
    assert_eq!(ask(port, &["set", "kept", "value"]), "OK", "{daemon}");
    let benchmark =
        ["-p", &port.to_string(), "-q", "-n", "2000", "-c", "20", "-t", "set,get,lpush"];
    let said = output(Command::new("redis-benchmark").args(benchmark));
    assert!(said.contains("SET:") && said.contains("LPUSH:"), "{said}");
    // Each by a child.
    ask(port, &["bgsave"]);
    daemon.line("Background saving terminated with success");
    ask(port, &["bgrewriteaof"]);
    daemon.line("Background AOF rewrite finished successfully");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("DB saved on disk"), 2, "{daemon}");
    assert_eq!(daemon.count("redis/0.g1 ended with exit code 0"), 1, "{daemon}");

    let mut daemon = shipped.start_in(daemon.take_directory());
    daemon.line("Ready to accept connections");
    assert_eq!(ask(port, &["get", "kept"]), "value", "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Says so where it is loaded, whoever loads it.
const MODULE: &str = "#include <unistd.h>\n\
    __attribute__((constructor)) static void run(void) { write(2, \"a stranger's code\\n\", 18); }\n\
    int RedisModule_OnLoad(void *a, void **b, int c) { return 1; }\n";

/// Redis with all that its authors have switched off since it was abused.
fn redis_obeys() {
    needs("/usr/bin/redis-server");
    needs("/usr/bin/gcc");
    let port = free().port();
    let elsewhere = Elsewhere::new();
    let shipped = Shipped::new("redis").var("port", port).var("data", "DIR/data").replace(
        "\"--daemonize\"",
        "\"--enable-protected-configs\", \"yes\", \"--enable-module-command\", \"yes\", \
         \"--enable-debug-command\", \"yes\", \"--daemonize\"",
    );
    let mut daemon = shipped.start(|_| {});
    daemon.line("Ready to accept connections");
    assert_eq!(ask(port, &["set", "key", "value"]), "OK");
    let path = |name: &str| daemon.directory().join(name).display().to_string();
    let (here, data) = (path(""), path("data"));

    // A file of its own making, where others would read it.
    assert_eq!(ask(port, &["config", "set", "dir", &here]), "OK");
    assert!(ask(port, &["save"]).starts_with("ERR"));
    assert!(!Path::new(&path("dump.rdb")).exists());
    assert_eq!(ask(port, &["config", "set", "dir", &data]), "OK");
    assert_eq!(ask(port, &["save"]), "OK");
    assert!(Path::new(&path("data/dump.rdb")).exists());

    // A module, in the one place where it can write.
    let (source, module) = (path("module.c"), path("data/module.so"));
    std::fs::write(&source, MODULE).unwrap();
    output(Command::new("gcc").args(["-shared", "-fPIC", "-w", "-o", &module, &source]));
    std::fs::set_permissions(&module, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(ask(port, &["module", "load", &module]).starts_with("ERR"));
    let control = output(Command::new("/bin/true").env("LD_PRELOAD", &module));
    assert_eq!(control, "a stranger's code");

    // Another service of the machine.
    let target = elsewhere.address().port().to_string();
    let said = ask(port, &["migrate", "127.0.0.1", &target, "key", "0", "1000"]);
    assert!(said.starts_with("IOERR"), "{said}");
    elsewhere.is_untouched();

    assert_eq!(ask(port, &["get", "key"]), "value");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("failed to map segment from shared object"), 1, "{daemon}");
    assert_eq!(daemon.count("a stranger's code"), 0, "{daemon}");
    assert_eq!(
        daemon.count(&format!(
            "made the system call connect(tcp:127.0.0.1:{target}) and was refused"
        )),
        1,
        "{daemon}"
    );
}

/// What memcached answers until it says the last word.
fn told(stream: &mut TcpStream, words: &str, last: &str) -> String {
    stream.write_all(words.as_bytes()).unwrap();
    let (mut said, mut some) = (String::new(), [0; 4096]);
    while !said.ends_with(last) {
        let count = stream.read(&mut some).unwrap();
        assert!(count > 0, "{said}");
        said.push_str(std::str::from_utf8(&some[..count]).unwrap());
    }
    said
}

fn memcached() {
    needs("/usr/bin/memcached");
    let address = free();
    let mut daemon = Shipped::new("memcached").var("port", address.port()).start(|_| {});
    daemon.confined("memcached/0.g1");
    // By all of its threads.
    let mut clients: Vec<_> = (0..16).map(|_| TcpStream::connect(address).unwrap()).collect();
    for (at, client) in clients.iter_mut().enumerate() {
        let value = "v".repeat(1000 + at);
        let set = format!("set key{at} 0 0 {}\r\n{value}\r\n", value.len());
        assert_eq!(told(client, &set, "\r\n"), "STORED\r\n", "{daemon}");
    }
    clients.reverse();
    for (at, client) in clients.iter_mut().enumerate() {
        let said = told(client, &format!("get key{at}\r\n"), "END\r\n");
        assert!(said.contains(&"v".repeat(1000 + at)), "{said}");
    }
    let stats = told(&mut clients[0], "stats\r\n", "END\r\n");
    assert!(stats.contains("STAT curr_items 16\r\n"), "{stats}");
    assert!(stats.contains("STAT threads 4\r\n"), "{stats}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("memcached/0.g1 ended with exit code 0"), 1, "{daemon}");
}
