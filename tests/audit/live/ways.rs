//! Two layers that use every way to communicate.

use std::fmt::Display;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cofferdam::Layer;
use cofferdam::ipc::file::Options;
use cofferdam::ipc::message::{Event, Message};
use cofferdam::ipc::{fifo, queue};

use super::Outcome;
use super::layers::{say, stay};

pub(crate) const PATIENCE: Option<Duration> = Some(Duration::from_secs(30));

/// What goes through each way.
pub(crate) const SIGNALS: u64 = 3;
pub(crate) const RING: u64 = 100;
pub(crate) const LINE: &[u8] = b"reload";

/// All ways between `a` and `b`; `audit` is said of each.
pub(crate) fn policy(audit: &str) -> String {
    let facilities = [
        "file.notes]\npath = \"DIR/notes\"\ngrant = { a = [\"read\", \"write\", \"create\", \
         \"remove\", \"list\"] }",
        "file.kept]\npath = \"DIR/kept\"\ndeny = [\"*.key\"]\ngrant = { a = [\"read\"] }",
        "file.one]\npath = \"DIR/one\"\ngrant = { a = [\"read\"] }",
        "signal.wake]\nfrom = \"a\"\nto = \"b\"\nsend = [\"USR1\"]",
        "queue.jobs]\nsend = [\"a\"]\nreceive = [\"b\"]\ndepth = 2\non-full = \"reject\"",
        "queue.news]\nsend = [\"a\"]\nreceive = [\"b\"]\ndepth = 2\npriorities = 2\non-full = \
         \"drop-oldest\"",
        "pipe.words]\nfrom = \"a\"\nto = \"b\"",
        "fifo.commands]\npath = \"DIR/commands\"\nto = \"b\"\nmax = \"64B\"",
        "semaphore.turn]\npermits = 1\nholders = [\"a\", \"b\"]",
        "region.weather]\nsize = \"64KiB\"\ngrant = { a = \"rw\", b = \"r\" }",
        "region.ring]\nsize = \"64KiB\"\ngrant = { a = \"rw\", b = \"rw\" }",
        "mapped-file.count]\npath = \"DIR/count\"\nsize = \"16KiB\"\ngrant = { a = \"rw\", b = \
         \"r\" }",
        "channel.c]\nfrom = \"a\"\nto = \"b\"",
    ];
    let facilities = facilities.map(|facility| format!("[{facility}\n{audit}\n"));
    format!(
        "[audit]\ndirectory = \"DIR/log\"\n\
         [layer.a]\nrun = \"ways_a\"\nsyscalls = [\"@core\", \"openat2\", \"unlinkat\", \
         \"getdents64\"]\nconnect = {{ desk = \"unix:DIR/desk\" }}\nrestart = {{ on = \"never\" }}\n\
         [layer.b]\nrun = \"ways_b\"\nsyscalls = [\"@core\"]\n\
         listen = {{ desk = \"unix:DIR/desk\", raw = \"unix:DIR/raw\" }}\n\
         restart = {{ on = \"never\" }}\n{}",
        facilities.concat()
    )
}

pub(crate) fn prepare(directory: &Path) {
    for name in ["notes", "kept"] {
        std::fs::create_dir(directory.join(name)).unwrap();
        let open = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(directory.join(name), open).unwrap();
    }
    for name in ["kept/page", "kept/private.key", "one"] {
        std::fs::write(directory.join(name), name).unwrap();
    }
}

/// Uses each way, and has the other end use its own.
pub(crate) fn ways_a(layer: Layer) -> Outcome {
    use_all(&layer).map_err(|error| error.to_string())?;
    say("all ways were used");
    stay(&layer)
}

