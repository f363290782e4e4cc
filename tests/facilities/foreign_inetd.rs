//! `pass = "inetd"`: a program for each connection, by real programs and real clients.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::Command;

use rustix::net::sockopt;

use crate::foreign::{free, heard};
use crate::foreign_servers::has;
use crate::harness::{Daemon, eventually};
use crate::refusals::beneath_an_observer;
use crate::{Function, Test};

pub(crate) const TESTS: &[Test] = &[
    ("foreign_inetd::five_hundred_connections_are_served", five_hundred),
    ("foreign_inetd::busybox_serves_files_to_curl", busybox),
    ("foreign_inetd::silence_resets_and_crashes_are_nothing_to_others", hostile),
    ("foreign_inetd::more_than_the_limit_wait_their_turn", limit),
    ("foreign_inetd::a_stop_ends_programs_that_wait", stop),
    ("foreign_inetd::each_connection_is_in_the_audit_log", audited),
    ("foreign_inetd::the_program_learns_who_is_there", peers),
    ("foreign_inetd::what_a_program_is_refused_is_told", refused),
    ("foreign_inetd::a_path_that_is_refused_is_told_if_asked", refused_path),
    ("foreign_inetd::beneath_another_observer_the_filter_answers_itself", observed),
];

pub(crate) const LAYERS: &[Function] = &[];

/// A layer with a program for each connection at `address`.
fn layer(exec: &str, address: &str, more: &str) -> String {
    format!(
        "[layer.server]\nexec = [{exec}]\n\
         syscalls = [\"@core\", \"@net-stream\", \"@file-read\", \"@process\", \"@exec\"]\n\
         because = \"a shell starts programs\"\n\
         listen = {{ door = {{ address = \"{address}\", pass = \"inetd\", {more} }} }}\n\
         limits = {{ tasks = 40, files = 256 }}\ngrace = \"2s\"\n"
    )
}

fn tcp(address: SocketAddr) -> String {
    format!("tcp:{address}")
}

/// What comes back of what is sent.
fn echo(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    heard(&mut stream)
}

