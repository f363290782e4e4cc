//! Real programs with sockets, by their own clients. More are in `shipped`.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::foreign::{free, heard};
use crate::harness::Daemon;
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("foreign_servers::python_serves_files", python),
    ("foreign_servers::redis_keeps_what_its_client_says", redis),
    ("foreign_servers::curl_fetches_by_name_and_nothing_else", curl),
];

pub(crate) const LAYERS: &[Function] = &[];

/// Whether a program is there; where the gate runs it must be, for `.ci/run` installs it.
pub(crate) fn has(path: &str) -> bool {
    let there = Path::new(path).exists();
    assert!(there || std::env::var_os("CI").is_none(), "{path} is missing: .ci/run installs it");
    there
}

/// The layer that runs `exec` and listens on `address`.
fn server(exec: &[&str], calls: &str, address: SocketAddr, more: &str) -> String {
    let words = exec.join("\", \"");
    format!(
        "[layer.server]\nexec = [\"{words}\"]\n\
         syscalls = [\"@core\", \"@net-stream\", \"@file-read\"{calls}]\n\
         listen = {{ door = \"tcp:{address}\" }}\n{more}\n"
    )
}

/// Makes a path readable, and a directory writable, by everybody.
fn open_up(path: &Path) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).unwrap();
}

/// A server that binds to any address, of both families at once.
fn python() {
    if !has("/usr/bin/python3") {
        return;
    }
    let address = free();
    let port = address.port().to_string();
    let exec = ["/usr/bin/python3", "-m", "http.server", &port, "--directory", "DIR/www"];
    let files = "[file.www]\npath = \"DIR/www\"\ngrant = { server = [\"read\", \"list\"] }";
    let policy = server(&exec, ", \"@thread\"", address, files);
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        std::fs::create_dir(directory.join("www")).unwrap();
        std::fs::write(directory.join("www/page"), "a page").unwrap();
        for path in ["www", "www/page"] {
            open_up(&directory.join(path));
        }
    });
    daemon.confined("server/0.g1");
    // The socket is there before the program is.
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /page HTTP/1.0\r\n\r\n").unwrap();
    assert!(heard(&mut stream).ends_with("\r\n\r\na page"), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// A client's output, which must have succeeded.
fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8_lossy(&stdout).into_owned();
    assert!(status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&stderr));
    said
}

/// It binds to any address of both families, and goes on with the one that it gets.
fn redis() {
    if !has("/usr/bin/redis-server") {
        return;
    }
    let address = free();
    let port = address.port().to_string();
    let exec = ["/usr/bin/redis-server", "--port", &port, "--save", "", "--protected-mode", "no"];
    let limits = "limits = { tasks = 32, files = 512 }";
    let mut daemon = Daemon::start("-", &server(&exec, ", \"@thread\"", address, limits));
    daemon.line("Ready to accept connections");
    let client = |words: &[&str]| {
        output(Command::new("redis-cli").args(["-p", &port]).args(words)).trim().to_owned()
    };
    assert_eq!(client(&["set", "a", "value"]), "OK", "{daemon}");
    assert_eq!(client(&["get", "a"]), "value", "{daemon}");
    let benchmark = ["-p", &port, "-q", "-n", "2000", "-c", "20", "-t", "set,get"];
    let said = output(Command::new("redis-benchmark").args(benchmark));
    assert!(said.contains("SET:") && said.contains("GET:"), "{said}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// What a web server would say, to each who comes.
fn web(listener: &TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nfetched");
    }
}

fn curl() {
    if !has("/usr/bin/curl") {
        return;
    }
    let addresses = [free(), free()];
    for address in addresses {
        let listener = TcpListener::bind(address).unwrap();
        std::thread::spawn(move || web(&listener));
    }
    let [declared, other] = addresses.map(|address| address.port());
    let fetch = |from: &str| {
        let policy = format!(
            "[layer.fetch]\nexec = [\"/usr/bin/curl\", \"-sS\", \"--max-time\", \"20\", \"{from}\"]\n\
             syscalls = [\"@core\", \"@file-read\", \"@thread\"]\n\
             connect = {{ site = \"tcp:localhost:{declared}\" }}\n\
             restart = {{ on = \"never\" }}\n"
        );
        let mut daemon = Daemon::command_line(&policy);
        daemon.end();
        daemon
    };
    let daemon = fetch(&format!("http://localhost:{declared}/"));
    assert_eq!(daemon.count("fetch/0.g1: fetched"), 1, "{daemon}");
    for from in [
        format!("http://localhost:{other}/"),
        format!("http://127.0.0.1:{other}/"),
        format!("http://[::ffff:127.0.0.1]:{other}/"),
    ] {
        let daemon = fetch(&from);
        assert_eq!(daemon.count("fetched"), 0, "{from}: {daemon}");
        // Nobody tells it more than that it can't get there.
        assert_eq!(daemon.count("fetch/0.g1: curl: (7)"), 1, "{from}: {daemon}");
    }
}