/// When a wait that begins now is over.
fn until(time: Option<Duration>) -> Option<std::time::Instant> {
    time.map(|time| std::time::Instant::now() + time)
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn use_all(layer: &Layer) -> Result<()> {
    let channel = layer.channel("c")?.blocking();
    // A signal goes to nobody who isn't there yet.
    channel.wait_for_peer(PATIENCE)?;
    let take = |way: &str| -> Result<()> {
        let answer = channel.call("").deadline(until(PATIENCE)).send(way)?;
        let said = String::from_utf8(answer.body)?;
        if said == "taken" { Ok(()) } else { Err(format!("{way}: {said}").into()) }
    };

    let notes = layer.directory("notes")?;
    notes.open("today", Options::new().write().create())?.write_all(b"sow")?;
    notes.open_read("today")?;
    fails(notes.open_read("missing"))?;
    notes.list("")?;
    notes.remove("today")?;
    fails(notes.remove("today"))?;
    fails(notes.truncate("today"))?;
    let kept = layer.directory("kept")?;
    kept.open_read("page")?;
    fails(kept.open_read("private.key"))?;
    for _ in 0..2 {
        layer.file("one")?;
    }

    for _ in 0..SIGNALS {
        layer.signal("wake")?.blocking().send("USR1")?;
    }
    take("signals")?;

    layer.target("desk")?.blocking_stream()?.write_all(b"hello")?;
    take("sockets")?;

    let jobs = layer.queue("jobs")?.blocking();
    for n in 0..5 {
        let sent = jobs.send([n; 100], 0);
        if sent.is_ok() != (n < 2) {
            return Err(format!("job {n}: {sent:?}").into());
        }
    }
    take("jobs")?;
    let news = layer.queue("news")?.blocking();
    for n in 0..7 {
        news.send([n; 4096], n % 2)?;
    }
    take("news")?;

    let mut words = layer.pipe_writer("words")?.blocking();
    for write in [&b"first"[..], b"other", &[7; 9000]] {
        words.write_all(write)?;
    }
    words.close()?;
    take("pipe")?;
    say("writes lines?");
    take("fifo")?;

    layer.semaphore("turn")?.blocking().acquire()?.release()?;
    take("semaphore")?;

    let mut weather = layer.region("weather")?.publisher::<[u8]>()?;
    for object in [&b"rain"[..], b"sunshine", b"fog"] {
        weather.publish(object)?;
    }
    take("objects")?;
    let mut ring = layer.region("ring")?.ring_producer()?;
    for n in 0..RING {
        ring.blocking().send(&n.to_le_bytes(), PATIENCE)?;
    }
    drop(ring);
    take("ring")?;

    let count = layer.mapped_file("count")?;
    count.commit(b"41")?;
    count.update(|content| *content = b"42".to_vec())?;
    take("mapped file")
}

/// Something that the policy or the system refuses.
fn fails<T, E: Display>(result: std::result::Result<T, E>) -> Result<()> {
    if result.is_ok() { Err("it was not refused".into()) } else { Ok(()) }
}

/// Uses its end of each way when it is asked to.
pub(crate) fn ways_b(layer: Layer) -> Outcome {
    let channel = layer.channel("c").map_err(|e| e.to_string())?.blocking();
    while !layer.is_stopping() {
        if let Ok(Event::Request { message, reply, .. }) = channel.recv(None) {
            let way = String::from_utf8_lossy(&message.body).into_owned();
            let said =
                take(&layer, &way).map_or_else(|error| error.to_string(), |()| "taken".into());
            let _ = reply.blocking().reply(Message::from(said.into_bytes()));
        }
    }
    Ok(())
}

fn take(layer: &Layer, way: &str) -> Result<()> {
    match way {
        "signals" => {
            let mut signals = layer.signals()?;
            let mut got = 0;
            while got < SIGNALS {
                got += signals.blocking().recv(PATIENCE)?.count;
            }
        }
        "sockets" => {
            for _ in 0..2 {
                layer.listener_fd("raw")?;
            }
            let mut connection = layer.blocking_acceptor("desk")?.accept()?.ok_or("stopping")?;
            connection.read_to_end(&mut Vec::new())?;
        }
        "jobs" | "news" => {
            let queue = layer.queue(way)?.blocking();
            // Of the news, two of each priority fit, and the higher priority comes first.
            let left: &[u8] = if way == "jobs" { &[0, 1] } else { &[3, 5, 4, 6] };
            for &n in left {
                match queue.recv(PATIENCE)? {
                    queue::Event::Message(message) if message.body[0] == n => {}
                    event => return Err(format!("not {n} but {event:?}").into()),
                }
            }
        }
        "pipe" => {
            let mut words = Vec::new();
            layer.pipe_reader("words")?.blocking().read_to_end(&mut words)?;
        }
        "fifo" => {
            let mut commands = layer.fifo("commands")?;
            let (line, other) = (commands.blocking().next()?, commands.blocking().next()?);
            if (&line, &other)
                != (&fifo::Event::Line(fifo::Line(LINE.to_vec())), &fifo::Event::TooLong)
            {
                return Err(format!("{line:?} and {other:?}").into());
            }
        }
        "semaphore" => layer.semaphore("turn")?.blocking().acquire()?.release()?,
        "objects" => {
            let mut weather = layer.region("weather")?.subscriber::<[u8]>();
            for _ in 0..2 {
                weather.latest().ok_or("nothing is published")?;
            }
        }
        "ring" => {
            let mut ring = layer.region("ring")?.ring_consumer()?;
            let mut message = Vec::new();
            for _ in 0..RING {
                ring.blocking().recv(&mut message, PATIENCE)?;
            }
        }
        "mapped file" => drop(layer.mapped_file("count")?.read()?),
        other => return Err(format!("there is no way {other}").into()),
    }
    Ok(())
}