/// Each has a `cat` of its own, eight at once; and two lives of it see no connection of the other.
fn five_hundred() {
    let address = free();
    let policy = layer("\"/usr/bin/cat\"", &tcp(address), "max = 16");
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("server/0.g1");
    let client = |from: usize| {
        std::thread::spawn(move || {
            for number in (from..500).step_by(20) {
                let text = format!("connection {number}");
                assert_eq!(echo(address, &text), text);
            }
        })
    };
    let clients: Vec<_> = (0..20).map(client).collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(daemon.count("connection was closed"), 0, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn busybox() {
    if !has("/usr/bin/busybox") || !has("/usr/bin/curl") {
        return;
    }
    let address = free();
    let exec = "\"/usr/bin/busybox\", \"httpd\", \"-i\", \"-h\", \"DIR/www\"";
    let files = "[file.www]\npath = \"DIR/www\"\ngrant = { server = [\"read\", \"list\"] }\n";
    let policy = layer(exec, &tcp(address), "max = 4") + files;
    let mut daemon = Daemon::start_with("-", &policy, |directory| {
        use std::os::unix::fs::PermissionsExt;
        std::fs::create_dir(directory.join("www")).unwrap();
        std::fs::write(directory.join("www/page.txt"), "a page").unwrap();
        for path in ["www", "www/page.txt"] {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(directory.join(path), mode).unwrap();
        }
    });
    daemon.confined("server/0.g1");
    let fetch = |path: &str| {
        let url = format!("http://{address}{path}");
        let done = Command::new("curl").args(["-sS", "--max-time", "30", &url]).output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    for _ in 0..10 {
        assert_eq!(fetch("/page.txt"), "a page", "{daemon}");
    }
    assert!(!fetch("/../../etc/passwd").contains("root:"), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// A shell that does as its client says.
const SHELL: &str = "\"/bin/sh\", \"-c\", \"read word; case $word in crash) kill -SEGV $$;; \
                     call) exec unshare -U true;; *) echo $word;; esac\"";

fn hostile() {
    let address = free();
    let mut daemon = Daemon::start("-", &layer(SHELL, &tcp(address), "max = 8"));
    daemon.confined("server/0.g1");
    let ask = |word: &str| echo(address, &format!("{word}\n"));
    let connect = || TcpStream::connect(address).unwrap();
    let mut silent: Vec<_> = (0..4).map(|_| connect()).collect();
    assert_eq!(ask("one"), "one\n", "{daemon}");
    for _ in 0..20 {
        let stream = connect();
        // Closing it resets it.
        sockopt::set_socket_linger(&stream, Some(std::time::Duration::ZERO)).unwrap();
    }
    assert_eq!(ask("two"), "two\n", "{daemon}");
    assert_eq!(ask("crash"), "", "{daemon}");
    daemon.line("the program of a connection was killed by SIGSEGV");
    ask("call");
    assert_eq!(ask("three"), "three\n", "{daemon}");
    // They have been there all along.
    for stream in &mut silent {
        stream.write_all(b"four\n").unwrap();
        assert_eq!(heard(stream), "four\n", "{daemon}");
    }
    assert_eq!(daemon.count("server/0.g1 ended"), 0, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// The program itself, a child of it, what it left behind, and one that ignores the signal; then by
/// errno, and with the line that would allow it.
fn refused() {
    const WORDS: &str = "\"/bin/sh\", \"-c\", \"read word; case $word in \
        child) unshare -U true; echo went on;; \
        orphan) (sleep 0.2; exec unshare -n true) < /dev/null > /dev/null & echo left;; \
        deaf) trap '' SYS; exec unshare -i true;; \
        *) exec unshare -m true;; esac\"";
    let told = |flag: &str, answer: &str| {
        format!("server/0.g1 made the system call unshare({flag}) and was refused ({answer}; ")
    };
    let address = free();
    let policy = layer(WORDS, &tcp(address), "max = 8") + "[audit]\ndirectory = \"DIR/log\"\n";
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("server/0.g1");
    let ask = |word: &str| echo(address, &format!("{word}\n"));
    let acts = [
        ("itself", "", "CLONE_NEWNS"),
        ("child", "went on\n", "CLONE_NEWUSER"),
        ("orphan", "left\n", "CLONE_NEWNET"),
        ("deaf", "", "CLONE_NEWIPC"),
    ];
    for (word, answer, flag) in acts {
        assert_eq!(ask(word), answer, "{word}: {daemon}");
        daemon.line(&told(flag, "killed"));
    }
    assert_eq!(daemon.count("server/0.g1 ended"), 0, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    let asked = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "query", log.to_str().unwrap()])
        .output()
        .unwrap();
    let records = String::from_utf8_lossy(&asked.stdout);
    for (_, _, flag) in acts {
        assert!(records.contains(&format!("unshare({flag})")), "{records}");
    }

    let more = "refuse = { unshare = \"EPERM\" }\n";
    let address = free();
    let mut daemon = Daemon::start("-", &(layer(WORDS, &tcp(address), "max = 8") + more));
    daemon.confined("server/0.g1");
    assert_eq!(echo(address, "child\n"), "went on\n", "{daemon}");
    let line = daemon.line(&told("CLONE_NEWUSER", "EPERM"));
    assert!(line.contains("\"unshare(CLONE_NEWUSER)\" in `syscalls` of [layer.server]"), "{line}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");

    let address = free();
    let policy = layer(WORDS, &tcp(address), "max = 8")
        .replace("\"@core\"", "\"@core\", \"unshare(CLONE_NEWUSER)\"");
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("server/0.g1");
    assert_eq!(echo(address, "child\n"), "went on\n", "{daemon}");
    assert_eq!(echo(address, "itself\n"), "", "{daemon}");
    daemon.line(&told("CLONE_NEWNS", "killed"));
    assert_eq!(daemon.count("call unshare(CLONE_NEWUSER)"), 0, "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn observed() {
    let address = free();
    let exec = "\"/bin/sh\", \"-c\", \"unshare -U true; echo went on $?\"";
    let mut daemon = beneath_an_observer(&layer(exec, &tcp(address), "max = 8"));
    daemon.confined("server/0.g1");
    for _ in 0..3 {
        // 128 and SIGSYS.
        assert_eq!(echo(address, ""), "went on 159\n", "{daemon}");
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(daemon.count("what its program is refused can't be told"), 1, "{daemon}");
    assert_eq!(daemon.count("and was refused"), 0, "{daemon}");
}

fn refused_path() {
    let exec = "\"/bin/sh\", \"-c\", \"exec cat /srv/none/secret\"";
    let address = free();
    let policy = layer(exec, &tcp(address), "max = 8");
    let mut daemon = Daemon::command_line_prepared(&policy, &["--tell-paths"], |_| {});
    daemon.confined("server/0.g1");
    assert_eq!(echo(address, ""), "", "{daemon}");
    let line = daemon.line("made the system call openat(\"/srv/none/secret\", O_RDONLY)");
    assert!(line.contains("by its path, so ENOENT most likely; "), "{line}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

fn limit() {
    let address = free();
    let mut daemon = Daemon::start("-", &layer("\"/usr/bin/cat\"", &tcp(address), "max = 2"));
    daemon.confined("server/0.g1");
    let mut first: Vec<_> = (0..2).map(|_| TcpStream::connect(address).unwrap()).collect();
    for stream in &mut first {
        // Its program is there.
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
    }
    let mut third = TcpStream::connect(address).unwrap();
    third.write_all(b"y").unwrap();
    third.set_nonblocking(true).unwrap();
    let waits = |stream: &mut TcpStream| {
        let kind = stream.read(&mut [0]).map_err(|error| error.kind());
        kind == Err(std::io::ErrorKind::WouldBlock)
    };
    // Another act of the layer's meanwhile would have let it in.
    first[0].write_all(b"x").unwrap();
    first[0].read_exact(&mut [0]).unwrap();
    assert!(waits(&mut third), "{daemon}");
    drop(first.pop());
    third.set_nonblocking(false).unwrap();
    let mut byte = [0];
    third.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"y", "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// `cat` ends by SIGTERM at once; a shell that ignores it ends with its init, after the grace, or by
/// the signal that the policy names.
fn stop() {
    let deaf = "\"/bin/sh\", \"-c\", \"trap '' TERM; echo there; exec cat\"";
    for (exec, signal, is_killed) in
        [("\"/usr/bin/cat\"", "TERM", false), (deaf, "TERM", true), (deaf, "HUP", false)]
    {
        let address = free();
        let policy =
            layer(exec, &tcp(address), "max = 4") + &format!("stop-signal = \"{signal}\"\n");
        let mut daemon = Daemon::start("-", &policy);
        daemon.confined("server/0.g1");
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert_eq!(daemon.count("did not finish in time"), usize::from(is_killed), "{daemon}");
        let _ = stream.read_to_end(&mut Vec::new());
        assert!(TcpStream::connect(address).is_err(), "{daemon}");
    }
}

fn audited() {
    let address = free();
    let policy = layer("\"/usr/bin/cat\"", &tcp(address), "max = 4, per-source = 1")
        + "[audit]\ndirectory = \"DIR/log\"\n";
    let mut daemon = Daemon::start("-", &policy);
    daemon.confined("server/0.g1");
    let mut first = TcpStream::connect(address).unwrap();
    first.write_all(b"x").unwrap();
    first.read_exact(&mut [0]).unwrap();
    let own = first.local_addr().unwrap();
    let mut second = TcpStream::connect(address).unwrap();
    let other = second.local_addr().unwrap();
    // One source has one connection.
    let _ = second.read_to_end(&mut Vec::new());
    drop(first);
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let log = daemon.directory().join("log");
    let told = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["audit", "query", log.to_str().unwrap()])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&told.stdout);
    let line = |address: SocketAddr| told.lines().find(|line| line.contains(&address.to_string()));
    let (one, two) = (line(own), line(other));
    assert!(one.is_some_and(|line| line.contains("server")), "{told}");
    assert!(two.is_some_and(|line| line.contains("refused")), "{told}");
}

fn peers() {
    let address = free();
    let exec = "\"/bin/sh\", \"-c\", \"echo $REMOTE_ADDR $REMOTE_PORT\"";
    let mut daemon = Daemon::start("-", &layer(exec, &tcp(address), "max = 4"));
    daemon.confined("server/0.g1");
    let mut stream = TcpStream::connect(address).unwrap();
    let own = stream.local_addr().unwrap();
    assert_eq!(heard(&mut stream), format!("{} {}\n", own.ip(), own.port()), "{daemon}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");

    let exec = "\"/bin/sh\", \"-c\", \"echo by path\"";
    let mut daemon = Daemon::start("-", &layer(exec, "unix:DIR/socket", "max = 4"));
    daemon.confined("server/0.g1");
    let path = daemon.directory().join("socket");
    let mut said = String::new();
    eventually("the socket's program answers", || {
        said = heard(&mut UnixStream::connect(&path).unwrap());
        said == "by path\n"
    });
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}
