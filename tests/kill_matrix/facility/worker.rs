//! A process for each connection: whoever is killed, only the connection of a killed worker fails, and none
//! is served by two.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cofferdam::Layer;

use super::{End, Facility, Outcome, Outside, Runs};
use crate::case::Story;
use crate::parties::say;

pub(crate) const FACILITY: Facility = Facility {
    name: "worker",
    policy: r#"
[layer.w]
RUN w"
syscalls = ["@core"]
per = "connection"
instances = 6
warm = 2
listen = { door = "tcp:127.0.0.1:PORT" }
"#,
    layers: &[("w", Runs::Blocking(w))],
    marks: &[
        ("supervisor", "supervisor.start.spawned", 4),
        ("supervisor", "supervisor.admit.confined", 2),
        ("supervisor", "supervisor.admit.confined", 5),
        ("supervisor", "socket.listen.handing-over", 3),
        ("supervisor", "supervisor.hand-over.object", 6),
        ("supervisor", "supervisor.hand-over.done", 4),
        ("supervisor", "supervisor.reap.reaped", 2),
        ("supervisor", "supervisor.reap.announced", 2),
    ],
    check,
};

pub(crate) const OUTSIDE: Outside = Outside { run: connect, after };

/// Where it is written how many connections failed.
const FAILED: &str = "failed";

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends each line back, to one client.
fn w(layer: Layer) -> Outcome {
    let Some(line) = layer.blocking_connection().map_err(text)? else { return Ok(()) };
    let mut lines = BufReader::new(line);
    for on in 1.. {
        let mut line = String::new();
        if lines.read_line(&mut line).map_err(text)? == 0 {
            return Ok(());
        }
        let whole = format!("{} {line}", layer.instance());
        lines.get_mut().write_all(whole.as_bytes()).map_err(text)?;
        say(format!("on {on}"));
    }
    Ok(())
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// Three clients at a time, each connection of a few lines.
fn connect(directory: &Path, end: &End) -> Outcome {
    let policy = std::fs::read_to_string(directory.join("policy.toml")).map_err(text)?;
    let address = policy.split("tcp:").nth(1).and_then(|it| it.split('"').next());
    let address = address.ok_or("no address")?;
    let failed = AtomicU64::new(0);
    let result = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..3).map(|_| scope.spawn(|| client(address, end, &failed))).collect();
        let results = clients.into_iter().map(|it| it.join().unwrap_or(Err("panic".into())));
        results.collect::<Result<Vec<()>, String>>()
    });
    std::fs::write(directory.join(FAILED), failed.into_inner().to_string()).map_err(text)?;
    result.map(drop)
}

fn client(address: &str, end: &End, failed: &AtomicU64) -> Outcome {
    while !end.has_come() {
        // Before the daemon is there.
        let Ok(stream) = TcpStream::connect(address) else {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE)).map_err(text)?;
        let mut lines = BufReader::new(stream);
        let mut worker = None;
        for number in 0..3 {
            let mut answer = String::new();
            let sent = lines.get_mut().write_all(format!("{number}\n").as_bytes());
            if sent.and_then(|()| lines.read_line(&mut answer)).unwrap_or(0) == 0 {
                failed.fetch_add(u64::from(!end.has_come()), Ordering::SeqCst);
                break;
            }
            let (from, line) = answer.trim_end().split_once(' ').ok_or("half an answer")?;
            if line != number.to_string() || worker.get_or_insert(from.to_owned()) != from {
                return Err(format!("{answer:?} to {number} of {worker:?}"));
            }
        }
    }
    Ok(())
}

fn after(directory: &Path, story: &Story) -> Outcome {
    let failed = std::fs::read_to_string(directory.join(FAILED)).map_err(text)?;
    let failed: u64 = failed.parse().map_err(text)?;
    // At the supervisor's end all end, and nobody says when.
    let most = match story.victim {
        "supervisor" => return Ok(()),
        victim => u64::from(victim == "w"),
    };
    if failed > most {
        return Err(format!("{failed} connections failed"));
    }
    Ok(())
}

/// More than a supervisor holds for six workers, and less than if it lost hold of some with each connection.
const MOST_HELD: usize = 100;

fn check(story: &Story) -> Outcome {
    if story.held > MOST_HELD {
        return Err(format!("the supervisor holds {} descriptors", story.held));
    }
    Ok(())
}
