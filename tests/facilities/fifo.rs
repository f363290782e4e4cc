//! Named pipes, written to from outside as by a shell.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::fifo::{Event, FifoError};
use rustix::process::{Signal, kill_process};

use crate::harness::Daemon;
use crate::{Function, Outcome, Runs, Test, say, text};

pub(crate) const TESTS: &[Test] = &[
    ("fifo::echo_returns_whatever_becomes_of_the_layer", echo),
    ("fifo::a_kill_takes_one_line_at_most_and_leaves_no_half", killed),
    ("fifo::hostile_lines_are_bounded_and_told", hostile),
    ("fifo::lines_are_read_at_their_rate", rate),
    ("fifo::it_has_the_mode_and_goes_with_the_daemon", mode),
    ("fifo::only_a_stale_one_is_replaced", stale),
    ("fifo::a_directory_of_others_is_refused", directory),
    ("fifo::its_end_is_only_for_reading", rights),
];

pub(crate) const LAYERS: &[Function] = &[
    ("fifo-lines", Runs::Async(|layer| Box::pin(lines(layer)))),
    ("fifo-lines-blocking", Runs::Blocking(lines_blocking)),
    ("fifo-count", Runs::Async(|layer| Box::pin(count(layer)))),
    ("fifo-thief", Runs::Blocking(thief)),
];

fn policy(run: &str, more: &str) -> String {
    format!(
        "[layer.a]\nrun = \"{run}\"\nsyscalls = [\"@core\"]\nrestart = {{ max = 100 }}\n\
         [fifo.f]\npath = \"DIR/f\"\nto = \"a\"\n{more}\n"
    )
}

/// A daemon, and where its FIFO is.
fn start(policy: &str, prepare: impl FnOnce(&Path)) -> (Daemon, PathBuf) {
    let mut path = PathBuf::new();
    let daemon = Daemon::start_with("-", policy, |directory| {
        path = directory.join("f");
        prepare(directory);
    });
    (daemon, path)
}

fn write(path: &Path, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all(bytes).unwrap();
}

async fn lines(layer: Layer) -> Outcome {
    let mut fifo = layer.fifo("f").map_err(text)?;
    if layer.fifo("f").is_ok() {
        return Err("there are two readers".into());
    }
    say("reading");
    loop {
        tokio::select! {
            event = fifo.next() => tell(&event.map_err(text)?),
            () = layer.stopping() => return Ok(()),
        }
    }
}

fn lines_blocking(layer: Layer) -> Outcome {
    let mut fifo = layer.fifo("f").map_err(text)?;
    say("reading");
    loop {
        match fifo.blocking().next() {
            Ok(event) => tell(&event),
            Err(FifoError::Stopping) => return Ok(()),
            Err(error) => return Err(text(error)),
        }
    }
}

fn tell(event: &Event) {
    match event {
        Event::Line(line) if line.text() == Ok("die") => std::process::exit(3),
        Event::Line(line) if line.0.len() > 200 => say(format!("a line of {}", line.0.len())),
        Event::Line(line) => say(format!("<{}>", line.0.escape_ascii())),
        Event::TooLong => say("too long"),
    }
}

fn echo() {
    for run in ["fifo-lines", "fifo-lines-blocking"] {
        let (mut daemon, path) = start(&policy(run, ""), |_| ());
        daemon.line("reading");
        for n in 1..=10 {
            let script = format!("echo die > {0}; echo {n} > {0}", path.display());
            let status = Command::new("/bin/sh").args(["-c", &script]).status().unwrap();
            assert!(status.success());
            daemon.line(&format!("a/0.g{}: <{n}>", n + 1));
        }
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
        assert!(!path.exists());
    }
}

fn killed() {
    const KILLS: usize = 10;
    let (mut daemon, path) = start(&policy("fifo-lines", ""), |_| ());
    daemon.confined("a/0.g1");
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&done);
    let writer = std::thread::spawn(move || {
        let mut lines = 0;
        while !asked.load(Ordering::Relaxed) {
            // One write each, or a kill could fall between two.
            let line = format!("line {lines} of many, to make it longer\n");
            file.write_all(line.as_bytes()).unwrap();
            lines += 1;
            std::thread::sleep(Duration::from_micros(50));
        }
        lines
    });
    for generation in 1..=KILLS {
        let pid = daemon.confined(&format!("a/0.g{generation}"));
        daemon.line(&format!("a/0.g{generation}: <line"));
        kill_process(pid, Signal::KILL).unwrap();
        daemon.line(&format!("a/0.g{generation} was killed"));
    }
    done.store(true, Ordering::Relaxed);
    let written = writer.join().unwrap();
    write(&path, b"last\n");
    daemon.line("<last>");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    let number = |line: &String| -> Option<usize> {
        let rest = line.split_once("<line ")?.1;
        rest.strip_suffix(" of many, to make it longer>")?.parse().ok()
    };
    let mut said: Vec<usize> = daemon.seen.iter().filter_map(number).collect();
    assert!(said.is_sorted(), "{daemon}");
    let whole = said.len();
    said.dedup();
    assert_eq!(said.len(), whole, "a line came twice: {daemon}");
    // A line is said after it was taken, so a kill may fall in between.
    assert!(written - whole <= KILLS, "{whole} of {written}: {daemon}");
    // No part of a line was taken for a line.
    assert_eq!(daemon.count(": <"), whole + 1, "{daemon}");
}

fn hostile() {
    for run in ["fifo-lines", "fifo-lines-blocking"] {
        let (mut daemon, path) = start(&policy(run, "max = \"8KiB\""), |_| ());
        daemon.line("reading");
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        // Bytes that are no text.
        file.write_all(b"\x1b]0;\xff\0\r\n").unwrap();
        daemon.line("<\\x1b]0;\\xff\\x00\\r>");
        file.write_all(b"\n").unwrap();
        daemon.line("<>");
        // As long as it may be, and longer; in several writes, and across all that it holds.
        file.write_all(&[vec![b'x'; 8192], vec![b'\n']].concat()).unwrap();
        daemon.line("a line of 8192");
        file.write_all(&vec![b'x'; 1 << 20]).unwrap();
        daemon.line("too long");
        file.write_all(b"x\nnext\n").unwrap();
        daemon.line("<next>");
        // A half, and then the other.
        file.write_all(b"two ").unwrap();
        file.write_all(b"halves\n").unwrap();
        daemon.line("<two halves>");
        // Small packets without end fill every slot.
        let mut packets = OpenOptions::new().write(true).open(&path).unwrap();
        rustix::fs::fcntl_setfl(&packets, rustix::fs::OFlags::DIRECT).unwrap();
        for _ in 0..100 {
            packets.write_all(b"p").unwrap();
        }
        packets.write_all(b"\nafter\n").unwrap();
        write(&path, b"end\n");
        daemon.line("<end>");
        assert_eq!(daemon.count(&format!("<{}>", "p".repeat(100))), 1, "{daemon}");
        assert_eq!(daemon.stop(), Some(0), "{daemon}");
    }
}

fn rate() {
    let (mut daemon, path) = start(&policy("fifo-count", "rate = \"20/s\""), |_| ());
    daemon.confined("a/0.g1");
    write(&path, &b"x\n".repeat(60));
    // 20 at once, and 40 more in two seconds at least.
    let line = daemon.line("60 lines in ");
    let millis: u64 = line.rsplit("in ").next().unwrap().parse().unwrap();
    // No clock can be too slow for this: only too few can have passed in too short a time.
    assert!(millis >= 1990, "{line}");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

async fn count(layer: Layer) -> Outcome {
    let begin = std::time::Instant::now();
    let mut fifo = layer.fifo("f").map_err(text)?;
    for _ in 0..60 {
        fifo.next().await.map_err(text)?;
    }
    say(format!("60 lines in {}", begin.elapsed().as_millis()));
    layer.stopping().await;
    Ok(())
}

fn mode() {
    let root = rustix::process::geteuid().is_root();
    let owner = if root { "owner = 4321" } else { "" };
    let (mut daemon, path) =
        start(&policy("fifo-lines", &format!("mode = \"0622\"\n{owner}")), |_| ());
    daemon.line("reading");
    let stat = std::fs::symlink_metadata(&path).unwrap();
    assert!(stat.file_type().is_fifo());
    // Nobody reads it but the supervisor.
    let (mode, uid) = (stat.mode() & 0o7777, stat.uid());
    if root {
        assert_eq!((mode, uid), (0o222, 4321));
    } else {
        assert_eq!((mode, uid), (0o622, rustix::process::geteuid().as_raw()));
    }
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert!(!path.exists());
}

type Prepare = fn(&Path);

fn stale() {
    // What a killed daemon left is replaced.
    let (mut daemon, path) =
        start(&policy("fifo-lines", ""), |directory| mkfifo(&directory.join("f")));
    daemon.line("reading");
    write(&path, b"one\n");
    daemon.line("<one>");
    // What is put in its place later stays.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "somebody's").unwrap();
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");

    let cases: [(Prepare, &str); 4] = [
        (|dir| std::fs::write(dir.join("f"), "x").unwrap(), "something that is no fifo is there"),
        (|dir| std::fs::create_dir(dir.join("f")).unwrap(), "something that is no fifo is there"),
        (
            |dir| {
                mkfifo(&dir.join("g"));
                std::os::unix::fs::symlink("g", dir.join("f")).unwrap();
            },
            "something that is no fifo is there",
        ),
        (
            |dir| {
                mkfifo(&dir.join("f"));
                let both = OpenOptions::new().read(true).write(true).open(dir.join("f")).unwrap();
                std::mem::forget(both);
            },
            "is this daemon running twice?",
        ),
    ];
    for (prepare, why) in cases {
        let (mut daemon, _) = start(&policy("fifo-lines", ""), prepare);
        assert_eq!(daemon.end(), Some(3), "{why}: {daemon}");
        assert_eq!(daemon.count(why), 1, "{why}: {daemon}");
        assert_eq!(daemon.count("[fifo.f]"), 1, "{why}: {daemon}");
    }
}

fn mkfifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

fn directory() {
    let policy = policy("fifo-lines", "").replace("DIR/f", "DIR/open/f");
    let (mut daemon, _) = start(&policy, |directory| {
        let open = directory.join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o1777)).unwrap();
    });
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("run `chmod go-w` on it"), 1, "{daemon}");

    let policy = policy.replace("open", "link");
    let (mut daemon, _) = start(&policy, |directory| {
        std::os::unix::fs::symlink(".", directory.join("link")).unwrap();
    });
    assert_eq!(daemon.end(), Some(3), "{daemon}");
    assert_eq!(daemon.count("a part of it is a symbolic link"), 1, "{daemon}");
}

fn rights() {
    let rich = "syscalls = [\"@core\", \"@file-read\", \"@file-write\", \"fcntl\"]\n\
                because = \"a test\"";
    let policy = policy("fifo-thief", "").replace("syscalls = [\"@core\"]", rich);
    let (mut daemon, path) = start(&policy, |_| ());
    daemon.line("a/0.g1: all refused");
    write(&path, b"still\n");
    daemon.line("<still>");
    assert_eq!(daemon.stop(), Some(0), "{daemon}");
}

/// Tries to get more out of the reading end than reading.
fn thief(layer: Layer) -> Outcome {
    let mut refused = 0;
    for fd in crate::pipe::pipes() {
        let flags = rustix::fs::fcntl_getfl(fd).map_err(text)?;
        let reads = flags & rustix::fs::OFlags::RWMODE == rustix::fs::OFlags::RDONLY;
        if reads && rustix::io::write(fd, b"forged\n").is_ok() {
            return Err("a reading end can be written".into());
        }
        for write in [true, false] {
            let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
            if OpenOptions::new().write(write).read(!write).open(path).is_ok() {
                return Err("it can be opened again".into());
            }
        }
        refused += usize::from(reads);
    }
    if refused < 2 {
        return Err(format!("only {refused} reading ends"));
    }
    say("all refused");
    lines_blocking(layer)
}
